#include "daemon/store/kept_pieces.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/memory.h"

void kept_pieces_init(kept_pieces *k, const task *t, feature_store *store)
{
    *k = (kept_pieces){.task = t, .store = store};
}

void kept_pieces_done(kept_pieces *k)
{
    disk_load_end(&k->asked);
    free(k->made);
    *k = (kept_pieces){0};
}

int32_t kept_pieces_pairs(const kept_pieces *k, int32_t media, int32_t pair)
{
    const task_media *m = &k->task->media[media];
    const int32_t n = feed_pairs(k->task, m);
    return n < m->plan.grid.t - pair ? n : m->plan.grid.t - pair;
}

static void name_piece(const kept_pieces *k, uint8_t out[SIPHASH_BYTES], int32_t media, int32_t pair)
{
    const task_media *m = &k->task->media[media];
    const int32_t n = kept_pieces_pairs(k, media, pair);
    feature_piece p = {.who = k->task->asked->who, .content = m->content, .is_video = m->is_video,
                       .width = m->plan.width, .height = m->plan.height, .n_pairs = n};
    if (m->is_video) {
        const int32_t first = 2 * pair, end = 2 * (pair + n);
        p.frames = m->indices + first;
        p.n_frames = (end < m->n_frames ? end : m->n_frames) - first;
    }
    feature_store_name(k->store, out, &p);
}

// ---- from the store ----

bool kept_pieces_has(const kept_pieces *k, int32_t media, int32_t pair)
{
    uint8_t name[SIPHASH_BYTES];
    if (!k->store) return false;
    name_piece(k, name, media, pair);
    return feature_store_has(k->store, name);
}

static int64_t rows_of(const kept_pieces *k, int32_t media, int32_t n_pairs)
{
    const vision_grid *g = &k->task->media[media].plan.grid;
    const int32_t merge = engine_config(k->task->model)->vision.merge;
    return (int64_t)n_pairs * g->h * g->w / (merge * merge);
}

static int64_t row_bytes(const features *f)
{
    return (1 + f->levels) * f->width * (int64_t)sizeof(float);
}

// From memory, else from disk.
static blob *fetch(kept_pieces *k, const task_media *m, const uint8_t name[SIPHASH_BYTES], int64_t bytes, bool *waits,
                   int wait_ms)
{
    blob *kept = feature_store_find(k->store, name);
    if (kept) return kept;
    if (!k->asked) k->asked = feature_store_load(k->store, name, bytes);
    if (!k->asked) return NULL;
    *waits = !disk_load_poll(k->asked, wait_ms, &kept);
    if (*waits) return NULL;
    disk_load_end(&k->asked);
    if (kept && (int64_t)kept->size == bytes) feature_store_keep(k->store, name, m->content, kept);
    else feature_store_drop(k->store, name);
    return kept;
}

int32_t kept_pieces_take(kept_pieces *k, int32_t media, int32_t pair, features *f, bool *waits, int wait_ms)
{
    uint8_t name[SIPHASH_BYTES];
    const int32_t pairs = kept_pieces_pairs(k, media, pair);
    const int64_t n = rows_of(k, media, pairs);
    *waits = false;
    if (!k->store) return 0;
    name_piece(k, name, media, pair);
    blob *kept = fetch(k, &k->task->media[media], name, n * row_bytes(f), waits, wait_ms);
    if (!kept) return 0;
    float *rows, *deepstack[CONFIG_MAX_DEEPSTACK];
    const size_t level = (size_t)(n * f->width) * sizeof *rows;
    const bool good = (int64_t)kept->size == n * row_bytes(f) && !features_reserve(f, &rows, deepstack, n);
    for (int32_t i = 0; good && i <= f->levels; i++) {
        kernels_write(f->k, i ? deepstack[i - 1] : rows, kept->data + (size_t)i * level, level);
    }
    blob_unref(&kept);
    if (!good) return 0;
    features_added(f, n);
    k->rows_taken += n;
    return pairs;
}

feed_range kept_pieces_missing(const kept_pieces *k, int32_t media, int32_t pair)
{
    const task *t = k->task;
    feed_range r = {media, pair, t->asked->n_media, 0};
    while (k->store && media < t->asked->n_media) {
        pair += kept_pieces_pairs(k, media, pair);
        if (pair == t->media[media].plan.grid.t) {
            media++;
            pair = 0;
        }
        if (media == t->asked->n_media) break;
        if (!kept_pieces_has(k, media, pair)) continue;
        r.end_media = media;
        r.end_pair = pair;
        break;
    }
    return r;
}

// ---- to the store ----

static blob *copy_out(const features *f, const made_piece *p)
{
    const size_t level = (size_t)(p->n * f->width) * sizeof *f->rows;
    const int64_t from = (p->row - f->first) * f->width;
    blob *b = blob_create((size_t)(p->n * row_bytes(f)));
    for (int32_t i = 0; b && i <= f->levels; i++) {
        const float *rows = (i ? f->deepstack[i - 1] : f->rows) + from;
        if (kernels_read(f->k, b->data + (size_t)i * level, rows, level)) blob_unref(&b);
    }
    return b;
}

static void save(kept_pieces *k, const features *f, const made_piece *p)
{
    uint8_t name[SIPHASH_BYTES];
    if (p->row < f->first || p->row + p->n > f->first + f->n) return; // gone already
    name_piece(k, name, p->media, p->pair);
    if (feature_store_has(k->store, name) || !feature_store_fits(k->store, p->n * row_bytes(f))) return;
    blob *rows = copy_out(f, p);
    if (rows) feature_store_keep(k->store, name, k->task->media[p->media].content, rows);
    blob_unref(&rows);
}

void kept_pieces_made(kept_pieces *k, const made_piece *p, const features *f)
{
    if (!k->store) return;
    if (!kernels_on_device(f->k)) {
        save(k, f, p);
        return;
    }
    if (k->n_made == k->capacity) {
        const int32_t capacity = k->capacity ? 2 * k->capacity : 8;
        made_piece *made = realloc(k->made, (size_t)capacity * sizeof *made);
        if (!made) return;
        k->made = made;
        k->capacity = capacity;
    }
    k->made[k->n_made++] = *p;
}

void kept_pieces_save(kept_pieces *k, const features *f, int64_t before)
{
    int32_t n = 0;
    while (n < k->n_made && k->made[n].row < before) save(k, f, &k->made[n++]);
    k->n_made -= n;
    if (n) memmove(k->made, k->made + n, (size_t)k->n_made * sizeof *k->made);
}

void kept_pieces_forget(kept_pieces *k)
{
    k->n_made = 0;
    for (int32_t i = 0; k->store && i < k->task->asked->n_media; i++) {
        const task_media *m = &k->task->media[i];
        feature_store_forget(k->store, m->content);
        for (int32_t pair = 0; pair < m->plan.grid.t; pair += kept_pieces_pairs(k, i, pair)) {
            uint8_t name[SIPHASH_BYTES];
            name_piece(k, name, i, pair);
            feature_store_drop(k->store, name);
        }
    }
}
