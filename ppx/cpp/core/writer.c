#include "writer.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "FlatBuffers are little-endian, and so must be the machine");

/* `size` zero bytes, beginning at a position congruent to `phase` modulo `alignment`. */
static size_t extend(ppx_bytes *out, size_t size, size_t alignment, size_t phase) {
    size_t at = out->size + (phase + alignment - out->size % alignment) % alignment;
    if (at + size > out->capacity && (out->failed || !ppx_grow(&out->data, &out->capacity, at + size, 1))) {
        out->failed = true;
        return 0;
    }
    memset(out->data + out->size, 0, at + size - out->size);
    out->size = at + size;
    return at;
}

static void set(ppx_bytes *out, size_t at, const void *value, size_t size) {
    if (!out->failed) memcpy(out->data + at, value, size);
}

void ppx_set_u8(ppx_bytes *out, size_t at, uint8_t value) { set(out, at, &value, sizeof value); }
void ppx_set_u16(ppx_bytes *out, size_t at, uint16_t value) { set(out, at, &value, sizeof value); }
void ppx_set_u32(ppx_bytes *out, size_t at, uint32_t value) { set(out, at, &value, sizeof value); }
void ppx_set_u64(ppx_bytes *out, size_t at, uint64_t value) { set(out, at, &value, sizeof value); }

static void link_to(ppx_bytes *out, size_t link, size_t target) {
    if (link) ppx_set_u32(out, link, (uint32_t)(target - link));
}

void ppx_write_start(ppx_bytes *out) {
    out->size = 0;
    out->failed = false;
    extend(out, 4, 4, 0);
}

ppx_written ppx_write_table(ppx_bytes *out, size_t link, size_t count, const uint8_t *sizes) {
    ppx_written written = {{0}};
    uint16_t offsets[10] = {0};
    size_t length = 4, phase = 0, vtable, table;
    for (size_t size = 8; size; size /= 2)
        for (size_t i = 0; i < count; i++)
            if (sizes[i] == size) {
                if (size == 8) phase = 4; /* after the four bytes that every table begins with */
                offsets[i] = (uint16_t)length;
                length += size;
            }
    vtable = extend(out, 4 + 2 * count, 2, 0);
    table = extend(out, length, 8, phase);
    if (out->failed) return written;
    ppx_set_u16(out, vtable, (uint16_t)(4 + 2 * count));
    ppx_set_u16(out, vtable + 2, (uint16_t)length);
    ppx_set_u32(out, table, (uint32_t)(table - vtable));
    for (size_t i = 0; i < count; i++) {
        ppx_set_u16(out, vtable + 4 + 2 * i, offsets[i]);
        written.fields[i] = table + offsets[i];
    }
    if (link)
        link_to(out, link, table);
    else
        ppx_set_u32(out, 0, (uint32_t)table);
    return written;
}

void ppx_write_string(ppx_bytes *out, size_t link, const char *text, size_t length) {
    size_t at = extend(out, 4 + length + 1, 4, 0);
    if (out->failed) return;
    ppx_set_u32(out, at, (uint32_t)length);
    if (length) set(out, at + 4, text, length);
    link_to(out, link, at);
}

void ppx_write_words(ppx_bytes *out, size_t link, const uint32_t *words, size_t count) {
    size_t at = extend(out, 4 + 4 * count, 4, 0);
    if (out->failed) return;
    ppx_set_u32(out, at, (uint32_t)count);
    if (count) set(out, at + 4, words, 4 * count);
    link_to(out, link, at);
}

void ppx_write_doubles(ppx_bytes *out, size_t link, const double *doubles, size_t count) {
    size_t at = extend(out, 4 + 8 * count, 8, 4);
    if (out->failed) return;
    ppx_set_u32(out, at, (uint32_t)count);
    if (count) set(out, at + 4, doubles, 8 * count);
    link_to(out, link, at);
}

size_t ppx_write_offsets(ppx_bytes *out, size_t link, size_t count) {
    size_t at = extend(out, 4 + 4 * count, 4, 0);
    if (out->failed) return 0;
    ppx_set_u32(out, at, (uint32_t)count);
    link_to(out, link, at);
    return at + 4;
}
