/* Small simulators for the tests, by name. */

#ifndef PPX_TESTS_SIMULATORS_H
#define PPX_TESTS_SIMULATORS_H

#include "ppx.h"

typedef struct {
    const char *name;
    int (*run)(ppx_session *session,
               ppx_tensor *result); /* PPX_OK: finish with the result; PPX_UNWIND: leave; else neither */
} simulator;

extern const simulator SIMULATORS[];
extern const size_t NUM_SIMULATORS;

#define TRY(statement)                         \
    do {                                       \
        int status_ = (statement);             \
        if (status_ != PPX_OK) return status_; \
    } while (0)

/* careless.c */
int unclosed(ppx_session *session, ppx_tensor *result);
int chained(ppx_session *session, ppx_tensor *result);
int brimming(ppx_session *session, ppx_tensor *result);
int wordy(ppx_session *session, ppx_tensor *result);
int nowhere(ppx_session *session, ppx_tensor *result);

#endif
