/* The messages of the inference side: answers while an execution runs, and those that begin something new when none
 * does (PROTOCOL.md, section 3). */

#include <stdarg.h>
#include <stdio.h>

#include "session.h"

/* -- what goes wrong -- */

void ppx_keep_text(ppx_session *session, const char *text) {
    size_t length = ppx_cut_utf8(text, strlen(text), PPX_MAX_ERROR_TEXT);
    memmove(session->text, text, length);
    session->text[length] = 0;
    if (ppx_is_utf8(session->text, length)) return;
    for (char *at = session->text; *at; at++)
        if ((unsigned char)*at >= 0x80) *at = '?';
}

/* A text that ppx_keep_text will cut: one byte more than it keeps tells it whether the cut falls within a character. */
enum { WHOLE_TEXT = PPX_MAX_ERROR_TEXT + 2 };

int ppx_give_up(ppx_session *session, int code, const char *format, ...) {
    char text[WHOLE_TEXT];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    ppx_keep_text(session, text);
    session->fate = PPX_WENT_WRONG;
    session->code = code;
    return PPX_UNWIND;
}

static int break_down(ppx_session *session) {
    snprintf(session->text, sizeof session->text, "the ZeroMQ socket broke: %s", zmq_strerror(zmq_errno()));
    session->broken = true;
    return PPX_FAILED;
}

static int run_out_of_memory(ppx_session *session) {
    snprintf(session->text, sizeof session->text, "memory ran out");
    session->broken = true;
    return PPX_FAILED;
}

int ppx_send(ppx_session *session) {
    return ppx_channel_send(&session->channel, session->out.data, session->out.size) ? PPX_OK : break_down(session);
}

int ppx_refuse(ppx_session *session, int code, uint32_t address) {
    ppx_text text = {session->text, strlen(session->text)}, place = ppx_address_text(session, address);
    if (ppx_can(session, PPX_ERRORS))
        ppx_encode_error(&session->out, code, text, ppx_error_address(place.data, place.size));
    else {
        /* A Reset has no text, and somebody should learn why. */
        const char *shown = place.data ? (const char *)place.data : "";
        const int size = place.data ? (int)(place.size < 4096 ? place.size : 4096) : 0;
        fprintf(stderr, "ppx: %s%s%.*s%s; answered with Reset, which has no reason\n", session->text,
                size ? " (at " : "", size, shown, size ? ")" : "");
        fflush(stderr);
        ppx_encode_reset(&session->out);
    }
    return session->out.failed ? run_out_of_memory(session) : ppx_send(session);
}

static int refuse_text(ppx_session *session, int code, const char *text) {
    ppx_keep_text(session, text);
    return ppx_refuse(session, code, 0);
}

/* -- questions -- */

/* Waits for a message; false if there will be none, and then `fate` says why. */
static bool receive(ppx_session *session) {
    for (;;) {
        switch (ppx_channel_receive(&session->channel, &session->message)) {
            case PPX_RECEIVED: return true;
            case PPX_LOST: session->fate = PPX_ABANDONED; return false;
            case PPX_BROKEN:
                break_down(session);
                session->fate = PPX_TERMINATED;
                return false;
            default:
                ppx_look_after_parent(session);
                if (!ppx_should_stop(session)) break;
                session->fate = PPX_TERMINATED;
                return false;
        }
    }
}

static int refuse_answer(ppx_session *session, int code, const char *text) {
    ppx_keep_text(session, text);
    session->fate = PPX_REFUSED;
    session->code = code;
    return PPX_UNWIND;
}

static int refuse_aborted(ppx_session *session, const ppx_message *message) {
    static const char before[] = "given up by the inference side: ";
    char text[WHOLE_TEXT];
    snprintf(text, sizeof text, "%s%.*s", before, (int)message->text.count,
             message->text.data ? (const char *)message->text.data : "");
    return refuse_answer(session, PPX_ERROR_ABORTED, text);
}

int ppx_ask(ppx_session *session, uint32_t answer, ppx_message *message) {
    char text[128];
    const char *why;
    int code;
    if (ppx_send(session)) {
        session->fate = PPX_TERMINATED;
        return PPX_UNWIND;
    }
    if (!receive(session)) return PPX_UNWIND;
    code = ppx_decode(session->message, message, &why);
    if (code) return refuse_answer(session, code, why);
    if (message->body == answer) return PPX_OK;
    if (message->body == PPX_HANDSHAKE || message->body == PPX_RUN_BODY) {
        ppx_keep_text(session, "the inference side has started anew");
        session->fate = PPX_OVERTAKEN;
        session->waiting = true;
        return PPX_UNWIND;
    }
    if (message->body == PPX_ERROR && ppx_can(session, PPX_ERRORS)) return refuse_aborted(session, message);
    snprintf(text, sizeof text, "a %s is no answer: %s is expected", ppx_body_name(message->body),
             ppx_body_name(answer));
    return refuse_answer(session, PPX_ERROR_OUT_OF_STATE, text);
}

/* -- connections -- */

