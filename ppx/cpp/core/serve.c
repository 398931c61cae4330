/* The states of a front end (PROTOCOL.md, section 3): messages that come while no execution runs, and the ends of those that do. */

#define _GNU_SOURCE

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "session.h"

static const size_t BATCH_SIZE = (size_t)1 << 20; /* a RunResult is sent once it has about this size */

/* -- opening and closing -- */

static char *copy_text(const char *text, const char *fallback) {
    const char *given = text ? text : fallback;
    size_t length = strlen(given);
    char *copy = malloc(length + 1);
    if (copy) memcpy(copy, given, length + 1);
    return copy;
}

static bool set_up(ppx_session *session, const ppx_options *options) {
    uint32_t none;
    session->system_name = copy_text(options->system_name, "ppx");
    session->model_name = copy_text(options->model_name, "");
    session->build_id = copy_text(options->build_id, "");
    session->offered = PPX_ALL_CAPABILITIES & ~options->disabled;
    session->parent = options->stop_with_parent ? (long)getppid() : 0;
    return session->system_name && session->model_name && session->build_id &&
           ppx_addresses_intern(&session->addresses, "", 0, &none) && ppx_doubles_reserve(&session->value, 1);
}

static bool is_text(const char *text) { return !text || (strlen(text) <= PPX_MAX_STRING && ppx_is_utf8(text, strlen(text))); }

ppx_session *ppx_open(const char *endpoint, const ppx_options *options, char *error, size_t error_size) {
    static const ppx_options defaults = {0};
    const ppx_options *given = options ? options : &defaults;
    ppx_session *session;
    if (error_size) error[0] = 0;
    if (!is_text(given->system_name) || !is_text(given->model_name) || !is_text(given->build_id)) {
        snprintf(error, error_size, "names and the build id must be UTF-8 of at most %d bytes", PPX_MAX_STRING);
        return NULL;
    }
    session = calloc(1, sizeof *session);
    if (!session) {
        snprintf(error, error_size, "memory ran out");
        return NULL;
    }
    if (!ppx_channel_open(&session->channel, endpoint, given->curve_secret_key, error, error_size)) {
        free(session);
        return NULL;
    }
    if (set_up(session, given)) return session;
    snprintf(error, error_size, "memory ran out");
    ppx_close(session);
    return NULL;
}

/* -- stopping -- */

static ppx_session *_Atomic stopped_by_signals; /* handlers get nothing but the signal's number */
static struct sigaction earlier_actions[2];
static const int SIGNALS[2] = {SIGTERM, SIGINT};

static void handle_signal(int number) {
    ppx_session *session = atomic_load(&stopped_by_signals);
    (void)number;
    if (session) ppx_stop(session);
}

int ppx_stop_on_signals(ppx_session *session) {
    struct sigaction action = {.sa_handler = handle_signal, .sa_flags = (int)SA_RESETHAND};
    ppx_session *none = NULL;
    if (!atomic_compare_exchange_strong(&stopped_by_signals, &none, session)) return none == session ? PPX_OK : PPX_FAILED;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < 2; i++) sigaction(SIGNALS[i], &action, &earlier_actions[i]);
    return PPX_OK;
}

static void leave_signals(ppx_session *session) {
    if (atomic_load(&stopped_by_signals) != session) return;
    for (int i = 0; i < 2; i++) sigaction(SIGNALS[i], &earlier_actions[i], NULL);
    atomic_store(&stopped_by_signals, NULL);
}

void ppx_stop(ppx_session *session) { atomic_store_explicit(&session->stopped, 1, memory_order_relaxed); }

bool ppx_should_stop(ppx_session *session) {
    if (session->parent && (long)getppid() != session->parent) ppx_stop(session);
    return atomic_load_explicit(&session->stopped, memory_order_relaxed) != 0;
}

