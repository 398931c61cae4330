/* What the samplers draw from: normal deviates and logarithms of factorials over a stream of uniforms. */

#ifndef PPX_RANDOM_H
#define PPX_RANDOM_H

#include "ppx.h"

/* The quantile function of the standard normal, 0 < p < 1: AS241, PPND16 (Wichura 1988). */
double ppx_normal_quantile(double p);

/* One scalar value; mixtures and multivariate families are ppx_draw's. `parameters` as many as the family has. */
double ppx_draw_scalar(ppx_stream *stream, uint32_t family, const double *parameters);

/* A category of `count` unnormalised probabilities. */
size_t ppx_draw_category(ppx_stream *stream, const double *probs, size_t count);

#endif
