#define _POSIX_C_SOURCE 200809L

#include "channel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SLICE = 100, HEARTBEAT = 5000, SILENCE = 15000, LINGER = 1000 }; /* milliseconds */

static bool set(void *socket, int option, int value) {
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static bool set_up(void *socket, const char *secret_key) {
    int64_t longest = (int64_t)PPX_MAX_MESSAGE;
    if (zmq_setsockopt(socket, ZMQ_MAXMSGSIZE, &longest, sizeof longest)) return false;
    if (!set(socket, ZMQ_HEARTBEAT_IVL, HEARTBEAT) || !set(socket, ZMQ_HEARTBEAT_TIMEOUT, SILENCE)) return false;
    if (!set(socket, ZMQ_LINGER, LINGER) || !set(socket, ZMQ_RCVTIMEO, SLICE)) return false;
    return !secret_key || (set(socket, ZMQ_CURVE_SERVER, 1) &&
                           zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secret_key, strlen(secret_key)) == 0);
}

/* -- the file of an ipc endpoint, which some versions of libzmq leave behind -- */

static void remember_file(ppx_channel *channel) {
    char endpoint[1024] = "";
    size_t size = sizeof endpoint;
    struct stat status;
    if (zmq_getsockopt(channel->socket, ZMQ_LAST_ENDPOINT, endpoint, &size) || strncmp(endpoint, "ipc://", 6) != 0)
        return;
    if (stat(endpoint + 6, &status) || !S_ISSOCK(status.st_mode)) return; /* an abstract name has no file */
    channel->path = strdup(endpoint + 6);
    channel->device = (uint64_t)status.st_dev;
    channel->inode = (uint64_t)status.st_ino;
}

/* Removes it, unless another front end has bound the same name since. */
static void remove_file(ppx_channel *channel) {
    struct stat status;
    if (channel->path && stat(channel->path, &status) == 0 && (uint64_t)status.st_dev == channel->device &&
        (uint64_t)status.st_ino == channel->inode)
        unlink(channel->path);
    free(channel->path);
    channel->path = NULL;
}

/* -- opening -- */

bool ppx_channel_open(ppx_channel *channel, const char *endpoint, const char *curve_secret_key, char *error,
                      size_t error_size) {
    const char *what = "cannot make a ZeroMQ socket";
    zmq_msg_init(&channel->message);
    channel->context = zmq_ctx_new();
    channel->socket = channel->context ? zmq_socket(channel->context, ZMQ_REP) : NULL;
    if (channel->socket) {
        what = curve_secret_key ? "cannot use this CURVE secret key (40 characters, Z85)"
                                : "cannot set up the ZeroMQ socket";
        if (curve_secret_key && strlen(curve_secret_key) != 40) {
            errno = EINVAL;
        } else if (set_up(channel->socket, curve_secret_key)) {
            what = "cannot bind";
            if (zmq_bind(channel->socket, endpoint) == 0) {
                remember_file(channel);
                return true;
            }
        }
    }
    snprintf(error, error_size, "%s: %s at endpoint '%s'", what, zmq_strerror(zmq_errno()), endpoint);
    ppx_channel_close(channel);
    return false;
}

/* -- messages -- */

static bool has_socket_message(const ppx_channel *channel) {
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(channel->socket, ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLIN);
}

/* Takes the rest of a message of several frames: no such message is one of ours, but it must be answered. */
static bool drop_further_frames(ppx_channel *channel) {
    bool several = false;
    while (zmq_msg_more(&channel->message)) {
        several = true;
        if (zmq_msg_recv(&channel->message, channel->socket, 0) < 0 && zmq_errno() != EINTR) break;
    }
    return several;
}

static ppx_reception receive_by_socket(ppx_channel *channel, ppx_span *message) {
    if (zmq_msg_recv(&channel->message, channel->socket, 0) < 0) {
        int error = zmq_errno();
        return error == EAGAIN || error == EINTR ? PPX_NOTHING : PPX_BROKEN;
    }
    if (drop_further_frames(channel)) {
        *message = (ppx_span){(const uint8_t *)"", 0};
        return PPX_RECEIVED;
    }
    *message = (ppx_span){zmq_msg_data(&channel->message), zmq_msg_size(&channel->message)};
    return PPX_RECEIVED;
}

ppx_reception ppx_channel_receive(ppx_channel *channel, ppx_span *message) {
    if (!channel->mailbox.memory) return receive_by_socket(channel, message);
    switch (ppx_mailbox_receive(&channel->mailbox, message)) {
        case PPX_MAIL: return PPX_RECEIVED;
        case PPX_PEER_LOST: ppx_channel_use(channel, NULL); return PPX_LOST;
        default: break;
    }
    if (!has_socket_message(channel)) return PPX_NOTHING;
    ppx_channel_use(channel, NULL); /* a Handshake: somebody begins anew */
    return receive_by_socket(channel, message);
}

bool ppx_channel_send(ppx_channel *channel, const void *data, size_t size) {
    if (channel->mailbox.memory) {
        ppx_mailbox_send(&channel->mailbox, data, size);
        return true;
    }
    while (zmq_send(channel->socket, data, size, 0) < 0)
        if (zmq_errno() != EINTR) return false;
    return true;
}

size_t ppx_channel_capacity(const ppx_channel *channel) {
    size_t capacity = channel->mailbox.memory ? channel->mailbox.capacity : PPX_MAX_MESSAGE;
    return capacity < PPX_MAX_MESSAGE ? capacity : PPX_MAX_MESSAGE;
}

void ppx_channel_use(ppx_channel *channel, const ppx_mailbox *mailbox) {
    ppx_mailbox_leave(&channel->mailbox);
    if (mailbox) channel->mailbox = *mailbox;
}

void ppx_channel_close(ppx_channel *channel) {
    ppx_channel_use(channel, NULL);
    zmq_msg_close(&channel->message);
    if (channel->socket) zmq_close(channel->socket);
    remove_file(channel);
    if (channel->context)
        while (zmq_ctx_term(channel->context) && zmq_errno() == EINTR) {
        }
    channel->socket = channel->context = NULL;
}
