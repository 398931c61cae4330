/* The messages that a front end sends. All functions begin `out` anew; afterwards out->failed says that memory ran
 * out. */

#ifndef PPX_ENCODE_H
#define PPX_ENCODE_H

#include "recording.h"

typedef struct {
    const char *data;
    size_t size;
} ppx_text;

/* Executions, or a part of one, and the definitions of the sites after the first `told`, up to `num_sites`. */
typedef struct {
    const ppx_sites *sites;
    const ppx_addresses *addresses;
    size_t told, num_sites;
    const uint32_t *type_lengths, *type_sites, *types;
    size_t num_types, num_type_sites, num_executions;
    const double *rows;
    size_t num_rows;
    const ppx_failure *failures;
    size_t num_failures;
} ppx_traces;

void ppx_encode_handshake_result(ppx_bytes *out, const char *system_name, const char *model_name, const char *build_id,
                                 uint32_t version, uint32_t capabilities);
void ppx_encode_reset(ppx_bytes *out);
#define PPX_MAX_ERROR_TEXT 8000 /* bytes of an error's text, and of its address, that are sent */

/* As much of an address as an error carries. */
ppx_text ppx_error_address(const char *address, size_t length);
void ppx_encode_error(ppx_bytes *out, int code, ppx_text text, ppx_text address);

/* PPX 1.0.0. Values without data are left out. */
void ppx_encode_sample(ppx_bytes *out, ppx_text address, const ppx_statement *where,
                       const ppx_distribution *distribution);
void ppx_encode_observe(ppx_bytes *out, ppx_text address, const ppx_statement *where,
                        const ppx_distribution *distribution, const ppx_tensor *value);
void ppx_encode_tag(ppx_bytes *out, ppx_text address, const ppx_statement *where, const ppx_tensor *value);
void ppx_encode_result(ppx_bytes *out, const ppx_tensor *value);

/* The extension. `traces` NULL: none. */
void ppx_encode_question(ppx_bytes *out, uint32_t site, const double *parameters, size_t num_parameters,
                         const ppx_traces *traces, uint64_t position);
void ppx_encode_traces(ppx_bytes *out, const ppx_traces *traces, uint64_t position);

/* An upper bound of the bytes of a site's definition. */
size_t ppx_definition_size(const ppx_site *site, const ppx_addresses *addresses);

#endif
