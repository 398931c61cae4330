/* Many processes from one start: a simulator that has initialised itself forks when it is asked to (PROTOCOL.md,
 * section 16). */

#ifndef PPX_FORKS_H
#define PPX_FORKS_H

#include <stdbool.h>

struct ppx_session;

/* The socket by which the process that started this one will ask for copies, -1 if it will not. The environment tells
 * it once: the variable is removed, and the programs that this one starts do not inherit the socket. */
int ppx_forks_socket(void);

/* Answers requests for copies. Returns in the copies only, with the endpoint to bind (to be freed) or NULL with the
 * reason in the session's text; the process that is copied ends here. */
char *ppx_forks_serve(struct ppx_session *session, int socket);

#endif
