/* Prints a draw, and opens and closes a session at the endpoint it is given. */

#include <ppx.h>
#include <stdio.h>

int main(int count, char **words) {
    double mean = 1.0, stddev = 2.0, value;
    ppx_distribution normal = {.family = PPX_NORMAL};
    ppx_stream stream;
    char error[256];
    ppx_session *session = ppx_open(count > 1 ? words[1] : "", NULL, error, sizeof error);
    if (!session) return 1;
    normal.parameters[0].data = &mean;
    normal.parameters[1].data = &stddev;
    ppx_stream_start(&stream, 42, 7, 0);
    ppx_draw(&stream, &normal, &value);
    printf("%a\n", value);
    ppx_close(session);
    return 0;
}
