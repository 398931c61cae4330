/* What a model calls: in PPX 1.0.0 every statement is a question; with the extension only draws that are asked for
 * are. */

#include <math.h>

#include "session.h"

/* -- checks that all statements share -- */

static const ppx_statement NOWHERE = {0, true, "", 0};

static bool goes_on(ppx_session *session) {
    if (!session->running || session->fate) return false;
    if (ppx_should_stop(session)) session->fate = PPX_TERMINATED;
    return !session->fate;
}

/* Whether the execution goes on and the statement may be made; `place` gets where it stands. */
static bool enter(ppx_session *session, const ppx_statement *where, ppx_statement *place) {
    if (!goes_on(session)) return false;
    *place = where ? *where : NOWHERE;
    if (!place->name_length) place->name = "";
    if (place->address >= session->addresses.size) {
        session->address = 0;
        ppx_give_up(session, PPX_ERROR_TOO_LARGE,
                    "a statement's address is longer than %d bytes, not UTF-8, unknown, or beyond the session's %d",
                    PPX_MAX_STRING, PPX_MAX_ADDRESSES);
        return false;
    }
    session->address = place->address;
    if (place->name_length > PPX_MAX_STRING)
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "a name of %zu bytes is longer than %d", place->name_length,
                    PPX_MAX_STRING);
    else if (!ppx_is_utf8(place->name, place->name_length))
        ppx_give_up(session, PPX_ERROR_MODEL, "a statement's name is not UTF-8");
    return !session->fate;
}

static bool too_many(const ppx_session *session, size_t numbers) {
    return numbers > ppx_channel_capacity(&session->channel) / 8;
}

/* Whether the distribution can be sent and used. */
static bool accept(ppx_session *session, const ppx_distribution *distribution) {
    char text[256];
    if (too_many(session, ppx_count_parameters(distribution, 0)))
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "%s: the parameters are too many or their shapes beyond the limits",
                    ppx_family_name(distribution->family));
    else if (ppx_check(distribution, text, sizeof text))
        ppx_give_up(session, PPX_ERROR_PARAMETER, "%s", text);
    else if (ppx_needed(distribution) && !ppx_can(session, ppx_needed(distribution)))
        ppx_give_up(session, PPX_ERROR_UNSUPPORTED, "the inference side does not support the distribution %s",
                    ppx_family_name(distribution->family));
    return !session->fate;
}

/* The given value, without data if there is none. A value may have no elements. */
static bool take_value(ppx_session *session, const ppx_tensor *given, ppx_tensor *value, size_t *size) {
    *value = given && given->data ? *given : (ppx_tensor){NULL, NULL, 0};
    *size = value->data ? ppx_tensor_size(value) : 0;
    if (too_many(session, *size)) {
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "a value is too large, or its shape beyond the limits");
        return false;
    }
    return true;
}

/* Room for a value, which leaves the one before as it is. */
static ppx_value *next_value(ppx_session *session) {
    session->value = &session->values[session->value == session->values];
    return session->value;
}

/* A tensor in the session for `size` numbers of the distribution's shape. */
static bool make_value(ppx_session *session, const ppx_distribution *distribution, ppx_tensor *value, size_t *size) {
    ppx_value *room = next_value(session);
    uint32_t dimensions;
    ppx_value_shape(distribution, room->shape, &dimensions, size);
    if (too_many(session, *size) || !ppx_doubles_reserve(&room->numbers, *size)) {
        ppx_give_up(session, PPX_ERROR_TOO_LARGE, "%s: a value of %zu numbers is too large",
                    ppx_family_name(distribution->family), *size);
        return false;
    }
    *value = (ppx_tensor){room->numbers.data, room->shape, dimensions};
    return true;
}

/* -- recording -- */

static uint32_t intern(ppx_session *session, uint32_t kind, const ppx_statement *place,
                       const ppx_distribution *distribution, const ppx_tensor *value) {
    uint32_t site = ppx_sites_intern(&session->sites, kind, place, distribution, value);
    if (!site)
        ppx_give_up(session, PPX_ERROR_TOO_LARGE,
                    session->sites.size >= PPX_MAX_SITES ? "the simulator has more than 1,048,576 different statements"
                                                         : "memory ran out");
    return site;
}

/* Records a statement, unless what waits to be sent could no longer be: a model that never ends must not take all
 * memory. */
