#include "encode.h"

#include "families.h"
#include "message.h"
#include "writer.h"

/* Begins a message; the fields of its body. */
static ppx_written begin(ppx_bytes *out, uint8_t body, size_t count, const uint8_t *sizes) {
    ppx_written message;
    ppx_write_start(out);
    message = ppx_write_table(out, 0, 2, (const uint8_t[]){1, 4});
    ppx_set_u8(out, message.fields[0], body);
    return ppx_write_table(out, message.fields[1], count, sizes);
}

static void write_text(ppx_bytes *out, size_t link, ppx_text text) {
    ppx_write_string(out, link, text.data, text.size);
}

/* -- tensors and distributions -- */

static const uint8_t TENSOR[] = {4, 4};
static const uint8_t REFERENCES[] = {4, 4, 4, 4};

static void write_tensor(ppx_bytes *out, size_t link, const ppx_tensor *tensor) {
    ppx_written table = ppx_write_table(out, link, 2, TENSOR);
    ppx_write_words(out, table.fields[1], (const uint32_t *)tensor->shape, tensor->dimensions);
    ppx_write_doubles(out, table.fields[0], tensor->data, ppx_tensor_size(tensor));
}

static void write_components(ppx_bytes *out, size_t link, const ppx_distribution *distribution);

static void write_distribution(ppx_bytes *out, size_t link, const ppx_distribution *distribution) {
    uint32_t count = ppx_num_parameters(distribution->family);
    bool mixture = distribution->family == PPX_MIXTURE;
    ppx_written table = ppx_write_table(out, link, count + mixture, REFERENCES);
    for (uint32_t i = 0; i < count; i++) write_tensor(out, table.fields[i], &distribution->parameters[i]);
    if (mixture) write_components(out, table.fields[count], distribution);
}

static void write_components(ppx_bytes *out, size_t link, const ppx_distribution *distribution) {
    size_t at = ppx_write_offsets(out, link, distribution->num_components);
    for (uint32_t i = 0; i < distribution->num_components && !out->failed; i++) {
        ppx_written component = ppx_write_table(out, at + 4 * (size_t)i, 2, (const uint8_t[]){1, 4});
        ppx_set_u8(out, component.fields[0], (uint8_t)distribution->components[i].family);
        write_distribution(out, component.fields[1], &distribution->components[i]);
    }
}

/* -- definitions of sites -- */

/* Writes what a signature says: a shape; the next word. */
static const uint32_t *write_shape(ppx_bytes *out, size_t link, const uint32_t *signature) {
    uint32_t dimensions = *signature - 1;
    ppx_write_words(out, link, signature + 1, dimensions);
    return signature + 1 + dimensions;
}

/* A distribution whose tensors have shapes only. The signature begins behind the family. */
static const uint32_t *write_layout(ppx_bytes *out, size_t link, uint32_t family, const uint32_t *signature) {
    uint32_t count = ppx_num_parameters(family), components;
    bool mixture = family == PPX_MIXTURE;
    ppx_written table = ppx_write_table(out, link, count + mixture, REFERENCES);
    size_t at;
    for (uint32_t i = 0; i < count; i++) {
        ppx_written tensor = ppx_write_table(out, table.fields[i], 2, (const uint8_t[]){0, 4});
        signature = write_shape(out, tensor.fields[1], signature);
    }
    if (!mixture) return signature;
    components = *signature++;
    at = ppx_write_offsets(out, table.fields[count], components);
    for (uint32_t i = 0; i < components; i++) {
        ppx_written component = ppx_write_table(out, at + 4 * (size_t)i, 2, (const uint8_t[]){1, 4});
        uint32_t inner = *signature++;
        ppx_set_u8(out, component.fields[0], (uint8_t)inner);
        signature = write_layout(out, component.fields[1], inner, signature);
    }
    return signature;
}

