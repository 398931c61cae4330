/* PPX: the C interface for simulators. The protocol is described in ppx/PROTOCOL.md.
 *
 * A simulator owns its loop and pulls; nothing is called back:
 *
 *     ppx_session *session = ppx_open("ipc:///tmp/decay.ipc", &options, error, sizeof error);
 *     while (ppx_wait_run(session) == PPX_RUN) {        // one turn for each execution that is wanted
 *         if (model(session) == PPX_OK)                 // calls ppx_sample, ppx_observe, ppx_tag, ...
 *             ppx_finish(session, &result);
 *         else
 *             ppx_leave(session);                       // a statement returned PPX_UNWIND
 *     }
 *     ppx_close(session);
 *
 * A statement that returns PPX_UNWIND asks the model to return at once; so does every statement after it. Whether a
 * draw comes from the inference side, a replay or the session's own random stream is the session's business.
 *
 * A session belongs to one thread. Functions that return int return PPX_OK, PPX_UNWIND or another code named with
 * it. What is passed to a function is read during the call and stays the caller's. Texts end with a zero byte, unless
 * their length stands beside them, and are UTF-8.
 *
 * A process that is started to be copied (PROTOCOL.md, section 16) binds nothing; its first ppx_wait_run returns in its
 * copies only. */

#ifndef PPX_H
#define PPX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __GNUC__
#define PPX_API __attribute__((visibility("default")))
#else
#define PPX_API
#endif

typedef struct ppx_session ppx_session;

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
    PPX_DELTA = 16,               /* value */
    PPX_NEGATIVE_BINOMIAL = 17,   /* total_count, probs */
    PPX_NEGATIVE_BINOMIAL_2 = 18, /* mean, concentration */
    PPX_BETA_BINOMIAL = 19,       /* concentration1, concentration0, total_count */
    PPX_GEOMETRIC = 20,           /* probs */
    PPX_HYPERGEOMETRIC = 21,      /* population, successes, draws */
    PPX_ZERO_INFLATED_POISSON = 22, /* gate, rate */
    PPX_STUDENT_T = 23,           /* df, loc, scale */
    PPX_CAUCHY = 24,              /* loc, scale */
    PPX_HALF_CAUCHY = 25,         /* scale */
    PPX_HALF_NORMAL = 26,         /* scale */
    PPX_LAPLACE = 27,             /* loc, scale */
    PPX_LOGISTIC = 28,            /* loc, scale */
    PPX_GUMBEL = 29,              /* loc, scale */
    PPX_INVERSE_GAMMA = 30,       /* concentration, rate */
    PPX_PARETO = 31               /* scale, alpha */
};

/* Numbers, row-major. `data` NULL: no value. `dimensions` 0: one number; at most 16, each >= 0, their product < 2^31. A
 * tag, a result and an observed value may have no elements (a 0 in `shape`); to a peer that speaks PPX 1.0.0 that is no
 * value. */
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
    bool control;     /* of a sample: whether anything may be proposed for it */
    const char *name; /* UTF-8, at most 65,535 bytes */
    size_t name_length;
} ppx_statement;

typedef struct ppx_options {
    const char *system_name; /* of this front end; NULL: "ppx" */
    const char *model_name;  /* NULL: "" */
    const char *build_id;    /* changes whenever addresses may have changed; NULL: "" */
    /* 40 characters (Z85): talk only to peers that know the public key; NULL: no encryption */
    const char *curve_secret_key;
    bool stop_with_parent; /* stop serving when the process that started this one has ended */
    uint32_t disabled;     /* capabilities not to announce, bits as on the wire; 63: nothing beyond PPX 1.0.0 */
} ppx_options;

/* Binds `endpoint` (any of ZeroMQ's; "ipc:///path" or "tcp://127.0.0.1:5555"). `options` may be NULL. Returns a
 * session, to be closed by ppx_close, or NULL if that fails, with the reason in `error`, which has room for
 * `error_size` bytes (512 are enough for nearly all). */
PPX_API ppx_session *ppx_open(const char *endpoint, const ppx_options *options, char *error, size_t error_size);

/* Leaves the mailbox, closes the socket (which removes the file of an ipc endpoint) and frees the session. Takes up to
 * a second if the last answer is still on its way. NULL is none to close. */
PPX_API void ppx_close(ppx_session *session);

/* Answers messages until an execution is wanted, for as long as it takes. PPX_RUN: run the model; PPX_STOPPED: ppx_stop
 * was called or the parent has ended; PPX_FAILED: the transport is broken, or a copy cannot bind its endpoint;
 * ppx_error_text says why. */
PPX_API int ppx_wait_run(ppx_session *session);

/* The number of the address `text` (UTF-8, at most 65,535 bytes), the same for equal texts, for the life of the
 * session, which has room for 4,194,304 of them. UINT32_MAX if the text is none, there are too many, or memory ran out:
 * a statement there fails the execution. */
PPX_API uint32_t ppx_address(ppx_session *session, const char *text, size_t length);

/* The statements. Values point into the session and hold until the statement after the next: the next one may take them
 * as parameters or as its value. Whatever goes wrong in one (parameters outside the domain, a distribution that the
 * inference side does not know, a lost peer) makes it return PPX_UNWIND; the session knows why, tells the inference
 * side where it must, and ppx_error_text tells people. */
PPX_API int ppx_sample(ppx_session *session, const ppx_statement *where, const ppx_distribution *distribution,
                       ppx_tensor *value);

/* Observes `value`, or, where it is NULL or has no data, what the inference side has for it. `distribution` may be
 * NULL if there is a value. `known` (may be NULL) gets the value that was used, without data if only the inference
 * side knows it. (Outside a Run with draws that is `value`; whether data of the name won over it is not told.) */
