#include "daemon/store/feature_store.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    uint8_t name[SIPHASH_BYTES], content[SIPHASH_BYTES];
    blob *rows;
    struct entry *next;            // of the same bucket
    struct entry *older, *younger; // by their last use
} entry;

#define BUCKETS 4096

struct feature_store {
    uint8_t key[SIPHASH_KEY_BYTES], scope[SIPHASH_BYTES];
    disk *disk; // NULL: none
    int64_t budget;
    pthread_mutex_t lock; // guards what follows
    int64_t bytes;
    int64_t hits, misses, dropped; // dropped: for room
    int64_t disk_hits, disk_misses;
    int32_t n;
    entry *oldest, *youngest;
    entry *buckets[BUCKETS];
};

sight_err feature_store_create(feature_store **out, const feature_options *o)
{
    feature_store *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory for a store of features");
    memcpy(s->key, o->key, sizeof s->key);
    memcpy(s->scope, o->scope, sizeof s->scope);
    s->budget = o->budget_bytes;
    s->disk = o->disk;
    pthread_mutex_init(&s->lock, NULL);
    *out = s;
    return SIGHT_OK;
}

// ---- the lists ----

static entry **bucket_of(feature_store *s, const uint8_t name[SIPHASH_BYTES])
{
    uint32_t h;
    memcpy(&h, name, sizeof h);
    return &s->buckets[h % BUCKETS];
}

static entry *look_up(const feature_store *s, const uint8_t name[SIPHASH_BYTES])
{
    entry *e = *bucket_of((feature_store *)s, name);
    while (e && memcmp(e->name, name, sizeof e->name)) e = e->next;
    return e;
}

static void take_out_of_row(feature_store *s, entry *e)
{
    *(e->older ? &e->older->younger : &s->oldest) = e->younger;
    *(e->younger ? &e->younger->older : &s->youngest) = e->older;
}

static void put_last_in_row(feature_store *s, entry *e)
{
    e->older = s->youngest;
    e->younger = NULL;
    *(s->youngest ? &s->youngest->younger : &s->oldest) = e;
    s->youngest = e;
}

static void drop(feature_store *s, entry *e)
{
    entry **at = bucket_of(s, e->name);
    while (*at != e) at = &(*at)->next;
    *at = e->next;
    take_out_of_row(s, e);
    s->bytes -= (int64_t)e->rows->size;
    s->n--;
    blob_unref(&e->rows);
    free(e);
}

void feature_store_destroy(feature_store **ps)
{
    feature_store *s = *ps;
    if (!s) return;
    while (s->oldest) drop(s, s->oldest);
    pthread_mutex_destroy(&s->lock);
    free(s);
    *ps = NULL;
}

// ---- names ----

void feature_store_name(const feature_store *s, uint8_t out[SIPHASH_BYTES], const feature_piece *p)
{
    const char *who = identity_name(p->who);
    const int32_t cut[] = {p->is_video, p->width, p->height, p->n_pairs, p->n_frames};
    siphash h;
    siphash_init(&h, s->key);
    siphash_add(&h, s->scope, sizeof s->scope);
    siphash_add(&h, who, strlen(who) + 1);
    siphash_add(&h, p->content, SIPHASH_BYTES);
    siphash_add(&h, cut, sizeof cut);
    if (p->n_frames) siphash_add(&h, p->frames, (size_t)p->n_frames * sizeof *p->frames);
    siphash_finish(&h, out);
}

// ---- finding and keeping ----

bool feature_store_has(feature_store *s, const uint8_t name[SIPHASH_BYTES])
{
    pthread_mutex_lock(&s->lock);
    const bool found = look_up(s, name) != NULL;
    pthread_mutex_unlock(&s->lock);
    return found || (s->disk && disk_has(s->disk, DISK_ROWS, name, NULL));
}

static disk_item item_of(const feature_store *s, const uint8_t name[SIPHASH_BYTES])
{
    disk_item item = {.kind = DISK_ROWS};
    memcpy(item.name, name, sizeof item.name);
    memcpy(item.scope, s->scope, sizeof item.scope);
    return item;
}

disk_load *feature_store_load(feature_store *s, const uint8_t name[SIPHASH_BYTES], int64_t bytes)
{
    const disk_item item = item_of(s, name);
    disk_load *l = s->disk ? disk_load_begin(s->disk, &item, bytes) : NULL;
    pthread_mutex_lock(&s->lock);
    if (l) s->disk_hits++;
    else s->disk_misses += s->disk != NULL;
    pthread_mutex_unlock(&s->lock);
    return l;
}

void feature_store_drop(feature_store *s, const uint8_t name[SIPHASH_BYTES])
{
    pthread_mutex_lock(&s->lock);
    entry *e = look_up(s, name);
    if (e) drop(s, e);
    pthread_mutex_unlock(&s->lock);
    if (s->disk) disk_forget(s->disk, DISK_ROWS, name);
}

blob *feature_store_find(feature_store *s, const uint8_t name[SIPHASH_BYTES])
{
    blob *found = NULL;
    pthread_mutex_lock(&s->lock);
    entry *e = look_up(s, name);
    *(e ? &s->hits : &s->misses) += 1;
    if (e) {
        take_out_of_row(s, e);
        put_last_in_row(s, e);
        found = blob_ref(e->rows);
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

bool feature_store_fits(const feature_store *s, int64_t bytes)
{
    return s->disk || bytes <= s->budget;
}

// With the lock, when it fits and is not there.
static void keep(feature_store *s, const uint8_t name[SIPHASH_BYTES], const uint8_t content[SIPHASH_BYTES], blob *rows)
{
    const int64_t bytes = (int64_t)rows->size;
    entry *e = calloc(1, sizeof *e);
    if (!e) return;
    for (; s->bytes + bytes > s->budget; s->dropped++) drop(s, s->oldest);
    memcpy(e->name, name, sizeof e->name);
    memcpy(e->content, content, sizeof e->content);
    e->rows = blob_ref(rows);
    entry **bucket = bucket_of(s, name);
    e->next = *bucket;
    *bucket = e;
    put_last_in_row(s, e);
    s->bytes += bytes;
    s->n++;
}

void feature_store_keep(feature_store *s, const uint8_t name[SIPHASH_BYTES],
                        const uint8_t content[SIPHASH_BYTES], blob *rows)
{
    if (s->disk) {
        const disk_item item = item_of(s, name);
        disk_put(s->disk, &item, rows);
    }
    pthread_mutex_lock(&s->lock);
    if ((int64_t)rows->size <= s->budget && !look_up(s, name)) keep(s, name, content, rows);
    pthread_mutex_unlock(&s->lock);
}

void feature_store_forget(feature_store *s, const uint8_t content[SIPHASH_BYTES])
{
    pthread_mutex_lock(&s->lock);
    for (entry *e = s->oldest, *next; e; e = next) {
        next = e->younger;
        if (!memcmp(e->content, content, sizeof e->content)) drop(s, e);
    }
    pthread_mutex_unlock(&s->lock);
}

feature_usage feature_store_usage(feature_store *s)
{
    pthread_mutex_lock(&s->lock);
    const feature_usage u = {s->n, s->bytes, s->budget, s->hits, s->misses, s->dropped, s->disk_hits, s->disk_misses};
    pthread_mutex_unlock(&s->lock);
    return u;
}
