/* What a Run with draws says beyond its seed: whom to ask, data, and values to replay (PROTOCOL.md, section 8). */

#ifndef PPX_ORDERS_H
#define PPX_ORDERS_H

#include "message.h"
#include "sites.h"

typedef struct {
    const char *name;
    size_t name_length;
    ppx_received value; /* its data is aligned: it may be read as doubles */
} ppx_observation;

typedef struct {
    ppx_bytes message; /* what the others point into */
    ppx_vector asked;
    bool ask_others, asks; /* `asks`: whether any site may be asked for */
    ppx_observation *observations;
    size_t num_observations, capacity;
    ppx_index index; /* of observations + 1, by name */
} ppx_policy;

typedef struct {
    uint32_t site, instance;
    const double *values;
} ppx_replay_entry;

typedef struct {
    ppx_bytes message;
    ppx_replay_entry *entries;
    size_t num_entries, capacity;
    ppx_index index; /* of entries + 1, by address and instance */
} ppx_replay;

/* Fill themselves from a message that ppx_decode has accepted, of which they keep a copy; 0 or the code of an error,
 * and then they are empty. `known`: how many of the sites the inference side knows. */
int ppx_policy_set(ppx_policy *policy, ppx_span message);
int ppx_replay_set(ppx_replay *replay, ppx_span message, const ppx_sites *sites, size_t known, const char **why);

void ppx_policy_clear(ppx_policy *policy);
void ppx_replay_clear(ppx_replay *replay);
void ppx_policy_free(ppx_policy *policy);
void ppx_replay_free(ppx_replay *replay);

static inline bool ppx_policy_asks(const ppx_policy *policy, uint32_t site) {
    size_t byte = site >> 3;
    return byte < policy->asked.count ? policy->asked.data[byte] >> (site & 7) & 1 : policy->ask_others;
}

/* The data for a name; NULL if there are none. */
const ppx_observation *ppx_policy_find(const ppx_policy *policy, const char *name, size_t length);

/* The values for visit `instance` of site `number`; NULL if there are none that fit. */
const double *ppx_replay_find(const ppx_replay *replay, const ppx_sites *sites, uint32_t number, uint32_t instance);

#endif
