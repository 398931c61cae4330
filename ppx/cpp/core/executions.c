/* The executions of a Run: how they begin and end, and how those that the front end draws alone become one message. */

#include <stdio.h>
#include <string.h>

#include "session.h"

static const size_t BATCH_SIZE = (size_t)1 << 20; /* a RunResult is sent once it has about this size */

int ppx_start_execution(ppx_session *session) {
    ppx_look_after_parent(session);
    ppx_recorder_start(&session->recorder);
    ppx_stream_start(&session->stream, session->seed, session->first + session->done, session->start);
    session->address = 0;
    session->fate = PPX_GOES_ON;
    session->running = true;
    return PPX_RUN;
}

bool ppx_check_out(ppx_session *session) {
    size_t capacity = ppx_channel_capacity(&session->channel);
    if (session->out.failed)
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "memory ran out");
    else if (session->out.size > capacity)
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "a message of %zu bytes is longer than the connection's %zu",
                    session->out.size, capacity);
    else
        return true;
    return false;
}

ppx_traces ppx_unsent(const ppx_session *session, uint32_t *words) {
    const ppx_recorder *recorder = &session->recorder;
    bool some = recorder->sites.size != 0;
    words[0] = (uint32_t)recorder->sites.size;
    words[1] = 0;
    return (ppx_traces){
        .sites = &session->sites,
        .addresses = &session->addresses,
        .told = session->told,
        .num_sites = session->sites.size,
        .type_lengths = words,
        .num_types = some,
        .type_sites = recorder->sites.data,
        .num_type_sites = recorder->sites.size,
        .types = words + 1,
        .num_executions = some,
        .rows = recorder->row.data,
        .num_rows = recorder->row.size,
    };
}

/* -- batches -- */

/* An upper bound of the bytes of the definitions that the inference side does not know yet. */
static size_t pending_size(ppx_session *session) {
    while (session->measured < session->sites.size)
        session->definitions += ppx_definition_size(&session->sites.entries[session->measured++], &session->addresses);
    return session->definitions;
}

/* How many definitions can be sent within `room` bytes. */
static size_t definitions_within(const ppx_session *session, size_t room) {
    size_t number = session->told;
    while (number < session->sites.size) {
        size_t size = ppx_definition_size(&session->sites.entries[number], &session->addresses);
        if (size > room) break;
        room -= size;
        number++;
    }
    return number;
}

static void encode_batch(ppx_session *session, size_t num_sites) {
    const ppx_batch *batch = &session->batch;
    ppx_traces traces = {
        .sites = &session->sites,
        .addresses = &session->addresses,
        .told = session->told,
        .num_sites = num_sites,
        .type_lengths = batch->type_lengths.data,
        .num_types = batch->type_lengths.size,
        .type_sites = batch->type_sites.data,
        .num_type_sites = batch->type_sites.size,
        .types = batch->types.data,
        .num_executions = batch->types.size,
        .rows = batch->rows.data,
        .num_rows = batch->rows.size,
        .failures = batch->failures,
        .num_failures = batch->num_failures,
    };
    ppx_encode_traces(&session->out, &traces, session->used);
}

/* Whether the batch certainly fits into a message together with the definitions that must travel with it. */
static bool batch_fits(ppx_session *session) {
    return ppx_batch_size(&session->batch) + pending_size(session) <= ppx_channel_capacity(&session->channel);
}

int ppx_send_batch(ppx_session *session) {
    size_t capacity = ppx_channel_capacity(&session->channel), size = ppx_batch_size(&session->batch);
    size_t num_sites = session->sites.size;
    int status;
    encode_batch(session, num_sites);
    if (!session->out.failed && session->out.size > capacity) {
        /* An execution that is not in the batch has brought more definitions than there is room for: the first of
         * them. */
        num_sites = definitions_within(session, capacity > size ? capacity - size : 0);
        encode_batch(session, num_sites);
    }
    session->draws = false;
    if (ppx_check_out(session)) {
        ppx_tell(session, num_sites);
        status = ppx_send(session);
    } else {
        status = ppx_refuse(session, session->code, 0);
    }
    ppx_batch_clear(&session->batch);
    return status;
}

/* Adds the finished execution, or its failure, to the batch, and sends that if it is complete. An execution that makes
 * the message too large is taken back: the next Run begins with it. Alone it has failed. */
