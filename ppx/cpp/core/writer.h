/* FlatBuffers, written from front to back: a table is written with room for its offsets, which are set when what they
 * refer to is written. What the encoder stands on. */

#ifndef PPX_WRITER_H
#define PPX_WRITER_H

#include "memory.h"

/* A table's position and those of its fields. */
typedef struct {
    size_t fields[10];
} ppx_written;

void ppx_write_start(ppx_bytes *out);

/* A table with `count` (at most 10) fields of `sizes` bytes (0: absent, 1, 2, 4, 8), zero until they are set. The
 * offset at position `link` (0: none) is made to refer to it. */
ppx_written ppx_write_table(ppx_bytes *out, size_t link, size_t count, const uint8_t *sizes);

void ppx_set_u8(ppx_bytes *out, size_t at, uint8_t value);
void ppx_set_u16(ppx_bytes *out, size_t at, uint16_t value);
void ppx_set_u32(ppx_bytes *out, size_t at, uint32_t value);
void ppx_set_u64(ppx_bytes *out, size_t at, uint64_t value);

void ppx_write_string(ppx_bytes *out, size_t link, const char *text, size_t length);
void ppx_write_words(ppx_bytes *out, size_t link, const uint32_t *words, size_t count);
void ppx_write_doubles(ppx_bytes *out, size_t link, const double *doubles, size_t count);

/* A vector of `count` offsets; returns the position of the first, to be linked one by one, 4 bytes apart. */
size_t ppx_write_offsets(ppx_bytes *out, size_t link, size_t count);

#endif