PPX_API int ppx_observe(ppx_session *session, const ppx_statement *where, const ppx_distribution *distribution,
                        const ppx_tensor *value, ppx_tensor *known);

/* Records `value`, which must have data; no effect on probability. */
PPX_API int ppx_tag(ppx_session *session, const ppx_statement *where, const ppx_tensor *value);

/* Adds `log_factor` (natural logarithm, below +inf) to the log density of the execution. */
PPX_API int ppx_factor(ppx_session *session, const ppx_statement *where, double log_factor);

/* A rejection loop: begin, then reject after each pass that is thrown away, then end. `scope` identifies it in this
 * execution; one that is not open fails it. Scopes nest: inner ones that were left open are forgotten with a rejected
 * pass, and end with the scope around them; to end one that has gone so does nothing. Where the inference side does not
 * know scopes, the marks are left out and every pass is a part of the trace. */
PPX_API int ppx_scope_begin(ppx_session *session, const ppx_statement *where, uint32_t *scope);
PPX_API int ppx_scope_reject(ppx_session *session, uint32_t scope);
PPX_API int ppx_scope_end(ppx_session *session, uint32_t scope);

/* Ends an execution: with what the model returned (NULL: nothing), because of an error in it (`code`: one of those
 * above, mostly PPX_ERROR_MODEL; `text`: for people, cut after 8,000 bytes), or after PPX_UNWIND. After PPX_UNWIND all
 * three do the same. PPX_FAILED: no execution runs, or the transport is broken. */
PPX_API int ppx_finish(ppx_session *session, const ppx_tensor *result);
PPX_API void ppx_fail(ppx_session *session, int code, const char *text);
PPX_API void ppx_leave(ppx_session *session);

/* Makes ppx_wait_run return PPX_STOPPED and every statement PPX_UNWIND. May be called by a signal handler or another
 * thread. */
PPX_API void ppx_stop(ppx_session *session);

/* Lets SIGTERM and SIGINT stop the session instead of ending the process on the spot; a second one ends it. Until
 * ppx_close, for one session of a process at a time: PPX_FAILED if another one has them. */
PPX_API int ppx_stop_on_signals(ppx_session *session);

/* Whether a model is running whose statements go through this session. */
PPX_API bool ppx_running(const ppx_session *session);

/* The last error of the session, for people; "" if there was none. It belongs to the session and holds until the next
 * call. */
PPX_API const char *ppx_error_text(const ppx_session *session);

/* An address: the place in the source where this is written, as the text "file:line". Two statements of one line need
 * texts of their own. It is a literal, so that PPX_HERE " b" is one, too. */
#define PPX_HERE PPX_SOURCE_FILE ":" PPX_AS_TEXT(__LINE__)
#define PPX_AS_TEXT(line) PPX_AS_TEXT_(line)
#define PPX_AS_TEXT_(line) #line
#ifdef __FILE_NAME__
#define PPX_SOURCE_FILE __FILE_NAME__ /* without its folder, which may be another one on another machine */
#else
#define PPX_SOURCE_FILE __FILE__ /* as the compiler was given it */
#endif

/* For languages to which structures are a burden: distributions with scalar parameters, addresses as text. `address`
 * and `name` may be NULL, which is "". `parameters`: as many as the family has, in its order; a family whose parameters
 * are no scalars (Categorical, Mixture, MultivariateNormal) fails the execution. `value` of an observe: NULL if the
 * inference side has it; `family` of an observe: PPX_NO_FAMILY if it has no distribution. A draw whose value the
 * inference side made several numbers fails the execution. */
PPX_API int ppx_sample_scalar(ppx_session *session, const char *address, const char *name, int control, int family,
                              const double *parameters, double *value);
PPX_API int ppx_observe_scalar(ppx_session *session, const char *address, const char *name, int family,
                               const double *parameters, const double *value);
PPX_API int ppx_tag_scalar(ppx_session *session, const char *address, const char *name, double value);
PPX_API int ppx_factor_scalar(ppx_session *session, const char *address, const char *name, double log_factor);
PPX_API int ppx_finish_scalar(ppx_session *session, double result);

/* -- Without a session: the streams and samplers that both sides of the protocol share -- */

/* The stream (seed, index) of uniforms; `position` is how many were taken. Set up by ppx_stream_start, or seek in it by
 * starting anew. */
typedef struct ppx_stream {
    uint64_t seed, index, position;
    double second; /* the second uniform of the last block, which is next if position is odd */
} ppx_stream;

PPX_API void ppx_stream_start(ppx_stream *stream, uint64_t seed, uint64_t index, uint64_t position);
PPX_API double ppx_uniform(ppx_stream *stream); /* strictly between 0 and 1 */

/* Checks that the parameters are in the domain and their shapes fit. Returns PPX_OK, or PPX_FAILED with the reason
 * in `error`, which has room for `error_size` bytes (256 are enough). */
PPX_API int ppx_check(const ppx_distribution *distribution, char *error, size_t error_size);

/* The shape of the distribution's values: `shape` has room for 16; `size` is the number of elements. PPX_OK or
 * PPX_FAILED. */
PPX_API int ppx_value_shape(const ppx_distribution *distribution, int32_t *shape, uint32_t *dimensions, size_t *size);

/* Draws a value (`size` numbers, as ppx_value_shape says) from a distribution that passed ppx_check. */
PPX_API void ppx_draw(ppx_stream *stream, const ppx_distribution *distribution, double *value);

#ifdef __cplusplus
}
#endif
#endif