void ppx_close(ppx_session *session) {
    if (!session) return;
    leave_signals(session);
    ppx_channel_close(&session->channel);
    ppx_addresses_free(&session->addresses);
    ppx_sites_free(&session->sites);
    ppx_policy_free(&session->policy);
    ppx_policy_free(&session->next_policy);
    ppx_replay_free(&session->replay);
    ppx_batch_free(&session->batch);
    ppx_recorder_free(&session->recorder);
    free(session->value.data);
    free(session->parameters.data);
    free(session->out.data);
    free(session->system_name);
    free(session->model_name);
    free(session->build_id);
    free(session);
}

/* -- small things -- */

bool ppx_running(const ppx_session *session) { return session->running; }

const char *ppx_error_text(const ppx_session *session) { return session->text; }

/* Keeps a text that may be sent: UTF-8, not too long. */
static void keep_text(ppx_session *session, const char *text) {
    size_t length = ppx_cut_utf8(text, strlen(text), PPX_MAX_ERROR_TEXT);
    memmove(session->text, text, length);
    session->text[length] = 0;
    if (ppx_is_utf8(session->text, length)) return;
    for (char *at = session->text; *at; at++)
        if ((unsigned char)*at >= 0x80) *at = '?';
}

int ppx_give_up(ppx_session *session, int code, const char *format, ...) {
    char text[PPX_MAX_ERROR_TEXT + 1];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    keep_text(session, text);
    session->fate = PPX_WENT_WRONG;
    session->code = code;
    return PPX_UNWIND;
}

static int break_down(ppx_session *session) {
    snprintf(session->text, sizeof session->text, "the ZeroMQ socket broke: %s", zmq_strerror(zmq_errno()));
    session->broken = true;
    return PPX_FAILED;
}

static int send(ppx_session *session) {
    return ppx_channel_send(&session->channel, session->out.data, session->out.size) ? PPX_OK : break_down(session);
}

/* Answers with an Error, which says what `code` and `text` say, or where the other side does not know these with a Reset. */
static int refuse(ppx_session *session, int code, uint32_t address) {
    ppx_text text = {session->text, strlen(session->text)}, place = ppx_address_text(session, address);
    if (ppx_can(session, PPX_ERRORS))
        ppx_encode_error(&session->out, code, text, ppx_error_address(place.data, place.size));
    else
        ppx_encode_reset(&session->out);
    if (!session->out.failed) return send(session);
    snprintf(session->text, sizeof session->text, "memory ran out");
    session->broken = true;
    return PPX_FAILED;
}

static int refuse_text(ppx_session *session, int code, const char *text) {
    keep_text(session, text);
    return refuse(session, code, 0);
}

bool ppx_check_out(ppx_session *session) {
    size_t capacity = ppx_channel_capacity(&session->channel);
    if (session->out.failed)
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "memory ran out");
    else if (session->out.size > capacity)
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "a message of %zu bytes is longer than the connection's %zu", session->out.size,
                    capacity);
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
                if (!ppx_should_stop(session)) break;
                session->fate = PPX_TERMINATED;
                return false;
        }
    }
}

static int refuse_answer(ppx_session *session, int code, const char *text) {
    keep_text(session, text);
    session->fate = PPX_REFUSED;
    session->code = code;
    return PPX_UNWIND;
}

static int refuse_aborted(ppx_session *session, const ppx_message *message) {
    static const char before[] = "given up by the inference side: ";
    char text[PPX_MAX_ERROR_TEXT + 1];
    snprintf(text, sizeof text, "%s%.*s", before, (int)message->text.count,
             message->text.data ? (const char *)message->text.data : "");
    return refuse_answer(session, PPX_ERROR_ABORTED, text);
}