static void write_site(ppx_bytes *out, size_t link, const ppx_site *site, const ppx_addresses *addresses) {
    const ppx_address_entry *address = ppx_addresses_get(addresses, site->address);
    const uint32_t *distribution = ppx_signed_distribution(site);
    uint8_t has_distribution = *distribution != PPX_NO_FAMILY, has_value = site->signature[0] != 0;
    ppx_written table = ppx_write_table(out, link, 7,
                                        (const uint8_t[]){1, 4, 4, has_distribution, (uint8_t)(4 * has_distribution),
                                                          (uint8_t)(4 * has_value), !site->control});
    ppx_set_u8(out, table.fields[0], (uint8_t)site->kind);
    ppx_write_string(out, table.fields[1], address->text, address->length);
    ppx_write_string(out, table.fields[2], site->name, site->name_length);
    if (has_distribution) {
        ppx_set_u8(out, table.fields[3], (uint8_t)*distribution);
        write_layout(out, table.fields[4], *distribution, distribution + 1);
    }
    if (has_value) write_shape(out, table.fields[5], site->signature);
}

size_t ppx_definition_size(const ppx_site *site, const ppx_addresses *addresses) {
    return 256 + ppx_addresses_get(addresses, site->address)->length + site->name_length + 64 * site->signature_length;
}

/* -- traces -- */

static void write_error(ppx_bytes *out, ppx_written table, int code, ppx_text text, ppx_text address) {
    ppx_set_u16(out, table.fields[0], (uint16_t)code);
    write_text(out, table.fields[1], text);
    write_text(out, table.fields[2], address);
}

static void write_failures(ppx_bytes *out, size_t link, const ppx_traces *traces) {
    size_t at = ppx_write_offsets(out, link, traces->num_failures);
    for (size_t i = 0; i < traces->num_failures && !out->failed; i++) {
        const ppx_failure *failure = &traces->failures[i];
        const ppx_address_entry *address = ppx_addresses_get(traces->addresses, failure->address);
        ppx_written table = ppx_write_table(out, at + 4 * i, 4, (const uint8_t[]){2, 4, 4, 4});
        write_error(out, table, failure->code, (ppx_text){failure->text, failure->length},
                    ppx_error_address(address->text, address->length));
        ppx_set_u32(out, table.fields[3], failure->execution);
    }
}

static void write_traces(ppx_bytes *out, size_t link, const ppx_traces *traces) {
    size_t definitions = traces->num_sites - traces->told, at;
    ppx_written table =
        ppx_write_table(out, link, 6, (const uint8_t[]){definitions ? 4 : 0, 4, 4, 4, 4, traces->num_failures ? 4 : 0});
    if (definitions) {
        at = ppx_write_offsets(out, table.fields[0], definitions);
        for (size_t i = 0; i < definitions && !out->failed; i++)
            write_site(out, at + 4 * i, &traces->sites->entries[traces->told + i], traces->addresses);
    }
    ppx_write_words(out, table.fields[1], traces->type_lengths, traces->num_types);
    ppx_write_words(out, table.fields[2], traces->type_sites, traces->num_type_sites);
    ppx_write_words(out, table.fields[3], traces->types, traces->num_executions);
    ppx_write_doubles(out, table.fields[4], traces->rows, traces->num_rows);
    if (traces->num_failures) write_failures(out, table.fields[5], traces);
}

/* -- messages -- */

void ppx_encode_handshake_result(ppx_bytes *out, const char *system_name, const char *model_name, const char *build_id,
                                 uint32_t version, uint32_t capabilities) {
    uint8_t number = version ? 4 : 0;
    ppx_written body = begin(out, PPX_HANDSHAKE_RESULT, 5, (const uint8_t[]){4, 4, number, number, number});
    ppx_write_string(out, body.fields[0], system_name, strlen(system_name));
    ppx_write_string(out, body.fields[1], model_name, strlen(model_name));
    if (!version) return;
    ppx_set_u32(out, body.fields[2], version);
    ppx_set_u32(out, body.fields[3], capabilities);
    ppx_write_string(out, body.fields[4], build_id, strlen(build_id));
}

void ppx_encode_reset(ppx_bytes *out) { begin(out, PPX_RESET, 0, NULL); }

ppx_text ppx_error_address(const char *address, size_t length) {
    return (ppx_text){address, ppx_cut_utf8(address, length, PPX_MAX_ERROR_TEXT)};
}

void ppx_encode_error(ppx_bytes *out, int code, ppx_text text, ppx_text address) {
    write_error(out, begin(out, PPX_ERROR, 3, (const uint8_t[]){2, 4, 4}), code, text, address);
}

