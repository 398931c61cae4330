#include "recording.h"

#include <stdlib.h>

/* -- one execution -- */

static void forget_visits(ppx_recorder *recorder, size_t kept) {
    while (recorder->visits.size > kept) recorder->counts.data[recorder->visits.data[--recorder->visits.size]]--;
}

void ppx_recorder_start(ppx_recorder *recorder) {
    recorder->sites.size = recorder->row.size = recorder->num_scopes = 0;
    recorder->next_scope = 1;
    recorder->replays = true;
    forget_visits(recorder, 0);
}

void ppx_recorder_free(ppx_recorder *recorder) {
    free(recorder->sites.data);
    free(recorder->row.data);
    free(recorder->visits.data);
    free(recorder->counts.data);
    free(recorder->scopes);
}

uint32_t ppx_recorder_visit(ppx_recorder *recorder, uint32_t address) {
    ppx_words *counts = &recorder->counts;
    if (address >= counts->size) {
        size_t more = address + 1 - counts->size;
        if (!ppx_words_reserve(counts, more)) return 0;
        memset(counts->data + counts->size, 0, more * sizeof *counts->data);
        counts->size += more;
    }
    return ppx_words_push(&recorder->visits, address) ? ++counts->data[address] : 0;
}

bool ppx_recorder_add(ppx_recorder *recorder, uint32_t site, const double *value, size_t num_values,
                      const ppx_distribution *distribution) {
    return ppx_words_push(&recorder->sites, site) && ppx_doubles_append(&recorder->row, value, num_values) &&
           (!distribution || ppx_append_parameters(&recorder->row, distribution));
}

void ppx_recorder_sent(ppx_recorder *recorder) {
    recorder->sites.size = recorder->row.size = 0;
    for (size_t i = 0; i < recorder->num_scopes; i++) {
        recorder->scopes[i].sites = recorder->scopes[i].row = 0;
        recorder->scopes[i].sent = true;
    }
}

ppx_scope *ppx_recorder_begin(ppx_recorder *recorder, uint32_t begin) {
    ppx_scope *scope;
    if (recorder->num_scopes == recorder->scopes_capacity &&
        !ppx_grow(&recorder->scopes, &recorder->scopes_capacity, recorder->num_scopes + 1, sizeof *recorder->scopes))
        return NULL;
    scope = &recorder->scopes[recorder->num_scopes++];
    *scope = (ppx_scope){.id = recorder->next_scope++, .begin = begin, .visits = recorder->visits.size};
    ppx_scope_restart(recorder, scope);
    return scope;
}

ppx_scope *ppx_recorder_find(ppx_recorder *recorder, uint32_t id) {
    for (size_t i = recorder->num_scopes; i-- > 0;)
        if (recorder->scopes[i].id == id) return &recorder->scopes[i];
    return NULL;
}

void ppx_scope_restart(const ppx_recorder *recorder, ppx_scope *scope) {
    scope->sites = recorder->sites.size;
    scope->row = recorder->row.size;
    scope->sent = false;
}

void ppx_recorder_reject(ppx_recorder *recorder, ppx_scope *scope) {
    recorder->num_scopes = (size_t)(scope - recorder->scopes) + 1;
    recorder->sites.size = scope->sites;
    recorder->row.size = scope->row;
    forget_visits(recorder, scope->visits);
    scope->rejected++;
    recorder->replays = false;
}

void ppx_recorder_end(ppx_recorder *recorder) {
    recorder->num_scopes--;
    recorder->replays = true;
    for (size_t i = 0; i < recorder->num_scopes; i++)
        if (recorder->scopes[i].rejected) recorder->replays = false;
}

/* -- batches -- */

