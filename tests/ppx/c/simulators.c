/* Small simulators for the tests. Their statements have the addresses of their twins in tests/ppx/c_models.py.
 *
 * Loops end even where a value that is given to the simulator would never let them. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simulators.h"

static double returned; /* what a model returns stays here until it is sent */

static int return_number(double number, ppx_tensor *result) {
    returned = number;
    *result = (ppx_tensor){&returned, NULL, 0};
    return PPX_OK;
}

static ppx_statement at(ppx_session *session, const char *address, const char *name) {
    return (ppx_statement){ppx_address(session, address, strlen(address)), true, name, strlen(name)};
}

static ppx_tensor scalar(const double *number) { return (ppx_tensor){number, NULL, 0}; }

static ppx_tensor array(const double *numbers, const int32_t *shape, uint32_t dimensions) {
    return (ppx_tensor){numbers, shape, dimensions};
}

/* -- models -- */

static int gum(ppx_session *session, ppx_tensor *result) {
    double mu;
    TRY(ppx_sample_scalar(session, "gum:1", "mu", 1, PPX_NORMAL, (double[]){1.0, sqrt(5.0)}, &mu));
    TRY(ppx_observe_scalar(session, "gum:2", "obs0", PPX_NORMAL, (double[]){mu, sqrt(2.0)}, NULL));
    TRY(ppx_observe_scalar(session, "gum:2", "obs1", PPX_NORMAL, (double[]){mu, sqrt(2.0)}, NULL));
    TRY(ppx_tag_scalar(session, "gum:3", "square", mu * mu));
    return return_number(mu, result);
}

/* Different statements in different executions; values that the program gives; a nuisance; a loop over one address. */
static int branching(ppx_session *session, ppx_tensor *result) {
    double kind, count, x, sum = 0.0;
    TRY(ppx_sample_scalar(session, "branching:1", "kind", 1, PPX_BERNOULLI, (double[]){0.4}, &kind));
    if (kind == 1.0) {
        TRY(ppx_sample_scalar(session, "branching:2", "count", 1, PPX_POISSON, (double[]){3.0}, &count));
        for (int i = 0; i < (int)fmin(count, 100.0); i++) {
            TRY(ppx_sample_scalar(session, "branching:3", "", 1, PPX_GAMMA, (double[]){2.0, 1.0 + sum}, &x));
            sum += x;
        }
    } else {
        TRY(ppx_sample_scalar(session, "branching:4", "noise", 0, PPX_EXPONENTIAL, (double[]){0.5}, &x));
        sum = -x;
    }
    TRY(ppx_observe_scalar(session, "branching:5", "given", PPX_NORMAL, (double[]){sum, 1.0}, (double[]){0.25}));
    TRY(ppx_observe_scalar(session, "branching:6", "data", PPX_NORMAL, (double[]){sum, 2.0}, NULL));
    TRY(ppx_factor_scalar(session, "branching:7", "penalty", -0.5 * sum * sum));
    return return_number(sum, result);
}

typedef struct {
    int family;
    double parameters[4];
} scalar_family;

static int draw_families(ppx_session *session, const scalar_family *made, size_t count, ppx_tensor *result) {
    char address[32];
    double x, sum = 0.0;
    for (size_t i = 0; i < count; i++) {
        snprintf(address, sizeof address, "families:%d", made[i].family);
        TRY(ppx_sample_scalar(session, address, "", 1, made[i].family, made[i].parameters, &x));
        sum += x;
    }
    return return_number(sum, result);
}

/* Every family, scalar. What it draws decides about what it draws next, so that one wrong bit changes all that
 * follows. */
