/* Whether a value that was kept can be read by the program: families whose bounds depend on their parameters. */

#include <math.h>

#include "families.h"

static bool is_within(uint32_t family, const double *parameters, double value) {
    switch (family) {
        case PPX_UNIFORM: return parameters[0] <= value && value <= parameters[1];
        case PPX_TRUNCATED_NORMAL: return parameters[2] <= value && value <= parameters[3];
        case PPX_BERNOULLI: return value != 0.0 ? parameters[0] > 0.0 : parameters[0] < 1.0;
        case PPX_BINOMIAL: return value <= parameters[0];
        case PPX_BETA_BINOMIAL: return value <= parameters[2];
        case PPX_HYPERGEOMETRIC:
            return parameters[2] - (parameters[0] - parameters[1]) <= value && value <= fmin(parameters[1], parameters[2]);
        case PPX_PARETO: return parameters[0] <= value;
        case PPX_DELTA: return parameters[0] == value;
        default: return true;
    }
}

/* One of the categories, and one that has a probability. */
static bool is_category(const ppx_tensor *probs, size_t row, double value) {
    size_t categories = (size_t)probs->shape[probs->dimensions - 1];
    return value >= 0.0 && value < (double)categories && probs->data[row * categories + (size_t)value] > 0.0;
}

static bool is_of_a_component(const ppx_distribution *mixture, const double *value) {
    for (uint32_t i = 0; i < mixture->num_components; i++)
        if (mixture->parameters[0].data[i] > 0.0 && ppx_is_within(&mixture->components[i], value)) return true;
    return false;
}

bool ppx_is_within(const ppx_distribution *distribution, const double *value) {
    uint32_t family = distribution->family, dimensions;
    int32_t shape[PPX_MAX_DIMENSIONS];
    double parameters[4] = {0};
    size_t size;
    if (family == PPX_MIXTURE) return is_of_a_component(distribution, value);
    if (family == PPX_MULTIVARIATE_NORMAL) return true;
    if (ppx_value_shape(distribution, shape, &dimensions, &size)) return true;
    for (size_t element = 0; element < size; element++) {
        if (family == PPX_CATEGORICAL) {
            if (!is_category(&distribution->parameters[0], element, value[element])) return false;
            continue;
        }
        for (uint32_t i = 0; i < ppx_num_parameters(family); i++)
            parameters[i] = ppx_broadcast_element(&distribution->parameters[i], shape, dimensions, element);
        if (!is_within(family, parameters, value[element])) return false;
    }
    return true;
}