/* The type of a sequence of sites, a new one if the batch has none like it; UINT32_MAX if there is no memory. */
static uint32_t intern_type(ppx_batch *batch, const ppx_words *sites) {
    size_t bytes = sites->size * sizeof *sites->data, probe = 0;
    uint64_t hash = ppx_hash_bytes(3, sites->data, bytes);
    uint32_t found;
    while ((found = ppx_index_next(&batch->index, hash, &probe)))
        if (batch->type_lengths.data[found - 1] == sites->size &&
            (!bytes || memcmp(batch->type_sites.data + batch->starts.data[found - 1], sites->data, bytes) == 0))
            return found - 1;
    if (!ppx_words_reserve(&batch->type_sites, sites->size) || !ppx_words_reserve(&batch->type_lengths, 1) ||
        !ppx_words_reserve(&batch->starts, 1) || !ppx_index_add(&batch->index, hash, (uint32_t)batch->starts.size + 1))
        return UINT32_MAX;
    batch->starts.data[batch->starts.size++] = (uint32_t)batch->type_sites.size;
    batch->type_lengths.data[batch->type_lengths.size++] = (uint32_t)sites->size;
    if (bytes) memcpy(batch->type_sites.data + batch->type_sites.size, sites->data, bytes);
    batch->type_sites.size += sites->size;
    return (uint32_t)batch->starts.size - 1;
}

bool ppx_batch_add(ppx_batch *batch, const ppx_recorder *recorder) {
    uint32_t type;
    if (!ppx_words_reserve(&batch->types, 1) || !ppx_doubles_reserve(&batch->rows, recorder->row.size)) return false;
    type = intern_type(batch, &recorder->sites); /* last, so that every type has an execution */
    return type != UINT32_MAX && ppx_words_push(&batch->types, type) &&
           ppx_doubles_append(&batch->rows, recorder->row.data, recorder->row.size);
}

/* Removes the last type, if no execution is of it any more. */
static void forget_type(ppx_batch *batch, uint32_t type) {
    for (size_t i = 0; i < batch->types.size; i++)
        if (batch->types.data[i] == type) return;
    batch->type_sites.size = batch->starts.data[type]; /* it was new, and so the last */
    batch->starts.size = batch->type_lengths.size = type;
    ppx_index_clear(&batch->index);
    for (uint32_t i = 0; i < type; i++) {
        const uint32_t *sites = batch->type_sites.data + batch->starts.data[i];
        ppx_index_add(&batch->index, ppx_hash_bytes(3, sites, batch->type_lengths.data[i] * sizeof *sites), i + 1);
    }
}

void ppx_batch_take_back(ppx_batch *batch, const ppx_recorder *recorder) {
    size_t last = batch->num_failures - 1;
    if (batch->num_failures && batch->failures[last].execution + 1 == ppx_batch_executions(batch)) {
        batch->failure_bytes -= batch->failures[last].bytes;
        free(batch->failures[last].text);
        batch->num_failures--;
        return;
    }
    batch->types.size--;
    batch->rows.size -= recorder->row.size;
    forget_type(batch, batch->types.data[batch->types.size]);
}

bool ppx_batch_fail(ppx_batch *batch, int code, uint32_t address, size_t address_length, const char *text,
                    size_t length) {
    size_t bytes = 96 + address_length + length;
    char *copy;
    if (batch->num_failures == batch->failures_capacity &&
        !ppx_grow(&batch->failures, &batch->failures_capacity, batch->num_failures + 1, sizeof *batch->failures))
        return false;
    copy = malloc(length + 1);
    if (!copy) return false;
    memcpy(copy, text, length);
    batch->failures[batch->num_failures] =
        (ppx_failure){(uint32_t)ppx_batch_executions(batch), address, code, copy, length, bytes};
    batch->num_failures++;
    batch->failure_bytes += bytes;
    return true;
}

void ppx_batch_clear(ppx_batch *batch) {
    for (size_t i = 0; i < batch->num_failures; i++) free(batch->failures[i].text);
    batch->num_failures = batch->failure_bytes = 0;
    batch->types.size = batch->type_lengths.size = batch->type_sites.size = batch->starts.size = batch->rows.size = 0;
    ppx_index_clear(&batch->index);
}

void ppx_batch_free(ppx_batch *batch) {
    ppx_batch_clear(batch);
    free(batch->type_lengths.data);
    free(batch->type_sites.data);
    free(batch->types.data);
    free(batch->rows.data);
    free(batch->index.slots);
    free(batch->starts.data);
    free(batch->failures);
}
