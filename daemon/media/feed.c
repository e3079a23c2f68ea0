#include "daemon/media/feed.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "daemon/media/feed_frames.h"
#include "daemon/media/task_media.h"
#include "decoder/image.h"
#include "kernels/memory.h"

// Small frames are encoded several pairs at a time, so that products have rows enough; a GPU's take more.
#define PIECE_PATCHES  1024
#define DEVICE_PATCHES 8192
#define MAX_WARNINGS  8

struct feed {
    const task *task;
    feed_range range;
    const uint8_t *key;              // of hashes; NULL: none
    const atomic_bool *cancel;
    atomic_bool stop;
    atomic_bool tainted;
    atomic_int frames;
    pthread_t thread;
    bool started;

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t changed;
    feed_piece waiting; // n_pairs 0: none
    bool over;          // no more pieces; err says how it ended
    sight_err err;
    char line[1024];
    char *warnings[MAX_WARNINGS];
    int n_warnings;

    // The decoder thread's own: the piece being filled.
    feed_piece filling; // patches NULL: its first frame says where they lie
    int32_t pair_count; // pairs complete in it
    frame *held;        // first frame of an unfinished pair
    frames *gpu;        // of the clip under way; NULL: the CPU's way
    bool gpu_shaped;    // it was shown a frame
    double waited_s;    // for the consumer to take pieces
    frames **made;      // [n_media] all of them, until the feed is closed
};

int32_t feed_pairs(const task *t, const task_media *m)
{
    const vision_grid *g = &m->plan.grid;
    const bool on_gpu = kernels_on_device(engine_kernels(t->model));
    int64_t pairs = (on_gpu ? DEVICE_PATCHES : PIECE_PATCHES) / ((int64_t)g->h * g->w);
    if (pairs < 1) pairs = 1;
    return pairs > g->t ? g->t : (int32_t)pairs;
}

void feed_piece_done(feed_piece *p, kernels *k)
{
    if (p->owner) frames_give(p->owner, p->patches, k);
    else free(p->patches);
    *p = (feed_piece){0};
}

// ---- decoder thread ----

static bool stopped(const feed *f)
{
    return atomic_load(&f->stop) || atomic_load(f->cancel);
}

// For the decoder, between its packets and while it is waited for.
static bool is_stopped(void *arg)
{
    return stopped(arg);
}

static const model_config *config_of(const feed *f)
{
    return engine_config(f->task->model);
}

static int64_t pair_floats(const feed *f, const task_media *m)
{
    return (int64_t)m->plan.grid.h * m->plan.grid.w * preprocess_row_size(&config_of(f)->vision);
}

// Where the pairs of a medium end that are wanted.
static int32_t pairs_end(const feed *f, int32_t media)
{
    const bool cut = media == f->range.end_media && f->range.end_pair;
    return cut ? f->range.end_pair : f->task->media[media].plan.grid.t;
}

static void begin_piece(feed *f, int32_t media, int32_t first_pair)
{
    const task_media *m = &f->task->media[media];
    int32_t n = feed_pairs(f->task, m);
    if (n > pairs_end(f, media) - first_pair) n = pairs_end(f, media) - first_pair;
    f->filling = (feed_piece){.media = media, .first_pair = first_pair, .n_pairs = n};
    f->pair_count = 0;
}

// Memory for the filling piece, which has none yet: the GPU's while it has a part in the clip.
static sight_err place_piece(feed *f)
{
    feed_piece *p = &f->filling;
    const task_media *m = &f->task->media[p->media];
    const int64_t n = p->n_pairs * pair_floats(f, m);
    if (p->patches) return SIGHT_OK;
    if (f->gpu && frames_take(f->gpu, &p->patches, n)) f->gpu = NULL; // it has no memory: this machine does
    p->owner = f->gpu;
    if (!p->patches) p->patches = malloc((size_t)n * sizeof *p->patches);
    return p->patches ? SIGHT_OK
                      : sight_fail(SIGHT_E_MEMORY, "no memory for the patches of '%s'", m->asked->name);
}

// Where the pair being filled begins.
static float *pair_rows(const feed *f)
{
    const task_media *m = &f->task->media[f->filling.media];
    return f->filling.patches + f->pair_count * pair_floats(f, m);
}

