/* From received bytes to what the session needs of them; what the fields mean is checked here, their places in
 * verify.c. */

#include "message.h"

static const char *const BODIES[] = {"nothing",      "Handshake", "HandshakeResult", "Run", "RunResult", "Sample",
                                     "SampleResult", "Observe",   "ObserveResult",   "Tag", "TagResult", "Reset",
                                     "Error"};

const char *ppx_body_name(uint32_t body) { return BODIES[body <= PPX_ERROR ? body : 0]; }

/* The tensor in field `at` of a verified table. A scalar has no dimensions, whichever of the two forms it came in. */
static bool read_tensor(const ppx_table *parent, unsigned at, ppx_received *tensor) {
    ppx_table table;
    ppx_vector data, shape;
    bool present;
    *tensor = (ppx_received){0};
    ppx_read_table(parent, at, &table, &present);
    if (!present) return true;
    ppx_read_vector(&table, 0, 8, &data);
    ppx_read_vector(&table, 1, 4, &shape);
    if (!data.count) return true;
    if (shape.count > PPX_MAX_DIMENSIONS) return false;
    tensor->data = data.data;
    tensor->size = data.count;
    tensor->dimensions = (uint32_t)shape.count;
    if (shape.count) memcpy(tensor->shape, shape.data, 4 * shape.count);
    if (ppx_shape_size(tensor->shape, tensor->dimensions) == SIZE_MAX) return false;
    if (data.count == 1 && tensor->dimensions == 1 && tensor->shape[0] == 1) tensor->dimensions = 0;
    if (data.count != 1 && !tensor->dimensions) {
        if (data.count >= (size_t)1 << 31) return false;
        tensor->dimensions = 1;
        tensor->shape[0] = (int32_t)data.count;
    }
    return ppx_shape_size(tensor->shape, tensor->dimensions) == data.count;
}

void ppx_read_observation(const ppx_orders *draws, size_t index, ppx_vector *name, ppx_received *value) {
    ppx_table observation;
    ppx_read_element(&draws->policy, draws->observations, index, &observation);
    ppx_read_string(&observation, 0, name);
    read_tensor(&observation, 1, value);
}

static uint64_t number(const ppx_table *table, unsigned at, size_t size, uint64_t fallback) {
    uint64_t value = fallback;
    ppx_read_number(table, at, size, fallback, &value);
    return value;
}

static const char *read_policy(const ppx_table *table, ppx_orders *draws) {
    ppx_received value;
    draws->policy = *table;
    draws->ask_others = number(table, 1, 1, 0) != 0;
    ppx_read_vector(table, 0, 1, &draws->asked);
    ppx_read_vector(table, 2, 4, &draws->observations);
    for (size_t i = 0; i < draws->observations.count; i++) {
        ppx_table observation;
        ppx_read_element(table, draws->observations, i, &observation);
        if (!read_tensor(&observation, 1, &value)) return "the shape of an observation does not fit its numbers";
    }
    return NULL;
}

static const char *read_draws(const ppx_table *table, ppx_orders *draws) {
    ppx_table inner;
    const char *why = NULL;
    *draws = (ppx_orders){
        .seed = number(table, 0, 8, 0), .first = number(table, 1, 8, 0), .position = number(table, 3, 8, 0)};
    draws->count = (uint32_t)number(table, 2, 4, 1);
    ppx_read_table(table, 4, &inner, &draws->has_policy);
    if (draws->has_policy) why = read_policy(&inner, draws);
    ppx_read_table(table, 5, &inner, &draws->has_replay);
    if (why || !draws->has_replay) return why;
    ppx_read_vector(&inner, 0, 4, &draws->replay_sites);
    ppx_read_vector(&inner, 1, 4, &draws->replay_instances);
    ppx_read_vector(&inner, 2, 8, &draws->replay_values);
    return draws->replay_sites.count == draws->replay_instances.count ? NULL
                                                                      : "a replay has not as many instances as sites";
}

static void read_handshake(const ppx_table *table, ppx_message *message) {
    ppx_table inner;
    message->version = (uint32_t)number(table, 1, 4, 0);
    message->capabilities = (uint32_t)number(table, 2, 4, 0);
    ppx_read_table(table, 3, &inner, &message->has_shared_memory);
    if (!message->has_shared_memory) return;
    message->shared_memory = (ppx_shared_memory){
        .pid = (uint32_t)number(&inner, 0, 4, 0),
        .fd = (uint32_t)number(&inner, 1, 4, 0),
        .size = number(&inner, 2, 8, 0),
        .nonce = number(&inner, 3, 8, 0),
    };
}

int ppx_decode(ppx_span bytes, ppx_message *message, const char **why) {
    ppx_table table;
    int code = ppx_verify(bytes, &message->body, &table);
    *why = code == PPX_ERROR_UNSUPPORTED ? "an unknown kind of message or distribution" : "the bytes are no message";
    if (code) return code;
    *why = NULL;
    switch (message->body) {
        case PPX_HANDSHAKE: read_handshake(&table, message); break;
        case PPX_RUN_BODY: {
            ppx_table inner;
            ppx_read_table(&table, 1, &inner, &message->has_draws);
            if (message->has_draws) *why = read_draws(&inner, &message->draws);
            break;
        }
        case PPX_SAMPLE_RESULT:
            message->position = number(&table, 1, 8, 0);
            if (!read_tensor(&table, 0, &message->result)) *why = "the shape of the value does not fit its numbers";
            break;
        case PPX_ERROR: ppx_read_string(&table, 1, &message->text); break;
        default: break;
    }
    return *why ? PPX_ERROR_MALFORMED : 0;
}
