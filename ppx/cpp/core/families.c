#include "families.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "message.h"
#include "random.h"

static const struct {
    const char *name;
    uint32_t count;
    const char *parameters[4];
} FAMILIES[] = {
    {"none", 0, {NULL}},
    {"Normal", 2, {"mean", "stddev"}},
    {"Uniform", 2, {"low", "high"}},
    {"Categorical", 1, {"probs"}},
    {"Poisson", 1, {"rate"}},
    {"Bernoulli", 1, {"probs"}},
    {"Beta", 2, {"concentration1", "concentration0"}},
    {"Exponential", 1, {"rate"}},
    {"Gamma", 2, {"concentration", "rate"}},
    {"LogNormal", 2, {"loc", "scale"}},
    {"Binomial", 2, {"total_count", "probs"}},
    {"Weibull", 2, {"scale", "concentration"}},
    {"TruncatedNormal", 4, {"loc", "scale", "low", "high"}},
    {"VonMises", 2, {"loc", "concentration"}},
    {"Mixture", 1, {"probs"}},
    {"MultivariateNormal", 2, {"loc", "scale_tril"}},
    {"Delta", 1, {"value"}},
    {"NegativeBinomial", 2, {"total_count", "probs"}},
    {"NegativeBinomial2", 2, {"mean", "concentration"}},
    {"BetaBinomial", 3, {"concentration1", "concentration0", "total_count"}},
    {"Geometric", 1, {"probs"}},
    {"Hypergeometric", 3, {"population", "successes", "draws"}},
    {"ZeroInflatedPoisson", 2, {"gate", "rate"}},
    {"StudentT", 3, {"df", "loc", "scale"}},
    {"Cauchy", 2, {"loc", "scale"}},
    {"HalfCauchy", 1, {"scale"}},
    {"HalfNormal", 1, {"scale"}},
    {"Laplace", 2, {"loc", "scale"}},
    {"Logistic", 2, {"loc", "scale"}},
    {"Gumbel", 2, {"loc", "scale"}},
    {"InverseGamma", 2, {"concentration", "rate"}},
    {"Pareto", 2, {"scale", "alpha"}},
};
static const uint32_t NUM_FAMILIES = sizeof FAMILIES / sizeof *FAMILIES;

const char *ppx_family_name(uint32_t family) { return FAMILIES[family < NUM_FAMILIES ? family : 0].name; }

uint32_t ppx_num_parameters(uint32_t family) { return family < NUM_FAMILIES ? FAMILIES[family].count : 0; }

static uint32_t last_family(const ppx_distribution *distribution) {
    uint32_t last = distribution->family;
    for (uint32_t i = 0; i < distribution->num_components; i++) {
        uint32_t inner = last_family(&distribution->components[i]);
        if (inner > last) last = inner;
    }
    return last;
}

uint32_t ppx_needed(const ppx_distribution *distribution) {
    uint32_t last = last_family(distribution);
    return last <= PPX_WEIBULL ? 0 : last <= PPX_DELTA ? PPX_FAMILIES : PPX_MORE_FAMILIES;
}

size_t ppx_shape_size(const int32_t *shape, uint32_t dimensions) {
    uint64_t size = 1;
    if (dimensions > PPX_MAX_DIMENSIONS) return SIZE_MAX;
    for (uint32_t i = 0; i < dimensions; i++) {
        if (shape[i] < 0) return SIZE_MAX;
        size *= (uint64_t)shape[i];
        if (size >= 1u << 31) return SIZE_MAX;
    }
    return (size_t)size;
}

/* -- shapes -- */

