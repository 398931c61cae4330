/* Opening, stopping and closing a session. */

#define _GNU_SOURCE

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "forks.h"
#include "session.h"

/* -- opening -- */

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
    if (!(session->offered & PPX_FAMILIES)) session->offered &= ~(uint32_t)PPX_MORE_FAMILIES;
    session->parent = options->stop_with_parent ? (long)getppid() : 0;
    if (session->forks >= 0 && options->curve_secret_key) {
        session->curve_secret_key = copy_text(options->curve_secret_key, "");
        if (!session->curve_secret_key) return false;
    }
    for (int i = 0; i < 2; i++) /* of a value without elements, too, the data are not NULL */
        if (!ppx_doubles_reserve(&session->values[i].numbers, 1)) return false;
    return session->system_name && session->model_name && session->build_id &&
           ppx_addresses_intern(&session->addresses, "", 0, &none);
}

static bool is_text(const char *text) {
    return !text || (strlen(text) <= PPX_MAX_STRING && ppx_is_utf8(text, strlen(text)));
}

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
    session->forks = ppx_forks_socket();
    if (session->forks < 0 &&
        !ppx_channel_open(&session->channel, endpoint, given->curve_secret_key, error, error_size)) {
        free(session);
        return NULL;
    }
    if (set_up(session, given)) return session;
    snprintf(error, error_size, "memory ran out");
    ppx_close(session);
    return NULL;
}

int ppx_become_copy(ppx_session *session) {
    char *endpoint = ppx_forks_serve(session, session->forks);
    session->forks = -1;
    if (!endpoint || !ppx_channel_open(&session->channel, endpoint, session->curve_secret_key, session->text,
                                       sizeof session->text))
        session->broken = true;
    free(endpoint);
    free(session->curve_secret_key);
    session->curve_secret_key = NULL;
    return session->broken ? PPX_FAILED : PPX_OK;
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
    if (!atomic_compare_exchange_strong(&stopped_by_signals, &none, session))
        return none == session ? PPX_OK : PPX_FAILED;
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

bool ppx_should_stop(const ppx_session *session) {
    return atomic_load_explicit(&session->stopped, memory_order_relaxed) != 0;
}

void ppx_look_after_parent(ppx_session *session) {
    if (session->parent && (long)getppid() != session->parent) ppx_stop(session);
}

void ppx_close(ppx_session *session) {
    if (!session) return;
    leave_signals(session);
    if (session->forks >= 0)
        close(session->forks);
    else
        ppx_channel_close(&session->channel);
    ppx_addresses_free(&session->addresses);
    ppx_sites_free(&session->sites);
    ppx_policy_free(&session->policy);
    ppx_policy_free(&session->next_policy);
    ppx_replay_free(&session->replay);
    ppx_batch_free(&session->batch);
    ppx_recorder_free(&session->recorder);
    for (int i = 0; i < 2; i++) free(session->values[i].numbers.data);
    free(session->parameters.data);
    free(session->out.data);
    free(session->system_name);
    free(session->model_name);
    free(session->build_id);
    free(session->curve_secret_key);
    free(session);
}

bool ppx_running(const ppx_session *session) { return session->running; }

const char *ppx_error_text(const ppx_session *session) { return session->text; }
