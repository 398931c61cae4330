/* PPX: the C interface for simulators. The protocol is described in ppx/PROTOCOL.md.
 *
 * A simulator owns its loop and pulls; nothing is called back:
 *
 *     ppx *session = ppx_open("ipc:///tmp/decay.ipc", &options, error, sizeof error);
 *     while (ppx_wait_run(session) == PPX_RUN) {        // one turn for each execution that is wanted
 *         if (model(session) == PPX_OK)                 // calls ppx_sample, ppx_observe, ppx_tag, ...
 *             ppx_finish(session, &result);
 *         else
 *             ppx_leave(session);                       // a statement returned PPX_UNWIND
 *     }
 *     ppx_close(session);
 *
 * A statement that returns PPX_UNWIND asks the model to return at once; so does every statement after it. Whether a draw
 * comes from the inference side, a replay or the session's own random stream is the session's business.
 *
 * A session belongs to one thread. Functions that return int return PPX_OK, PPX_UNWIND or another code named with them. */

#ifndef PPX_H
#define PPX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ppx ppx;

enum { PPX_OK = 0, PPX_RUN = 1, PPX_STOPPED = 2, PPX_UNWIND = -1, PPX_FAILED = -2 };

/* Codes of errors, as on the wire. */
enum {
    PPX_ERROR_UNKNOWN = 0,
    PPX_ERROR_MALFORMED = 1,
    PPX_ERROR_OUT_OF_STATE = 2,
    PPX_ERROR_UNSUPPORTED = 3,
    PPX_ERROR_PARAMETER = 4,
    PPX_ERROR_MODEL = 5,
    PPX_ERROR_ABORTED = 6,
    PPX_ERROR_TOO_LARGE = 7
};

/* Families of distributions, as on the wire; beside each its parameters. */
enum {
    PPX_NO_FAMILY = 0,
    PPX_NORMAL = 1,               /* mean, stddev */
    PPX_UNIFORM = 2,              /* low, high */
    PPX_CATEGORICAL = 3,          /* probs (..., K) */
    PPX_POISSON = 4,              /* rate */
    PPX_BERNOULLI = 5,            /* probs */
    PPX_BETA = 6,                 /* concentration1, concentration0 */
    PPX_EXPONENTIAL = 7,          /* rate */
    PPX_GAMMA = 8,                /* concentration, rate */
    PPX_LOG_NORMAL = 9,           /* loc, scale */
    PPX_BINOMIAL = 10,            /* total_count, probs */
    PPX_WEIBULL = 11,             /* scale, concentration */
    PPX_TRUNCATED_NORMAL = 12,    /* loc, scale, low, high */
    PPX_VON_MISES = 13,           /* loc, concentration */
    PPX_MIXTURE = 14,             /* probs (K), and K components */
    PPX_MULTIVARIATE_NORMAL = 15, /* loc (d), scale_tril (d, d) */
    PPX_DELTA = 16                /* value */
};

/* Numbers, row-major. `data` NULL: no value. `dimensions` 0: one number. */
typedef struct ppx_tensor {
    const double *data;
    const int32_t *shape;
    uint32_t dimensions;
} ppx_tensor;

typedef struct ppx_distribution {
    uint32_t family;
    uint32_t num_components; /* mixtures only */
    ppx_tensor parameters[4];
    const struct ppx_distribution *components;
} ppx_distribution;

/* Where a statement stands and what it is called. `address` comes from ppx_address; a name of length 0 is none. */
typedef struct ppx_statement {
    uint32_t address;
    bool control; /* of a sample: whether anything may be proposed for it */
    const char *name;
    size_t name_length;
} ppx_statement;

typedef struct ppx_options {
    const char *system_name;      /* of this front end; NULL: "ppx" */
    const char *model_name;       /* NULL: "" */
    const char *build_id;         /* changes whenever addresses may have changed; NULL: "" */
    const char *curve_secret_key; /* 40 characters (Z85): talk only to peers that know the public key; NULL: no encryption */
    bool stop_with_parent;        /* stop serving when the process that started this one has ended */
} ppx_options;

/* Binds `endpoint` (any of ZeroMQ's; "ipc:///path" or "tcp://127.0.0.1:5555"). `options` may be NULL. Returns NULL if that
 * fails, with the reason in `error`. */
