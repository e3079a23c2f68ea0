#include "daemon/prefix.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

// A past costs at least its states, MiBs for any model of size; more than this many short ones
// would only be slow to look through.
#define MAX_PASTS 256

typedef struct past {
    sequence *seq;
    int32_t n; // tokens read
    int32_t *ids;
    prefix_medium *media; // those that begin before n
    int32_t n_media;
    int64_t used; // when last, by the store's count
    int64_t own_bytes; // its states, and pages that no past before it in the list has
} past;

struct prefix_store {
    cache_pool *pool;
    uint8_t key[SIPHASH_KEY_BYTES];
    int64_t pool_bytes, budget, promised;
    int64_t now; // counts uses
    int64_t bytes;
    past pasts[MAX_PASTS];
    int32_t n;
};

sight_err prefix_store_create(prefix_store **out, cache_pool *pool, int64_t pool_bytes,
                              int64_t budget_bytes)
{
    prefix_store *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory for a store of prompts");
    if (getrandom(s->key, sizeof s->key, 0) != sizeof s->key) {
        free(s);
        return sight_fail(SIGHT_E_INTERNAL, "the system gives no random numbers");
    }
    s->pool = pool;
    s->pool_bytes = pool_bytes;
    s->budget = budget_bytes;
    *out = s;
    return SIGHT_OK;
}

static void past_done(past *p)
{
    sequence_drop(&p->seq);
    free(p->ids);
    free(p->media);
}

void prefix_store_destroy(prefix_store **ps)
{
    prefix_store *s = *ps;
    if (!s) return;
    for (int32_t i = 0; i < s->n; i++) past_done(&s->pasts[i]);
    free(s);
    *ps = NULL;
}

const uint8_t *prefix_store_key(const prefix_store *s)
{
    return s->key;
}

// ---- memory ----

// Pages are shared from the first token on, so a past's own pages are those past the longest run
// that it shares with one before it.
static void count_bytes(prefix_store *s)
{
    const int64_t states = cache_bytes(s->pool, 0);
    s->bytes = 0;
    for (int32_t i = 0; i < s->n; i++) {
        past *p = &s->pasts[i];
        int64_t shared = 0;
        for (int32_t j = 0; j < i; j++) {
            const int64_t rows = sequence_shared_rows(p->seq, s->pasts[j].seq);
            if (rows > shared) shared = rows;
        }
        p->own_bytes = cache_bytes(s->pool, p->n) - (cache_bytes(s->pool, shared) - states);
        s->bytes += p->own_bytes;
    }
}

static void drop(prefix_store *s, int32_t i)
{
    past_done(&s->pasts[i]);
    memmove(s->pasts + i, s->pasts + i + 1, (size_t)(--s->n - i) * sizeof *s->pasts);
}

static void drop_oldest(prefix_store *s)
{
    int32_t oldest = 0;
    for (int32_t i = 1; i < s->n; i++) {
        if (s->pasts[i].used < s->pasts[oldest].used) oldest = i;
    }
    drop(s, oldest);
}

static int64_t room(const prefix_store *s)
{
    const int64_t left = s->pool_bytes - s->promised;
    return left < s->budget ? left : s->budget;
}

static void make_room(prefix_store *s)
{
    count_bytes(s);
    while (s->n && s->bytes > room(s)) {
        drop_oldest(s);
        count_bytes(s);
    }
}

void prefix_store_promise(prefix_store *s, int64_t bytes)
{
    s->promised += bytes;
    make_room(s);
}

void prefix_store_release(prefix_store *s, int64_t bytes)
{
    s->promised -= bytes;
}

// ---- finding ----

static bool same_media(const past *p, const prefix_prompt *q)
{
    int32_t before = 0; // media of the prompt that begin within the past
    while (before < q->n_media && q->media[before].first < p->n) before++;
    if (before != p->n_media) return false;
    for (int32_t i = 0; i < before; i++) {
        const prefix_medium *a = &p->media[i], *b = &q->media[i];
        if (a->first != b->first || a->end != b->end ||
            memcmp(a->hash, b->hash, sizeof a->hash)) {
            return false;
        }
    }
    return true;
}

static bool begins_with(const prefix_prompt *q, const past *p)
{
    return p->n <= q->n && !memcmp(p->ids, q->ids, (size_t)p->n * sizeof *p->ids) &&
           same_media(p, q);
}

sight_err prefix_store_find(prefix_store *s, sequence **out, const prefix_prompt *q)
{
    past *best = NULL;
    *out = NULL;
    for (int32_t i = 0; i < s->n; i++) {
        past *p = &s->pasts[i];
        if (p->n < q->n && (!best || p->n > best->n) && begins_with(q, p)) best = p;
    }
    if (!best) return SIGHT_OK;
    best->used = ++s->now;
    return sequence_fork(out, best->seq);
}

// ---- keeping ----

static sight_err past_init(past *p, const sequence *seq, const prefix_prompt *q)
{
    const int32_t n = (int32_t)sequence_length(seq);
    int32_t n_media = 0;
    while (n_media < q->n_media && q->media[n_media].first < n) n_media++;
    *p = (past){.n = n, .n_media = n_media};
    p->ids = malloc((size_t)n * sizeof *p->ids);
    p->media = malloc((size_t)(n_media + 1) * sizeof *p->media);
    sight_err err = p->ids && p->media ? sequence_fork(&p->seq, seq) : SIGHT_E_MEMORY;
    if (err) {
        past_done(p);
        return err;
    }
    memcpy(p->ids, q->ids, (size_t)n * sizeof *p->ids);
    if (n_media) memcpy(p->media, q->media, (size_t)n_media * sizeof *p->media);
    return SIGHT_OK;
}

void prefix_store_keep(prefix_store *s, const sequence *seq, const prefix_prompt *q)
{
    const int64_t n = sequence_length(seq);
    if (n < 1 || n > q->n || cache_bytes(s->pool, n) > room(s)) return;
    for (int32_t i = 0; i < s->n; i++) {
        if (s->pasts[i].n != n || !begins_with(q, &s->pasts[i])) continue;
        s->pasts[i].used = ++s->now;
        return;
    }
    if (s->n == MAX_PASTS) drop_oldest(s);
    past *p = &s->pasts[s->n];
    if (past_init(p, seq, q)) return;
    p->used = ++s->now;
    s->n++;
    make_room(s);
}

void prefix_store_forget(prefix_store *s, const uint8_t hash[SIPHASH_BYTES])
{
    for (int32_t i = s->n - 1; i >= 0; i--) {
        bool read = false;
        for (int32_t j = 0; j < s->pasts[i].n_media && !read; j++) {
            read = !memcmp(s->pasts[i].media[j].hash, hash, SIPHASH_BYTES);
        }
        if (read) drop(s, i);
    }
    count_bytes(s);
}

prefix_usage prefix_store_usage(const prefix_store *s)
{
    return (prefix_usage){s->n, s->bytes, s->budget};
}
