/* Random and mutated messages into the session's decoder and states, without a socket between.
 *
 *     fuzz session SEEDS COUNT SEED    COUNT messages to sessions that run the simulators; prints how many kilobytes
 *                                      are resident when a quarter and when all are done
 *     fuzz starved SEEDS COUNT SEED    the same, while one of 200 allocations fails
 *     fuzz decode FILE                 decodes the messages of a file; a line for each
 *
 * SEEDS and FILE hold messages, each after its length (four bytes, little-endian). In place of channel.c this
 * program sends and receives. It aborts where the session breaks a rule: what it sends is verified, and must answer
 * exactly one message. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "session.h"
#include "simulators.h"
#include "writer.h"

#define REQUIRE(condition)                                                              \
    do {                                                                                \
        if (!(condition)) {                                                             \
            fprintf(stderr, "message %lu: not %s\n", (unsigned long)given, #condition); \
            abort();                                                                    \
        }                                                                               \
    } while (0)

/* -- the messages to start from ----------------------------------------------------------------------------------- */

static uint8_t *file;
static ppx_span *seeds;
static size_t num_seeds;

static void read_seeds(const char *path) {
    FILE *opened = fopen(path, "rb");
    long size;
    if (!opened || fseek(opened, 0, SEEK_END) || (size = ftell(opened)) < 0) exit(2);
    rewind(opened);
    file = malloc((size_t)size + 1);
    seeds = malloc(((size_t)size / 4 + 1) * sizeof *seeds);
    if (!file || !seeds || fread(file, 1, (size_t)size, opened) != (size_t)size) exit(2);
    fclose(opened);
    for (size_t at = 0; at + 4 <= (size_t)size; at += seeds[num_seeds++].size) {
        seeds[num_seeds].size = ppx_load_u32(file + at);
        at += 4;
        seeds[num_seeds].data = file + at;
    }
}

/* -- mutations ---------------------------------------------------------------------------------------------------- */

static uint64_t state;

static uint64_t next(void) { /* splitmix64 */
    uint64_t z = state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static size_t below(size_t limit) { return limit ? (size_t)(next() % limit) : 0; }

/* -- memory that runs out ----------------------------------------------------------------------------------------- */

static bool starved, own; /* `own`: this program is asking, not the core */

static bool refuses(void) { return starved && !own && below(200) == 0; }

/* The linker sends the calls of all parts here (--wrap). */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size) { return refuses() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return refuses() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *old, size_t size) { return refuses() ? NULL : __real_realloc(old, size); }

static ppx_bytes
    message; /* the one given last, in memory of its exact size, so that the sanitizer sees every step beyond */

static void assign(const void *data, size_t size) { /* `data` may be a part of the message */
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy) exit(2);
    if (size) memcpy(copy, data, size);
    free(message.data);
    message.data = copy;
    message.size = size;
}

static void mutate(void) {
    static const uint32_t WORDS[] = {0, 1, 2, 4, 8, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC, 16, 65535, 65536};
    static const double NUMBERS[] = {0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 5e-324, 0x1p53, HUGE_VAL, -HUGE_VAL, NAN};
    for (size_t changes = 1 + below(4); changes && message.size; changes--) {
        size_t at = below(message.size);
        switch (below(6)) {
            case 0: message.data[at] ^= (uint8_t)(1u << below(8)); break;
            case 1: message.data[at] = (uint8_t)next(); break;
            case 2:
                at &= ~(size_t)3;
                if (at + 4 <= message.size) {
                    uint32_t word =
                        below(2) ? WORDS[below(sizeof WORDS / sizeof *WORDS)] : (uint32_t)below(2 * message.size);
                    memcpy(message.data + at, &word, 4);
                }
                break;
            case 3:
                at &= ~(size_t)7;
                if (at + 8 <= message.size)
                    memcpy(message.data + at, &NUMBERS[below(sizeof NUMBERS / sizeof *NUMBERS)], 8);
                break;
            case 4: assign(message.data, at); break;
            default: {
                size_t from = below(message.size), length = below(message.size - (at > from ? at : from));
                memmove(message.data + at, message.data + from, length);
            }
        }
    }
}