static int families(ppx_session *session, ppx_tensor *result) {
    static const scalar_family PLAIN[] = {
        {PPX_NORMAL, {0.5, 1.5}},
        {PPX_UNIFORM, {-1.0, 3.0}},
        {PPX_POISSON, {4.0}},
        {PPX_BERNOULLI, {0.3}},
        {PPX_BETA, {2.0, 0.5}},
        {PPX_EXPONENTIAL, {2.0}},
        {PPX_GAMMA, {0.5, 2.0}},
        {PPX_LOG_NORMAL, {0.0, 1.0}},
        {PPX_BINOMIAL, {10.0, 0.7}},
        {PPX_WEIBULL, {2.0, 1.5}},
        {PPX_TRUNCATED_NORMAL, {0.0, 1.0, 1.0, 2.0}},
        {PPX_VON_MISES, {1.0, 2.0}},
        {PPX_DELTA, {1.25}},
    };
    return draw_families(session, PLAIN, sizeof PLAIN / sizeof *PLAIN, result);
}

/* Those that need MoreFamilies. */
static int more_families(ppx_session *session, ppx_tensor *result) {
    static const scalar_family MORE[] = {
        {PPX_NEGATIVE_BINOMIAL, {3.0, 0.4}},
        {PPX_NEGATIVE_BINOMIAL_2, {4.0, 0.5}},
        {PPX_BETA_BINOMIAL, {2.0, 3.0, 10.0}},
        {PPX_GEOMETRIC, {0.25}},
        {PPX_HYPERGEOMETRIC, {20.0, 8.0, 6.0}},
        {PPX_ZERO_INFLATED_POISSON, {0.25, 3.0}},
        {PPX_STUDENT_T, {3.0, 1.0, 2.0}},
        {PPX_CAUCHY, {1.0, 2.0}},
        {PPX_HALF_CAUCHY, {2.0}},
        {PPX_HALF_NORMAL, {2.0}},
        {PPX_LAPLACE, {1.0, 2.0}},
        {PPX_LOGISTIC, {1.0, 2.0}},
        {PPX_GUMBEL, {1.0, 2.0}},
        {PPX_INVERSE_GAMMA, {3.0, 2.0}},
        {PPX_PARETO, {1.0, 2.5}},
    };
    return draw_families(session, MORE, sizeof MORE / sizeof *MORE, result);
}

/* The families and shapes that are no scalars. */
static int arrays(ppx_session *session, ppx_tensor *result) {
    static double vector[2];
    static const int32_t two[1] = {2}, three[1] = {3}, two_three[2] = {2, 3}, two_one[2] = {2, 1}, two_two[2] = {2, 2};
    ppx_statement where;
    ppx_tensor value;
    ppx_distribution normal = {.family = PPX_NORMAL}, choice = {.family = PPX_CATEGORICAL},
                     mixture = {.family = PPX_MIXTURE};
    ppx_distribution joint = {.family = PPX_MULTIVARIATE_NORMAL},
                     components[2] = {{.family = PPX_NORMAL}, {.family = PPX_GAMMA}};
    double mean[2] = {-1.0, 1.0}, stddev[3] = {0.5, 1.0, 2.0}, probs[6] = {0.5, 0.25, 0.25, 0.0, 0.5, 0.5}, third[3];
    double lower[4] = {1.0, 0.0, 0.5, 2.0}, constants[4] = {0.0, 1.0, 2.0, 3.0};

    normal.parameters[0] = array(mean, two_one, 2);
    normal.parameters[1] = array(stddev, three, 1);
    where = at(session, "arrays:1", "grid");
    TRY(ppx_sample(session, &where, &normal, &value));
    memcpy(third, value.data + 3, sizeof third);

    choice.parameters[0] = array(probs, two_three, 2);
    where = at(session, "arrays:2", "choices");
    TRY(ppx_sample(session, &where, &choice, &value));
    vector[0] = value.data[0] + value.data[1];

    mixture.parameters[0] = array(probs + 4, two, 1);
    mixture.num_components = 2;
    mixture.components = components;
    components[0].parameters[0] = scalar(&third[0]);
    components[0].parameters[1] = scalar(&constants[1]);
    components[1].parameters[0] = scalar(&constants[2]);
    components[1].parameters[1] = scalar(&constants[3]);
    where = at(session, "arrays:3", "mixed");
    TRY(ppx_sample(session, &where, &mixture, &value));
    vector[1] = value.data[0];

    joint.parameters[0] = array(mean, two, 1);
    joint.parameters[1] = array(lower, two_two, 2);
    where = at(session, "arrays:4", "joint");
    TRY(ppx_observe(session, &where, &joint, NULL, &value));
    where = at(session, "arrays:5", "sum");
    value = array(vector, two, 1);
    TRY(ppx_tag(session, &where, &value));
    *result = array(vector, two, 1);
    return PPX_OK;
}

