/* Holds a received message against the schema (ppx.fbs) before anything in it is used.
 *
 * The schema stands here as tables of its fields. The walk allocates nothing and counts the bytes that it visits, so
 * that tables which refer to each other many times over end as malformed, not as an endless walk. */

#include "message.h"

typedef enum { NONE, U8, U16, U32, U64, STRING, DOUBLES, WORDS, BYTES, TABLE, TABLES, BODY, DISTRIBUTION } kind;

/* Tables by number: Message, the members of MessageBody, those of Distribution, the others. */
enum {
    MESSAGE = 0,
    FAMILIES = PPX_ERROR, /* family n is table FAMILIES + n */
    TENSOR = FAMILIES + PPX_PARETO + 1,
    COMPONENT,
    SITE,
    TRACES,
    OBSERVATION,
    POLICY,
    REPLAY,
    DRAWS,
    SHARED_MEMORY,
    NUM_TABLES
};

typedef struct {
    uint8_t kind, table;
} schema_field;

/* A union stands in two fields, of which the second is NONE here; so are burnt ones. */
static const schema_field SCHEMA[NUM_TABLES][10] = {
    [MESSAGE] = {{BODY, 0}},
    [PPX_HANDSHAKE] = {{STRING, 0}, {U32, 0}, {U32, 0}, {TABLE, SHARED_MEMORY}},
    [PPX_HANDSHAKE_RESULT] = {{STRING, 0}, {STRING, 0}, {U32, 0}, {U32, 0}, {STRING, 0}},
    [PPX_RUN_BODY] = {{NONE, 0}, {TABLE, DRAWS}},
    [PPX_RUN_RESULT] = {{TABLE, TENSOR}, {TABLE, TRACES}, {U64, 0}},
    [PPX_SAMPLE] = {{STRING, 0},
                    {STRING, 0},
                    {DISTRIBUTION, 0},
                    {NONE, 0},
                    {U8, 0},
                    {NONE, 0},
                    {U32, 0},
                    {DOUBLES, 0},
                    {TABLE, TRACES},
                    {U64, 0}},
    [PPX_SAMPLE_RESULT] = {{TABLE, TENSOR}, {U64, 0}},
    [PPX_OBSERVE] = {{STRING, 0}, {STRING, 0}, {DISTRIBUTION, 0}, {NONE, 0}, {TABLE, TENSOR}},
    [PPX_TAG] = {{STRING, 0}, {STRING, 0}, {TABLE, TENSOR}},
    [PPX_ERROR] = {{U16, 0}, {STRING, 0}, {STRING, 0}, {U32, 0}},
    [FAMILIES + PPX_NORMAL] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_UNIFORM] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_CATEGORICAL] = {{TABLE, TENSOR}},
    [FAMILIES + PPX_POISSON] = {{TABLE, TENSOR}},
    [FAMILIES + PPX_BERNOULLI] = {{TABLE, TENSOR}},
    [FAMILIES + PPX_BETA] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_EXPONENTIAL] = {{TABLE, TENSOR}},
    [FAMILIES + PPX_GAMMA] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_LOG_NORMAL] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_BINOMIAL] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_WEIBULL] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_TRUNCATED_NORMAL] = {{TABLE, TENSOR}, {TABLE, TENSOR}, {TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_VON_MISES] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_MIXTURE] = {{TABLE, TENSOR}, {TABLES, COMPONENT}},
    [FAMILIES + PPX_MULTIVARIATE_NORMAL] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_DELTA] = {{TABLE, TENSOR}},
    [FAMILIES + PPX_NEGATIVE_BINOMIAL] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_NEGATIVE_BINOMIAL_2] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_BETA_BINOMIAL] = {{TABLE, TENSOR}, {TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_GEOMETRIC] = {{TABLE, TENSOR}},
    [FAMILIES + PPX_HYPERGEOMETRIC] = {{TABLE, TENSOR}, {TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_ZERO_INFLATED_POISSON] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_STUDENT_T] = {{TABLE, TENSOR}, {TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_CAUCHY] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_HALF_CAUCHY] = {{TABLE, TENSOR}},
    [FAMILIES + PPX_HALF_NORMAL] = {{TABLE, TENSOR}},
    [FAMILIES + PPX_LAPLACE] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_LOGISTIC] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_GUMBEL] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_INVERSE_GAMMA] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [FAMILIES + PPX_PARETO] = {{TABLE, TENSOR}, {TABLE, TENSOR}},
    [TENSOR] = {{DOUBLES, 0}, {WORDS, 0}},
    [COMPONENT] = {{DISTRIBUTION, 0}},
    [SITE] = {{U8, 0}, {STRING, 0}, {STRING, 0}, {DISTRIBUTION, 0}, {NONE, 0}, {WORDS, 0}, {U8, 0}},
    [TRACES] = {{TABLES, SITE}, {WORDS, 0}, {WORDS, 0}, {WORDS, 0}, {DOUBLES, 0}, {TABLES, PPX_ERROR}},
    [OBSERVATION] = {{STRING, 0}, {TABLE, TENSOR}},
    [POLICY] = {{BYTES, 0}, {U8, 0}, {TABLES, OBSERVATION}},
    [REPLAY] = {{WORDS, 0}, {WORDS, 0}, {DOUBLES, 0}},
    [DRAWS] = {{U64, 0}, {U64, 0}, {U32, 0}, {U64, 0}, {TABLE, POLICY}, {TABLE, REPLAY}},
    [SHARED_MEMORY] = {{U32, 0}, {U32, 0}, {U64, 0}, {U64, 0}},
};

