#include "reader.h"

static uint16_t load_u16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

static bool inside(ppx_span message, size_t at, size_t size) { return at <= message.size && size <= message.size - at; }

static bool open_table(ppx_span message, size_t at, ppx_table *table) {
    int32_t back;
    int64_t vtable;
    if (at % 4 || !inside(message, at, 4)) return false;
    memcpy(&back, message.data + at, 4);
    vtable = (int64_t)at - back;
    if (vtable < 0 || vtable % 2 || !inside(message, (size_t)vtable, 4)) return false;
    table->message = message;
    table->at = at;
    table->vtable = (size_t)vtable;
    table->vtable_size = load_u16(message.data + vtable);
    table->size = load_u16(message.data + vtable + 2);
    return table->vtable_size >= 4 && table->vtable_size % 2 == 0 &&
           inside(message, table->vtable, table->vtable_size) && table->size >= 4 && inside(message, at, table->size);
}

/* Where a field of `size` bytes stands in the message; 0 if it is absent. */
static bool locate(const ppx_table *table, unsigned field, size_t size, size_t *at) {
    size_t entry = 4 + 2 * (size_t)field, offset;
    *at = 0;
    if (entry + 2 > table->vtable_size) return true;
    offset = load_u16(table->message.data + table->vtable + entry);
    if (!offset) return true;
    *at = table->at + offset;
    return offset >= 4 && offset + size <= table->size && *at % size == 0;
}

/* Where a field's offset leads; 0 if it is absent. */
static bool follow(const ppx_table *table, unsigned field, size_t *target) {
    size_t at;
    *target = 0;
    if (!locate(table, field, 4, &at)) return false;
    if (!at) return true;
    *target = at + ppx_load_u32(table->message.data + at);
    return *target > at && inside(table->message, *target, 4);
}

bool ppx_read_root(ppx_span message, ppx_table *table) {
    size_t root;
    if (message.size < 8) return false;
    root = ppx_load_u32(message.data);
    return root >= 4 && open_table(message, root, table);
}

bool ppx_read_table(const ppx_table *parent, unsigned field, ppx_table *table, bool *present) {
    size_t target;
    if (!follow(parent, field, &target)) return false;
    *present = target != 0;
    return !target || open_table(parent->message, target, table);
}

bool ppx_read_vector(const ppx_table *parent, unsigned field, size_t element, ppx_vector *vector) {
    size_t at;
    vector->data = NULL;
    vector->count = 0;
    if (!follow(parent, field, &at)) return false;
    if (!at) return true;
    if (at % 4) return false;
    vector->count = ppx_load_u32(parent->message.data + at);
    if (vector->count && (at + 4) % element) return false;
    vector->data = parent->message.data + at + 4;
    return vector->count <= (parent->message.size - at - 4) / element;
}

bool ppx_read_string(const ppx_table *parent, unsigned field, ppx_vector *string) {
    if (!ppx_read_vector(parent, field, 1, string)) return false;
    return string->count <= PPX_MAX_STRING && ppx_is_utf8(string->data, string->count);
}

bool ppx_read_element(const ppx_table *parent, ppx_vector offsets, size_t index, ppx_table *table) {
    size_t at = (size_t)(offsets.data - parent->message.data) + 4 * index;
    uint32_t offset = ppx_load_u32(parent->message.data + at);
    return offset && open_table(parent->message, at + offset, table);
}

bool ppx_read_number(const ppx_table *parent, unsigned field, size_t size, uint64_t fallback, uint64_t *value) {
    size_t at;
    if (!locate(parent, field, size, &at)) return false;
    *value = at ? 0 : fallback;
    if (at) memcpy(value, parent->message.data + at, size);
    return true;
}

bool ppx_is_utf8(const void *text, size_t length) {
    const uint8_t *at = text, *end = at + length;
    while (at < end) {
        uint32_t lead = *at++, code, least;
        int more;
        if (lead < 0x80) continue;
        if (lead >= 0xC2 && lead < 0xE0)
            more = 1, code = lead & 0x1F, least = 0x80;
        else if (lead >= 0xE0 && lead < 0xF0)
            more = 2, code = lead & 0x0F, least = 0x800;
        else if (lead >= 0xF0 && lead < 0xF5)
            more = 3, code = lead & 0x07, least = 0x10000;
        else
            return false;
        if (end - at < more) return false;
        for (; more; more--, at++) {
            if ((*at & 0xC0) != 0x80) return false;
            code = code << 6 | (*at & 0x3F);
        }
        if (code < least || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    }
    return true;
}

size_t ppx_cut_utf8(const char *text, size_t length, size_t most) {
    if (length <= most) return length;
    while (most && ((uint8_t)text[most] & 0xC0) == 0x80) most--;
    return most;
}
