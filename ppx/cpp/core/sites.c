#include "sites.h"

#include <stdlib.h>

#include "families.h"

/* -- addresses -- */

bool ppx_addresses_intern(ppx_addresses *addresses, const char *text, size_t length, uint32_t *number) {
    uint64_t hash = ppx_hash_bytes(1, text, length);
    size_t probe = 0;
    uint32_t found;
    char *copy;
    while ((found = ppx_index_next(&addresses->index, hash, &probe))) {
        const ppx_address_entry *entry = &addresses->entries[found - 1];
        if (entry->length == length && (!length || memcmp(entry->text, text, length) == 0)) {
            *number = found - 1;
            return true;
        }
    }
    if (addresses->size >= PPX_MAX_ADDRESSES) return false;
    if (addresses->size == addresses->capacity &&
        !ppx_grow(&addresses->entries, &addresses->capacity, addresses->size + 1, sizeof *addresses->entries))
        return false;
    copy = malloc(length + 1);
    if (!copy) return false;
    if (length) memcpy(copy, text, length);
    copy[length] = 0;
    if (!ppx_index_add(&addresses->index, hash, (uint32_t)addresses->size + 1)) {
        free(copy);
        return false;
    }
    addresses->entries[addresses->size] = (ppx_address_entry){copy, length};
    *number = (uint32_t)addresses->size++;
    return true;
}

void ppx_addresses_free(ppx_addresses *addresses) {
    for (size_t i = 0; i < addresses->size; i++) free(addresses->entries[i].text);
    free(addresses->entries);
    free(addresses->index.slots);
}

/* -- signatures -- */

static bool sign_shape(ppx_words *out, const int32_t *shape, uint32_t dimensions) {
    if (!ppx_words_reserve(out, 1 + dimensions)) return false;
    out->data[out->size++] = dimensions + 1;
    for (uint32_t i = 0; i < dimensions; i++) out->data[out->size++] = (uint32_t)shape[i];
    return true;
}

static bool sign_distribution(ppx_words *out, const ppx_distribution *distribution) {
    if (!ppx_words_push(out, distribution->family)) return false;
    for (uint32_t i = 0; i < ppx_num_parameters(distribution->family); i++)
        if (!sign_shape(out, distribution->parameters[i].shape, distribution->parameters[i].dimensions)) return false;
    if (distribution->family != PPX_MIXTURE) return true;
    if (!ppx_words_push(out, distribution->num_components)) return false;
    for (uint32_t i = 0; i < distribution->num_components; i++)
        if (!sign_distribution(out, &distribution->components[i])) return false;
    return true;
}

static bool sign(ppx_words *out, const ppx_distribution *distribution, const ppx_tensor *value) {
    out->size = 0;
    if (value ? !sign_shape(out, value->shape, value->dimensions) : !ppx_words_push(out, 0)) return false;
    return distribution ? sign_distribution(out, distribution) : ppx_words_push(out, PPX_NO_FAMILY);
}

size_t ppx_count_parameters(const ppx_distribution *distribution, int depth) {
    size_t total = 0, size;
    if (distribution->family == PPX_MIXTURE && depth >= PPX_MAX_MIXTURES) return SIZE_MAX;
    for (uint32_t i = 0; i < ppx_num_parameters(distribution->family); i++) {
        size = ppx_tensor_size(&distribution->parameters[i]);
        if (size == SIZE_MAX) return SIZE_MAX;
        total += size;
    }
    if (distribution->family != PPX_MIXTURE) return total;
    if (distribution->num_components > PPX_MAX_COMPONENTS) return SIZE_MAX;
    for (uint32_t i = 0; i < distribution->num_components; i++) {
        size = ppx_count_parameters(&distribution->components[i], depth + 1);
        if (size == SIZE_MAX) return SIZE_MAX;
        total += size;
    }
    return total;
}

bool ppx_append_parameters(ppx_doubles *row, const ppx_distribution *distribution) {
    for (uint32_t i = 0; i < ppx_num_parameters(distribution->family); i++) {
        const ppx_tensor *parameter = &distribution->parameters[i];
        if (!ppx_doubles_append(row, parameter->data, ppx_tensor_size(parameter))) return false;
    }
    if (distribution->family == PPX_MIXTURE)
        for (uint32_t i = 0; i < distribution->num_components; i++)
            if (!ppx_append_parameters(row, &distribution->components[i])) return false;
    return true;
}

