/* Serves a simulator: models ENDPOINT NAME [disabled=BITS] [parent] [curve=SECRET_KEY] [signals] [say=TEXT]. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simulators.h"

int main(int count, char **words) {
    ppx_options options = {.build_id = "1"};
    char error[256];
    bool signals = false;
    const simulator *served = NULL;
    ppx_session *session;
    int status;
    for (size_t i = 0; i < NUM_SIMULATORS && count > 2; i++)
        if (strcmp(SIMULATORS[i].name, words[2]) == 0) served = &SIMULATORS[i];
    if (!served) return 2;
    options.model_name = words[2];
    for (int i = 3; i < count; i++) {
        if (strncmp(words[i], "disabled=", 9) == 0) options.disabled = (uint32_t)atoi(words[i] + 9);
        if (strncmp(words[i], "curve=", 6) == 0) options.curve_secret_key = words[i] + 6;
        if (strncmp(words[i], "say=", 4) == 0) printf("%s", words[i] + 4);
        if (strcmp(words[i], "parent") == 0) options.stop_with_parent = true;
        if (strcmp(words[i], "signals") == 0) signals = true;
    }
    session = ppx_open(words[1], &options, error, sizeof error);
    if (!session) {
        fprintf(stderr, "%s\n", error);
        return 1;
    }
    if (signals && ppx_stop_on_signals(session)) return 3;
    while ((status = ppx_wait_run(session)) == PPX_RUN) {
        ppx_tensor result = {NULL, NULL, 0};
        int outcome = served->run(session, &result);
        if (outcome == PPX_OK)
            ppx_finish(session, &result);
        else if (outcome == PPX_UNWIND)
            ppx_leave(session);
    }
    if (status == PPX_FAILED) fprintf(stderr, "%s\n", ppx_error_text(session));
    ppx_close(session);
    return status == PPX_STOPPED ? 0 : 1;
}
