#include "daemon/media/task_media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "decoder/image.h"
#include "ipc/text.h"

// The source's name in errors: its path, else what the request called it.
static const char *source_name(const request_media *asked)
{
    return asked->path ? asked->path : asked->name;
}

sight_err task_media_read(const task_media *m, const void **bytes, size_t *size, char **owned)
{
    const request_media *asked = m->asked;
    *owned = NULL;
    *bytes = asked->bytes;
    *size = asked->size;
    if (asked->fd >= 0) {
        sight_err err = file_read_fd(owned, size, asked->fd, source_name(asked), (size_t)m->max_bytes);
        if (err) return err;
        *bytes = *owned;
    }
    if (*size) return SIGHT_OK;
    free(*owned);
    *owned = NULL;
    return sight_fail(SIGHT_E_MEDIA, "'%s' is empty", source_name(asked));
}

// The checkpoint's bounds on pixels, then the request's, under the server's.
static void bound_pixels(int64_t *min, int64_t *max, const request_media *asked,
                         const request_limits *limits)
{
    if (asked->max_pixels) *max = asked->max_pixels;
    if (*max > limits->max_pixels) *max = limits->max_pixels;
    if (asked->min_pixels) *min = asked->min_pixels;
    if (*min > *max) {
        if (asked->min_pixels && !asked->max_pixels) *max = *min;
        else *min = *max;
    }
}

// ---- hashes ----

static void hash_bytes(uint8_t out[SIPHASH_BYTES], const void *bytes, size_t size,
                       const uint8_t *key)
{
    siphash h;
    siphash_init(&h, key);
    siphash_add(&h, "b", 1);
    siphash_add(&h, bytes, size);
    siphash_finish(&h, out);
}

// What has no name, a transfer's memory, is nothing to come back to: its bytes count.
static void hash_nameless(uint8_t out[SIPHASH_BYTES], int fd, const uint8_t *key)
{
    siphash h;
    unsigned char bytes[1 << 16];
    off_t at = 0;
    siphash_init(&h, key);
    siphash_add(&h, "b", 1);
    for (ssize_t n; (n = pread(fd, bytes, sizeof bytes, at)) > 0; at += n) siphash_add(&h, bytes, (size_t)n);
    siphash_finish(&h, out);
}

// A clip's file may be huge: which file it is and when it last changed stand for its content.
static void hash_file(uint8_t out[SIPHASH_BYTES], int fd, const uint8_t *key)
{
    struct stat s;
    siphash h;
    memset(out, 0, SIPHASH_BYTES);
    if (fstat(fd, &s)) return;
    if (s.st_nlink == 0) {
        hash_nameless(out, fd, key);
        return;
    }
    const int64_t about[] = {(int64_t)s.st_dev,          (int64_t)s.st_ino,
                             (int64_t)s.st_size,         (int64_t)s.st_mtim.tv_sec,
                             (int64_t)s.st_mtim.tv_nsec, (int64_t)s.st_ctim.tv_sec,
                             (int64_t)s.st_ctim.tv_nsec};
    siphash_init(&h, key);
    siphash_add(&h, "f", 1); // no bytes that are sent are hashed to this
    siphash_add(&h, about, sizeof about);
    siphash_finish(&h, out);
}

// Content, and how it is cut.
static void hash_medium(task_media *m, const uint8_t *key)
{
    const vision_plan *p = &m->plan;
    const int32_t cut[] = {m->is_video, p->width, p->height, p->grid.t, p->grid.h, p->grid.w};
    siphash h;
    siphash_init(&h, key);
    siphash_add(&h, m->content, sizeof m->content);
    siphash_add(&h, cut, sizeof cut);
    siphash_add(&h, m->indices, (size_t)m->n_frames * sizeof *m->indices);
    siphash_finish(&h, m->hash);
}

bool task_media_same_picture(const task_media *m, const void *bytes, size_t size,
                             const uint8_t *key)
{
    uint8_t now[SIPHASH_BYTES];
    if (!key) return true;
    hash_bytes(now, bytes, size, key);
    return !memcmp(now, m->content, sizeof now);
}

