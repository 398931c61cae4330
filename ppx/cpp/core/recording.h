/* What a front end keeps of an execution until it is sent: its sites and row, open scopes; and batches of
 * executions. */

#ifndef PPX_RECORDING_H
#define PPX_RECORDING_H

#include "sites.h"

/* An open rejection scope. `sites`, `row`, `visits`: how much there was of the unsent part when its present pass
 * began. */
typedef struct {
    uint32_t id, begin; /* `begin`: the site of its first mark */
    size_t sites, row, visits;
    uint64_t rejected;
    bool sent; /* whether something of the present pass has left in a message */
} ppx_scope;

/* One execution, the part that was not sent yet. */
typedef struct {
    ppx_words sites;
    ppx_doubles row;
    ppx_words visits, counts; /* the addresses visited, in order; how often each one was */
    ppx_scope *scopes;
    size_t num_scopes, scopes_capacity;
    uint32_t next_scope;
    bool replays; /* no open scope has rejected a pass: values of a replay may be used */
} ppx_recorder;

void ppx_recorder_start(ppx_recorder *recorder);
void ppx_recorder_free(ppx_recorder *recorder);

/* Counts a visit of an address: its instance, 0 if there is no memory. */
uint32_t ppx_recorder_visit(ppx_recorder *recorder, uint32_t address);

/* Records a statement: its site's number, and the numbers of its row; false if there is no memory. */
bool ppx_recorder_add(ppx_recorder *recorder, uint32_t site, const double *value, size_t num_values,
                      const ppx_distribution *distribution);

/* The unsent part has been sent. */
void ppx_recorder_sent(ppx_recorder *recorder);

ppx_scope *ppx_recorder_begin(ppx_recorder *recorder, uint32_t begin);
ppx_scope *ppx_recorder_find(ppx_recorder *recorder, uint32_t id);

/* Forgets the present pass of a scope. The caller adds the ScopeReject where `sent` is set, and then calls
 * ppx_scope_restart. */
void ppx_recorder_reject(ppx_recorder *recorder, ppx_scope *scope);
void ppx_scope_restart(const ppx_recorder *recorder, ppx_scope *scope);

/* Closes the scope opened last. */
void ppx_recorder_end(ppx_recorder *recorder);

/* -- batches -- */

typedef struct {
    uint32_t execution, address;
    int code;
    char *text;
    size_t length, bytes; /* `bytes`: on the wire, at most */
} ppx_failure;

typedef struct {
    ppx_words type_lengths, type_sites, types;
    ppx_doubles rows;
    ppx_index index;  /* of types + 1, by their sites */
    ppx_words starts; /* where each type begins in type_sites */
    ppx_failure *failures;
    size_t num_failures, failures_capacity, failure_bytes;
} ppx_batch;

static inline size_t ppx_batch_executions(const ppx_batch *batch) { return batch->types.size + batch->num_failures; }

/* About how many bytes it takes on the wire, never less. */
static inline size_t ppx_batch_size(const ppx_batch *batch) {
    return 8 * batch->rows.size + 4 * (batch->types.size + batch->type_sites.size + batch->type_lengths.size) +
           batch->failure_bytes + 1024;
}

bool ppx_batch_add(ppx_batch *batch, const ppx_recorder *recorder);

/* Removes the execution that was added last, which the recorder still holds if it did not fail. */
void ppx_batch_take_back(ppx_batch *batch, const ppx_recorder *recorder);

bool ppx_batch_fail(ppx_batch *batch, int code, uint32_t address, size_t address_length, const char *text,
                    size_t length);
void ppx_batch_clear(ppx_batch *batch);
void ppx_batch_free(ppx_batch *batch);

#endif