// Puts the filled piece where the consumer takes it, once the one before is taken.
static sight_err hand_over(feed *f)
{
    const double since = clock_now_s();
    pthread_mutex_lock(&f->mutex);
    while (f->waiting.n_pairs && !atomic_load(&f->stop)) {
        pthread_cond_wait(&f->changed, &f->mutex);
    }
    f->waited_s += clock_now_s() - since;
    const bool gone = f->waiting.n_pairs != 0;
    if (!gone) {
        f->waiting = f->filling;
        f->filling = (feed_piece){0};
        pthread_cond_broadcast(&f->changed);
    }
    pthread_mutex_unlock(&f->mutex);
    return gone ? sight_fail(SIGHT_E_CANCELLED, "decoding was stopped") : SIGHT_OK;
}

static sight_err end_pair(feed *f)
{
    const int32_t media = f->filling.media;
    if (++f->pair_count < f->filling.n_pairs) return SIGHT_OK;
    const int32_t next = f->filling.first_pair + f->pair_count;
    sight_err err = hand_over(f);
    if (!err && next < pairs_end(f, media)) begin_piece(f, media, next);
    return err;
}

static void preprocess(const feed *f, float *rows, const frame *a, const frame *b)
{
    const task_media *m = &f->task->media[f->filling.media];
    const model_config *c = config_of(f);
    const double *mean = m->is_video ? c->video.mean : c->image.mean;
    const double *std = m->is_video ? c->video.std : c->image.std;
    preprocess_pair(rows, a, b, &m->plan, &c->vision, mean, std);
}

static sight_err add_pair(feed *f, const frame *a, const frame *b)
{
    preprocess(f, pair_rows(f), a, b);
    return end_pair(f);
}

static sight_err decode_image(feed *f, const task_media *m)
{
    frame *sized = NULL;
    image_info source;
    const char *name = m->asked->path ? m->asked->path : m->asked->name;
    image_limits limits = task_media_image_limits(m, f->cancel);
    limits.stop = is_stopped;
    limits.stop_arg = f;
    const void *bytes;
    size_t size;
    char *owned;
    sight_err err = task_media_read(m, &bytes, &size, &owned);
    if (err) return err;
    err = image_read(&sized, &source, bytes, size, name, m->plan.width, m->plan.height, &limits);
    const bool same = err || task_media_same_picture(m, bytes, size, f->key);
    free(owned);
    if (!same) {
        err = sight_fail(SIGHT_E_MEDIA, "'%s' changed while its request waited", name);
    }
    if (!err && (source.width != m->width || source.height != m->height)) {
        err = sight_fail(SIGHT_E_MEDIA, "'%s' changed while its request waited: it was %d x %d, "
                         "it is %d x %d", name, m->width, m->height, source.width, source.height);
    }
    if (!err) {
        atomic_fetch_add(&f->frames, 1);
        err = place_piece(f);
        if (!err) err = add_pair(f, sized, sized);
    }
    frame_unref(&sized);
    return err;
}

typedef struct clip_sink {
    feed *feed;
    int32_t media;
    int32_t first; // frame of the clip's chosen ones that comes first
} clip_sink;

static bool is_last(const clip_sink *s, int32_t i)
{
    return s->first + i == s->feed->task->media[s->media].n_frames - 1;
}

// Frames of a pair that frame i is: the last one of an odd number is its own partner.
static int slots_of(const clip_sink *s, int32_t i)
{
    return i % 2 == 0 && is_last(s, i) ? 2 : 1;
}

// A frame as decoded, where the piece lies on the GPU.
static sight_err take_raw(void *arg, int32_t i, const planes *p, bool *taken)
{
    const clip_sink *s = arg;
    feed *f = s->feed;
    if (stopped(f)) return sight_fail(SIGHT_E_CANCELLED, "decoding was stopped");
    if (f->gpu && !f->gpu_shaped && feed_frames_shape(f->gpu, &f->task->media[s->media], config_of(f), p)) {
        f->gpu = NULL;
    }
    f->gpu_shaped = true;
    sight_err err = place_piece(f);
    if (err || !f->filling.owner) return err;
    const int slots = slots_of(s, i);
    err = feed_frames_add(f->filling.owner, pair_rows(f), p, i % 2, slots);
    if (err == SIGHT_E_UNSUPPORTED || err == SIGHT_E_MEMORY) return SIGHT_OK; // this machine converts it
    *taken = !err;
    if (!err) atomic_fetch_add(&f->frames, 1);
    return err || i % 2 + slots < 2 ? err : end_pair(f);
}

