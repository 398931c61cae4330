/* The tables that turn statements into numbers: addresses (for the life of a session) and sites (for that of a
 * connection; PROTOCOL.md, section 7). */

#ifndef PPX_SITES_H
#define PPX_SITES_H

#include "memory.h"
#include "ppx.h"

enum {
    PPX_SITE_SAMPLE,
    PPX_SITE_OBSERVE,
    PPX_SITE_TAG,
    PPX_SITE_FACTOR,
    PPX_SITE_RESULT,
    PPX_SITE_SCOPE_BEGIN,
    PPX_SITE_SCOPE_REJECT,
    PPX_SITE_SCOPE_END
};

#define PPX_MAX_SITES     1048576
#define PPX_MAX_ADDRESSES (4 * PPX_MAX_SITES) /* which outlive connections */

typedef struct {
    char *text;
    size_t length;
} ppx_address_entry;

typedef struct {
    ppx_address_entry *entries; /* by number; 0 is the empty address */
    size_t size, capacity;
    ppx_index index; /* of number + 1 */
} ppx_addresses;

/* What no number of a statement changes. `signature` is the words that ppx_sign writes: value shape, then
 * distribution. */
typedef struct {
    uint32_t kind, address;
    bool control;
    char *name;
    size_t name_length;
    const uint32_t *signature;
    size_t signature_length;
    size_t num_values, num_parameters;
} ppx_site;

typedef struct {
    ppx_site *entries; /* site n is entries[n - 1] */
    size_t size, capacity;
    ppx_index index;
    ppx_words scratch;
} ppx_sites;

bool ppx_addresses_intern(ppx_addresses *addresses, const char *text, size_t length, uint32_t *number);
static inline const ppx_address_entry *ppx_addresses_get(const ppx_addresses *addresses, uint32_t number) {
    return &addresses->entries[number];
}

void ppx_addresses_free(ppx_addresses *addresses);

/* The number of the site, a new one if it was never met; 0 if a limit is passed. `where` may be NULL (no address, no
 * name), `distribution` too; `value` NULL: no value in the row. Shapes must have been checked. */
uint32_t ppx_sites_intern(ppx_sites *sites, uint32_t kind, const ppx_statement *where,
                          const ppx_distribution *distribution, const ppx_tensor *value);
void ppx_sites_clear(ppx_sites *sites);
void ppx_sites_free(ppx_sites *sites);

/* Whether a value of one may stand for the other: the same shape of value and the same families (PROTOCOL.md,
 * section 8). */
bool ppx_sites_alike(const ppx_site *one, const ppx_site *other);

static inline const ppx_site *ppx_sites_get(const ppx_sites *sites, uint32_t number) {
    return &sites->entries[number - 1];
}

/* A signature begins with 0 (no value) or dimensions + 1 and the dimensions; then the distribution: its family, for
 * each parameter its dimensions, of a mixture the number of components and these. What begins at the distribution: */
static inline const uint32_t *ppx_signed_distribution(const ppx_site *site) {
    return site->signature + 1 + (site->signature[0] ? site->signature[0] - 1 : 0);
}

/* How many numbers the distribution has; SIZE_MAX if a shape or the nesting is out of bounds. */
size_t ppx_count_parameters(const ppx_distribution *distribution, int depth);

/* Appends them, in the order of the wire. */
bool ppx_append_parameters(ppx_doubles *row, const ppx_distribution *distribution);

#endif
