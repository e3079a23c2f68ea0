// The list of frames of a track: times, and where decoding can begin, without decoding.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "decoder/video_parts.h"

// A day at 100 frames/s, twice.
#define MAX_FRAMES (1 << 24)
// Frames that may be shown before a key frame that they follow in the file, where only the order
// in the file is known.
#define MAX_LEADING 16
// Ticks between two frames of a table, so that sums of them stay in range.
#define MAX_STEP (1LL << 36)
// Packets read to learn the first frame's time.
#define MAX_PEEK 48

typedef struct entry {
    int64_t pts, dts;
    bool key;
} entry;

typedef struct entries {
    entry *data;
    int64_t n, capacity;
    int64_t timed;         // how many have a pts
    int64_t last_duration; // of the latest packet that says so
} entries;

sight_err video_check_stop(const video *v)
{
    if (!v->limits.stop || !v->limits.stop(v->limits.stop_arg)) return SIGHT_OK;
    return sight_fail(SIGHT_E_CANCELLED, "reading '%s' was stopped", v->name);
}

void video_index_done(video_index *x)
{
    free(x->pts);
    free(x->keys);
    *x = (video_index){0};
}

double video_time_of(const video_index *x, int64_t number)
{
    if (x->constant) return (double)number / x->fps;
    return (double)(x->pts[number] - x->pts[0]) * x->tick_s;
}

// The last i with pts[i] <= pts, or 0.
static int64_t last_not_after(const int64_t *pts, int64_t n, int64_t value)
{
    int64_t lo = 0, hi = n;
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (pts[mid] <= value) lo = mid;
        else hi = mid;
    }
    return lo;
}

int64_t video_nearest(const video_index *x, int64_t pts)
{
    if (pts <= x->pts[0]) return 0; // also keeps differences in range
    if (pts >= x->pts[x->n - 1]) return x->n - 1;
    int64_t i = last_not_after(x->pts, x->n, pts);
    if (i + 1 < x->n && pts > x->pts[i] && x->pts[i + 1] - pts < pts - x->pts[i]) i++;
    return i;
}

int64_t video_shown_at(const video_index *x, double time_s)
{
    int64_t lo = 0, hi = x->n;
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (video_time_of(x, mid) <= time_s) lo = mid;
        else hi = mid;
    }
    return lo;
}

static sight_err add_entry(entries *e, entry new, const char *name)
{
    if (e->n == MAX_FRAMES) {
        return sight_fail(SIGHT_E_LIMIT, "'%s' has over %d frames", name, MAX_FRAMES);
    }
    if (e->n == e->capacity) {
        int64_t capacity = e->capacity ? 2 * e->capacity : 1024;
        entry *data = realloc(e->data, (size_t)capacity * sizeof *data);
        if (!data) return sight_fail(SIGHT_E_MEMORY, "no memory for the frame list of '%s'", name);
        e->data = data;
        e->capacity = capacity;
    }
    e->data[e->n++] = new;
    if (new.pts != AV_NOPTS_VALUE) e->timed++;
    return SIGHT_OK;
}

// Whether the packet is a frame that is shown.
static bool is_frame(const AVPacket *p, enum AVCodecID codec)
{
    if (p->size == 0 || (p->flags & AV_PKT_FLAG_DISCARD)) return false;
    if (codec == AV_CODEC_ID_VP8) return p->data[0] & 0x10; // RFC 6386, 9.1: show_frame
    return true;
}

// Times outside this many ticks overflow sums; such a packet counts as untimed.
static int64_t sane(int64_t t)
{
    return t > -(INT64_MAX >> 2) && t < INT64_MAX >> 2 ? t : AV_NOPTS_VALUE;
}

static sight_err read_entries(entries *e, video_index *x, video_track *t, int64_t most,
                              const video *v)
{
    const char *name = v->name;
    AVPacket *p = av_packet_alloc();
    if (!p) return sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", name);
    sight_err err = SIGHT_OK;
    int error = 0;
    while (!err && e->n < most && (error = av_read_frame(t->container, p)) >= 0) {
        if (p->stream_index == t->stream->index && is_frame(p, t->stream->codecpar->codec_id)) {
            if (p->duration > 0) e->last_duration = sane(p->duration);
            err = add_entry(e, (entry){sane(p->pts), sane(p->dts), p->flags & AV_PKT_FLAG_KEY},
                            name);
        }
        av_packet_unref(p);
        if (!err && e->n % 64 == 0) err = video_check_stop(v);
    }
    x->cut_off = error < 0 && error != AVERROR_EOF;
    av_packet_free(&p);
    if (!err && error == AVERROR(ENOMEM)) {
        err = sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", name);
    }
    return err;
}