// The same for one that this machine has converted.
static sight_err upload(const clip_sink *s, int32_t i, const frame *fr)
{
    feed *f = s->feed;
    const task_media *m = &f->task->media[s->media];
    const int64_t patches = (int64_t)m->plan.grid.h * m->plan.grid.w;
    const int slots = slots_of(s, i);
    float *rows = malloc((size_t)pair_floats(f, m) * sizeof *rows);
    if (!rows) return sight_fail(SIGHT_E_MEMORY, "no memory for the patches of '%s'", m->asked->name);
    preprocess(f, rows, fr, fr);
    sight_err err = frames_add_rows(f->filling.owner, pair_rows(f), rows, patches, i % 2, slots);
    free(rows);
    return err || i % 2 + slots < 2 ? err : end_pair(f);
}

// In host memory a pair waits for its second frame.
static sight_err take_half(const clip_sink *s, int32_t i, frame *fr)
{
    feed *f = s->feed;
    if (!f->held && !is_last(s, i)) {
        f->held = frame_ref(fr);
        return SIGHT_OK;
    }
    sight_err err = add_pair(f, f->held ? f->held : fr, fr);
    frame_unref(&f->held);
    return err;
}

static sight_err take_frame(void *arg, int32_t i, frame *fr)
{
    const clip_sink *s = arg;
    feed *f = s->feed;
    sight_err err = SIGHT_OK;
    if (stopped(f)) err = sight_fail(SIGHT_E_CANCELLED, "decoding was stopped");
    if (!err) atomic_fetch_add(&f->frames, 1);
    if (!err && !f->gpu_shaped) f->gpu = NULL; // no frame that the GPU can convert
    if (!err) err = place_piece(f);
    if (!err) err = f->filling.owner ? upload(s, i, fr) : take_half(s, i, fr);
    frame_unref(&fr);
    return err;
}

// Takes over line.
static void keep_warning(feed *f, char *line)
{
    if (!line) return;
    atomic_store(&f->tainted, true);
    pthread_mutex_lock(&f->mutex);
    if (f->n_warnings < MAX_WARNINGS) f->warnings[f->n_warnings++] = line;
    else free(line);
    pthread_mutex_unlock(&f->mutex);
}

// Where there is none, or it cannot, the CPU does all of it.
static void open_gpu(feed *f, int32_t media)
{
    const device_id device = kernels_device(engine_kernels(f->task->model));
    f->gpu = NULL;
    f->gpu_shaped = false;
    if (device.kind == DEVICE_CPU || config_of(f)->vision.temporal_patch != 2) return;
    if (!frames_create(&f->made[media], device)) f->gpu = f->made[media];
}

static sight_err decode_clip(feed *f, int32_t media, const task_media *m)
{
    clip_sink sink = {f, media, 2 * f->filling.first_pair};
    const int32_t wanted = 2 * pairs_end(f, media);
    const int32_t n = (wanted < m->n_frames ? wanted : m->n_frames) - sink.first;
    char *warning = NULL;
    open_gpu(f, media);
    const video_raw raw = {.sink = take_raw, .cuda_context = f->gpu ? frames_context(f->gpu) : NULL,
                           .cuda_stream = f->gpu ? frames_stream(f->gpu) : NULL};
    atomic_fetch_add(&f->frames, sink.first);
    video_set_stop(m->clip, is_stopped, f);
    sight_err err = video_read_raw(m->clip, m->indices + sink.first, n,
                                   m->plan.width, m->plan.height, take_frame, &sink, f->gpu ? &raw : NULL,
                                   &warning);
    video_set_stop(m->clip, NULL, NULL);
    keep_warning(f, warning);
    if (!task_media_same_clip(m, f->key)) atomic_store(&f->tainted, true);
    if (!err && f->filling.n_pairs) {
        err = sight_fail(SIGHT_E_INTERNAL, "'%s': fewer frames came than were chosen",
                         m->asked->name);
    }
    return err;
}