ppx *ppx_open(const char *endpoint, const ppx_options *options, char *error, size_t error_size);

/* Leaves the mailbox, closes the socket (which removes the file of an ipc endpoint) and frees the session. */
void ppx_close(ppx *session);

/* Answers messages until an execution is wanted. PPX_RUN: run the model; PPX_STOPPED: ppx_stop was called or the parent
 * has ended; PPX_FAILED: the transport is broken, ppx_error_text says why. */
int ppx_wait_run(ppx *session);

/* The number of the address `text` (UTF-8, at most 65,535 bytes), the same for equal texts, for the life of the session. */
uint32_t ppx_address(ppx *session, const char *text, size_t length);

/* The statements. Values point into the session and hold until the next statement. */
int ppx_sample(ppx *session, const ppx_statement *where, const ppx_distribution *distribution, ppx_tensor *value);

/* Observes `value`, or, where it is NULL or has no data, what the inference side has for it. `distribution` may be NULL if there is
 * a value. `known` (may be NULL) gets the value that was used, without data if only the inference side knows it. */
int ppx_observe(ppx *session, const ppx_statement *where, const ppx_distribution *distribution, const ppx_tensor *value,
                ppx_tensor *known);

int ppx_tag(ppx *session, const ppx_statement *where, const ppx_tensor *value);

/* Adds `log_factor` (natural logarithm, below +inf) to the log density of the execution. */
int ppx_factor(ppx *session, const ppx_statement *where, double log_factor);

/* A rejection loop: begin, then reject after each pass that is thrown away, then end. `scope` identifies it. */
int ppx_scope_begin(ppx *session, const ppx_statement *where, uint32_t *scope);
int ppx_scope_reject(ppx *session, uint32_t scope);
int ppx_scope_end(ppx *session, uint32_t scope);

/* Ends an execution: with what the model returned (NULL: nothing), because of an error in it, or after PPX_UNWIND. */
int ppx_finish(ppx *session, const ppx_tensor *result);
void ppx_fail(ppx *session, int code, const char *text);
void ppx_leave(ppx *session);

/* Makes ppx_wait_run return PPX_STOPPED and every statement PPX_UNWIND. May be called by a signal handler. */
void ppx_stop(ppx *session);

/* Whether a model is running whose statements go through this session. */
bool ppx_running(const ppx *session);

/* The last error of the session, for people. */
const char *ppx_error_text(const ppx *session);

/* For languages to which structures are a burden: distributions with scalar parameters, addresses as text. */
int ppx_sample_scalar(ppx *session, const char *address, const char *name, int control, int family, const double *parameters,
                      double *value);
int ppx_observe_scalar(ppx *session, const char *address, const char *name, int family, const double *parameters,
                       const double *value);
int ppx_tag_scalar(ppx *session, const char *address, const char *name, double value);
int ppx_factor_scalar(ppx *session, const char *address, const char *name, double log_factor);
int ppx_finish_scalar(ppx *session, double result);

/* -- Without a session: the streams and samplers that both sides of the protocol share -- */

/* The stream (seed, index) of uniforms; `position` is how many were taken. Set up by ppx_stream_start, or seek in it by
 * starting anew. */
typedef struct ppx_stream {
    uint64_t seed, index, position;
    double second; /* the second uniform of the last block, which is next if position is odd */
} ppx_stream;

void ppx_stream_start(ppx_stream *stream, uint64_t seed, uint64_t index, uint64_t position);
double ppx_uniform(ppx_stream *stream); /* strictly between 0 and 1 */

/* Checks that the parameters are in the domain and their shapes fit. Returns PPX_OK, or PPX_FAILED with the reason in `error`. */
int ppx_check(const ppx_distribution *distribution, char *error, size_t error_size);

/* The shape of the distribution's values: `shape` has room for 16; `size` is the number of elements. PPX_OK or PPX_FAILED. */
int ppx_value_shape(const ppx_distribution *distribution, int32_t *shape, uint32_t *dimensions, size_t *size);

/* Draws a value (`size` numbers, as ppx_value_shape says) from a distribution that passed ppx_check. */
void ppx_draw(ppx_stream *stream, const ppx_distribution *distribution, double *value);

#ifdef __cplusplus
}
#endif
#endif
