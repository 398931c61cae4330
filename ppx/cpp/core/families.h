/* The families of distributions: their parameters, domains and shapes (PROTOCOL.md, section 10). */

#ifndef PPX_FAMILIES_H
#define PPX_FAMILIES_H

#include "ppx.h"

#define PPX_MAX_DIMENSIONS 16
#define PPX_MAX_MIXTURES   8
#define PPX_MAX_COMPONENTS 65536

const char *ppx_family_name(uint32_t family);
uint32_t ppx_num_parameters(uint32_t family);

/* The capability without which a distribution cannot be sent, that of its components included; 0: PPX 1.0.0 has it. */
uint32_t ppx_needed(const ppx_distribution *distribution);

/* The element of a parameter that goes with element `index` of the shape of the value. */
double ppx_broadcast_element(const ppx_tensor *parameter, const int32_t *shape, uint32_t dimensions, size_t index);

/* Whether a value (as many numbers as the distribution's has) lies within the bounds that the parameters give. */
bool ppx_is_within(const ppx_distribution *distribution, const double *value);

/* The product of a shape; SIZE_MAX if a dimension is negative, there are too many, or it is 2^31 or more. */
size_t ppx_shape_size(const int32_t *shape, uint32_t dimensions);

static inline size_t ppx_tensor_size(const ppx_tensor *tensor) {
    return tensor->dimensions ? ppx_shape_size(tensor->shape, tensor->dimensions) : 1;
}

#endif