static int close_draws(ppx_session *session) {
    ppx_batch *batch = &session->batch;
    size_t enough = ppx_channel_capacity(&session->channel) / 4, earlier = ppx_batch_executions(batch);
    bool full, added;
    if (enough > BATCH_SIZE) enough = BATCH_SIZE;
    if (!session->fate && !ppx_batch_add(batch, &session->recorder)) {
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "memory ran out");
    } else if (!session->fate && !earlier && !batch_fits(session)) {
        encode_batch(session, session->sites.size);
        if (!ppx_check_out(session)) ppx_batch_take_back(batch, &session->recorder);
    }
    if (session->fate) {
        ppx_text address = ppx_address_text(session, session->address);
        ppx_batch_fail(batch, session->code, session->address, address.size, session->text, strlen(session->text));
    }
    full = !batch_fits(session) || ppx_batch_executions(batch) == earlier; /* no memory even for the failure */
    if (full && earlier && ppx_batch_executions(batch) > earlier) ppx_batch_take_back(batch, &session->recorder);
    added = ppx_batch_executions(batch) > earlier;
    if (!added && !earlier) {
        session->draws = false;
        return ppx_refuse(session, session->code, session->address);
    }
    session->done += added;
    if (added) session->used = session->stream.position;
    if (full || session->done == session->count || ppx_should_stop(session) || ppx_batch_size(batch) >= enough)
        return ppx_send_batch(session);
    return PPX_OK;
}

/* -- the ends of an execution -- */

static int leave(ppx_session *session) {
    ppx_leave(session);
    return session->broken ? PPX_FAILED : PPX_OK;
}

int ppx_finish(ppx_session *session, const ppx_tensor *result) {
    ppx_tensor value = result && result->data ? *result : (ppx_tensor){NULL, NULL, 0};
    size_t size = value.data ? ppx_tensor_size(&value) : 0;
    if (!session->running) {
        ppx_keep_text(session, "ppx_finish: no execution runs");
        return PPX_FAILED;
    }
    if (!session->fate && size > ppx_channel_capacity(&session->channel) / 8)
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "the model's result is too large");
    if (session->fate) return leave(session);
    if (!ppx_can(session, PPX_SITES)) {
        ppx_encode_result(&session->out, &value);
    } else {
        uint32_t words[2],
            site = ppx_sites_intern(&session->sites, PPX_SITE_RESULT, NULL, NULL, value.data ? &value : NULL);
        if (!site || !ppx_recorder_add(&session->recorder, site, value.data, size, NULL)) {
            ppx_give_up(session, PPX_ERROR_TOO_LARGE, "too many different statements, or memory ran out");
        } else if (!session->draws) {
            ppx_traces traces = ppx_unsent(session, words);
            ppx_encode_traces(&session->out, &traces, 0);
        }
    }
    if (session->draws && !session->fate) {
        session->running = false;
        return close_draws(session);
    }
    if (session->fate || !ppx_check_out(session)) return leave(session);
    session->running = false;
    ppx_tell(session, session->sites.size);
    return ppx_send(session);
}

void ppx_fail(ppx_session *session, int code, const char *text) {
    if (!session->running) return;
    if (!session->fate) ppx_give_up(session, code, "%s", text ? text : "");
    ppx_leave(session);
}

void ppx_leave(ppx_session *session) {
    if (!session->running) return;
    if (!session->fate) ppx_give_up(session, PPX_ERROR_MODEL, "the model left its execution");
    session->running = false;
    switch (session->fate) {
        case PPX_WENT_WRONG:
            if (session->draws)
                close_draws(session);
            else
                ppx_refuse(session, session->code, session->address);
            break;
        case PPX_REFUSED:
            session->draws = false;
            ppx_refuse(session, session->code, session->address);
            break;
        case PPX_ABANDONED: ppx_begin_connection(session, 0); break;
        case PPX_TERMINATED:
            if (session->draws && !session->broken && ppx_batch_executions(&session->batch)) ppx_send_batch(session);
            break;
        default: break;
    }
    if (!session->draws || session->fate >= PPX_REFUSED) {
        session->draws = false;
        ppx_batch_clear(&session->batch);
    }
}