void ppx_encode_sample(ppx_bytes *out, ppx_text address, const ppx_statement *where,
                       const ppx_distribution *distribution) {
    ppx_written body = begin(out, PPX_SAMPLE, 5, (const uint8_t[]){4, 4, 1, 4, !where->control});
    write_text(out, body.fields[0], address);
    ppx_write_string(out, body.fields[1], where->name, where->name_length);
    ppx_set_u8(out, body.fields[2], (uint8_t)distribution->family);
    write_distribution(out, body.fields[3], distribution);
}

void ppx_encode_observe(ppx_bytes *out, ppx_text address, const ppx_statement *where,
                        const ppx_distribution *distribution, const ppx_tensor *value) {
    ppx_written body = begin(out, PPX_OBSERVE, 5,
                             (const uint8_t[]){4, 4, distribution ? 1 : 0, distribution ? 4 : 0, value->data ? 4 : 0});
    write_text(out, body.fields[0], address);
    ppx_write_string(out, body.fields[1], where->name, where->name_length);
    if (distribution) {
        ppx_set_u8(out, body.fields[2], (uint8_t)distribution->family);
        write_distribution(out, body.fields[3], distribution);
    }
    if (value->data) write_tensor(out, body.fields[4], value);
}

void ppx_encode_tag(ppx_bytes *out, ppx_text address, const ppx_statement *where, const ppx_tensor *value) {
    ppx_written body = begin(out, PPX_TAG, 3, (const uint8_t[]){4, 4, value->data ? 4 : 0});
    write_text(out, body.fields[0], address);
    ppx_write_string(out, body.fields[1], where->name, where->name_length);
    if (value->data) write_tensor(out, body.fields[2], value);
}

void ppx_encode_result(ppx_bytes *out, const ppx_tensor *value) {
    ppx_written body = begin(out, PPX_RUN_RESULT, 1, (const uint8_t[]){value->data ? 4 : 0});
    if (value->data) write_tensor(out, body.fields[0], value);
}

/* A question without traces is the message asked for most: all but three of its numbers stand here. */
static const uint8_t QUESTION[80] = {
    16, 0, 0, 0,   0, 0, 0, 0,                                                       /* root at 16 */
    8, 0, 12, 0, 11, 0, 4, 0,                                                        /* vtable of Message */
    8, 0, 0, 0,   32, 0, 0, 0,   0, 0, 0, PPX_SAMPLE,                                /* Message, its body at 52 */
    24, 0, 24, 0,   0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,   8, 0, 4, 0, 0, 0, 12, 0,   /* vtable of Sample */
    24, 0, 0, 0,   20, 0, 0, 0,                                                      /* Sample, parameters at 76 */
};
enum { QUESTION_SITE = 60, QUESTION_POSITION = 64, QUESTION_PARAMETERS = 76 };

static void write_plain_question(ppx_bytes *out, uint32_t site, const double *parameters, size_t count,
                                 uint64_t position) {
    size_t size = sizeof QUESTION + 8 * count;
    out->failed = size > out->capacity && !ppx_grow(&out->data, &out->capacity, size, 1);
    if (out->failed) return;
    out->size = size;
    memcpy(out->data, QUESTION, sizeof QUESTION);
    ppx_set_u32(out, QUESTION_SITE, site);
    ppx_set_u64(out, QUESTION_POSITION, position);
    ppx_set_u32(out, QUESTION_PARAMETERS, (uint32_t)count);
    if (count) memcpy(out->data + sizeof QUESTION, parameters, 8 * count);
}

void ppx_encode_question(ppx_bytes *out, uint32_t site, const double *parameters, size_t num_parameters,
                         const ppx_traces *traces, uint64_t position) {
    ppx_written body;
    if (!traces) {
        write_plain_question(out, site, parameters, num_parameters, position);
        return;
    }
    body = begin(out, PPX_SAMPLE, 10, (const uint8_t[]){0, 0, 0, 0, 0, 0, 4, 4, 4, 8});
    ppx_set_u32(out, body.fields[6], site);
    ppx_set_u64(out, body.fields[9], position);
    ppx_write_doubles(out, body.fields[7], parameters, num_parameters);
    write_traces(out, body.fields[8], traces);
}

void ppx_encode_traces(ppx_bytes *out, const ppx_traces *traces, uint64_t position) {
    ppx_written body = begin(out, PPX_RUN_RESULT, 3, (const uint8_t[]){0, 4, position ? 8 : 0});
    if (position) ppx_set_u64(out, body.fields[2], position);
    write_traces(out, body.fields[1], traces);
}