void ppx_begin_connection(ppx_session *session, uint32_t capabilities) {
    session->active = capabilities;
    ppx_sites_clear(&session->sites);
    ppx_tell(session, 0);
    ppx_policy_clear(&session->policy);
    session->draws = false;
    ppx_batch_clear(&session->batch);
}

/* The capabilities of both sides whose needs are met. */
static uint32_t agree(uint32_t ours, uint32_t theirs) {
    uint32_t both = ours & theirs & PPX_ALL_CAPABILITIES;
    if (!(both & PPX_FAMILIES)) both &= ~(uint32_t)PPX_MORE_FAMILIES;
    if (!(both & PPX_ERRORS)) both &= ~(uint32_t)PPX_SITES;
    if (!(both & PPX_SITES)) both &= ~(uint32_t)PPX_DRAWS;
    return both;
}

static int shake_hands(ppx_session *session, const ppx_message *message) {
    bool extended = session->offered && message->version >= PPX_VERSION;
    uint32_t capabilities = agree(session->offered, extended ? message->capabilities : 0);
    ppx_mailbox mailbox = {0};
    int status;
    if ((capabilities & PPX_SHARED_MEMORY) &&
        !(message->has_shared_memory && ppx_mailbox_attach(&mailbox, &message->shared_memory)))
        capabilities &= ~(uint32_t)PPX_SHARED_MEMORY;
    ppx_channel_use(&session->channel, NULL);
    ppx_begin_connection(session, capabilities);
    ppx_encode_handshake_result(&session->out, session->system_name, session->model_name, session->build_id,
                                extended ? PPX_VERSION : 0, capabilities);
    status = session->out.failed ? run_out_of_memory(session) : ppx_send(session);
    if (status)
        ppx_mailbox_leave(&mailbox);
    else
        ppx_channel_use(&session->channel, &mailbox);
    return status;
}

/* -- serving -- */

static int begin_draws(ppx_session *session, const ppx_orders *draws) {
    const ppx_policy *policy = draws->has_policy ? &session->next_policy : &session->policy;
    const char *why = "memory ran out";
    int code = 0;
    uint64_t seed = draws->seed, first = draws->first, position = draws->position;
    uint32_t count = draws->count;
    bool has_policy = draws->has_policy;
    ppx_replay_clear(&session->replay);
    if (has_policy) code = ppx_policy_set(&session->next_policy, session->message);
    if (!code && draws->has_replay)
        code = ppx_replay_set(&session->replay, session->message, &session->sites, session->told, &why);
    if (!code && !count) {
        code = PPX_ERROR_MALFORMED;
        why = "a Run asks for no execution";
    }
    if (!code && count > 1 && policy->asks) {
        code = PPX_ERROR_UNSUPPORTED;
        why = "a Run of several executions cannot ask for values";
    }
    if (code) {
        ppx_replay_clear(&session->replay);
        return refuse_text(session, code, why);
    }
    if (has_policy) {
        ppx_policy adopted = session->next_policy;
        session->next_policy = session->policy;
        session->policy = adopted;
    }
    session->draws = true;
    session->seed = seed;
    session->first = first;
    session->start = position;
    session->count = count;
    session->done = 0;
    ppx_batch_clear(&session->batch);
    return ppx_start_execution(session);
}

static int serve(ppx_session *session) {
    ppx_message message;
    char text[96];
    const char *why;
    int code = ppx_decode(session->message, &message, &why);
    if (code) return refuse_text(session, code, why);
    switch (message.body) {
        case PPX_HANDSHAKE:
            if (!ppx_channel_shares_memory(&session->channel)) return shake_hands(session, &message);
            return refuse_text(session, PPX_ERROR_OUT_OF_STATE,
                               "a Handshake travels by ZeroMQ, not through the mailbox");
        case PPX_RUN_BODY:
            if (message.has_draws && ppx_can(session, PPX_DRAWS)) return begin_draws(session, &message.draws);
            session->draws = false;
            session->done = 0;
            return ppx_start_execution(session);
        default:
            snprintf(text, sizeof text, "no execution runs: %s is not expected", ppx_body_name(message.body));
            return refuse_text(session, PPX_ERROR_OUT_OF_STATE, text);
    }
}

int ppx_wait_run(ppx_session *session) {
    if (session->forks >= 0 && ppx_become_copy(session)) return PPX_FAILED;
    if (session->running) ppx_fail(session, PPX_ERROR_MODEL, "the model ended without finishing its execution");
    if (session->draws && !session->broken) { /* a batch is not complete */
        if (!ppx_should_stop(session)) return ppx_start_execution(session);
        ppx_send_batch(session);
    }
    for (;;) {
        int status;
        if (session->broken) return PPX_FAILED;
        if (ppx_should_stop(session)) return PPX_STOPPED;
        if (!session->waiting && !receive(session)) {
            if (session->fate == PPX_ABANDONED) ppx_begin_connection(session, 0);
            continue;
        }
        session->waiting = false;
        status = serve(session);
        if (status) return status;
    }
}