static bool broadcast(const ppx_distribution *distribution, int32_t *shape, uint32_t *dimensions) {
    uint32_t count = FAMILIES[distribution->family].count, most = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t here = distribution->parameters[i].dimensions;
        if (here > PPX_MAX_DIMENSIONS) return false;
        if (here > most) most = here;
    }
    for (uint32_t axis = 0; axis < most; axis++) {
        shape[axis] = 1;
        for (uint32_t i = 0; i < count; i++) {
            const ppx_tensor *parameter = &distribution->parameters[i];
            int32_t length;
            if (axis + parameter->dimensions < most) continue;
            length = parameter->shape[axis + parameter->dimensions - most];
            if (length != 1 && shape[axis] != 1 && length != shape[axis]) return false;
            if (length != 1) shape[axis] = length;
        }
    }
    *dimensions = most;
    return true;
}

int ppx_value_shape(const ppx_distribution *distribution, int32_t *shape, uint32_t *dimensions, size_t *size) {
    const ppx_tensor *first = &distribution->parameters[0];
    *dimensions = 0;
    *size = 1;
    if (!distribution->family || distribution->family >= NUM_FAMILIES) return PPX_FAILED;
    switch (distribution->family) {
        case PPX_CATEGORICAL:
            if (!first->dimensions || first->dimensions > PPX_MAX_DIMENSIONS) return PPX_FAILED;
            *dimensions = first->dimensions - 1;
            memcpy(shape, first->shape, *dimensions * sizeof *shape);
            break;
        case PPX_MIXTURE: return PPX_OK;
        case PPX_MULTIVARIATE_NORMAL:
            if (first->dimensions != 1) return PPX_FAILED;
            *dimensions = 1;
            shape[0] = first->shape[0];
            break;
        default:
            if (!broadcast(distribution, shape, dimensions)) return PPX_FAILED;
    }
    if (*dimensions) *size = ppx_shape_size(shape, *dimensions);
    return *size == SIZE_MAX ? PPX_FAILED : PPX_OK;
}

/* -- domains -- */

typedef enum { ANY, FINITE, POSITIVE, PROBABILITY, RATE, COUNT, NOT_NAN, BELOW_ONE, ABOVE_ZERO, FEW } domain;

static const double LARGEST_COUNT = 0x1p53; /* above it doubles no longer hold every integer */
static const double LARGEST_POPULATION = 0x1p31;

static bool in_domain(double value, domain wanted) {
    switch (wanted) {
        case FINITE: return isfinite(value);
        case POSITIVE: return isfinite(value) && value > 0.0;
        case PROBABILITY: return value >= 0.0 && value <= 1.0;
        case RATE: return value >= 0.0 && value <= LARGEST_COUNT;
        case COUNT: return value >= 0.0 && value <= LARGEST_COUNT && floor(value) == value;
        case NOT_NAN: return !isnan(value);
        case BELOW_ONE: return value >= 0.0 && value < 1.0;
        case ABOVE_ZERO: return value > 0.0 && value <= 1.0;
        case FEW: return value >= 0.0 && value <= LARGEST_POPULATION && floor(value) == value;
        default: return true;
    }
}

static const char *const DOMAIN_TEXTS[] = {
    "any", "finite", "finite and > 0", "in [0, 1]", "in [0, 2^53]", "an integer in [0, 2^53]", "a number, not NaN",
    "in [0, 1)", "in (0, 1]", "an integer in [0, 2^31]"};

static const domain DOMAINS[][4] = {
    {ANY},
    {FINITE, POSITIVE},
    {FINITE, FINITE},
    {ANY},
    {RATE},
    {PROBABILITY},
    {POSITIVE, POSITIVE},
    {POSITIVE},
    {POSITIVE, POSITIVE},
    {FINITE, POSITIVE},
    {COUNT, PROBABILITY},
    {POSITIVE, POSITIVE},
    {FINITE, POSITIVE, NOT_NAN, NOT_NAN},
    {FINITE, POSITIVE},
    {ANY},
    {FINITE, FINITE},
    {NOT_NAN},
    {POSITIVE, BELOW_ONE},
    {RATE, POSITIVE},
    {POSITIVE, POSITIVE, COUNT},
    {ABOVE_ZERO},
    {FEW, FEW, FEW},
    {PROBABILITY, RATE},
    {POSITIVE, FINITE, POSITIVE},
    {FINITE, POSITIVE},
    {POSITIVE},
    {POSITIVE},
    {FINITE, POSITIVE},
    {FINITE, POSITIVE},
    {FINITE, POSITIVE},
    {POSITIVE, POSITIVE},
    {POSITIVE, POSITIVE},
};

