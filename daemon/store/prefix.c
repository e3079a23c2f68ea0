#include "daemon/store/prefix.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

// A past of a model with states costs MiBs; of one without, hardly more than this entry.
#define MAX_PASTS 65536

typedef struct past {
    uint8_t name[SIPHASH_BYTES];
    sequence *seq;
    int32_t n; // tokens read
    uint8_t (*media)[SIPHASH_BYTES]; // [n_media] hashes of those that begin before n
    int32_t n_media;
    struct past *next;           // of the same bucket
    struct past *older, *younger; // by their last use
} past;

struct prefix_store {
    cache_pool *pool;
    uint8_t key[SIPHASH_KEY_BYTES], scope[SIPHASH_BYTES];
    int64_t pool_bytes, budget, promised;
    int64_t hits, misses, dropped; // dropped: for room
    int64_t bytes;
    pthread_mutex_t lock; // held by the engine's thread to change what follows, by others to read it
    past **buckets; // [n_buckets], a power of two; by name
    int32_t n_buckets, n;
    past *oldest, *youngest;
    int32_t *with_length; // [n_lengths] how many pasts there are of each length
    int32_t n_lengths;
    prefix_disk *disk; // NULL: none
};

sight_err prefix_store_create(prefix_store **out, const prefix_options *o)
{
    prefix_store *s = calloc(1, sizeof *s);
    if (s) s->buckets = calloc(s->n_buckets = 256, sizeof *s->buckets);
    if (!s || !s->buckets) {
        free(s);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a store of prompts");
    }
    pthread_mutex_init(&s->lock, NULL);
    if (o->disk) memcpy(s->key, disk_key(o->disk), sizeof s->key);
    else if (o->key) memcpy(s->key, o->key, sizeof s->key);
    else if (getrandom(s->key, sizeof s->key, 0) != sizeof s->key) {
        prefix_store_destroy(&s);
        return sight_fail(SIGHT_E_INTERNAL, "the system gives no random numbers");
    }
    if (o->scope) memcpy(s->scope, o->scope, sizeof s->scope);
    s->pool = o->pool;
    s->pool_bytes = o->pool_bytes;
    s->budget = o->budget_bytes;
    sight_err err = o->disk ? prefix_disk_create(&s->disk, o->disk, o->pool, s->scope) : SIGHT_OK;
    if (err) prefix_store_destroy(&s);
    else *out = s;
    return err;
}

static void past_free(past *p)
{
    sequence_drop(&p->seq);
    free(p->media);
    free(p);
}

void prefix_store_destroy(prefix_store **ps)
{
    prefix_store *s = *ps;
    if (!s) return;
    if (s->disk) prefix_disk_work(s->disk, 0);
    for (past *p = s->oldest, *next; p; p = next) {
        next = p->younger;
        past_free(p);
    }
    prefix_disk_destroy(&s->disk);
    pthread_mutex_destroy(&s->lock);
    free(s->buckets);
    free(s->with_length);
    free(s);
    *ps = NULL;
}

const uint8_t *prefix_store_key(const prefix_store *s)
{
    return s->key;
}

// ---- the lists ----

static past **bucket_of(const prefix_store *s, const uint8_t name[SIPHASH_BYTES])
{
    uint32_t h;
    memcpy(&h, name, sizeof h);
    return &s->buckets[h & (uint32_t)(s->n_buckets - 1)];
}

static past *look_up(const prefix_store *s, const uint8_t name[SIPHASH_BYTES])
{
    past *p = *bucket_of(s, name);
    while (p && memcmp(p->name, name, sizeof p->name)) p = p->next;
    return p;
}

static void take_out_of_bucket(prefix_store *s, past *p)
{
    past **at = bucket_of(s, p->name);
    while (*at != p) at = &(*at)->next;
    *at = p->next;
}

static void put_into_bucket(prefix_store *s, past *p)
{
    past **at = bucket_of(s, p->name);
    p->next = *at;
    *at = p;
}

// Without memory for more buckets they just become longer.
static void grow_buckets(prefix_store *s)
{
    if (s->n < s->n_buckets) return;
    past **buckets = calloc((size_t)s->n_buckets * 2, sizeof *buckets);
    if (!buckets) return;
    free(s->buckets);
    s->buckets = buckets;
    s->n_buckets *= 2;
    for (past *p = s->oldest; p; p = p->younger) put_into_bucket(s, p);
}

static void take_out_of_row(prefix_store *s, past *p)
{
    *(p->older ? &p->older->younger : &s->oldest) = p->younger;
    *(p->younger ? &p->younger->older : &s->youngest) = p->older;
}

static void put_last_in_row(prefix_store *s, past *p)
{
    p->older = s->youngest;
    p->younger = NULL;
    *(s->youngest ? &s->youngest->younger : &s->oldest) = p;
    s->youngest = p;
}

static void use(prefix_store *s, past *p)
{
    take_out_of_row(s, p);
    put_last_in_row(s, p);
}