/* Nested loops that draw until a condition holds. */
static int scopes(ppx_session *session, ppx_tensor *result) {
    ppx_statement outer = at(session, "scopes:1", "outer"), inner = at(session, "scopes:2", "inner");
    uint32_t first, second;
    double x, y = 0.0, z;
    int passes = 0;
    TRY(ppx_scope_begin(session, &outer, &first));
    for (;;) {
        TRY(ppx_sample_scalar(session, "scopes:3", "x", 1, PPX_NORMAL, (double[]){0.0, 1.0}, &x));
        TRY(ppx_scope_begin(session, &inner, &second));
        for (;;) {
            TRY(ppx_sample_scalar(session, "scopes:4", "y", 1, PPX_NORMAL, (double[]){x, 1.0}, &y));
            if (y > x || passes++ > 1000) break;
            TRY(ppx_scope_reject(session, second));
        }
        TRY(ppx_scope_end(session, second));
        if (y - x > 0.5 || passes++ > 1000) break;
        TRY(ppx_scope_reject(session, first));
    }
    TRY(ppx_scope_end(session, first));
    TRY(ppx_sample_scalar(session, "scopes:4", "y", 1, PPX_NORMAL, (double[]){0.0, 1.0}, &z));
    TRY(ppx_observe_scalar(session, "scopes:5", "data", PPX_NORMAL, (double[]){x + y + z, 1.0}, NULL));
    return return_number(x, result);
}

/* Goes wrong, or not, as its first draw says. */
static int troubled(ppx_session *session, ppx_tensor *result) {
    static double many[9 << 20];
    static const int32_t shape[1] = {9 << 20};
    double what, x;
    TRY(ppx_sample_scalar(session, "troubled:1", "what", 1, PPX_POISSON, (double[]){3.0}, &what));
    TRY(ppx_tag_scalar(session, "troubled:2", "before", what));
    switch ((int)what) {
        case 0: TRY(ppx_sample_scalar(session, "troubled:3", "x", 1, PPX_NORMAL, (double[]){0.0, -1.0}, &x)); break;
        case 1: ppx_fail(session, PPX_ERROR_MODEL, "no \xC3\xA9nergy is left \xFF"); return PPX_UNWIND;
        case 2: *result = array(many, shape, 1); return PPX_OK;
        case 3: /* a model that does not listen */
            for (int i = 0; i < 100; i++)
                if (ppx_sample_scalar(session, "troubled:4", "x", 1, PPX_NORMAL, (double[]){0.0, 1.0}, &x) != PPX_OK)
                    break;
            if (ppx_sample_scalar(session, "troubled:4", "x", 1, PPX_NORMAL, (double[]){0.0, 1.0}, &x) == PPX_OK) break;
            for (int i = 0; i < 3; i++)
                if (ppx_tag_scalar(session, "troubled:5", "after", 1.0) != PPX_UNWIND) abort();
            break;
        case 4: return PPX_RUN; /* neither finishes nor leaves: see main */
        case 5: TRY(ppx_tag_scalar(session, "troubled:6", "not UTF-8: \xC0\x80", 1.0)); break;
        default: break;
    }
    return return_number(what, result);
}