static int complain(char *error, size_t size, uint32_t family, uint32_t parameter, const char *expected, double found) {
    snprintf(error, size, "%s: %s must be %s, found %g", FAMILIES[family].name, FAMILIES[family].parameters[parameter],
             expected, found);
    return PPX_FAILED;
}

static int complain_text(char *error, size_t size, uint32_t family, const char *text) {
    snprintf(error, size, "%s: %s", ppx_family_name(family), text);
    return PPX_FAILED;
}

double ppx_broadcast_element(const ppx_tensor *parameter, const int32_t *shape, uint32_t dimensions, size_t index) {
    size_t at = 0, stride = 1;
    for (uint32_t back = 0; back < parameter->dimensions; back++) {
        size_t length = (size_t)shape[dimensions - 1 - back],
               own = (size_t)parameter->shape[parameter->dimensions - 1 - back];
        if (own != 1) at += index % length * stride;
        stride *= own;
        index /= length;
    }
    return parameter->data[at];
}

static int check_order(const ppx_distribution *distribution, uint32_t low, char *error, size_t error_size) {
    int32_t shape[PPX_MAX_DIMENSIONS];
    uint32_t dimensions;
    size_t size;
    if (ppx_value_shape(distribution, shape, &dimensions, &size)) return PPX_FAILED;
    for (size_t i = 0; i < size; i++) {
        double below = ppx_broadcast_element(&distribution->parameters[low], shape, dimensions, i);
        double above = ppx_broadcast_element(&distribution->parameters[low + 1], shape, dimensions, i);
        if (!(below < above)) return complain(error, error_size, distribution->family, low, "below high", below);
        if (distribution->family == PPX_UNIFORM && !isfinite(above - below))
            return complain(error, error_size, distribution->family, low + 1,
                            "so near to low that high - low is finite", above);
    }
    return PPX_OK;
}

/* Nothing that is counted or taken of a population exceeds it. */
static int check_population(const ppx_distribution *distribution, char *error, size_t error_size) {
    int32_t shape[PPX_MAX_DIMENSIONS];
    uint32_t dimensions;
    size_t size;
    if (ppx_value_shape(distribution, shape, &dimensions, &size)) return PPX_FAILED;
    for (size_t i = 0; i < size; i++) {
        double population = ppx_broadcast_element(&distribution->parameters[0], shape, dimensions, i);
        for (uint32_t part = 1; part < 3; part++) {
            double value = ppx_broadcast_element(&distribution->parameters[part], shape, dimensions, i);
            if (value > population)
                return complain(error, error_size, distribution->family, part, "at most population", value);
        }
    }
    return PPX_OK;
}

static int check_probs(const ppx_distribution *distribution, char *error, size_t error_size) {
    const ppx_tensor *probs = &distribution->parameters[0];
    size_t size = ppx_tensor_size(probs), count = probs->dimensions ? (size_t)probs->shape[probs->dimensions - 1] : 0;
    if (!count) return complain_text(error, error_size, distribution->family, "probs must have at least one element");
    for (size_t row = 0; row < size; row += count) {
        double sum = 0.0;
        for (size_t k = row; k < row + count; k++) {
            if (!(probs->data[k] >= 0.0))
                return complain(error, error_size, distribution->family, 0, ">= 0", probs->data[k]);
            sum += probs->data[k];
        }
        if (!(sum > 0.0 && isfinite(sum)))
            return complain(error, error_size, distribution->family, 0, "of positive finite sum", sum);
    }
    return PPX_OK;
}

