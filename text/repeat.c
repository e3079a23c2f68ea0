#include "text/repeat.h"

#include <stdlib.h>

#define SLOTS 4096 // of the table of n-grams; a power of two, over twice the window
#define RING  2048 // ids kept: a power of two, over the window and the longest period

struct repeat {
    int32_t ids[RING];
    int32_t same[REPEAT_MAX_PERIOD + 1]; // [p]: for how many tokens each has been that of p before
    uint64_t grams[REPEAT_WINDOW];       // those that end in the window, by place
    uint64_t keys[SLOTS];
    int32_t counts[SLOTS]; // of a key in the window
    int32_t distinct;
    int64_t n;
};

sight_err repeat_create(repeat **out)
{
    repeat *r = calloc(1, sizeof *r);
    if (!r) return sight_fail(SIGHT_E_MEMORY, "no memory for noticing repetitions");
    *out = r;
    return SIGHT_OK;
}

void repeat_destroy(repeat **r)
{
    free(*r);
    *r = NULL;
}

// ---- periods ----

static bool has_period(repeat *r)
{
    bool found = false;
    const int32_t id = r->ids[r->n % RING];
    for (int32_t p = 1; p <= REPEAT_MAX_PERIOD && p <= r->n; p++) {
        r->same[p] = id == r->ids[(r->n - p) % RING] ? r->same[p] + 1 : 0;
        const int32_t span = r->same[p] + p;
        if (span >= REPEAT_LEAST && span >= REPEAT_TIMES * p) found = true;
    }
    return found;
}

// ---- n-grams ----

static uint32_t slot_of(uint64_t key)
{
    return (uint32_t)(key >> 40) & (SLOTS - 1);
}

// Where a key is, or would go. Keys that fell out leave their place with a count of 0, so that others are still found.
static uint32_t find(const repeat *r, uint64_t key)
{
    uint32_t at = slot_of(key), free_at = SLOTS;
    for (uint32_t tries = 0; tries < SLOTS && r->keys[at]; tries++, at = (at + 1) & (SLOTS - 1)) {
        if (r->keys[at] == key) return at;
        if (r->counts[at] == 0 && free_at == SLOTS) free_at = at;
    }
    return free_at == SLOTS ? at : free_at;
}

static uint64_t last_gram(const repeat *r)
{
    uint64_t h = 0;
    for (int64_t i = r->n - REPEAT_GRAM + 1; i <= r->n; i++) {
        h = (h ^ (uint64_t)(uint32_t)r->ids[i % RING]) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return h | 1; // never 0, which marks an empty slot
}

static void add_gram(repeat *r, uint64_t key)
{
    const uint32_t at = find(r, key);
    r->keys[at] = key;
    if (r->counts[at]++ == 0) r->distinct++;
}

static void drop_gram(repeat *r, uint64_t key)
{
    if (--r->counts[find(r, key)] == 0) r->distinct--;
}

static bool has_few_grams(repeat *r)
{
    if (r->n < REPEAT_GRAM - 1) return false;
    const int64_t place = (r->n - REPEAT_GRAM + 1) % REPEAT_WINDOW;
    const bool full = r->n - REPEAT_GRAM + 1 >= REPEAT_WINDOW;
    if (full) drop_gram(r, r->grams[place]);
    r->grams[place] = last_gram(r);
    add_gram(r, r->grams[place]);
    return full && 100 * r->distinct < REPEAT_DISTINCT * REPEAT_WINDOW;
}

bool repeat_push(repeat *r, int32_t id)
{
    r->ids[r->n % RING] = id;
    const bool period = has_period(r), few = has_few_grams(r);
    r->n++;
    return period || few;
}