static const uint8_t WIDTHS[] = {[U8] = 1,     [U16] = 2,     [U32] = 4,   [U64] = 8,
                                 [STRING] = 1, [DOUBLES] = 8, [WORDS] = 4, [BYTES] = 1};

/* A message, its body, Traces or Draws, Site, then a distribution: mixtures in each other take two tables a level. */
static const int MAX_DEPTH = 8 + 2 * PPX_MAX_MIXTURES;

typedef struct {
    size_t budget;
    int code;
} walker;

static bool refuse(walker *walk, int code) {
    walk->code = code;
    return false;
}

static bool spend(walker *walk, size_t count, size_t width) {
    if (count > walk->budget / width) return refuse(walk, PPX_ERROR_MALFORMED);
    walk->budget -= count * width;
    return true;
}

static bool check_table(walker *walk, const ppx_table *table, uint32_t number, int depth);

/* A union of `members` members, of which the n-th is table `first` + n. */
static bool check_union(walker *walk, const ppx_table *table, unsigned at, uint32_t members, uint32_t first,
                        int depth) {
    uint64_t member;
    ppx_table inner;
    bool present;
    if (!ppx_read_number(table, at, 1, 0, &member)) return refuse(walk, PPX_ERROR_MALFORMED);
    if (!member) return true;
    if (member > members) return refuse(walk, PPX_ERROR_UNSUPPORTED);
    if (!ppx_read_table(table, at + 1, &inner, &present) || !present) return refuse(walk, PPX_ERROR_MALFORMED);
    return check_table(walk, &inner, first + (uint32_t)member, depth + 1);
}

static bool check_tables(walker *walk, const ppx_table *table, unsigned at, uint32_t number, int depth) {
    ppx_vector elements;
    ppx_table inner;
    if (!ppx_read_vector(table, at, 4, &elements)) return refuse(walk, PPX_ERROR_MALFORMED);
    if (!spend(walk, elements.count, 4)) return false;
    for (size_t i = 0; i < elements.count; i++) {
        if (!ppx_read_element(table, elements, i, &inner)) return refuse(walk, PPX_ERROR_MALFORMED);
        if (!check_table(walk, &inner, number, depth + 1)) return false;
    }
    return true;
}

static bool check_field(walker *walk, const ppx_table *table, unsigned at, schema_field field, int depth) {
    ppx_vector vector;
    ppx_table inner;
    uint64_t number;
    bool present;
    switch (field.kind) {
        case NONE: return true;
        case BODY: return check_union(walk, table, at, PPX_ERROR, MESSAGE, depth);
        case DISTRIBUTION: return check_union(walk, table, at, PPX_PARETO, FAMILIES, depth);
        case TABLES: return check_tables(walk, table, at, field.table, depth);
        case TABLE:
            if (!ppx_read_table(table, at, &inner, &present)) return refuse(walk, PPX_ERROR_MALFORMED);
            return !present || check_table(walk, &inner, field.table, depth + 1);
        case STRING:
            if (!ppx_read_vector(table, at, 1, &vector)) return refuse(walk, PPX_ERROR_MALFORMED);
            if (!spend(walk, vector.count, 1)) return false;
            return ppx_read_string(table, at, &vector) || refuse(walk, PPX_ERROR_MALFORMED);
        case DOUBLES:
        case WORDS:
        case BYTES:
            if (!ppx_read_vector(table, at, WIDTHS[field.kind], &vector)) return refuse(walk, PPX_ERROR_MALFORMED);
            return spend(walk, vector.count, WIDTHS[field.kind]);
        default: return ppx_read_number(table, at, WIDTHS[field.kind], 0, &number) || refuse(walk, PPX_ERROR_MALFORMED);
    }
}

static bool check_table(walker *walk, const ppx_table *table, uint32_t number, int depth) {
    unsigned slots = (table->vtable_size - 4u) / 2;
    if (depth > MAX_DEPTH) return refuse(walk, PPX_ERROR_MALFORMED);
    if (!spend(walk, 8, 1)) return false;
    for (unsigned at = 0; at < slots && at < 10; at++)
        if (!check_field(walk, table, at, SCHEMA[number][at], depth)) return false;
    return true;
}

int ppx_verify(ppx_span bytes, uint32_t *body, ppx_table *table) {
    walker walk = {.budget = 4 * bytes.size + 4096, .code = PPX_ERROR_MALFORMED};
    ppx_table message;
    uint64_t member;
    bool present;
    if (bytes.size > PPX_MAX_MESSAGE || !ppx_read_root(bytes, &message)) return PPX_ERROR_MALFORMED;
    if (!check_table(&walk, &message, MESSAGE, 0)) return walk.code;
    ppx_read_number(&message, 0, 1, 0, &member);
    if (!member || !ppx_read_table(&message, 1, table, &present)) return PPX_ERROR_MALFORMED;
    *body = (uint32_t)member;
    return 0;
}
