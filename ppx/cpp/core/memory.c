#include "memory.h"

#include <stdlib.h>

bool ppx_grow(void *data_pointer, size_t *capacity, size_t wanted, size_t element) {
    void *old, *grown;
    size_t size = *capacity ? *capacity : 16;
    memcpy(&old, data_pointer, sizeof old);
    while (size < wanted) {
        if (size > SIZE_MAX / 2 / element) return false;
        size *= 2;
    }
    grown = realloc(old, size * element);
    if (!grown) return false;
    memcpy(data_pointer, &grown, sizeof grown);
    *capacity = size;
    return true;
}

static void place(ppx_index *index, uint64_t hash, uint32_t number) {
    size_t at = hash & (index->size - 1);
    while (index->slots[at].number) at = (at + 1) & (index->size - 1);
    index->slots[at].hash = hash;
    index->slots[at].number = number;
}

bool ppx_index_add(ppx_index *index, uint64_t hash, uint32_t number) {
    if (2 * (index->count + 1) > index->size) {
        ppx_index larger = {.size = index->size ? 2 * index->size : 32, .count = index->count};
        larger.slots = calloc(larger.size, sizeof *larger.slots);
        if (!larger.slots) return false;
        for (size_t i = 0; i < index->size; i++)
            if (index->slots[i].number) place(&larger, index->slots[i].hash, index->slots[i].number);
        free(index->slots);
        *index = larger;
    }
    place(index, hash, number);
    index->count++;
    return true;
}

void ppx_index_clear(ppx_index *index) {
    if (index->count) memset(index->slots, 0, index->size * sizeof *index->slots);
    index->count = 0;
}
