/* The session behind ppx.h: the connection, the Run that is being served, and the execution that is running.
 *
 * open.c makes and ends it, serve.c answers messages, executions.c begins and ends executions, statements.c is what a
 * model calls. */

#ifndef PPX_SESSION_H
#define PPX_SESSION_H

#include <stdatomic.h>

#include "channel.h"
#include "encode.h"
#include "orders.h"

/* What has become of the running execution. */
typedef enum {
    PPX_GOES_ON,
    PPX_WENT_WRONG, /* failed by itself: under draws the RunResult says so, else an Error */
    PPX_REFUSED,    /* the inference side's last message was no answer: an Error tells it */
    PPX_OVERTAKEN,  /* a Handshake or Run came in place of an answer, and is served next */
    PPX_ABANDONED,  /* the other side of the mailbox is gone */
    PPX_TERMINATED  /* ppx_stop was called, or the socket broke */
} ppx_fate;

/* A value that a model was given. */
typedef struct {
    ppx_doubles numbers;
    int32_t shape[PPX_MAX_DIMENSIONS];
} ppx_value;

struct ppx_session {
    ppx_channel channel;
    char *system_name, *model_name, *build_id;
    uint32_t offered; /* the capabilities of this front end */
    long parent;      /* the process that must live on; 0: none */
    atomic_int stopped;
    bool broken;
    int forks; /* the socket by which copies of this process are asked for; -1: none are */
    char *curve_secret_key; /* of a process that is copied, until the copy's socket is bound */

    /* the connection */
    uint32_t active; /* capabilities */
    ppx_addresses addresses;
    ppx_sites sites;
    size_t told;                  /* how many of the sites the inference side knows */
    size_t measured, definitions; /* how many bytes the definitions from `told` to `measured` take at most */
    ppx_policy policy, next_policy;

    /* the Run */
    ppx_span message; /* the last one received */
    bool waiting;     /* it is to be served next */
    bool draws;       /* a Run with draws is being served */
    uint64_t seed, first, start;
    uint32_t count, done;
    uint64_t used; /* uniforms, by the last execution */
    ppx_replay replay;
    ppx_batch batch;

    /* the execution */
    bool running;
    ppx_fate fate;
    int code; /* of the error, if it failed */
    ppx_recorder recorder;
    ppx_stream stream;
    uint32_t address; /* of the last statement */
    ppx_value *value, values[2]; /* the last one; the one before may be a parameter of the statement at hand */
    ppx_doubles parameters;

    ppx_bytes out;
    char text[PPX_MAX_ERROR_TEXT + 1]; /* of the last error */
};

static inline bool ppx_can(const ppx_session *session, uint32_t capability) {
    return (session->active & capability) != 0;
}

static inline ppx_text ppx_address_text(const ppx_session *session, uint32_t address) {
    const ppx_address_entry *entry = ppx_addresses_get(&session->addresses, address);
    return (ppx_text){entry->text, entry->length};
}

/* From now on the inference side knows this many sites. */
static inline void ppx_tell(ppx_session *session, size_t sites) {
    session->told = session->measured = sites;
    session->definitions = 0;
}

/* -- open.c -- */

/* Whether ppx_stop was called. */
bool ppx_should_stop(const ppx_session *session);

/* Stops the session if the parent that must live on has ended: a system call, so not for every statement. */
void ppx_look_after_parent(ppx_session *session);

/* Offers copies of this process to the one that started it, and returns in them: PPX_OK, or PPX_FAILED if the endpoint
 * that the copy was given cannot be bound. */
int ppx_become_copy(ppx_session *session);

/* -- serve.c -- */

/* Keeps a text that may be sent: UTF-8, not too long. */
void ppx_keep_text(ppx_session *session, const char *text);

/* Gives the execution up for a reason of its own. Returns PPX_UNWIND. */
int ppx_give_up(ppx_session *session, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Sends the question in `out` and waits for the answer: PPX_OK with the message, or PPX_UNWIND. */
int ppx_ask(ppx_session *session, uint32_t answer, ppx_message *message);

/* Sends `out`: PPX_OK, or PPX_FAILED if the socket broke. */
int ppx_send(ppx_session *session);

/* Answers with an Error of the text that was kept, or where the other side does not know these with a Reset. */
int ppx_refuse(ppx_session *session, int code, uint32_t address);

/* Forgets all that belongs to a connection. */
void ppx_begin_connection(ppx_session *session, uint32_t capabilities);

/* -- executions.c -- */

/* Begins the next execution of the Run. Returns PPX_RUN. */
int ppx_start_execution(ppx_session *session);

/* Sends the executions that are done. */
int ppx_send_batch(ppx_session *session);

/* Whether `out` can be sent; else the execution is given up. */
bool ppx_check_out(ppx_session *session);

/* What the recorder holds, as one execution of one type; `words` is the type's length and number, room for two. */
ppx_traces ppx_unsent(const ppx_session *session, uint32_t *words);

#endif
