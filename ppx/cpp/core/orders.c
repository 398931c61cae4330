#include "orders.h"

#include <stdlib.h>

/* Keeps a copy of a message, aligned as its numbers need, and decodes that. */
static int keep(ppx_bytes *copy, ppx_span message, ppx_message *decoded) {
    const char *why;
    if (message.size > copy->capacity && !ppx_grow(&copy->data, &copy->capacity, message.size, 1))
        return PPX_ERROR_TOO_LARGE;
    memcpy(copy->data, message.data, message.size);
    copy->size = message.size;
    return ppx_decode((ppx_span){copy->data, copy->size}, decoded, &why);
}

/* -- policy -- */

static uint64_t hash_name(const char *name, size_t length) { return ppx_hash_bytes(5, name, length); }

const ppx_observation *ppx_policy_find(const ppx_policy *policy, const char *name, size_t length) {
    size_t probe = 0;
    uint32_t found;
    uint64_t hash;
    if (!policy->num_observations || !length) return NULL;
    hash = hash_name(name, length);
    while ((found = ppx_index_next(&policy->index, hash, &probe))) {
        const ppx_observation *observation = &policy->observations[found - 1];
        if (observation->name_length == length && memcmp(observation->name, name, length) == 0) return observation;
    }
    return NULL;
}

/* Of several of one name the first counts; one without a value counts for nothing. */
static bool add_observation(ppx_policy *policy, const ppx_orders *draws, size_t at) {
    ppx_observation *observation = &policy->observations[policy->num_observations];
    ppx_vector name;
    ppx_read_observation(draws, at, &name, &observation->value);
    observation->name = (const char *)name.data;
    observation->name_length = name.count;
    if (!observation->value.data || !name.count || ppx_policy_find(policy, observation->name, name.count)) return true;
    if (!ppx_index_add(&policy->index, hash_name(observation->name, name.count),
                       (uint32_t)policy->num_observations + 1))
        return false;
    policy->num_observations++;
    return true;
}

int ppx_policy_set(ppx_policy *policy, ppx_span message) {
    ppx_message decoded;
    size_t count;
    int code;
    ppx_policy_clear(policy);
    code = keep(&policy->message, message, &decoded);
    if (code) return code;
    count = decoded.draws.observations.count;
    if (count > policy->capacity &&
        !ppx_grow(&policy->observations, &policy->capacity, count, sizeof *policy->observations))
        return PPX_ERROR_TOO_LARGE;
    for (size_t i = 0; i < count; i++)
        if (!add_observation(policy, &decoded.draws, i)) {
            ppx_policy_clear(policy);
            return PPX_ERROR_TOO_LARGE;
        }
    policy->asked = decoded.draws.asked;
    policy->ask_others = policy->asks = decoded.draws.ask_others;
    for (size_t i = 0; i < policy->asked.count && !policy->asks; i++) policy->asks = policy->asked.data[i] != 0;
    return 0;
}

void ppx_policy_clear(ppx_policy *policy) {
    policy->asked = (ppx_vector){NULL, 0};
    policy->ask_others = policy->asks = false;
    policy->num_observations = 0;
    ppx_index_clear(&policy->index);
}

void ppx_policy_free(ppx_policy *policy) {
    free(policy->message.data);
    free(policy->observations);
    free(policy->index.slots);
}

/* -- replay -- */

static uint64_t hash_visit(uint32_t address, uint32_t instance) {
    return ppx_mix(7, (uint64_t)address << 32 | instance);
}

/* The entry for a visit, whatever its site; NULL if there is none. */
static const ppx_replay_entry *find_visit(const ppx_replay *replay, const ppx_sites *sites, uint32_t address,
                                          uint32_t instance) {
    uint64_t hash = hash_visit(address, instance);
    size_t probe = 0;
    uint32_t found;
    while ((found = ppx_index_next(&replay->index, hash, &probe))) {
        const ppx_replay_entry *entry = &replay->entries[found - 1];
        if (entry->instance == instance && ppx_sites_get(sites, entry->site)->address == address) return entry;
    }
    return NULL;
}

const double *ppx_replay_find(const ppx_replay *replay, const ppx_sites *sites, uint32_t number, uint32_t instance) {
    const ppx_site *site = ppx_sites_get(sites, number);
    const ppx_replay_entry *entry = find_visit(replay, sites, site->address, instance);
    if (!entry) return NULL;
    return entry->site == number || ppx_sites_alike(ppx_sites_get(sites, entry->site), site) ? entry->values : NULL;
}

/* Lays the entries out over the values; false if they do not fit. */
static bool read_entries(ppx_replay *replay, const ppx_orders *draws, const ppx_sites *sites, size_t known,
                         const char **why) {
    uint64_t start = 0, count = draws->replay_values.count;
    const double *values = (const double *)(const void *)draws->replay_values.data;
    for (size_t i = 0; i < draws->replay_sites.count; i++) {
        ppx_replay_entry *entry = &replay->entries[i];
        entry->site = ppx_load_u32(draws->replay_sites.data + 4 * i);
        entry->instance = ppx_load_u32(draws->replay_instances.data + 4 * i);
        *why = "a replay names a site that was not told or has no value";
        if (!entry->site || entry->site > known || !ppx_sites_get(sites, entry->site)->signature[0]) return false;
        *why = "a replay has not as many values as its sites";
        if (ppx_sites_get(sites, entry->site)->num_values > count - start) return false;
        entry->values = values ? values + start : (const double *)(const void *)replay->message.data;
        start += ppx_sites_get(sites, entry->site)->num_values;
    }
    return start == count;
}

int ppx_replay_set(ppx_replay *replay, ppx_span message, const ppx_sites *sites, size_t known, const char **why) {
    ppx_message decoded;
    size_t count;
    int code;
    ppx_replay_clear(replay);
    *why = "memory ran out";
    code = keep(&replay->message, message, &decoded);
    if (code) return code;
    count = decoded.draws.replay_sites.count;
    if (count > replay->capacity && !ppx_grow(&replay->entries, &replay->capacity, count, sizeof *replay->entries))
        return PPX_ERROR_TOO_LARGE;
    if (!read_entries(replay, &decoded.draws, sites, known, why)) return PPX_ERROR_MALFORMED;
    *why = "memory ran out";
    for (size_t i = count; i-- > 0;) { /* of several for one visit the last counts */
        const ppx_replay_entry *entry = &replay->entries[i];
        uint32_t address = ppx_sites_get(sites, entry->site)->address;
        if (find_visit(replay, sites, address, entry->instance)) continue;
        if (!ppx_index_add(&replay->index, hash_visit(address, entry->instance), (uint32_t)i + 1)) {
            ppx_replay_clear(replay);
            return PPX_ERROR_TOO_LARGE;
        }
    }
    replay->num_entries = count;
    return 0;
}

void ppx_replay_clear(ppx_replay *replay) {
    replay->num_entries = 0;
    ppx_index_clear(&replay->index);
}

void ppx_replay_free(ppx_replay *replay) {
    free(replay->message.data);
    free(replay->entries);
    free(replay->index.slots);
}