/* More statements than one question can tell, and long batches: `STEPS` draws at addresses of their own. */
static int long_model(ppx_session *session, ppx_tensor *result) {
    enum { STEPS = 1000 };
    char address[32];
    double x = 0.0;
    for (int i = 0; i < STEPS; i++) {
        snprintf(address, sizeof address, "long:%d", i);
        TRY(ppx_sample_scalar(session, address, "", 1, PPX_NORMAL, (double[]){x, 1.0}, &x));
    }
    return return_number(x, result);
}

/* Is told to stop in the middle of its sixth execution. */
static int stopping(ppx_session *session, ppx_tensor *result) {
    static int executions;
    double x;
    TRY(ppx_sample_scalar(session, "stopping:1", "", 1, PPX_NORMAL, (double[]){0.0, 1.0}, &x));
    if (++executions == 6) ppx_stop(session);
    TRY(ppx_tag_scalar(session, "stopping:2", "x", x));
    return return_number(x, result);
}

static int silent(ppx_session *session, ppx_tensor *result) {
    (void)session, (void)result;
    return PPX_OK;
}

static int empty(ppx_session *session, ppx_tensor *result) {
    static const int32_t shape[2] = {0, 3};
    static double number;
    ppx_statement where = at(session, "empty:1", "nothing");
    *result = array(&number, shape, 2);
    return ppx_tag(session, &where, result);
}

/* Goes on for ever, unless a statement tells it to end. If its first draw is 1 it rejects many passes of a scope and
 * returns while that is open. */
static int endless(ppx_session *session, ppx_tensor *result) {
    ppx_statement where = at(session, "endless:3", "");
    double what;
    uint32_t scope;
    (void)result;
    TRY(ppx_sample_scalar(session, "endless:1", "what", 1, PPX_POISSON, (double[]){3.0}, &what));
    TRY(ppx_scope_begin(session, &where, &scope));
    for (int i = 0;; i++) {
        TRY(ppx_tag_scalar(session, "endless:2", "", 1.0));
        if (what == 1.0 && i == 5000) return PPX_OK;
        if (what == 1.0) TRY(ppx_scope_reject(session, scope));
    }
}

/* -- what the protocol has limits for ----------------------------------------------------------------------------- */

enum { LONGEST = 65535 };

static int sample_long_names(ppx_session *session, size_t address_length, size_t name_length, char filling) {
    static char text[LONGEST + 2];
    ppx_distribution normal = {.family = PPX_NORMAL};
    double mean = 0.0, stddev = 1.0;
    ppx_statement where;
    ppx_tensor value;
    memset(text, filling, sizeof text);
    where = (ppx_statement){ppx_address(session, text, address_length), true, text, name_length};
    normal.parameters[0] = scalar(&mean);
    normal.parameters[1] = scalar(&stddev);
    return ppx_sample(session, &where, &normal, &value);
}

static int sample_shape(ppx_session *session, const int32_t *shape, uint32_t dimensions) {
    static const double numbers[4] = {1.0, 1.0, 1.0, 1.0};
    ppx_distribution poisson = {.family = PPX_POISSON};
    ppx_statement where = at(session, "limits:2", "");
    ppx_tensor value;
    poisson.parameters[0] = array(numbers, shape, dimensions);
    return ppx_sample(session, &where, &poisson, &value);
}

