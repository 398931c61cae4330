/* The session behind ppx.h: the connection, the Run that is being served, and the execution that is running.
 *
 * serve.c answers messages and begins and ends executions; statements.c is what a model calls. */

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

struct ppx_session {
    ppx_channel channel;
    char *system_name, *model_name, *build_id;
    uint32_t offered; /* the capabilities of this front end */
    long parent;      /* the process that must live on; 0: none */
    atomic_int stopped;
    bool broken;

    /* the connection */
    uint32_t active; /* capabilities */
    ppx_addresses addresses;
    ppx_sites sites;
    size_t told;                  /* how many of the sites the inference side knows */
    size_t measured, definitions; /* bytes of the definitions of sites `told` to `measured`; see pending_size */
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
    ppx_doubles value, parameters;
    int32_t value_shape[PPX_MAX_DIMENSIONS];

    ppx_bytes out;
    char text[PPX_MAX_ERROR_TEXT + 1]; /* of the last error */
};

static inline bool ppx_can(const ppx_session *session, uint32_t capability) { return (session->active & capability) != 0; }

static inline ppx_text ppx_address_text(const ppx_session *session, uint32_t address) {
    const ppx_address_entry *entry = ppx_addresses_get(&session->addresses, address);
    return (ppx_text){entry->text, entry->length};
}

/* Whether ppx_stop was called or the parent has ended. */
bool ppx_should_stop(ppx_session *session);

/* Gives the execution up for a reason of its own. Returns PPX_UNWIND. */
int ppx_give_up(ppx_session *session, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Sends the question in `out` and waits for the answer: PPX_OK with the message, or PPX_UNWIND. */
int ppx_ask(ppx_session *session, uint32_t answer, ppx_message *message);

/* Whether `out` can be sent; else the execution is given up. */
bool ppx_check_out(ppx_session *session);

/* What the recorder holds, as one execution of one type; `words` is the type's length and number, room for two. */
ppx_traces ppx_unsent(const ppx_session *session, uint32_t *words);

#endif