static int add(ppx_session *session, uint32_t site, const double *value, size_t size,
               const ppx_distribution *distribution) {
    const ppx_recorder *recorder = &session->recorder;
    if (!ppx_recorder_add(&session->recorder, site, value, size, distribution))
        return ppx_give_up(session, PPX_ERROR_TOO_LARGE, "memory ran out");
    if (8 * recorder->row.size + 4 * recorder->sites.size <= ppx_channel_capacity(&session->channel)) return PPX_OK;
    return ppx_give_up(session, PPX_ERROR_TOO_LARGE, "the statements since the last message are too many for the next");
}

static int record(ppx_session *session, uint32_t kind, const ppx_statement *place, const ppx_distribution *distribution,
                  const ppx_tensor *value, size_t size) {
    uint32_t site = intern(session, kind, place, distribution, value->data ? value : NULL);
    return site ? add(session, site, value->data, size, distribution) : PPX_UNWIND;
}

/* Counts the visit of the statement's address, where somebody asks for it: its instance. */
static uint32_t visit(ppx_session *session) {
    uint32_t instance;
    if (!session->replay.num_entries || !session->draws) return 1;
    instance = ppx_recorder_visit(&session->recorder, session->address);
    if (!instance) ppx_give_up(session, PPX_ERROR_TOO_LARGE, "memory ran out");
    return instance;
}

/* The data for a name under draws, in the shape that the statement's row has; NULL if there are none. One number
 * takes the shape of a distribution of one element. */
static const ppx_observation *find_data(ppx_session *session, const ppx_statement *place,
                                        const ppx_distribution *distribution, ppx_tensor *value, size_t *size) {
    const ppx_observation *data =
        session->draws ? ppx_policy_find(&session->policy, place->name, place->name_length) : NULL;
    uint32_t dimensions;
    if (!data) return NULL;
    *size = data->value.size;
    *value = (ppx_tensor){(const double *)(const void *)data->value.data, data->value.shape, data->value.dimensions};
    if (*size == 1 && distribution) {
        ppx_value *room = next_value(session);
        size_t elements;
        ppx_value_shape(distribution, room->shape, &dimensions, &elements);
        if (elements == 1) *value = (ppx_tensor){value->data, room->shape, dimensions};
    }
    return data;
}

/* -- sample -- */

/* Takes the answer to a draw into the session's value; `size` is the distribution's. */
static int take_answer(ppx_session *session, const ppx_message *answer, size_t size) {
    if (answer->result.size != size)
        return ppx_give_up(session, PPX_ERROR_MALFORMED, "a value of %zu numbers was sent for one of %zu",
                           answer->result.size, size);
    if (session->draws) {
        if (answer->position < session->stream.position)
            return ppx_give_up(session, PPX_ERROR_MALFORMED, "the random stream is at %llu; it cannot go back to %llu",
                               (unsigned long long)session->stream.position, (unsigned long long)answer->position);
        ppx_stream_start(&session->stream, session->stream.seed, session->stream.index, answer->position);
    }
    if (size) memcpy(session->value->numbers.data, answer->result.data, size * sizeof(double));
    return PPX_OK;
}

static int ask_site(ppx_session *session, uint32_t site, const ppx_distribution *distribution, size_t size) {
    bool something = session->recorder.sites.size || session->told < session->sites.size;
    uint32_t words[2];
    ppx_traces traces;
    ppx_message answer;
    int status;
    if (something) traces = ppx_unsent(session, words);
    session->parameters.size = 0;
    if (!ppx_append_parameters(&session->parameters, distribution))
        return ppx_give_up(session, PPX_ERROR_TOO_LARGE, "memory ran out");
    ppx_encode_question(&session->out, site, session->parameters.data, session->parameters.size,
                        something ? &traces : NULL, session->draws ? session->stream.position : 0);
    if (!ppx_check_out(session)) return PPX_UNWIND;
    ppx_tell(session, session->sites.size);
    ppx_recorder_sent(&session->recorder);
    status = ppx_ask(session, PPX_SAMPLE_RESULT, &answer);
    return status ? status : take_answer(session, &answer, size);
}

static int ask_plainly(ppx_session *session, const ppx_statement *place, const ppx_distribution *distribution,
                       size_t size) {
    ppx_message answer;
    ppx_encode_sample(&session->out, ppx_address_text(session, place->address), place, distribution);
    if (!ppx_check_out(session) || ppx_ask(session, PPX_SAMPLE_RESULT, &answer)) return PPX_UNWIND;
    return take_answer(session, &answer, size);
}

