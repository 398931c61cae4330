/* The statements for languages to which structures are a burden: scalar parameters, addresses as text. */

#include <string.h>

#include "session.h"

static ppx_statement place(ppx_session *session, const char *address, const char *name, int control) {
    size_t length = name ? strlen(name) : 0;
    return (ppx_statement){address ? ppx_address(session, address, strlen(address)) : 0, control != 0, name, length};
}

/* A family whose parameters are no scalars comes out as none, which ppx_check refuses. */
static ppx_distribution scalar_distribution(int family, const double *parameters) {
    ppx_distribution distribution = {.family = (uint32_t)family};
    for (uint32_t i = 0; i < ppx_num_parameters(distribution.family); i++)
        distribution.parameters[i].data = parameters + i;
    if (family == PPX_CATEGORICAL || family == PPX_MIXTURE || family == PPX_MULTIVARIATE_NORMAL)
        distribution = (ppx_distribution){.family = PPX_NO_FAMILY};
    return distribution;
}

int ppx_sample_scalar(ppx_session *session, const char *address, const char *name, int control, int family,
                      const double *parameters, double *value) {
    ppx_statement where = place(session, address, name, control);
    ppx_distribution distribution = scalar_distribution(family, parameters);
    ppx_tensor drawn;
    int status = ppx_sample(session, &where, &distribution, &drawn);
    if (status == PPX_OK && ppx_tensor_size(&drawn) != 1) /* data of this name */
        return ppx_give_up(session, PPX_ERROR_MODEL, "the value of '%s' is %zu numbers, and the model wants one",
                           name ? name : "", ppx_tensor_size(&drawn));
    if (status == PPX_OK) *value = drawn.data[0];
    return status;
}

int ppx_observe_scalar(ppx_session *session, const char *address, const char *name, int family,
                       const double *parameters, const double *value) {
    ppx_statement where = place(session, address, name, 1);
    ppx_distribution distribution = scalar_distribution(family, parameters);
    ppx_tensor given = {value, NULL, 0};
    return ppx_observe(session, &where, family == PPX_NO_FAMILY ? NULL : &distribution, &given, NULL);
}

int ppx_tag_scalar(ppx_session *session, const char *address, const char *name, double value) {
    ppx_statement where = place(session, address, name, 1);
    ppx_tensor given = {&value, NULL, 0};
    return ppx_tag(session, &where, &given);
}

int ppx_factor_scalar(ppx_session *session, const char *address, const char *name, double log_factor) {
    ppx_statement where = place(session, address, name, 1);
    return ppx_factor(session, &where, log_factor);
}

int ppx_finish_scalar(ppx_session *session, double result) {
    ppx_tensor value = {&result, NULL, 0};
    return ppx_finish(session, &value);
}
