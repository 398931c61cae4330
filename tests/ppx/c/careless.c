/* Simulators that do what is allowed but not foreseen. */

#include <stdio.h>
#include <string.h>

#include "simulators.h"

static ppx_statement at(ppx_session *session, const char *address) {
    return (ppx_statement){ppx_address(session, address, strlen(address)), true, "", 0};
}

/* Leaves two inner scopes open when it ends the outer one, which rejects its first pass; ends one of them then. */
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
    TRY(ppx_scope_end(session, scopes[1])); /* which has gone */
    return ppx_sample_scalar(session, "unclosed:5", NULL, 1, PPX_NORMAL, (double[]){0.0, 1.0}, &x);
}

/* Hands the value of each statement to the next as it is: a vector whose elements become means of a matrix, that as the
 * means of another one, and as what is observed. */
int chained(ppx_session *session, ppx_tensor *result) {
    static const int32_t three[1] = {3}, two_one[2] = {2, 1};
    static const double means[3] = {0.0, 10.0, 20.0}, stddevs[2] = {1e-3, 2e-3};
    ppx_distribution normal = {.family = PPX_NORMAL};
    ppx_statement where = at(session, "chained:1");
    ppx_tensor value;
    normal.parameters[0] = (ppx_tensor){means, three, 1};
    normal.parameters[1] = (ppx_tensor){stddevs, NULL, 0};
    TRY(ppx_sample(session, &where, &normal, &value));
    normal.parameters[1] = (ppx_tensor){stddevs, two_one, 2};
    for (int i = 2; i < 4; i++) {
        normal.parameters[0] = value;
        where = at(session, i == 2 ? "chained:2" : "chained:3");
        TRY(ppx_sample(session, &where, &normal, &value));
    }
    normal.parameters[0] = value;
    where = at(session, "chained:4");
    TRY(ppx_observe(session, &where, &normal, &value, result));
    return PPX_OK;
}

/* Its second execution meets many new statements, and then fails with a long text. The texts of both nearly fill the
 * smallest mailbox, those of the first alone do not. */
int brimming(ppx_session *session, ppx_tensor *result) {
    static int executions;
    static char address[401], text[8001];
    int first = executions++ ? 60 : 0, last = first ? 140 : 60;
    double x;
    (void)result;
    memset(address, 'a', sizeof address - 1);
    memset(text, 't', sizeof text - 1);
    for (int i = first; i < last; i++) {
        snprintf(address + 390, sizeof address - 390, "%d", i);
        TRY(ppx_sample_scalar(session, address, NULL, 1, PPX_NORMAL, (double[]){0.0, 1.0}, &x));
    }
    if (first) ppx_fail(session, PPX_ERROR_MODEL, text);
    return first ? PPX_UNWIND : PPX_OK;
}

/* Fails with a text of two-byte characters that is longer than an error's, after as many letters as its draw says. */
int wordy(ppx_session *session, ppx_tensor *result) {
    static char text[10001];
    double letters;
    size_t size = 0;
    (void)result;
    TRY(ppx_sample_scalar(session, "wordy:1", "letters", 1, PPX_POISSON, (double[]){1.0}, &letters));
    while (size < letters && size < 2) text[size++] = 'x';
    while (size + 2 < sizeof text) memcpy(text + size, "\xC3\xA9", 2), size += 2;
    text[size] = 0;
    ppx_fail(session, PPX_ERROR_MODEL, text);
    return PPX_UNWIND;
}

/* Has neither an address nor a name, in all ways to say so. */
int nowhere(ppx_session *session, ppx_tensor *result) {
    ppx_statement where = {ppx_address(session, NULL, 0), true, NULL, 0};
    double number = 1.0;
    ppx_tensor value = {&number, NULL, 0};
    (void)result;
    TRY(ppx_tag(session, &where, &value));
    TRY(ppx_tag(session, NULL, &value));
    TRY(ppx_tag_scalar(session, NULL, NULL, number));
    return ppx_tag_scalar(session, "", "", number);
}