/* -- sites -- */

static bool same(const ppx_site *site, uint32_t kind, const ppx_statement *where, const ppx_words *signature) {
    return site->kind == kind && site->address == where->address && site->control == where->control &&
           site->name_length == where->name_length && memcmp(site->name, where->name, where->name_length) == 0 &&
           site->signature_length == signature->size &&
           memcmp(site->signature, signature->data, signature->size * sizeof(uint32_t)) == 0;
}

/* One allocation holds the signature and the name. */
static bool add(ppx_sites *sites, const ppx_site *site, const ppx_statement *where, uint64_t hash) {
    size_t words = sites->scratch.size * sizeof(uint32_t);
    unsigned char *block;
    ppx_site *entry;
    if (sites->size >= PPX_MAX_SITES) return false;
    if (sites->size == sites->capacity &&
        !ppx_grow(&sites->entries, &sites->capacity, sites->size + 1, sizeof *sites->entries))
        return false;
    block = malloc(words + where->name_length + 1);
    if (!block) return false;
    if (!ppx_index_add(&sites->index, hash, (uint32_t)sites->size + 1)) {
        free(block);
        return false;
    }
    memcpy(block, sites->scratch.data, words);
    memcpy(block + words, where->name, where->name_length);
    block[words + where->name_length] = 0;
    entry = &sites->entries[sites->size++];
    *entry = *site;
    entry->signature = (const uint32_t *)(void *)block;
    entry->signature_length = sites->scratch.size;
    entry->name = (char *)block + words;
    entry->name_length = where->name_length;
    return true;
}

uint32_t ppx_sites_intern(ppx_sites *sites, uint32_t kind, const ppx_statement *where,
                          const ppx_distribution *distribution, const ppx_tensor *value) {
    static const ppx_statement nowhere = {0, true, "", 0};
    ppx_statement place = where ? *where : nowhere;
    uint64_t hash;
    size_t probe = 0;
    uint32_t number;
    ppx_site site;
    if (kind != PPX_SITE_SAMPLE) place.control = true;
    if (!place.name_length) place.name = "";
    if (!sign(&sites->scratch, distribution, value)) return 0;
    hash = ppx_mix((uint64_t)place.address << 8 | kind << 1 | place.control, 0x517E);
    hash = ppx_hash_bytes(hash, place.name, place.name_length);
    hash = ppx_hash_bytes(hash, sites->scratch.data, sites->scratch.size * sizeof(uint32_t));
    while ((number = ppx_index_next(&sites->index, hash, &probe)))
        if (same(ppx_sites_get(sites, number), kind, &place, &sites->scratch)) return number;
    site = (ppx_site){.kind = kind, .address = place.address, .control = place.control};
    site.num_values = value ? ppx_tensor_size(value) : 0;
    site.num_parameters = distribution ? ppx_count_parameters(distribution, 0) : 0;
    return add(sites, &site, &place, hash) ? (uint32_t)sites->size : 0;
}

/* Steps over a signature's distribution: its families are compared, its shapes are not. */
static bool same_families(const uint32_t **one, const uint32_t **other) {
    uint32_t family = *(*one)++, components;
    if (family != *(*other)++) return false;
    for (uint32_t i = 0; i < ppx_num_parameters(family); i++) {
        *one += **one; /* dimensions + 1, and so many words in all */
        *other += **other;
    }
    if (family != PPX_MIXTURE) return true;
    components = *(*one)++;
    if (components != *(*other)++) return false;
    while (components--)
        if (!same_families(one, other)) return false;
    return true;
}

bool ppx_sites_alike(const ppx_site *one, const ppx_site *other) {
    const uint32_t *left = ppx_signed_distribution(one), *right = ppx_signed_distribution(other);
    size_t words = (size_t)(left - one->signature);
    return words == (size_t)(right - other->signature) &&
           memcmp(one->signature, other->signature, words * sizeof *left) == 0 && same_families(&left, &right);
}

void ppx_sites_clear(ppx_sites *sites) {
    for (size_t i = 0; i < sites->size; i++) free((void *)(uintptr_t)sites->entries[i].signature);
    sites->size = 0;
    ppx_index_clear(&sites->index);
}

void ppx_sites_free(ppx_sites *sites) {
    ppx_sites_clear(sites);
    free(sites->entries);
    free(sites->index.slots);
    free(sites->scratch.data);
}