static int check_cholesky(const ppx_distribution *distribution, char *error, size_t error_size) {
    const ppx_tensor *loc = &distribution->parameters[0], *scale = &distribution->parameters[1];
    int32_t length = loc->dimensions == 1 ? loc->shape[0] : -1;
    if (length < 0 || scale->dimensions != 2 || scale->shape[0] != length || scale->shape[1] != length)
        return complain_text(error, error_size, distribution->family,
                             "loc must have shape [d] and scale_tril shape [d, d]");
    for (int32_t row = 0; row < length; row++)
        for (int32_t column = row; column < length; column++) {
            double value = scale->data[(size_t)row * (size_t)length + (size_t)column];
            if (column == row ? !(value > 0.0) : value != 0.0)
                return complain(error, error_size, distribution->family, 1, "lower triangular with a positive diagonal",
                                value);
        }
    return PPX_OK;
}

static int discreteness(const ppx_distribution *distribution,
                        int depth) { /* 1, 0, or -1 if of both kinds or too deep */
    int kind;
    switch (distribution->family) {
        case PPX_CATEGORICAL:
        case PPX_POISSON:
        case PPX_BERNOULLI:
        case PPX_BINOMIAL:
        case PPX_NEGATIVE_BINOMIAL:
        case PPX_NEGATIVE_BINOMIAL_2:
        case PPX_BETA_BINOMIAL:
        case PPX_GEOMETRIC:
        case PPX_HYPERGEOMETRIC:
        case PPX_ZERO_INFLATED_POISSON: return 1;
        case PPX_MIXTURE: break;
        default: return 0;
    }
    if (!distribution->num_components || depth >= PPX_MAX_MIXTURES) return -1;
    kind = discreteness(&distribution->components[0], depth + 1);
    for (uint32_t i = 1; i < distribution->num_components; i++)
        if (discreteness(&distribution->components[i], depth + 1) != kind) return -1;
    return kind;
}

static int check_components(const ppx_distribution *distribution, char *error, size_t error_size) {
    const ppx_tensor *probs = &distribution->parameters[0];
    if (probs->dimensions != 1 || (uint32_t)probs->shape[0] != distribution->num_components)
        return complain_text(error, error_size, distribution->family, "probs must have one element for each component");
    if (discreteness(distribution, 0) < 0)
        return complain_text(error, error_size, distribution->family,
                             "components must be all discrete or all continuous, nested at most 8 deep");
    for (uint32_t i = 0; i < distribution->num_components; i++) {
        const ppx_distribution *component = &distribution->components[i];
        int32_t shape[PPX_MAX_DIMENSIONS];
        uint32_t dimensions;
        size_t size;
        if (ppx_check(component, error, error_size)) return PPX_FAILED;
        if (ppx_value_shape(component, shape, &dimensions, &size) || dimensions)
            return complain_text(error, error_size, distribution->family, "components must have scalar values");
    }
    return PPX_OK;
}

int ppx_check(const ppx_distribution *distribution, char *error, size_t error_size) {
    uint32_t family = distribution->family, dimensions;
    int32_t shape[PPX_MAX_DIMENSIONS];
    size_t size;
    if (!family || family >= NUM_FAMILIES)
        return complain_text(error, error_size, family, "no such family of distributions");
    for (uint32_t i = 0; i < FAMILIES[family].count; i++) {
        const ppx_tensor *parameter = &distribution->parameters[i];
        size_t count = ppx_tensor_size(parameter);
        if (!parameter->data || count == SIZE_MAX)
            return complain_text(error, error_size, family, "a parameter has no value");
        for (size_t k = 0; k < count; k++)
            if (!in_domain(parameter->data[k], DOMAINS[family][i]))
                return complain(error, error_size, family, i, DOMAIN_TEXTS[DOMAINS[family][i]], parameter->data[k]);
    }
    if (ppx_value_shape(distribution, shape, &dimensions, &size))
        return complain_text(error, error_size, family, "the shapes of the parameters do not fit");
    switch (family) {
        case PPX_UNIFORM: return check_order(distribution, 0, error, error_size);
        case PPX_TRUNCATED_NORMAL: return check_order(distribution, 2, error, error_size);
        case PPX_CATEGORICAL: return check_probs(distribution, error, error_size);
        case PPX_MIXTURE:
            return check_probs(distribution, error, error_size) || check_components(distribution, error, error_size)
                       ? PPX_FAILED
                       : PPX_OK;
        case PPX_MULTIVARIATE_NORMAL: return check_cholesky(distribution, error, error_size);
        case PPX_HYPERGEOMETRIC: return check_population(distribution, error, error_size);
        default: return PPX_OK;
    }
}