/* -- the channel -------------------------------------------------------------------------------------------------- */

static ppx_session *served;
static size_t wanted, given;
static bool must_answer;
static uint32_t asked; /* the body of the message sent last */
static uint64_t asked_position;
static size_t asked_count;

/* The answer that the session hopes for. */
static void answer_rightly(void) {
    static ppx_bytes out;
    static double numbers[64];
    ppx_written body;
    uint8_t kind = (uint8_t)(asked + 1);
    ppx_write_start(&out);
    body = ppx_write_table(&out, 0, 2, (const uint8_t[]){1, 4});
    ppx_set_u8(&out, body.fields[0], kind);
    if (asked == PPX_SAMPLE) {
        for (size_t i = 0; i < 64; i++) numbers[i] = below(4) ? (double)below(1000) / 250.0 : (double)(next() >> 11);
        body = ppx_write_table(&out, body.fields[1], 2, (const uint8_t[]){4, 8});
        ppx_set_u64(&out, body.fields[1], below(20) ? asked_position + below(5) : next());
        body = ppx_write_table(&out, body.fields[0], 2, (const uint8_t[]){4, 4});
        ppx_write_words(&out, body.fields[1], NULL, 0);
        ppx_write_doubles(&out, body.fields[0], numbers, asked_count);
    } else {
        ppx_write_table(&out, body.fields[1], 0, NULL);
    }
    REQUIRE(!out.failed);
    assign(out.data, out.size);
}

static void make_message(void) {
    size_t kind = below(100);
    bool question = asked == PPX_SAMPLE || asked == PPX_OBSERVE || asked == PPX_TAG;
    if (kind < 4) {
        static uint8_t noise[512];
        for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)next();
        assign(noise, below(sizeof noise));
        return;
    }
    if (question && kind < 70)
        answer_rightly();
    else {
        ppx_span seed = seeds[below(num_seeds)];
        assign(seed.data, seed.size);
    }
    if (kind % 3 == 0) mutate();
}

bool ppx_channel_open(ppx_channel *channel, const char *endpoint, const char *key, char *error, size_t error_size) {
    (void)channel, (void)endpoint, (void)key, (void)error, (void)error_size;
    asked = 0;
    must_answer = false;
    return true;
}

ppx_reception ppx_channel_receive(ppx_channel *channel, ppx_span *received) {
    (void)channel;
    REQUIRE(!must_answer);
    if (given >= wanted || below(2000) == 0) { /* now and then a session ends, with all that it has */
        ppx_stop(served);
        return PPX_NOTHING;
    }
    if (below(5000) == 0) return PPX_LOST;
    own = true;
    make_message();
    own = false;
    given++;
    must_answer = true;
    *received = (ppx_span){message.data, message.size};
    return PPX_RECEIVED;
}

/* The numbers that the value of a sampled distribution must have, as far as this program knows it. */
static size_t count_values(const ppx_table *sample) {
    ppx_vector parameters;
    uint64_t site;
    ppx_read_number(sample, 6, 4, 0, &site);
    ppx_read_vector(sample, 7, 8, &parameters);
    if (!site || site > served->sites.size || below(50) == 0) return 1 + below(3);
    return served->sites.entries[site - 1].num_values < 64 ? served->sites.entries[site - 1].num_values : 1;
}

bool ppx_channel_send(ppx_channel *channel, const void *data, size_t size) {
    ppx_table table;
    (void)channel;
    REQUIRE(must_answer);
    REQUIRE(size <= ppx_channel_capacity(channel));
    REQUIRE(ppx_verify((ppx_span){data, size}, &asked, &table) == 0);
    must_answer = false;
    if (asked == PPX_SAMPLE) {
        ppx_read_number(&table, 9, 8, 0, &asked_position);
        asked_count = count_values(&table);
    }
    return true;
}