static bool grow_lengths(prefix_store *s, int32_t n)
{
    if (n < s->n_lengths) return true;
    const int32_t more = n + 1 + n / 2;
    int32_t *grown = realloc(s->with_length, (size_t)more * sizeof *grown);
    if (!grown) return false;
    memset(grown + s->n_lengths, 0, (size_t)(more - s->n_lengths) * sizeof *grown);
    s->with_length = grown;
    s->n_lengths = more;
    return true;
}

// ---- memory ----

static void drop(prefix_store *s, past *p)
{
    pthread_mutex_lock(&s->lock);
    take_out_of_bucket(s, p);
    s->with_length[p->n]--;
    s->n--;
    pthread_mutex_unlock(&s->lock);
    take_out_of_row(s, p);
    s->bytes -= sequence_unkeep(p->seq);
    if (s->disk) prefix_disk_let_go(s->disk, p->seq);
    past_free(p);
}

static int64_t room(const prefix_store *s)
{
    const int64_t left = s->pool_bytes - s->promised;
    return left < s->budget ? left : s->budget;
}

static void make_room(prefix_store *s)
{
    for (; s->n && s->bytes > room(s); s->dropped++) drop(s, s->oldest);
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

// With the lock, or on the engine's thread.
static past *longest(const prefix_store *s, const prefix_prompt *q)
{
    past *best = NULL;
    prefix_names names;
    prefix_names_init(&names, s->key, s->scope, q);
    for (int32_t n = 1; n < q->n && n < s->n_lengths; n++) {
        uint8_t name[SIPHASH_BYTES];
        if (!s->with_length[n]) continue;
        prefix_names_at(&names, name, n);
        past *p = look_up(s, name);
        if (p) best = p;
    }
    return best;
}

int32_t prefix_store_longest(prefix_store *s, const prefix_prompt *q)
{
    pthread_mutex_lock(&s->lock);
    const past *p = longest(s, q);
    const int32_t n = p ? p->n : 0;
    pthread_mutex_unlock(&s->lock);
    return n;
}

sight_err prefix_store_find(prefix_store *s, sequence **out, const prefix_prompt *q)
{
    past *best = longest(s, q);
    *out = NULL;
    *(best ? &s->hits : &s->misses) += 1;
    if (!best) return SIGHT_OK;
    use(s, best);
    return sequence_fork(out, best->seq);
}

// ---- keeping ----

static past *past_create(const sequence *seq, const prefix_prompt *q,
                         const uint8_t name[SIPHASH_BYTES])
{
    past *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->n = (int32_t)sequence_length(seq);
    memcpy(p->name, name, sizeof p->name);
    while (p->n_media < q->n_media && q->media[p->n_media].first < p->n) p->n_media++;
    p->media = malloc((size_t)(p->n_media + 1) * sizeof *p->media);
    if (!p->media || sequence_fork(&p->seq, seq)) {
        past_free(p);
        return NULL;
    }
    for (int32_t i = 0; i < p->n_media; i++) {
        memcpy(p->media[i], q->media[i].hash, sizeof p->media[i]);
    }
    return p;
}

// False when there is no memory for it.
static bool enter(prefix_store *s, past *p)
{
    pthread_mutex_lock(&s->lock);
    const bool good = grow_lengths(s, p->n);
    if (good) {
        grow_buckets(s);
        put_into_bucket(s, p);
        s->with_length[p->n]++;
        s->n++;
    }
    pthread_mutex_unlock(&s->lock);
    return good;
}

void prefix_store_keep(prefix_store *s, const sequence *seq, const prefix_prompt *q)
{
    const int64_t n = sequence_length(seq);
    if (n < 1 || n > q->n || cache_bytes(s->pool, n) > room(s)) return;
    prefix_names names;
    uint8_t name[SIPHASH_BYTES];
    prefix_names_init(&names, s->key, s->scope, q);
    prefix_names_at(&names, name, (int32_t)n);
    past *p = look_up(s, name);
    if (p) {
        use(s, p);
        return;
    }
    if (!(p = past_create(seq, q, name))) return;
    if (s->n == MAX_PASTS) drop(s, s->oldest);
    if (!enter(s, p)) {
        past_free(p);
        return;
    }
    put_last_in_row(s, p);
    s->bytes += sequence_keep(p->seq);
    if (s->disk) prefix_disk_save(s->disk, p->seq, q);
    make_room(s);
}

void prefix_store_forget(prefix_store *s, const uint8_t hash[SIPHASH_BYTES])
{
    for (past *p = s->oldest, *next; p; p = next) {
        bool read = false;
        next = p->younger;
        for (int32_t i = 0; i < p->n_media && !read; i++) {
            read = !memcmp(p->media[i], hash, SIPHASH_BYTES);
        }
        if (read && s->disk) prefix_disk_forget(s->disk, p->name);
        if (read) drop(s, p);
    }
}

prefix_disk *prefix_store_disk(const prefix_store *s)
{
    return s->disk;
}

void prefix_store_work(prefix_store *s, int64_t bytes)
{
    if (s && s->disk) prefix_disk_work(s->disk, bytes);
}

prefix_usage prefix_store_usage(const prefix_store *s)
{
    return (prefix_usage){s->n, s->bytes, s->budget, s->promised, s->hits, s->misses, s->dropped};
}
