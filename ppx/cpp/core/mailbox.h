/* The front end's end of a mailbox: messages through memory shared with the inference side (PROTOCOL.md, section 9). */

#ifndef PPX_MAILBOX_H
#define PPX_MAILBOX_H

#include "message.h"
#include "process.h"

typedef struct {
    uint8_t *memory; /* NULL: there is no mailbox */
    size_t size, capacity;
    ppx_process peer;
    uint32_t spin; /* nanoseconds to look for a message before sleeping */
} ppx_mailbox;

typedef enum { PPX_MAIL, PPX_NO_MAIL, PPX_PEER_LOST } ppx_mail;

/* Opens and maps what a handshake announced; false if that cannot be, or is no such mailbox. */
bool ppx_mailbox_attach(ppx_mailbox *mailbox, const ppx_shared_memory *shared);

/* Waits for the next message, a tenth of a second at most; it stays valid until the next send. */
ppx_mail ppx_mailbox_receive(ppx_mailbox *mailbox, ppx_span *message);

/* Sends a message of at most `capacity` bytes. */
void ppx_mailbox_send(ppx_mailbox *mailbox, const void *data, size_t size);

/* Leaves and unmaps; does nothing where there is no mailbox. */
void ppx_mailbox_leave(ppx_mailbox *mailbox);

#endif
