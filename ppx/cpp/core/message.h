/* The messages that a front end receives, verified and decoded. */

#ifndef PPX_MESSAGE_H
#define PPX_MESSAGE_H

#include "families.h"
#include "reader.h"

#define PPX_VERSION     2
#define PPX_MAX_MESSAGE ((size_t)64 << 20)

/* Members of the union MessageBody. */
enum {
    PPX_HANDSHAKE = 1,
    PPX_HANDSHAKE_RESULT,
    PPX_RUN_BODY,
    PPX_RUN_RESULT,
    PPX_SAMPLE,
    PPX_SAMPLE_RESULT,
    PPX_OBSERVE,
    PPX_OBSERVE_RESULT,
    PPX_TAG,
    PPX_TAG_RESULT,
    PPX_RESET,
    PPX_ERROR
};

/* Capabilities: bits of a handshake. */
enum {
    PPX_ERRORS = 1,
    PPX_FAMILIES = 2,
    PPX_SITES = 4,
    PPX_DRAWS = 8,
    PPX_SHARED_MEMORY = 16,
    PPX_MORE_FAMILIES = 32,
    PPX_ALL_CAPABILITIES = 63
};

/* A received tensor. `data`: its numbers, of any alignment; NULL if it is no value. */
typedef struct {
    const uint8_t *data;
    size_t size;
    uint32_t dimensions;
    int32_t shape[PPX_MAX_DIMENSIONS];
} ppx_received;

typedef struct {
    uint32_t pid, fd;
    uint64_t size, nonce;
} ppx_shared_memory;

typedef struct {
    uint64_t seed, first, position;
    uint32_t count;
    bool has_policy, has_replay;
    bool ask_others;
    ppx_table policy;
    ppx_vector asked, observations;
    ppx_vector replay_sites, replay_instances, replay_values;
} ppx_orders;

typedef struct {
    uint32_t body;
    uint32_t version, capabilities; /* Handshake */
    bool has_shared_memory;
    ppx_shared_memory shared_memory;
    bool has_draws; /* Run */
    ppx_orders draws;
    ppx_received result; /* SampleResult */
    uint64_t position;
    ppx_vector text; /* Error */
} ppx_message;

/* Verifies the whole message and takes out what a front end needs; fields of other bodies are left as they were.
 * Returns 0 or the code of the error, with the reason in `why`. */
int ppx_decode(ppx_span bytes, ppx_message *message, const char **why);

/* Observation `index` of a policy that ppx_decode has verified. */
void ppx_read_observation(const ppx_orders *draws, size_t index, ppx_vector *name, ppx_received *value);

const char *ppx_body_name(uint32_t body);

/* Verifies a message against the schema: 0, or PPX_ERROR_MALFORMED, or PPX_ERROR_UNSUPPORTED for an unknown member of a
 * union. `body`: the member of MessageBody, `table`: its table. */
int ppx_verify(ppx_span bytes, uint32_t *body, ppx_table *table);

#endif