/* -- drawing -- */

static void draw_multivariate(ppx_stream *stream, const ppx_distribution *distribution, double *value) {
    const double *loc = distribution->parameters[0].data, *scale = distribution->parameters[1].data;
    size_t length = (size_t)distribution->parameters[0].shape[0];
    for (size_t i = 0; i < length; i++) value[i] = ppx_normal_quantile(ppx_uniform(stream));
    for (size_t row = length; row-- > 0;) { /* from below: row i needs the deviates 0 ... i */
        double sum = 0.0;
        for (size_t k = 0; k <= row; k++) sum = sum + scale[row * length + k] * value[k];
        value[row] = loc[row] + sum;
    }
}

/* Independent elements. A parameter that is one number, or one for each element, needs no search for its element. */
static void draw_elements(ppx_stream *stream, const ppx_distribution *distribution, const int32_t *shape,
                          uint32_t dimensions, size_t size, double *value) {
    uint32_t family = distribution->family, count = FAMILIES[family].count;
    double parameters[4] = {0};
    bool is_plain = true;
    size_t steps[4] = {0};
    for (uint32_t i = 0; i < count; i++) {
        size_t own = ppx_tensor_size(&distribution->parameters[i]);
        steps[i] = own != 1;
        if (own != 1 && own != size) is_plain = false;
    }
    for (size_t element = 0; element < size; element++) {
        for (uint32_t i = 0; i < count; i++) {
            const ppx_tensor *parameter = &distribution->parameters[i];
            parameters[i] = is_plain ? parameter->data[element * steps[i]]
                                     : ppx_broadcast_element(parameter, shape, dimensions, element);
        }
        value[element] = ppx_draw_scalar(stream, family, parameters);
    }
}

void ppx_draw(ppx_stream *stream, const ppx_distribution *distribution, double *value) {
    uint32_t family = distribution->family, count = FAMILIES[family].count, dimensions;
    int32_t shape[PPX_MAX_DIMENSIONS];
    double parameters[4] = {0};
    size_t size;
    ppx_value_shape(distribution, shape, &dimensions, &size);
    if (family == PPX_MIXTURE) {
        ppx_draw(stream,
                 &distribution->components[ppx_draw_category(stream, distribution->parameters[0].data,
                                                             distribution->num_components)],
                 value);
    } else if (family == PPX_MULTIVARIATE_NORMAL) {
        draw_multivariate(stream, distribution, value);
    } else if (family == PPX_CATEGORICAL) {
        const ppx_tensor *probs = &distribution->parameters[0];
        size_t categories = (size_t)probs->shape[probs->dimensions - 1];
        for (size_t i = 0; i < size; i++)
            value[i] = (double)ppx_draw_category(stream, probs->data + i * categories, categories);
    } else if (!dimensions) {
        for (uint32_t i = 0; i < count; i++) parameters[i] = distribution->parameters[i].data[0];
        *value = ppx_draw_scalar(stream, family, parameters);
    } else {
        draw_elements(stream, distribution, shape, dimensions, size, value);
    }
}