static sight_err decode_all(feed *f)
{
    const feed_range *r = &f->range;
    for (int32_t i = 0; i < r->media; i++) {
        const task_media *m = &f->task->media[i];
        atomic_fetch_add(&f->frames, m->is_video ? m->n_frames : 1);
    }
    for (int32_t i = r->media; i < r->end_media + (r->end_pair > 0); i++) {
        if (stopped(f)) return sight_fail(SIGHT_E_CANCELLED, "decoding was stopped");
        const task_media *m = &f->task->media[i];
        begin_piece(f, i, i == r->media ? r->pair : 0);
        f->gpu = NULL;
        sight_err err = m->is_video ? decode_clip(f, i, m) : decode_image(f, m);
        if (err) return err;
    }
    return SIGHT_OK;
}

static void *decoder_main(void *arg)
{
    feed *f = arg;
    const double since = clock_now_s();
    sight_err err = decode_all(f);
    metrics_observe_at(engine_metrics(f->task->model), METRIC_STAGE_SECONDS, BY_STAGE_DECODE, 0,
                       clock_now_s() - since - f->waited_s);
    frame_unref(&f->held);
    feed_piece_done(&f->filling, NULL);
    pthread_mutex_lock(&f->mutex);
    f->over = true;
    f->err = err;
    if (err) snprintf(f->line, sizeof f->line, "%s", sight_error());
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
    return NULL;
}

// ---- consumer ----

sight_err feed_open(feed **out, const task *t, const feed_range *range, const atomic_bool *cancel)
{
    feed *f = calloc(1, sizeof *f);
    if (!f) return sight_fail(SIGHT_E_MEMORY, "no memory for decoding");
    const prefix_store *kept = engine_prefix(t->model);
    f->task = t;
    f->key = kept ? prefix_store_key(kept) : NULL;
    f->range = *range;
    f->cancel = cancel;
    pthread_mutex_init(&f->mutex, NULL);
    clock_cond_init(&f->changed);
    f->made = calloc((size_t)t->asked->n_media, sizeof(frames *));
    f->started = f->made && !pthread_create(&f->thread, NULL, decoder_main, f);
    if (!f->started) {
        feed_close(&f);
        return sight_fail(SIGHT_E_MEMORY, "cannot start a thread for decoding");
    }
    *out = f;
    return SIGHT_OK;
}

void feed_close(feed **p)
{
    feed *f = *p;
    if (!f) return;
    pthread_mutex_lock(&f->mutex);
    atomic_store(&f->stop, true);
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->mutex);
    if (f->started) pthread_join(f->thread, NULL);
    feed_piece_done(&f->waiting, NULL);
    for (int32_t i = 0; f->made && i < f->task->asked->n_media; i++) frames_destroy(&f->made[i]);
    free(f->made);
    for (int i = 0; i < f->n_warnings; i++) free(f->warnings[i]);
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->mutex);
    free(f);
    *p = NULL;
}

sight_err feed_next(feed *f, feed_piece *out, int timeout_ms)
{
    const struct timespec deadline = clock_deadline(timeout_ms);
    sight_err err = SIGHT_OK;
    pthread_mutex_lock(&f->mutex);
    int waited = 0;
    while (!f->waiting.n_pairs && !f->over && waited != ETIMEDOUT) {
        waited = pthread_cond_timedwait(&f->changed, &f->mutex, &deadline);
    }
    if (f->waiting.n_pairs) {
        *out = f->waiting;
        f->waiting = (feed_piece){0};
        pthread_cond_broadcast(&f->changed);
    } else if (!f->over) {
        err = SIGHT_E_TIMEOUT;
    } else if (f->err) {
        err = sight_fail(f->err, "%s", f->line);
    } else {
        *out = (feed_piece){0};
    }
    pthread_mutex_unlock(&f->mutex);
    return err == SIGHT_E_TIMEOUT ? sight_fail(err, "nothing is decoded yet") : err;
}

bool feed_tainted(const feed *f)
{
    return atomic_load(&f->tainted);
}

int32_t feed_frames(const feed *f)
{
    return atomic_load(&f->frames);
}

char *feed_warning(feed *f)
{
    pthread_mutex_lock(&f->mutex);
    char *line = NULL;
    if (f->n_warnings) {
        line = f->warnings[0];
        memmove(f->warnings, f->warnings + 1, (size_t)--f->n_warnings * sizeof *f->warnings);
    }
    pthread_mutex_unlock(&f->mutex);
    return line;
}
