/* How messages travel: a bound ZeroMQ REP socket, and the mailbox of the present connection, if it has one. */

#ifndef PPX_CHANNEL_H
#define PPX_CHANNEL_H

#include <zmq.h>

#include "mailbox.h"
#include "memory.h"

typedef struct {
    void *context, *socket;
    zmq_msg_t message; /* the last one received by the socket */
    char *path;        /* of the file of an ipc endpoint, NULL if there is none */
    uint64_t device, inode;
    ppx_mailbox mailbox;
} ppx_channel;

typedef enum { PPX_RECEIVED, PPX_NOTHING, PPX_LOST, PPX_BROKEN } ppx_reception;

/* Binds; false with the reason in `error`. */
bool ppx_channel_open(ppx_channel *channel, const char *endpoint, const char *curve_secret_key, char *error,
                      size_t error_size);

/* Waits a tenth of a second at most for the next message, which stays valid until the next send (by mailbox) or
 * receive. PPX_LOST: the other side of the mailbox died or left, the next message will come by the socket. */
ppx_reception ppx_channel_receive(ppx_channel *channel, ppx_span *message);

/* Answers the message received last; false if the socket is broken. `size` is at most the capacity. */
bool ppx_channel_send(ppx_channel *channel, const void *data, size_t size);

size_t ppx_channel_capacity(const ppx_channel *channel);

/* From now on messages travel through the mailbox (`memory` NULL: the socket); the one before is left. */
void ppx_channel_use(ppx_channel *channel, const ppx_mailbox *mailbox);

static inline bool ppx_channel_shares_memory(const ppx_channel *channel) { return channel->mailbox.memory != NULL; }

void ppx_channel_close(ppx_channel *channel);

#endif