bool task_media_same_clip(const task_media *m, const uint8_t *key)
{
    uint8_t now[SIPHASH_BYTES];
    if (!key || m->asked->fd < 0 || m->asked->url) return true;
    hash_file(now, m->asked->fd, key);
    return !memcmp(now, m->content, sizeof now);
}

// ---- pictures ----

static bool is_cancelled(void *cancel)
{
    return atomic_load((const atomic_bool *)cancel);
}

image_limits task_media_image_limits(const task_media *m, const atomic_bool *cancel)
{
    return (image_limits){.max_pixels = m->max_source_pixels,
                          .max_bytes = m->max_bytes,
                          .decoders = m->decoders,
                          .stop = cancel ? is_cancelled : NULL,
                          .stop_arg = (void *)cancel};
}

static sight_err open_image(task_media *m, const atomic_bool *cancel, const model_config *config,
                            const request_limits *limits, const uint8_t *key)
{
    m->max_bytes = limits->max_media_bytes;
    m->max_source_pixels = limits->max_source_pixels;
    const image_limits il = task_media_image_limits(m, cancel);
    const void *bytes;
    size_t size;
    char *owned;
    image_info info;
    sight_err err = task_media_read(m, &bytes, &size, &owned);
    if (err) return err;
    err = image_probe(&info, bytes, size, source_name(m->asked), &il);
    if (!err && key) hash_bytes(m->content, bytes, size, key);
    free(owned);
    if (err) return err;
    m->width = info.width;
    m->height = info.height;
    snprintf(m->format, sizeof m->format, "%s", info.format);
    image_config bounds = config->image;
    bound_pixels(&bounds.min_pixels, &bounds.max_pixels, m->asked, limits);
    err = plan_image(&m->plan, m->width, m->height, &config->vision, &bounds);
    return err ? sight_fail_in(err, "'%s'", source_name(m->asked)) : SIGHT_OK;
}

// ---- clips ----

static sight_err choose_frames(task_media *m, const model_config *config,
                               const request_limits *limits)
{
    const video_config *v = &config->video;
    video_choice choice = {.fps = m->asked->fps > 0 ? m->asked->fps : v->fps,
                           .min_frames = v->min_frames,
                           .max_frames = v->max_frames,
                           .n_frames = m->asked->frames};
    if (choice.max_frames > limits->max_frames) choice.max_frames = limits->max_frames;
    if (choice.min_frames > choice.max_frames) choice.min_frames = choice.max_frames;
    sight_err err = video_choose(m->clip, &choice, &m->indices, &m->times_s, &m->n_frames);
    if (err) return sight_fail_in(err, "'%s'", source_name(m->asked));
    if (m->n_frames < 1) {
        return sight_fail(SIGHT_E_MEDIA, "'%s': no frame in the wanted part",
                          source_name(m->asked));
    }
    return SIGHT_OK;
}

// The mean time of each pair; an odd last frame is its own partner.
static sight_err set_pair_times(task_media *m)
{
    m->pair_times = malloc((size_t)m->plan.grid.t * sizeof *m->pair_times);
    if (!m->pair_times) return sight_fail(SIGHT_E_MEMORY, "no memory for %d times", m->plan.grid.t);
    for (int32_t i = 0; i < m->plan.grid.t; i++) {
        const int32_t last = m->n_frames - 1;
        const int32_t a = 2 * i < last ? 2 * i : last, b = 2 * i + 1 < last ? 2 * i + 1 : last;
        m->pair_times[i] = (m->times_s[a] + m->times_s[b]) / 2;
    }
    return SIGHT_OK;
}

// Encoding and reading want the other half.
static int decoder_threads(const request_limits *limits)
{
    if (limits->decoder_threads > 0) return limits->decoder_threads;
    const long half = sysconf(_SC_NPROCESSORS_ONLN) / 2;
    return half < 1 ? 1 : half > 4 ? 4 : (int)half;
}