int ppx_ask(ppx_session *session, uint32_t answer, ppx_message *message) {
    char text[128];
    const char *why;
    int code;
    if (send(session)) {
        session->fate = PPX_TERMINATED;
        return PPX_UNWIND;
    }
    if (!receive(session)) return PPX_UNWIND;
    code = ppx_decode(session->message, message, &why);
    if (code) return refuse_answer(session, code, why);
    if (message->body == answer) return PPX_OK;
    if (message->body == PPX_HANDSHAKE || message->body == PPX_RUN_BODY) {
        keep_text(session, "the inference side has started anew");
        session->fate = PPX_OVERTAKEN;
        session->waiting = true;
        return PPX_UNWIND;
    }
    if (message->body == PPX_ERROR && ppx_can(session, PPX_ERRORS)) return refuse_aborted(session, message);
    snprintf(text, sizeof text, "a %s is no answer: %s is expected", ppx_body_name(message->body), ppx_body_name(answer));
    return refuse_answer(session, PPX_ERROR_OUT_OF_STATE, text);
}

/* -- connections -- */

static void begin_connection(ppx_session *session, uint32_t capabilities) {
    session->active = capabilities;
    ppx_sites_clear(&session->sites);
    session->told = 0;
    ppx_policy_clear(&session->policy);
    session->draws = false;
    ppx_batch_clear(&session->batch);
}

/* The capabilities of both sides whose needs are met. */
static uint32_t agree(uint32_t ours, uint32_t theirs) {
    uint32_t both = ours & theirs & PPX_ALL_CAPABILITIES;
    if (!(both & PPX_ERRORS)) both &= ~(uint32_t)PPX_SITES;
    if (!(both & PPX_SITES)) both &= ~(uint32_t)PPX_DRAWS;
    return both;
}

static int shake_hands(ppx_session *session, const ppx_message *message) {
    bool extended = session->offered && message->version >= PPX_VERSION;
    uint32_t capabilities = agree(session->offered, extended ? message->capabilities : 0);
    ppx_mailbox mailbox = {0};
    if ((capabilities & PPX_SHARED_MEMORY) &&
        !(message->has_shared_memory && ppx_mailbox_attach(&mailbox, &message->shared_memory)))
        capabilities &= ~(uint32_t)PPX_SHARED_MEMORY;
    ppx_channel_use(&session->channel, NULL);
    begin_connection(session, capabilities);
    ppx_encode_handshake_result(&session->out, session->system_name, session->model_name, session->build_id,
                                extended ? PPX_VERSION : 0, capabilities);
    if (session->out.failed || send(session)) {
        ppx_mailbox_leave(&mailbox);
        return break_down(session);
    }
    ppx_channel_use(&session->channel, &mailbox);
    return PPX_OK;
}

/* -- executions -- */

static int start_execution(ppx_session *session) {
    ppx_recorder_start(&session->recorder);
    ppx_stream_start(&session->stream, session->seed, session->first + session->done, session->start);
    session->address = 0;
    session->fate = PPX_GOES_ON;
    session->running = true;
    return PPX_RUN;
}