/* With draws: the replay, else the answer if it is asked for, else a draw. */
static int sample_site(ppx_session *session, const ppx_statement *place, const ppx_distribution *distribution,
                       uint32_t instance, ppx_tensor *value, size_t size) {
    uint32_t site = intern(session, PPX_SITE_SAMPLE, place, distribution, value);
    const double *replayed = NULL;
    if (!site) return PPX_UNWIND;
    if (!session->draws) return ask_site(session, site, distribution, size);
    if (session->replay.num_entries && session->recorder.replays)
        replayed = ppx_replay_find(&session->replay, &session->sites, site, instance);
    if (replayed && ppx_is_within(distribution, replayed))
        value->data = replayed;
    else if (!replayed && ppx_policy_asks(&session->policy, site))
        return ask_site(session, site, distribution, size);
    else
        ppx_draw(&session->stream, distribution, session->value->numbers.data);
    /* A replayed value that cannot be there is told as it is, and its execution will be refused. Until then the program
     * runs on with one that can: it may be what the program reads an array by. */
    return add(session, site, replayed ? replayed : value->data, size, distribution);
}

int ppx_sample(ppx_session *session, const ppx_statement *where, const ppx_distribution *distribution,
               ppx_tensor *value) {
    ppx_statement place;
    ppx_tensor found;
    size_t size;
    uint32_t instance;
    int status;
    if (!enter(session, where, &place)) return PPX_UNWIND;
    instance = visit(session);
    if (!instance || !accept(session, distribution)) return PPX_UNWIND;
    if (find_data(session, &place, distribution, &found, &size)) {
        status = record(session, PPX_SITE_SAMPLE, &place, distribution, &found, size);
    } else {
        if (!make_value(session, distribution, &found, &size)) return PPX_UNWIND;
        status = ppx_can(session, PPX_SITES) ? sample_site(session, &place, distribution, instance, &found, size)
                                             : ask_plainly(session, &place, distribution, size);
    }
    if (!status && value) *value = found;
    return status;
}

/* -- the others -- */

int ppx_observe(ppx_session *session, const ppx_statement *where, const ppx_distribution *distribution,
                const ppx_tensor *value, ppx_tensor *known) {
    ppx_statement place;
    ppx_tensor used;
    ppx_message answer;
    size_t size;
    int status;
    if (known) *known = (ppx_tensor){NULL, NULL, 0};
    if (!enter(session, where, &place) || !visit(session)) return PPX_UNWIND;
    if (distribution && !accept(session, distribution)) return PPX_UNWIND;
    if (!take_value(session, value, &used, &size)) return PPX_UNWIND;
    if (!find_data(session, &place, distribution, &used, &size) && !used.data) {
        if (!distribution)
            return ppx_give_up(session, PPX_ERROR_MODEL, "an observe has neither a distribution nor a value");
        if (session->draws) {
            if (!make_value(session, distribution, &used, &size)) return PPX_UNWIND;
            ppx_draw(&session->stream, distribution, session->value->numbers.data);
        }
    }
    if (ppx_can(session, PPX_SITES)) {
        status = record(session, PPX_SITE_OBSERVE, &place, distribution, &used, size);
    } else {
        ppx_encode_observe(&session->out, ppx_address_text(session, place.address), &place, distribution, &used);
        status = ppx_check_out(session) ? ppx_ask(session, PPX_OBSERVE_RESULT, &answer) : PPX_UNWIND;
    }
    if (!status && known) *known = used;
    return status;
}

int ppx_tag(ppx_session *session, const ppx_statement *where, const ppx_tensor *value) {
    ppx_statement place;
    ppx_tensor given;
    ppx_message answer;
    size_t size;
    if (!enter(session, where, &place) || !visit(session) || !take_value(session, value, &given, &size))
        return PPX_UNWIND;
    if (!given.data) return ppx_give_up(session, PPX_ERROR_MODEL, "a tag has no value");
    if (ppx_can(session, PPX_SITES)) return record(session, PPX_SITE_TAG, &place, NULL, &given, size);
    ppx_encode_tag(&session->out, ppx_address_text(session, place.address), &place, &given);
    return ppx_check_out(session) ? ppx_ask(session, PPX_TAG_RESULT, &answer) : PPX_UNWIND;
}