static sight_err open_clip(task_media *m, const atomic_bool *cancel, const model_config *config,
                           const request_limits *limits, const uint8_t *key)
{
    const request_media *asked = m->asked;
    if (key && asked->fd >= 0) hash_file(m->content, asked->fd, key);
    else if (key) hash_bytes(m->content, asked->bytes, asked->size, key);
    const video_limits vl = {.max_pixels = limits->max_source_pixels,
                             .max_seconds = limits->max_seconds,
                             .max_bytes = limits->max_media_bytes,
                             .threads = decoder_threads(limits),
                             .stop = cancel ? is_cancelled : NULL,
                             .stop_arg = (void *)cancel,
                             .decoders = limits->decoders,
                             .gpu_here = limits->gpu_decode};
    const video_range range = {asked->start_s, asked->end_s};
    sight_err err = asked->fd >= 0 ? video_open_fd(&m->clip, asked->fd, source_name(asked), &range, &vl)
                                   : video_open(&m->clip, asked->name, asked->bytes, asked->size, &range, &vl);
    if (err) return err;
    const video_info *info = video_get_info(m->clip);
    m->width = info->width;
    m->height = info->height;
    m->duration_s = info->duration_s;
    m->source_fps = info->fps;
    snprintf(m->format, sizeof m->format, "%s", info->codec);
    err = choose_frames(m, config, limits);
    if (err) return err;
    video_config bounds = config->video;
    bound_pixels(&bounds.min_pixels, &bounds.max_pixels, asked, limits);
    err = plan_video(&m->plan, m->width, m->height, m->n_frames, &config->vision, &bounds);
    if (err) return sight_fail_in(err, "'%s'", source_name(asked));
    return set_pair_times(m);
}

// ---- both ----

sight_err task_media_open(task_media *out, const request *q, int32_t i, const model_config *config,
                          const request_limits *limits, const uint8_t *key)
{
    const request_media *asked = &q->media[i];
    out->asked = asked;
    out->is_video = asked->kind == MEDIA_VIDEO;
    out->decoders = limits->decoders;
    if (asked->fd < 0 && !asked->bytes) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s: no path, URL or attachment says where it is",
                          asked->name);
    }
    if (asked->fd < 0 && asked->size == 0) {
        return sight_fail(SIGHT_E_MEDIA, "'%s' is empty", asked->name);
    }
    sight_err err = out->is_video ? open_clip(out, q->cancel, config, limits, key)
                                  : open_image(out, q->cancel, config, limits, key);
    if (!err && key) hash_medium(out, key);
    return err;
}

void task_media_done(task_media *m)
{
    video_close(&m->clip);
    free(m->indices);
    free(m->times_s);
    free(m->pair_times);
    *m = (task_media){0};
}

static void describe_clip(const task_media *m, json_t *out)
{
    json_t *frames = json_array();
    for (int32_t i = 0; i < m->n_frames; i++) {
        json_array_append_new(frames, json_pack("{s:I, s:f}", "index", (json_int_t)m->indices[i],
                                                "time_s", m->times_s[i]));
    }
    json_object_set_new(out, "frames", frames);
    json_t *source = json_object_get(out, "source");
    json_object_set_new(source, "fps", json_real(m->source_fps));
    json_object_set_new(source, "duration_s", json_real(m->duration_s));
}

json_t *task_media_describe(const task_media *m)
{
    const vision_plan *p = &m->plan;
    json_t *out = json_pack(
        "{s:s, s:o, s:s, s:{s:i, s:i}, s:i, s:i, s:[i, i, i], s:I, s:I}", "kind",
        m->is_video ? "video" : "image", "name", text_json(m->asked->name), "format", m->format,
        "source", "width", m->width, "height", m->height, "width", p->width, "height", p->height,
        "grid", p->grid.t, p->grid.h, p->grid.w, "patches", (json_int_t)p->patches, "tokens",
        (json_int_t)p->tokens);
    if (out && m->is_video) describe_clip(m, out);
    return out;
}
