/* A normal variable with unknown mean, observed twice, in plain C: the least that a simulator has to do.
 *
 * Usage: gum_c [ENDPOINT]; by default tcp://127.0.0.1:5555. Built by CMake with the others, or by hand, where the front
 * end is installed:
 *
 *     cc -std=c11 gum.c -o gum_c $(pkg-config --cflags --libs ppx) */

#include <math.h>
#include <ppx.h>
#include <stdio.h>
#include <stdlib.h>

/* One execution. A statement that returns anything but PPX_OK asks the model to return at once. */
static int gum(ppx_session *session, double *mu) {
    const double prior[2] = {1.0, sqrt(5.0)};
    double likelihood[2] = {0.0, sqrt(2.0)};
    int said = ppx_sample_scalar(session, PPX_HERE, "mu", 1, PPX_NORMAL, prior, mu);
    if (said != PPX_OK) return said;
    likelihood[0] = *mu;
    said = ppx_observe_scalar(session, PPX_HERE, "obs0", PPX_NORMAL, likelihood, NULL);
    if (said != PPX_OK) return said;
    said = ppx_observe_scalar(session, PPX_HERE, "obs1", PPX_NORMAL, likelihood, NULL);
    if (said != PPX_OK) return said;
    return ppx_tag_scalar(session, PPX_HERE, "energy", *mu * *mu);
}

int main(int count, char **words) {
    const char *parent = getenv("PPX_STOP_WITH_PARENT");
    const ppx_options options = {.model_name = "gum_c", .stop_with_parent = parent && parent[0] == '1'};
    const char *endpoint = count > 1 ? words[1] : "tcp://127.0.0.1:5555";
    char error[256];
    double mu;
    ppx_session *session = ppx_open(endpoint, &options, error, sizeof error);
    if (!session) {
        fprintf(stderr, "gum_c: %s\n", error);
        return 1;
    }
    ppx_stop_on_signals(session); /* SIGTERM and Ctrl-C end the loop below */
    while (ppx_wait_run(session) == PPX_RUN) {
        if (gum(session, &mu) == PPX_OK)
            ppx_finish_scalar(session, mu);
        else
            ppx_leave(session);
    }
    ppx_close(session);
    return 0;
}