/* An upper bound of the bytes of the definitions that the inference side does not know yet. */
static size_t pending_size(ppx_session *session) {
    if (session->measured < session->told) {
        session->measured = session->told;
        session->definitions = 0;
    }
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

static int send_batch(ppx_session *session) {
    size_t capacity = ppx_channel_capacity(&session->channel), size = ppx_batch_size(&session->batch);
    size_t num_sites = session->sites.size;
    int status;
    encode_batch(session, num_sites);
    if (!session->out.failed && session->out.size > capacity) {
        /* An execution that is not in the batch has brought more definitions than there is room for: the first of them. */
        num_sites = definitions_within(session, capacity > size ? capacity - size : 0);
        encode_batch(session, num_sites);
    }
    session->draws = false;
    if (ppx_check_out(session)) {
        session->told = num_sites;
        session->measured = session->definitions = 0;
        status = send(session);
    } else {
        status = refuse(session, session->code, 0);
    }
    ppx_batch_clear(&session->batch);
    return status;
}

/* Adds the finished execution, or its failure, to the batch, and sends that if it is complete. An execution that makes
 * the message too large is taken back: the next Run begins with it. Alone it has failed. */
static int close_draws(ppx_session *session) {
    ppx_batch *batch = &session->batch;
    size_t enough = ppx_channel_capacity(&session->channel) / 4, earlier = ppx_batch_executions(batch);
    bool full;
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
    full = !batch_fits(session);
    if (full && earlier && ppx_batch_executions(batch) > earlier) ppx_batch_take_back(batch, &session->recorder);
    session->done = session->done - (uint32_t)earlier + (uint32_t)ppx_batch_executions(batch);
    if (ppx_batch_executions(batch) > earlier) session->used = session->stream.position;
    if (full || session->done == session->count || ppx_should_stop(session) || ppx_batch_size(batch) >= enough)
        return send_batch(session);
    return PPX_OK;
}

int ppx_finish(ppx_session *session, const ppx_tensor *result) {
    ppx_tensor value = result && result->data ? *result : (ppx_tensor){NULL, NULL, 0};
    size_t size = value.data ? ppx_tensor_size(&value) : 0;
    if (!session->running) {
        keep_text(session, "ppx_finish: no execution runs");
        return PPX_FAILED;
    }
    if (!session->fate && size > ppx_channel_capacity(&session->channel) / 8)
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "the model's result is too large");
    if (session->fate) {
        ppx_leave(session);
        return session->broken ? PPX_FAILED : PPX_OK;
    }
    if (!ppx_can(session, PPX_SITES)) {
        ppx_encode_result(&session->out, &value);
    } else {
        uint32_t words[2], site = ppx_sites_intern(&session->sites, PPX_SITE_RESULT, NULL, NULL, value.data ? &value : NULL);
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
    if (session->fate || !ppx_check_out(session)) {
        ppx_leave(session);
        return session->broken ? PPX_FAILED : PPX_OK;
    }
    session->running = false;
    session->told = session->sites.size;
    return send(session);
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
                refuse(session, session->code, session->address);
            break;
        case PPX_REFUSED:
            session->draws = false;
            refuse(session, session->code, session->address);
            break;
        case PPX_ABANDONED: begin_connection(session, 0); break;
        case PPX_TERMINATED:
            if (session->draws && !session->broken && ppx_batch_executions(&session->batch)) send_batch(session);
            break;
        default: break;
    }
    if (!session->draws || session->fate >= PPX_REFUSED) {
        session->draws = false;
        ppx_batch_clear(&session->batch);
    }
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
    if (!code && draws->has_replay) code = ppx_replay_set(&session->replay, session->message, &session->sites, session->told, &why);
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
    return start_execution(session);
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
            return refuse_text(session, PPX_ERROR_OUT_OF_STATE, "a Handshake travels by ZeroMQ, not through the mailbox");
        case PPX_RUN_BODY:
            if (message.has_draws && ppx_can(session, PPX_DRAWS)) return begin_draws(session, &message.draws);
            session->draws = false;
            session->done = 0;
            return start_execution(session);
        default:
            snprintf(text, sizeof text, "no execution runs: %s is not expected", ppx_body_name(message.body));
            return refuse_text(session, PPX_ERROR_OUT_OF_STATE, text);
    }
}

int ppx_wait_run(ppx_session *session) {
    if (session->running) ppx_fail(session, PPX_ERROR_MODEL, "the model ended without finishing its execution");
    if (session->draws && !session->broken) { /* a batch is not complete */
        if (!ppx_should_stop(session)) return start_execution(session);
        send_batch(session);
    }
    for (;;) {
        int status;
        if (session->broken) return PPX_FAILED;
        if (ppx_should_stop(session)) return PPX_STOPPED;
        if (!session->waiting && !receive(session)) {
            if (session->fate == PPX_ABANDONED) begin_connection(session, 0);
            continue;
        }
        session->waiting = false;
        status = serve(session);
        if (status) return status;
    }
}
