#include "decoder/video.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decoder/orient.h"
#include "decoder/remote.h"
#include "decoder/video_parts.h"

#define DEFAULT_MAX_PIXELS  67108864
#define DEFAULT_MAX_SECONDS 86400
#define DEFAULT_MAX_BYTES   (1LL << 30)

static bool is_picture_track(const AVStream *s)
{
    return s->codecpar->codec_type == AVMEDIA_TYPE_VIDEO &&
           !(s->disposition & (AV_DISPOSITION_ATTACHED_PIC | AV_DISPOSITION_TIMED_THUMBNAILS));
}

// The default track, else the largest picture.
static AVStream *pick_stream(const AVFormatContext *c)
{
    AVStream *best = NULL;
    double best_score = -1;
    for (unsigned i = 0; i < c->nb_streams; i++) {
        AVStream *s = c->streams[i];
        if (!is_picture_track(s)) continue;
        double area = (double)s->codecpar->width * s->codecpar->height;
        double score = area + (s->disposition & AV_DISPOSITION_DEFAULT ? 1e15 : 0);
        if (score > best_score) {
            best = s;
            best_score = score;
        }
    }
    return best;
}

// The most that may be decoded to learn what a header does not say.
#define PROBE_MAX_PIXELS (1 << 27)

static int find_streams(AVFormatContext *c)
{
    unsigned n = c->nb_streams;
    AVDictionary **options = calloc(n ? n : 1, sizeof *options);
    if (!options) return AVERROR(ENOMEM);
    for (unsigned i = 0; i < n; i++) {
        av_dict_set_int(&options[i], "max_pixels", PROBE_MAX_PIXELS, 0);
    }
    int error = avformat_find_stream_info(c, n ? options : NULL);
    for (unsigned i = 0; i < n; i++) av_dict_free(&options[i]);
    free(options);
    return error;
}

static sight_err check_size(const AVCodecParameters *p, const video *v)
{
    if ((int64_t)p->width * p->height <= v->limits.max_pixels) return SIGHT_OK;
    return sight_fail(SIGHT_E_LIMIT, "'%s' has frames of %d x %d, the limit is %lld pixels",
                      v->name, p->width, p->height, (long long)v->limits.max_pixels);
}

// What the header says is refused before anything is decoded to learn more.
static sight_err check_claims(const AVFormatContext *c, const video *v)
{
    sight_err err = SIGHT_OK;
    for (unsigned i = 0; i < c->nb_streams && !err; i++) {
        if (is_picture_track(c->streams[i])) err = check_size(c->streams[i]->codecpar, v);
    }
    return err;
}

static bool is_still_format(const char *format)
{
    size_t n = strlen(format);
    return n > 5 && !strcmp(format + n - 5, "_pipe");
}

// Polled by FFmpeg while it looks into the file.
static int is_stopped(void *arg)
{
    const video *v = arg;
    return v->limits.stop && v->limits.stop(v->limits.stop_arg);
}

sight_err video_track_open(video_track *t, const video *v)
{
    *t = (video_track){.source = {.fd = -1}};
    sight_err err = av_source_open(&t->source, &v->from);
    if (!err && t->source.size == 0) err = sight_fail(SIGHT_E_MEDIA, "'%s' is empty", v->name);
    if (!err) err = av_container_open(&t->container, &t->source, v->name, NULL);
    if (!err && is_still_format(t->container->iformat->name)) {
        err = sight_fail(SIGHT_E_MEDIA, "'%s' is a picture, not a video", v->name);
    }
    if (!err) err = check_claims(t->container, v);
    if (!err) {
        t->container->interrupt_callback = (AVIOInterruptCB){is_stopped, (void *)v};
        const int error = find_streams(t->container);
        if (error == AVERROR(ENOMEM)) {
            err = sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", v->name);
        }
        if (!err) err = video_check_stop(v);
    }
    if (!err) t->stream = pick_stream(t->container);
    if (!err && !t->container->nb_streams) {
        err = sight_fail(SIGHT_E_MEDIA, "'%s' holds no tracks: it was cut off or never finished",
                         v->name);
    } else if (!err && !t->stream) {
        err = sight_fail(SIGHT_E_MEDIA, "'%s' has no picture track", v->name);
    }
    if (err) {
        video_track_close(t);
        return err;
    }
    for (unsigned i = 0; i < t->container->nb_streams; i++) {
        AVStream *s = t->container->streams[i];
        if (s != t->stream) s->discard = AVDISCARD_ALL;
    }
    return SIGHT_OK;
}

