/* FlatBuffers, read with every offset checked before it is followed. What the decoder stands on.
 *
 * Messages need not be aligned in memory, only relative to their start, so numbers are copied out. */

#ifndef PPX_READER_H
#define PPX_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PPX_MAX_STRING 65535

typedef struct {
    const uint8_t *data;
    size_t size;
} ppx_span;

typedef struct {
    ppx_span message;
    size_t at, vtable;
    uint16_t vtable_size, size;
} ppx_table;

/* A vector or string: where its elements begin, NULL if absent. */
typedef struct {
    const uint8_t *data;
    size_t count;
} ppx_vector;

/* All of these return false if the bytes are no valid FlatBuffer. */
bool ppx_read_root(ppx_span message, ppx_table *table);
bool ppx_read_table(const ppx_table *parent, unsigned field, ppx_table *table, bool *present);
bool ppx_read_vector(const ppx_table *parent, unsigned field, size_t element, ppx_vector *vector);
bool ppx_read_string(const ppx_table *parent, unsigned field, ppx_vector *string);
bool ppx_read_element(const ppx_table *parent, ppx_vector offsets, size_t index, ppx_table *table);

/* The bytes of a number (1, 2, 4 or 8 of them), `fallback` if the field is absent. */
bool ppx_read_number(const ppx_table *parent, unsigned field, size_t size, uint64_t fallback, uint64_t *value);

bool ppx_is_utf8(const void *text, size_t length);

/* How much of UTF-8 text fits into `most` bytes without cutting a character. */
size_t ppx_cut_utf8(const char *text, size_t length, size_t most);

static inline uint32_t ppx_load_u32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

#endif