static int compare_pts(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

// Whether a key frame stands on its own. GIF and the like flag frames that build on earlier ones.
static bool can_begin_at_keys(enum AVCodecID codec)
{
    const AVCodecDescriptor *d = avcodec_descriptor_get(codec);
    switch (codec) {
    case AV_CODEC_ID_GIF:
    case AV_CODEC_ID_APNG: return false;
    case AV_CODEC_ID_H264:
    case AV_CODEC_ID_HEVC:
    case AV_CODEC_ID_VP8:
    case AV_CODEC_ID_VP9:
    case AV_CODEC_ID_AV1:
    case AV_CODEC_ID_MPEG1VIDEO:
    case AV_CODEC_ID_MPEG2VIDEO:
    case AV_CODEC_ID_MPEG4:
    case AV_CODEC_ID_THEORA:
    case AV_CODEC_ID_FFV1:
    case AV_CODEC_ID_VC1:
    case AV_CODEC_ID_WMV3: return true;
    default: return d && (d->props & AV_CODEC_PROP_INTRA_ONLY);
    }
}

// Matroska's own index goes by presentation time, the others' by decoding time.
static int64_t seek_time(const entry *e, const AVInputFormat *format)
{
    bool by_pts = !strncmp(format->name, "matroska", 8) || e->dts == AV_NOPTS_VALUE;
    return by_pts ? e->pts : e->dts;
}

static int compare_keys(const void *a, const void *b)
{
    int64_t x = ((const video_key *)a)->frame, y = ((const video_key *)b)->frame;
    return (x > y) - (x < y);
}

static sight_err set_keys(video_index *x, const entries *e, const video_track *t,
                          const char *name)
{
    if (x->by_count || !can_begin_at_keys(t->stream->codecpar->codec_id)) return SIGHT_OK;
    int64_t n = 0;
    for (int64_t i = 0; i < e->n; i++) n += e->data[i].key && e->data[i].pts != AV_NOPTS_VALUE;
    x->keys = calloc((size_t)n + 1, sizeof *x->keys);
    if (!x->keys) return sight_fail(SIGHT_E_MEMORY, "no memory for the frame list of '%s'", name);
    for (int64_t i = 0; i < e->n; i++) {
        const entry *k = &e->data[i];
        if (!k->key || k->pts == AV_NOPTS_VALUE) continue;
        x->keys[x->n_keys++] = (video_key){video_nearest(x, k->pts),
                                           seek_time(k, t->container->iformat)};
    }
    qsort(x->keys, (size_t)x->n_keys, sizeof *x->keys, compare_keys);
    return SIGHT_OK;
}

static double valid_rate(AVRational q)
{
    double r = q.num > 0 && q.den > 0 ? av_q2d(q) : 0;
    return r > 0 && r <= 100000 ? r : 0;
}

// Containers round times to their tick, and some writers to milliseconds before that.
static bool is_even(const video_index *x, double fps)
{
    double slack = x->tick_s * 1.01 + fmin(0.001, 0.1 / fps);
    for (int64_t i = 1; i < x->n; i++) {
        double t = (double)(x->pts[i] - x->pts[0]) * x->tick_s;
        if (fabs(t - (double)i / fps) > slack) return false;
    }
    return true;
}

// The exact rate at which all times are even, if there is one: what the container says, a common
// rate near the average, or the average.
static void find_rate(video_index *x, const AVStream *s)
{
    double span = (double)(x->pts[x->n - 1] - x->pts[0]) * x->tick_s;
    double stated[] = {valid_rate(s->avg_frame_rate), valid_rate(s->r_frame_rate)};
    x->constant = true;
    for (int i = 0; i < 2; i++) {
        x->fps = stated[i];
        if (x->fps > 0 && is_even(x, x->fps)) return;
    }
    x->fps = x->n > 1 && span > 0 ? (double)(x->n - 1) / span : 1;
    double average = x->fps, whole = rint(average), ntsc = rint(average * 1.001) / 1.001;
    double common[] = {whole, ntsc, average};
    for (int i = 0; i < 3; i++) {
        if (common[i] <= 0 || !is_even(x, common[i])) continue;
        // The exact quotient, so that index / fps is what others compute.
        x->fps = i == 1 ? rint(average * 1.001) * 1000 / 1001 : common[i];
        return;
    }
    x->constant = false;
}

static void set_duration(video_index *x, int64_t last_duration)
{
    if (x->constant) {
        x->duration_s = (double)x->n / x->fps;
        return;
    }
    int64_t last = last_duration > 0 ? last_duration : x->pts[x->n - 1] - x->pts[x->n - 2];
    x->duration_s = (double)(x->pts[x->n - 1] - x->pts[0] + last) * x->tick_s;
    x->fps = x->duration_s > 0 ? (double)x->n / x->duration_s : 1;
}

static sight_err allocate(video_index *x, int64_t n, const char *name)
{
    x->pts = calloc((size_t)n, sizeof *x->pts);
    return x->pts ? SIGHT_OK
                  : sight_fail(SIGHT_E_MEMORY, "no memory for the frame list of '%s'", name);
}

static void number_frames(video_index *x, const AVStream *s, int64_t n)
{
    double fps = valid_rate(s->avg_frame_rate);
    if (fps <= 0) fps = valid_rate(s->r_frame_rate);
    *x = (video_index){.n = n, .pts = x->pts, .by_count = true, .constant = true,
                       .fps = fps > 0 ? fps : 25, .cut_off = x->cut_off};
    for (int64_t i = 0; i < n; i++) x->pts[i] = i;
    x->tick_s = 1 / x->fps;
    x->duration_s = (double)n / x->fps;
}

// Whether the packets' times tell frames apart. A few untimed ones are passed over, and so is every
// second one where a picture comes as two packets, a field each.
static bool times_suffice(const entries *e, const AVStream *s)
{
    int64_t untimed = e->n - e->timed;
    if (untimed * 20 <= e->n) return true;
    bool fields = s->codecpar->field_order > AV_FIELD_PROGRESSIVE;
    return fields && llabs(e->timed - untimed) * 10 <= e->n;
}

static sight_err from_packets(video_index *x, video_track *t, const video *v)
{
    const char *name = v->name;
    entries e = {0};
    sight_err err = read_entries(&e, x, t, INT64_MAX, v);
    if (!err && e.n == 0) {
        err = sight_fail(SIGHT_E_MEDIA, "'%s' has a picture track without a frame", name);
    }
    if (!err) err = allocate(x, e.n, name);
    if (!err && !times_suffice(&e, t->stream)) {
        number_frames(x, t->stream, e.n);
    } else if (!err) {
        for (int64_t i = 0; i < e.n; i++) {
            if (e.data[i].pts != AV_NOPTS_VALUE) x->pts[x->n++] = e.data[i].pts;
        }
        qsort(x->pts, (size_t)x->n, sizeof *x->pts, compare_pts);
        int64_t kept = 1;
        for (int64_t i = 1; i < x->n; i++) {
            if (x->pts[i] != x->pts[kept - 1]) x->pts[kept++] = x->pts[i];
        }
        x->n = kept;
        x->tick_s = av_q2d(t->stream->time_base);
        find_rate(x, t->stream);
        set_duration(x, e.last_duration);
        err = set_keys(x, &e, t, name);
    }
    free(e.data);
    return err;
}

// ---- the index that an MP4 carries in its header ----

typedef struct table {
    int64_t n, step;   // readable frames, ticks between them
    int64_t lost;      // frames that begin or end past the end of the file
    int64_t n_keys;
} table;

// False where the table does not tell everything: fragments, or decoding times that are uneven.
static bool read_table(table *out, const video_track *t)
{
    AVStream *s = t->stream;
    int n = avformat_index_get_entries_count(s);
    table r = {0};
    if (strncmp(t->container->iformat->name, "mov,", 4) || s->nb_frames < 2 || n < 2) return false;
    if (n > MAX_FRAMES || n < s->nb_frames / 2) return false;
    int64_t before = AV_NOPTS_VALUE;
    for (int i = 0; i < n; i++) {
        const AVIndexEntry *e = avformat_index_get_entry(s, i);
        if (e->flags & AVINDEX_DISCARD_FRAME) continue;
        if (e->pos + e->size > t->source.size) {
            r.lost++;
            continue;
        }
        if (r.lost) return false; // samples out of file order
        int64_t now = sane(e->timestamp);
        if (now == AV_NOPTS_VALUE) return false;
        if (r.n == 1) r.step = now - before;
        if (r.n > 0 && (r.step <= 0 || r.step > MAX_STEP || now - before != r.step)) return false;
        before = now;
        r.n++;
        r.n_keys += (e->flags & AVINDEX_KEYFRAME) != 0;
    }
    *out = r;
    return r.n >= 2;
}

// The first packets' times must be those of the table, but for their order.
static bool confirm(int64_t *first, const entries *e, const table *r)
{
    int64_t lowest = INT64_MAX;
    for (int64_t i = 0; i < e->n; i++) {
        if (e->data[i].pts == AV_NOPTS_VALUE) return false;
        if (e->data[i].pts < lowest) lowest = e->data[i].pts;
    }
    int64_t seen = e->n - MAX_LEADING; // these must all be there; a later one may not be yet
    for (int64_t i = 0; i < e->n; i++) {
        if ((e->data[i].pts - lowest) % r->step) return false;
        if (e->n < r->n && (e->data[i].pts - lowest) / r->step >= e->n + MAX_LEADING) return false;
    }
    for (int64_t k = 0; k < seen; k++) {
        bool found = false;
        for (int64_t i = 0; i < e->n; i++) found |= e->data[i].pts == lowest + k * r->step;
        if (!found) return false;
    }
    *first = lowest;
    return e->n > 0;
}

static sight_err table_keys(video_index *x, const table *r, const video_track *t, const char *name)
{
    if (!can_begin_at_keys(t->stream->codecpar->codec_id)) return SIGHT_OK;
    const AVCodecDescriptor *d = avcodec_descriptor_get(t->stream->codecpar->codec_id);
    int64_t leading = d && !(d->props & AV_CODEC_PROP_REORDER) ? 0 : MAX_LEADING, number = 0;
    x->keys = calloc((size_t)r->n_keys + 1, sizeof *x->keys);
    if (!x->keys) return sight_fail(SIGHT_E_MEMORY, "no memory for the frame list of '%s'", name);
    int n = avformat_index_get_entries_count(t->stream);
    for (int i = 0; i < n && number < r->n; i++) {
        const AVIndexEntry *e = avformat_index_get_entry(t->stream, i);
        if (e->flags & AVINDEX_DISCARD_FRAME) continue;
        if ((e->flags & AVINDEX_KEYFRAME) && x->n_keys < r->n_keys) {
            x->keys[x->n_keys++] = (video_key){number ? number + leading : 0, e->timestamp};
        }
        number++;
    }
    // Asked for a key's decoding time, the demuxer may take the key before, which is shown by then.
    for (int64_t i = 0; i < x->n_keys; i++) {
        video_key *k = &x->keys[i];
        int64_t room = i + 1 < x->n_keys ? (k[1].seek - k->seek) / r->step - 1 : leading;
        if (room > 0) k->seek += r->step * (room < leading ? room : leading);
    }
    return SIGHT_OK;
}

static sight_err rewind_table(const video_track *t, const char *name)
{
    int64_t begin = avformat_index_get_entry(t->stream, 0)->timestamp;
    if (av_seek_frame(t->container, t->stream->index, begin, AVSEEK_FLAG_BACKWARD) >= 0) {
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_MEDIA, "'%s' cannot be read from its beginning again", name);
}

// An hour of MP4 is listed without reading an hour of it. *took says whether that was possible.
static sight_err from_table(video_index *x, bool *took, video_track *t, const video *v)
{
    const char *name = v->name;
    table r;
    *took = false;
    if (!read_table(&r, t)) return SIGHT_OK;
    entries e = {0};
    int64_t first = 0;
    sight_err err = read_entries(&e, x, t, MAX_PEEK, v);
    *took = !err && confirm(&first, &e, &r);
    free(e.data);
    if (!err && !*took) err = rewind_table(t, name);
    if (!*took) return err;
    err = allocate(x, r.n, name);
    if (err) return err;
    x->n = r.n;
    for (int64_t i = 0; i < r.n; i++) x->pts[i] = first + i * r.step;
    x->tick_s = av_q2d(t->stream->time_base);
    x->lost = r.lost;
    find_rate(x, t->stream);
    set_duration(x, r.step);
    return table_keys(x, &r, t, name);
}

static double claimed_duration(const AVFormatContext *c)
{
    bool from_header = c->duration_estimation_method == AVFMT_DURATION_FROM_STREAM;
    return from_header && c->duration > 0 ? (double)c->duration / AV_TIME_BASE : 0;
}

// AVI numbers frames as it reads them, so that lost ones show in the header's count alone. Small
// differences are empty packets that repeat a picture.
static int64_t lost_of_avi(const video_index *x, const video_track *t)
{
    int64_t missing = t->stream->nb_frames - x->n;
    bool avi = !strcmp(t->container->iformat->name, "avi");
    return avi && missing > x->n / 50 ? missing : 0;
}

sight_err video_index_build(video_index *x, video_track *t, const video *v)
{
    bool took;
    sight_err err = from_table(x, &took, t, v);
    if (!err && !took) {
        video_index_done(x);
        err = from_packets(x, t, v);
    }
    if (err) {
        video_index_done(x);
        return err;
    }
    x->claimed_s = claimed_duration(t->container);
    if (!took) x->lost = lost_of_avi(x, t);
    return SIGHT_OK;
}