void video_track_close(video_track *t)
{
    avformat_close_input(&t->container);
    av_source_close(&t->source);
    t->stream = NULL;
}

static sight_err check_stream(const AVStream *s, const video *v)
{
    const AVCodecParameters *p = s->codecpar;
    if (!avcodec_find_decoder(p->codec_id)) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s' is coded as %s, for which there is no decoder",
                          v->name, avcodec_get_name(p->codec_id));
    }
    if (p->width < 1 || p->height < 1) {
        return sight_fail(SIGHT_E_MEDIA, "'%s' has a picture track of which nothing can be decoded",
                          v->name);
    }
    return check_size(p, v);
}

// Width and height as shown, and what is done to decoded frames for that.
static void describe(video *v, const video_track *t)
{
    const AVCodecParameters *p = t->stream->codecpar;
    double width = p->width, height = p->height;
    double aspect = av_q2d(av_guess_sample_aspect_ratio(t->container, t->stream, NULL));
    if (aspect > 1.0 / 16 && aspect < 16) width = fmax(1, rint(width * aspect));
    size_t size = 0;
    uint8_t *matrix = av_stream_get_side_data(t->stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
    v->orientation = 1;
    if (matrix && size >= 9 * sizeof(int32_t)) {
        int32_t m[9];
        memcpy(m, matrix, sizeof m);
        v->orientation = orient_of_matrix(m);
    }
    v->info.orientation = v->orientation;
    bool swap = orient_swaps(v->orientation);
    v->info.width = (int32_t)(swap ? height : width);
    v->info.height = (int32_t)(swap ? width : height);
    snprintf(v->info.codec, sizeof v->info.codec, "%s", avcodec_get_name(p->codec_id));
    snprintf(v->info.container, sizeof v->info.container, "%s", t->container->iformat->name);
    v->info.container[strcspn(v->info.container, ",")] = 0;
}

static sight_err check_range(const video_range *r, const char *name)
{
    if (!(r->start_s >= 0) || !isfinite(r->start_s) || !(r->end_s >= 0) || isnan(r->end_s)) {
        return sight_fail(SIGHT_E_ARGUMENT, "'%s': the range %g to %g s is not one", name,
                          r->start_s, r->end_s);
    }
    if (r->end_s != 0 && r->end_s <= r->start_s) {
        return sight_fail(SIGHT_E_ARGUMENT, "'%s': the range ends at %g s and starts at %g s",
                          name, r->end_s, r->start_s);
    }
    return SIGHT_OK;
}

// Times are compared with this much slack: 0.1 s must find the frame at 3 / 30 s.
#define SLACK_S 1e-6

// The frames with a time in [start, end); at least the one shown at start.
static sight_err apply_range(video *v, const video_range *range)
{
    const video_index *x = &v->index;
    double start = range->start_s, end = range->end_s > 0 ? range->end_s : INFINITY;
    if (start >= x->duration_s && start > 0) {
        return sight_fail(SIGHT_E_ARGUMENT, "'%s' lasts %.3f s, the range starts at %.3f s",
                          v->name, x->duration_s, start);
    }
    int64_t first = video_shown_at(x, start + SLACK_S);
    if (video_time_of(x, first) < start - SLACK_S && first + 1 < x->n &&
        video_time_of(x, first + 1) < end - SLACK_S) {
        first++;
    }
    int64_t last = isinf(end) ? x->n - 1 : video_shown_at(x, end - SLACK_S);
    if (last < first) last = first;
    double until = last + 1 < x->n ? video_time_of(x, last + 1) : x->duration_s;
    double from = video_time_of(x, first), lasts = until - from;
    if (lasts > v->limits.max_seconds) {
        return sight_fail(SIGHT_E_LIMIT, "'%s': %.1f s of video, the limit is %.0f s", v->name,
                          lasts, v->limits.max_seconds);
    }
    v->first = first;
    v->info.n_frames = last - first + 1;
    v->info.start_s = from;
    v->info.duration_s = x->duration_s;
    v->info.variable_rate = !x->constant;
    v->info.fps = x->constant || lasts <= 0 ? x->fps : (double)v->info.n_frames / lasts;
    return SIGHT_OK;
}

static void set_limits(video *v, const video_limits *limits)
{
    if (limits) v->limits = *limits;
    if (v->limits.max_pixels <= 0) v->limits.max_pixels = DEFAULT_MAX_PIXELS;
    if (!(v->limits.max_seconds > 0)) v->limits.max_seconds = DEFAULT_MAX_SECONDS;
    if (v->limits.max_bytes <= 0) v->limits.max_bytes = DEFAULT_MAX_BYTES;
    if (v->limits.threads < 1) v->limits.threads = 1;
}

static sight_err open_all(video *v, const video_range *range)
{
    if (v->from.bytes && v->from.size > (uint64_t)v->limits.max_bytes) {
        return sight_fail(SIGHT_E_LIMIT, "'%s' has %zu bytes, the limit is %lld", v->name, v->from.size,
                          (long long)v->limits.max_bytes);
    }
    video_track track;
    sight_err err = check_range(range, v->name);
    if (!err) err = video_track_open(&track, v);
    if (err) return err;
    err = check_stream(track.stream, v);
    if (!err) describe(v, &track);
    if (!err) err = video_index_build(&v->index, &track, v);
    if (!err) err = apply_range(v, range);
    video_track_close(&track);
    return err;
}

sight_err video_create(video **out, const av_origin *from, const video_limits *limits)
{
    video *v = calloc(1, sizeof *v);
    if (v) v->name = strdup(from->name);
    if (!v || !v->name) {
        free(v);
        return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", from->name);
    }
    v->from = *from;
    v->from.name = v->name;
    set_limits(v, limits);
    *out = v;
    return SIGHT_OK;
}

static sight_err open_from(video **out, const av_origin *from, const video_range *range, const video_limits *limits)
{
    const video_range all = {0};
    video *v;
    sight_err err = video_create(&v, from, limits);
    if (err) return err;
    if (!range) range = &all;
    err = v->limits.decoders ? remote_clip_open(v, range) : open_all(v, range);
    if (err) video_close(&v);
    else *out = v;
    return err;
}

sight_err video_open(video **out, const char *path, const void *bytes, size_t size,
                     const video_range *range, const video_limits *limits)
{
    if (!path) path = "video";
    if (bytes && size == 0) return sight_fail(SIGHT_E_MEDIA, "'%s' is empty", path);
    return open_from(out, &(av_origin){path, -1, bytes, bytes ? size : 0}, range, limits);
}

sight_err video_open_fd(video **out, int fd, const char *name, const video_range *range, const video_limits *limits)
{
    return open_from(out, &(av_origin){name, fd, NULL, 0}, range, limits);
}

sight_err video_open_sized(video **out, int fd, int64_t size, const char *name, const video_range *range,
                           const video_limits *limits)
{
    return open_from(out, &(av_origin){name, fd, NULL, (size_t)size}, range, limits);
}

void video_close(video **v)
{
    if (!*v) return;
    video_index_done(&(*v)->index);
    free((*v)->name);
    free(*v);
    *v = NULL;
}

const video_info *video_get_info(const video *v)
{
    return &v->info;
}

void video_set_stop(video *v, bool (*stop)(void *arg), void *arg)
{
    v->limits.stop = stop;
    v->limits.stop_arg = arg;
}
