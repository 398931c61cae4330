/* Simulators that do what is allowed but not foreseen. */

#include <stdio.h>
#include <string.h>

#include "simulators.h"

static ppx_statement at(ppx_session *session, const char *address) {
    return (ppx_statement){ppx_address(session, address, strlen(address)), true, "", 0};
}

/* Leaves two inner scopes open when it ends the outer one, which rejects its first pass. */
int unclosed(ppx_session *session, ppx_tensor *result) {
    const char *names[] = {"unclosed:1", "unclosed:2", "unclosed:3"};
    double x;
    uint32_t scopes[3];
    (void)result;
    for (int i = 0; i < 3; i++) {
        ppx_statement where = at(session, names[i]);
        TRY(ppx_scope_begin(session, &where, &scopes[i]));
        if (i == 0) TRY(ppx_scope_reject(session, scopes[0]));
        TRY(ppx_sample_scalar(session, "unclosed:4", NULL, 1, PPX_NORMAL, (double[]){0.0, 1.0}, &x));
    }
    TRY(ppx_scope_reject(session, scopes[2]));
    TRY(ppx_scope_reject(session, scopes[2]));
    TRY(ppx_scope_end(session, scopes[0]));
    return ppx_sample_scalar(session, "unclosed:5", NULL, 1, PPX_NORMAL, (double[]){0.0, 1.0}, &x);
}