/* A mixture inside others, `depth` in all; of `count` components the innermost. */
static int sample_mixture(ppx_session *session, int depth, uint32_t count) {
    static double ones[LONGEST + 2];
    static ppx_distribution components[LONGEST + 2], mixtures[16];
    static const int32_t one[1] = {1};
    int32_t many[1] = {(int32_t)count};
    ppx_statement where = at(session, "limits:3", "");
    ppx_tensor value;
    for (uint32_t i = 0; i < count; i++) {
        ones[i] = 1.0;
        components[i] = (ppx_distribution){.family = PPX_EXPONENTIAL};
        components[i].parameters[0] = scalar(ones);
    }
    for (int i = 0; i < depth; i++) {
        mixtures[i] = (ppx_distribution){.family = PPX_MIXTURE, .num_components = i ? 1 : count};
        mixtures[i].parameters[0] = array(ones, i ? one : many, 1);
        mixtures[i].components = i ? &mixtures[i - 1] : components;
    }
    return ppx_sample(session, &where, &mixtures[depth - 1], &value);
}

/* Statements at the limits and beyond, as its first draw says. */
static int limits(ppx_session *session, ppx_tensor *result) {
    static const int32_t ones[17] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    static const int32_t negative[2] = {2, -2}, huge[2] = {65536, 32768};
    double what, x;
    ppx_statement where = at(session, "limits:4", "");
    ppx_tensor nothing = {NULL, NULL, 0};
    TRY(ppx_sample_scalar(session, "limits:1", "what", 1, PPX_POISSON, (double[]){3.0}, &what));
    switch ((int)fmin(what, 100.0)) {
        case 0: TRY(sample_long_names(session, LONGEST, LONGEST, 'x')); break;
        case 1: TRY(sample_shape(session, ones, 16)); break;
        case 2: TRY(sample_mixture(session, 8, 2)); break;
        case 3: TRY(ppx_factor_scalar(session, "limits:4", "", -INFINITY)); break;
        case 4: TRY(sample_long_names(session, LONGEST + 1, 1, 'x')); break;
        case 5: TRY(sample_long_names(session, 1, LONGEST + 1, 'x')); break;
        case 6: TRY(sample_shape(session, ones, 17)); break;
        case 7: TRY(sample_shape(session, negative, 2)); break;
        case 8: TRY(sample_shape(session, huge, 2)); break;
        case 9: TRY(sample_mixture(session, 9, 1)); break;
        case 10: TRY(sample_mixture(session, 1, LONGEST + 2)); break;
        case 11: TRY(sample_long_names(session, 1, 1, '\xFF')); break;
        case 12: TRY(ppx_factor_scalar(session, "limits:4", "", INFINITY)); break;
        case 13: TRY(ppx_factor_scalar(session, "limits:4", "", NAN)); break;
        case 14: TRY(ppx_sample_scalar(session, "limits:4", "", 1, 32, &what, &x)); break;
        case 15: TRY(ppx_sample_scalar(session, "limits:4", "", 1, PPX_CATEGORICAL, &what, &x)); break;
        case 16: TRY(ppx_observe_scalar(session, "limits:4", "", PPX_NO_FAMILY, NULL, NULL)); break;
        case 17: TRY(ppx_tag(session, &where, &nothing)); break;
        case 18: TRY(ppx_scope_reject(session, 99)); break;
        case 19: TRY(ppx_scope_end(session, 0)); break;
        case 20: TRY(ppx_sample_scalar(session, "limits:4", "", 1, PPX_NORMAL, (double[]){NAN, 1.0}, &x)); break;
        case 21: TRY(ppx_observe_scalar(session, "limits:4", "", PPX_NO_FAMILY, NULL, &what)); break;
        default: break;
    }
    return return_number(what, result);
}

const simulator SIMULATORS[] = {
    {"gum", gum},           {"branching", branching}, {"families", families}, {"arrays", arrays},
    {"scopes", scopes},     {"troubled", troubled},   {"long", long_model},   {"silent", silent},
    {"stopping", stopping}, {"empty", empty},         {"limits", limits},     {"endless", endless},
    {"unclosed", unclosed}, {"chained", chained},   {"brimming", brimming},
    {"more_families", more_families},
    {"wordy", wordy},       {"nowhere", nowhere},
};
const size_t NUM_SIMULATORS = sizeof SIMULATORS / sizeof *SIMULATORS;