size_t ppx_channel_capacity(const ppx_channel *channel) {
    (void)channel;
    return (size_t)1 << 16;
}

void ppx_channel_use(ppx_channel *channel, const ppx_mailbox *mailbox) {
    (void)channel;
    if (mailbox && mailbox->memory) { /* a seed that names a real mailbox of this process */
        ppx_mailbox left = *mailbox;
        ppx_mailbox_leave(&left);
    }
}

void ppx_channel_close(ppx_channel *channel) { (void)channel; }

/* -- what the commands do ----------------------------------------------------------------------------------------- */

static long resident_kilobytes(void) {
    long pages = 0, ignored;
    FILE *opened;
    own = true;
    opened = fopen("/proc/self/statm", "r");
    if (!opened || fscanf(opened, "%ld %ld", &ignored, &pages) != 2) exit(2);
    fclose(opened);
    own = false;
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void serve(void) {
    char error[256];
    served = ppx_open("", NULL, error, sizeof error);
    if (!served && starved) return;
    if (!served) exit(2);
    while (ppx_wait_run(served) == PPX_RUN) {
        const simulator *simulated = &SIMULATORS[below(NUM_SIMULATORS)];
        ppx_tensor result = {NULL, NULL, 0};
        int outcome = simulated->run(served, &result);
        if (outcome == PPX_OK)
            ppx_finish(served, &result);
        else if (outcome == PPX_UNWIND)
            ppx_leave(served);
    }
    must_answer = false; /* a stop in the middle of an execution leaves its question unanswered */
    ppx_close(served);
}

static int fuzz_sessions(size_t count, uint64_t seed) {
    long early = 0;
    state = seed;
    wanted = count;
    while (given < wanted) {
        serve();
        if (!early && given >= wanted / 4) early = resident_kilobytes();
    }
    starved = false;
    printf("%ld %ld\n", early, resident_kilobytes());
    return 0;
}

static void print_orders(const ppx_orders *draws) {
    printf(" %llu %llu %llu %lu", (unsigned long long)draws->seed, (unsigned long long)draws->first,
           (unsigned long long)draws->position, (unsigned long)draws->count);
    if (draws->has_policy)
        printf(" policy %zu %d %zu", draws->asked.count, draws->ask_others, draws->observations.count);
    if (draws->has_replay) printf(" replay %zu %zu", draws->replay_sites.count, draws->replay_values.count);
}

static int decode_file(void) {
    for (size_t i = 0; i < num_seeds; i++) {
        ppx_message decoded = {0};
        const char *why;
        int code;
        assign(seeds[i].data, seeds[i].size);
        code = ppx_decode((ppx_span){message.data, message.size}, &decoded, &why);
        printf("%d", code);
        if (!code) {
            printf(" %lu", (unsigned long)decoded.body);
            if (decoded.body == PPX_SAMPLE_RESULT) {
                printf(" %llu %zu", (unsigned long long)decoded.position, decoded.result.size);
                for (uint32_t k = 0; k < decoded.result.dimensions; k++) printf(" %ld", (long)decoded.result.shape[k]);
            }
            if (decoded.body == PPX_HANDSHAKE)
                printf(" %lu %lu", (unsigned long)decoded.version, (unsigned long)decoded.capabilities);
            if (decoded.body == PPX_RUN_BODY && decoded.has_draws) print_orders(&decoded.draws);
        }
        printf("\n");
    }
    return 0;
}

int main(int count, char **words) {
    int status = 2;
    if (count < 3) return status;
    read_seeds(words[2]);
    starved = strcmp(words[1], "starved") == 0;
    if (count == 5 && (starved || strcmp(words[1], "session") == 0))
        status = fuzz_sessions(strtoull(words[3], NULL, 10), strtoull(words[4], NULL, 10));
    else if (strcmp(words[1], "decode") == 0)
        status = decode_file();
    free(message.data);
    free(seeds);
    free(file);
    return status;
}
