/* Growing arrays, and the open-addressing index over them. The bottom of the C core. */

#ifndef PPX_MEMORY_H
#define PPX_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    unsigned char *data;
    size_t size, capacity;
    bool failed; /* memory ran out: what was written since is lost */
} ppx_bytes;

typedef struct {
    uint32_t *data;
    size_t size, capacity;
} ppx_words;

typedef struct {
    double *data;
    size_t size, capacity;
} ppx_doubles;

/* Makes room for `wanted` elements; false if there is no memory. */
bool ppx_grow(void *data_pointer, size_t *capacity, size_t wanted, size_t element);

static inline bool ppx_words_reserve(ppx_words *words, size_t more) {
    return words->size + more <= words->capacity ||
           ppx_grow(&words->data, &words->capacity, words->size + more, sizeof(uint32_t));
}

static inline bool ppx_words_push(ppx_words *words, uint32_t word) {
    if (!ppx_words_reserve(words, 1)) return false;
    words->data[words->size++] = word;
    return true;
}

static inline bool ppx_doubles_reserve(ppx_doubles *doubles, size_t more) {
    return doubles->size + more <= doubles->capacity ||
           ppx_grow(&doubles->data, &doubles->capacity, doubles->size + more, sizeof(double));
}

static inline bool ppx_doubles_append(ppx_doubles *doubles, const double *data, size_t size) {
    if (!ppx_doubles_reserve(doubles, size)) return false;
    if (size) memcpy(doubles->data + doubles->size, data, size * sizeof(double));
    doubles->size += size;
    return true;
}

/* -- hashing -- */

static inline uint64_t ppx_mix(uint64_t hash, uint64_t value) {
    hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
    return hash ^ (hash >> 29);
}

static inline uint64_t ppx_hash_bytes(uint64_t hash, const void *data, size_t size) {
    const unsigned char *at = data;
    uint64_t value;
    hash = ppx_mix(hash, size);
    for (; size >= 8; at += 8, size -= 8) {
        memcpy(&value, at, 8);
        hash = ppx_mix(hash, value);
    }
    value = 0;
    for (size_t i = 0; i < size; i++) value |= (uint64_t)at[i] << (8 * i);
    return ppx_mix(hash, value);
}

/* From a hash to candidates 1, 2, ...; the owner compares what they stand for. */
typedef struct {
    uint64_t hash;
    uint32_t number; /* 0: free */
} ppx_slot;

typedef struct {
    ppx_slot *slots;
    size_t size, count; /* size is a power of two, at least twice count */
} ppx_index;

bool ppx_index_add(ppx_index *index, uint64_t hash, uint32_t number);
void ppx_index_clear(ppx_index *index);

/* Candidates one after the other: begin with *probe = 0; 0 means that there is no further one. */
static inline uint32_t ppx_index_next(const ppx_index *index, uint64_t hash, size_t *probe) {
    if (!index->count) return 0;
    for (;;) {
        const ppx_slot *slot = &index->slots[(hash + *probe) & (index->size - 1)];
        if (!slot->number) return 0;
        ++*probe;
        if (slot->hash == hash) return slot->number;
    }
}

#endif