int ppx_factor(ppx_session *session, const ppx_statement *where, double log_factor) {
    ppx_statement place;
    ppx_tensor value = {&log_factor, NULL, 0};
    if (!enter(session, where, &place) || !visit(session)) return PPX_UNWIND;
    if (!(log_factor < (double)INFINITY))
        return ppx_give_up(session, PPX_ERROR_PARAMETER, "a factor must be below +inf, found %g", log_factor);
    if (!ppx_can(session, PPX_SITES))
        return ppx_give_up(session, PPX_ERROR_UNSUPPORTED, "the inference side does not support factors");
    return record(session, PPX_SITE_FACTOR, &place, NULL, &value, 1);
}

/* -- rejection scopes -- */

static const ppx_tensor NO_VALUE = {NULL, NULL, 0};

/* The statement that a scope's marks share. */
static ppx_statement place_of(const ppx_session *session, const ppx_scope *scope) {
    const ppx_site *site = ppx_sites_get(&session->sites, scope->begin);
    return (ppx_statement){site->address, true, site->name, site->name_length};
}

static ppx_scope *find_scope(ppx_session *session, uint32_t id) {
    ppx_scope *scope = ppx_recorder_find(&session->recorder, id);
    if (!scope) ppx_give_up(session, PPX_ERROR_MODEL, "this rejection scope is not open");
    return scope;
}

int ppx_scope_begin(ppx_session *session, const ppx_statement *where, uint32_t *scope) {
    ppx_statement place;
    uint32_t site;
    ppx_scope *opened;
    *scope = 0;
    if (!enter(session, where, &place)) return PPX_UNWIND;
    if (!ppx_can(session, PPX_SITES)) return PPX_OK;
    site = intern(session, PPX_SITE_SCOPE_BEGIN, &place, NULL, NULL);
    if (!site || add(session, site, NULL, 0, NULL)) return PPX_UNWIND;
    opened = ppx_recorder_begin(&session->recorder, site);
    if (!opened) return ppx_give_up(session, PPX_ERROR_TOO_LARGE, "memory ran out");
    *scope = opened->id;
    return PPX_OK;
}

int ppx_scope_reject(ppx_session *session, uint32_t scope) {
    ppx_statement place;
    ppx_scope *open;
    if (!goes_on(session)) return PPX_UNWIND;
    if (!ppx_can(session, PPX_SITES)) return PPX_OK;
    open = find_scope(session, scope);
    if (!open) return PPX_UNWIND;
    ppx_recorder_reject(&session->recorder, open);
    if (!open->sent) return PPX_OK;
    place = place_of(session, open);
    if (record(session, PPX_SITE_SCOPE_REJECT, &place, NULL, &NO_VALUE, 0)) return PPX_UNWIND;
    ppx_scope_restart(&session->recorder, open);
    return PPX_OK;
}

/* Closes the scope opened last, whose present pass is accepted. */
static int end_last_scope(ppx_session *session) {
    ppx_scope *last = &session->recorder.scopes[session->recorder.num_scopes - 1];
    ppx_statement place = place_of(session, last);
    double rejected = (double)last->rejected;
    ppx_tensor value = {&rejected, NULL, 0};
    ppx_recorder_end(&session->recorder);
    return record(session, PPX_SITE_SCOPE_END, &place, NULL, &value, 1);
}

int ppx_scope_end(ppx_session *session, uint32_t scope) {
    ppx_recorder *recorder = &session->recorder;
    size_t outside;
    ppx_scope *open;
    if (!goes_on(session)) return PPX_UNWIND;
    if (!ppx_can(session, PPX_SITES)) return PPX_OK;
    if (scope && scope < recorder->next_scope && !ppx_recorder_find(recorder, scope)) return PPX_OK;
    open = find_scope(session, scope);
    if (!open) return PPX_UNWIND;
    outside = (size_t)(open - recorder->scopes);
    while (recorder->num_scopes > outside) /* those that were left open inside it first, each with its mark */
        if (end_last_scope(session)) return PPX_UNWIND;
    return PPX_OK;
}

/* -- addresses -- */

uint32_t ppx_address(ppx_session *session, const char *text, size_t length) {
    uint32_t number;
    if (length > PPX_MAX_STRING || !ppx_is_utf8(text, length) ||
        !ppx_addresses_intern(&session->addresses, text, length, &number))
        return UINT32_MAX;
    return number;
}
