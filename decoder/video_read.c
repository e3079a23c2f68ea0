// Decoding of chosen frames.
//
// Frames are told apart by number: a decoded frame is the one of the index whose time is nearest.
// `next` walks over the asked numbers; a decoded frame either is the next asked one, lies before it
// and is kept in case the asked one is lost, or lies after it, and then the kept one stands for it.
#include <stdlib.h>
#include <string.h>

#include <libavutil/hwcontext.h>

#include "base/buf.h"
#include "decoder/gpu.h"
#include "decoder/orient.h"
#include "decoder/remote.h"
#include "decoder/resize.h"
#include "decoder/video_parts.h"

// A jump costs a flushed pipeline and a search: not worth it for fewer skipped frames.
#define MIN_JUMP 8
// Jumps that landed too late before jumping is given up.
#define MAX_MISSES 6

typedef struct reader {
    const video *v;
    video_track track;
    AVCodecContext *codec;
    AVPacket *packet;
    AVFrame *decoded;
    AVFrame *kept;   // the latest decoded frame before the next asked one
    int64_t kept_at; // its number, -1: none
    av_converter convert;

    const int64_t *asked;
    int32_t n, next;
    int32_t width, height; // before turning
    video_sink *sink;
    void *arg;
    const video_raw *raw; // NULL: all frames go to sink
    bool on_gpu;          // frames are decoded there
    bool gave_up;         // and something went wrong: the CPU does the rest
    frame *last; // the latest one handed over, for repeats
    int64_t last_at;

    int64_t counted;  // frames decoded since the start, for by_count
    int64_t fed;      // number of the latest packet's frame, as far as known
    int64_t no_jump;  // an asked number for which a jump did not work, or -1
    bool landed;      // no frame has come out since the last jump
    int64_t jumped;   // index of the key of the last jump
    int32_t misses;
    int32_t replaced; // asked frames that another stands for
    int32_t damaged;  // asked frames that the decoder patched up
    int64_t broken;   // packets that the decoder refused
} reader;

static sight_err no_memory(const reader *r)
{
    return sight_fail(SIGHT_E_MEMORY, "no memory to decode '%s'", r->v->name);
}

// The GPU's part of the reading ends here; the caller sees no error of it.
static sight_err give_up(reader *r)
{
    r->gave_up = true;
    return sight_fail(SIGHT_E_UNSUPPORTED, "the GPU does not decode '%s'", r->v->name);
}

static const AVCodec *find_decoder(enum AVCodecID id)
{
    // FFmpeg's own AV1 decoder needs hardware.
    const AVCodec *codec = id == AV_CODEC_ID_AV1 ? avcodec_find_decoder_by_name("libdav1d") : NULL;
    return codec ? codec : avcodec_find_decoder(id);
}

static sight_err open_codec(reader *r)
{
    const AVCodecParameters *p = r->track.stream->codecpar;
    const AVCodec *codec = r->on_gpu ? gpu_find_decoder(p->codec_id) : find_decoder(p->codec_id);
    if (!codec && r->on_gpu) return give_up(r);
    if (!codec) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s' is coded as %s, for which there is no decoder",
                          r->v->name, avcodec_get_name(p->codec_id));
    }
    AVCodecContext *c = r->codec = avcodec_alloc_context3(codec);
    if (!c || avcodec_parameters_to_context(c, p) < 0) return no_memory(r);
    c->pkt_timebase = r->track.stream->time_base;
    c->thread_count = r->v->limits.threads;
    c->max_pixels = r->v->limits.max_pixels;
    if (r->on_gpu && !gpu_attach(c, &(gpu_place){r->raw->cuda_context, r->raw->cuda_stream})) {
        return give_up(r);
    }
    int error = avcodec_open2(c, codec, NULL);
    if (error < 0 && r->on_gpu) return give_up(r);
    if (error == AVERROR(ENOMEM)) return no_memory(r);
    if (error < 0) {
        return sight_fail(SIGHT_E_MEDIA, "'%s' has a damaged %s header: %s", r->v->name,
                          avcodec_get_name(p->codec_id), av_words(error));
    }
    return SIGHT_OK;
}

// ---- handing over ----

static sight_err place(reader *r, frame **out, int32_t width, int32_t height)
{
    if (r->raw && r->raw->place) return r->raw->place(r->arg, out, width, height);
    return frame_create(out, width, height);
}

static sight_err convert(reader *r, frame **out, const AVFrame *from)
{
    const int turn = r->v->orientation;
    const bool swap = orient_swaps(turn);
    frame *f = NULL, *flat = NULL;
    sight_err err = av_convert(&r->convert, from, r->v->name);
    if (!err) err = place(r, &f, swap ? r->height : r->width, swap ? r->width : r->height);
    if (!err && turn > 1) err = frame_create(&flat, r->width, r->height);
    if (!err) {
        err = resize_into(flat ? flat : f, r->convert.rgb, r->convert.stride, from->width, from->height);
    }
    if (!err && flat) orient_into(f, flat, turn);
    frame_unref(&flat);
    if (err) frame_unref(&f);
    else *out = f;
    return err;
}

// A copy of a GPU's frame in this memory.
static sight_err fetch(reader *r, AVFrame **out, const AVFrame *from)
{
    AVFrame *here = av_frame_alloc();
    if (!here) return no_memory(r);
    if (av_hwframe_transfer_data(here, from, 0) < 0 || av_frame_copy_props(here, from) < 0) {
        av_frame_free(&here);
        return give_up(r);
    }
    here->width = from->width;
    here->height = from->height;
    *out = here;
    return SIGHT_OK;
}

static sight_err make_frame(reader *r, frame **out, const AVFrame *from, int64_t number)
{
    AVFrame *fetched = NULL;
    sight_err err = from->format == AV_PIX_FMT_CUDA ? fetch(r, &fetched, from) : SIGHT_OK;
    if (!err) err = convert(r, out, fetched ? fetched : from);
    if (!err) (*out)->time_s = video_time_of(&r->v->index, number);
    av_frame_free(&fetched);
    return err;
}

static sight_err hand_over_raw(reader *r, const AVFrame *from, bool *taken)
{
    planes p;
    *taken = false;
    if (!r->raw || !r->raw->sink || !planes_of(&p, from)) return SIGHT_OK;
    return r->raw->sink(r->arg, r->next, &p, taken);
}

// Hands over `from`, decoded as frame `at`, for the next asked frame.
static sight_err hand_over(reader *r, const AVFrame *from, int64_t at)
{
    int64_t number = r->asked[r->next];
    const bool damaged = from->decode_error_flags || (from->flags & AV_FRAME_FLAG_CORRUPT);
    if (r->on_gpu && (at != number || damaged)) return give_up(r); // the CPU knows what was lost
    if (at != number) r->replaced++;
    else if (damaged) r->damaged++;
    bool taken;
    sight_err err = hand_over_raw(r, from, &taken);
    if (!err && taken) r->next++;
    if (err || taken) return err;
    if (!r->last || r->last_at != at) {
        frame *f;
        err = make_frame(r, &f, from, number);
        if (err) return err;
        frame_unref(&r->last);
        r->last = f;
        r->last_at = at;
    }
    return r->sink(r->arg, r->next++, frame_ref(r->last));
}

// All asked frames before number `until` are lost: the kept frame, or failing that `from`, stands
// for them.
static sight_err replace_lost(reader *r, int64_t until, const AVFrame *from, int64_t at)
{
    sight_err err = SIGHT_OK;
    while (!err && r->next < r->n && r->asked[r->next] < until) {
        if (r->kept_at >= 0) err = hand_over(r, r->kept, r->kept_at);
        else err = hand_over(r, from, at);
    }
    return err;
}

static void keep(reader *r, AVFrame *f, int64_t at)
{
    av_frame_unref(r->kept);
    av_frame_move_ref(r->kept, f);
    r->kept_at = at;
}

static int64_t number_of(reader *r, const AVFrame *f)
{
    const video_index *x = &r->v->index;
    if (x->by_count) return r->counted++;
    int64_t pts = f->best_effort_timestamp;
    if (pts == AV_NOPTS_VALUE) pts = f->pkt_dts;
    if (pts == AV_NOPTS_VALUE) return r->kept_at + 1;
    return video_nearest(x, pts);
}

static sight_err take(reader *r, AVFrame *f)
{
    // The chip refused it, or keeps rows and columns in front that are not shown.
    if (r->on_gpu && (f->format != AV_PIX_FMT_CUDA || f->crop_left || f->crop_top)) return give_up(r);
    int64_t at = number_of(r, f);
    sight_err err = replace_lost(r, at, f, at);
    while (!err && r->next < r->n && r->asked[r->next] == at) err = hand_over(r, f, at);
    if (!err) keep(r, f, at);
    return err;
}

// ---- jumping ----

// The last key from which the frame comes out right, or -1.
static int64_t key_before(const video_index *x, int64_t number)
{
    int64_t lo = -1, hi = x->n_keys;
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (x->keys[mid].frame <= number) lo = mid;
        else hi = mid;
    }
    return lo;
}

static bool jump(reader *r, int64_t key)
{
    const video_key *k = &r->v->index.keys[key];
    if (av_seek_frame(r->track.container, r->track.stream->index, k->seek,
                      AVSEEK_FLAG_BACKWARD) < 0) {
        return false;
    }
    avcodec_flush_buffers(r->codec);
    r->fed = k->frame;
    r->landed = true;
    r->jumped = key;
    return true;
}

// Goes to the next asked frame's key when that skips enough.
static void jump_ahead(reader *r)
{
    const video_index *x = &r->v->index;
    int64_t number = r->asked[r->next];
    if (x->n_keys == 0 || r->misses >= MAX_MISSES || number == r->no_jump) return;
    int64_t key = key_before(x, number);
    if (key < 0 || x->keys[key].frame - r->fed < MIN_JUMP) return;
    if (!jump(r, key)) r->misses = MAX_MISSES;
}

// After a jump the first frame came out past the asked one, or none did (f NULL): the place was
// wrong or broken. Goes to the key before it. True when that was done; f must then be dropped.
static bool jump_back(reader *r, const AVFrame *f)
{
    const video_index *x = &r->v->index;
    bool landed = r->landed;
    r->landed = false;
    if (!landed || r->next >= r->n) return false;
    int64_t number = r->asked[r->next], pts = f ? f->best_effort_timestamp : AV_NOPTS_VALUE;
    if (pts != AV_NOPTS_VALUE && video_nearest(x, pts) <= number) return false;
    r->no_jump = number;
    r->misses++;
    if (r->jumped < 1) return false;
    return jump(r, r->misses >= MAX_MISSES ? 0 : r->jumped - 1);
}

// ---- the loop ----

// Frames that nobody refers to and nobody asked for need no decoding. Only where a packet is one
// frame, whole.
static void set_discard(reader *r, const AVPacket *p)
{
    const video_index *x = &r->v->index;
    enum AVCodecID id = r->codec->codec_id;
    if (x->by_count || (id != AV_CODEC_ID_H264 && id != AV_CODEC_ID_HEVC)) return;
    if (p->pts == AV_NOPTS_VALUE) return; // a second field: as the first
    int64_t number = video_nearest(x, p->pts);
    bool wanted = false;
    for (int32_t lo = r->next, hi = r->n; lo < hi && !wanted;) {
        int32_t mid = lo + (hi - lo) / 2;
        wanted = r->asked[mid] == number;
        if (r->asked[mid] < number) lo = mid + 1;
        else hi = mid;
    }
    r->codec->skip_frame = wanted ? AVDISCARD_DEFAULT : AVDISCARD_NONREF;
}

// Takes what the decoder has ready. *done at its end.
static sight_err drain(reader *r, bool *done)
{
    while (r->next < r->n) {
        int error = avcodec_receive_frame(r->codec, r->decoded);
        if (error == AVERROR(EAGAIN)) return SIGHT_OK;
        if (error == AVERROR_EOF && jump_back(r, NULL)) return SIGHT_OK;
        if (error == AVERROR_EOF) break;
        if (error < 0 && r->on_gpu) return give_up(r);
        if (error == AVERROR(ENOMEM)) return no_memory(r);
        if (error < 0) {
            r->broken++;
            return SIGHT_OK;
        }
        if (jump_back(r, r->decoded)) {
            av_frame_unref(r->decoded);
            return SIGHT_OK;
        }
        sight_err err = take(r, r->decoded);
        av_frame_unref(r->decoded);
        if (err) return err;
    }
    *done = true;
    return SIGHT_OK;
}

static sight_err feed(reader *r, const AVPacket *p, bool *done)
{
    if (p) set_discard(r, p);
    int error = avcodec_send_packet(r->codec, p);
    if (error < 0 && error != AVERROR_EOF && r->on_gpu) return give_up(r);
    if (error == AVERROR(ENOMEM)) return no_memory(r);
    if (error < 0 && error != AVERROR_EOF) r->broken++; // also EAGAIN, which drain prevents
    if (p && p->pts != AV_NOPTS_VALUE && !r->v->index.by_count) {
        int64_t number = video_nearest(&r->v->index, p->pts);
        if (number > r->fed) r->fed = number;
    }
    return drain(r, done);
}

// Reads on until everything asked for is handed over, or nothing is left to read.
static sight_err run(reader *r)
{
    bool done = false;
    sight_err err = SIGHT_OK;
    while (!err && !done) {
        if ((err = video_check_stop(r->v)) != SIGHT_OK) break;
        jump_ahead(r);
        int error = av_read_frame(r->track.container, r->packet);
        if (error == AVERROR(ENOMEM)) return no_memory(r);
        if (error < 0) {
            r->codec->skip_frame = AVDISCARD_DEFAULT;
            err = feed(r, NULL, &done);
            if (!r->landed) break; // else it went back
            continue;
        }
        if (r->packet->stream_index == r->track.stream->index && r->packet->size > 0) {
            err = feed(r, r->packet, &done);
        }
        av_packet_unref(r->packet);
    }
    if (!err && r->kept_at >= 0) err = replace_lost(r, INT64_MAX, NULL, -1);
    if (!err && r->next < r->n && r->on_gpu) return give_up(r);
    if (!err && r->next < r->n) {
        err = sight_fail(SIGHT_E_MEDIA, "'%s': nothing of its picture track can be decoded",
                         r->v->name);
    }
    return err;
}

// Picture tracks often end a little before the sound.
static bool ends_early(const video_index *x)
{
    double gap = x->claimed_s - x->duration_s;
    return gap > 1 && gap > 0.05 * x->claimed_s;
}

// What the packets alone tell: each part begins with "; ".
static void add_index_losses(buf *b, const video_index *x)
{
    if (x->lost) {
        buf_printf(b, "; it is cut off or damaged: only %lld of %lld frames can be read",
                   (long long)x->n, (long long)(x->n + x->lost));
    } else if (ends_early(x)) {
        buf_printf(b, "; its pictures end at %.1f s, where its header says %.1f s", x->duration_s,
                   x->claimed_s);
    } else if (x->cut_off) {
        buf_printf(b, "; it ends early or is damaged: only %.1f s of it can be read",
                   x->duration_s);
    }
}

// "'name': part; part"; done with parts.
static sight_err make_warning(char **warning, buf *parts, const video *v)
{
    sight_err err = SIGHT_OK;
    if (buf_text(parts)[0]) {
        buf whole;
        buf_init(&whole);
        buf_printf(&whole, "'%s': %s", v->name, buf_text(parts) + 2);
        *warning = buf_take(&whole);
        if (!*warning) err = sight_fail(SIGHT_E_MEMORY, "no memory for a warning");
    }
    buf_done(parts);
    return err;
}

sight_err video_losses(const video *v, char **warning)
{
    buf b;
    buf_init(&b);
    *warning = NULL;
    add_index_losses(&b, &v->index);
    return make_warning(warning, &b, v);
}

static sight_err describe_losses(const reader *r, char **warning)
{
    buf b;
    buf_init(&b);
    add_index_losses(&b, &r->v->index);
    if (r->replaced) {
        buf_printf(&b, "; %d of %d chosen frames are lost and the nearest others stand for them",
                   r->replaced, r->n);
    }
    if (r->damaged) buf_printf(&b, "; %d of %d chosen frames are damaged", r->damaged, r->n);
    if (!b.size && r->broken) {
        buf_printf(&b, "; %lld broken packets were passed over", (long long)r->broken);
    }
    return make_warning(warning, &b, r->v);
}

static sight_err check_asked(const video *v, const int64_t *asked, int32_t n, int32_t width,
                             int32_t height)
{
    if (n < 1 || width < 0 || height < 0 || (width == 0) != (height == 0)) {
        return sight_fail(SIGHT_E_ARGUMENT, "%d frames at %d x %d", n, width, height);
    }
    for (int32_t i = 0; i < n; i++) {
        if (asked[i] < (i ? asked[i - 1] : 0) || asked[i] >= v->index.n) {
            return sight_fail(SIGHT_E_ARGUMENT, "frame %lld of '%s', which has %lld",
                              (long long)asked[i], v->name, (long long)v->index.n);
        }
    }
    return SIGHT_OK;
}

// What one pass over the track opened; what was handed over stays.
static void pass_done(reader *r)
{
    av_frame_free(&r->decoded);
    av_frame_free(&r->kept);
    av_packet_free(&r->packet);
    avcodec_free_context(&r->codec);
    video_track_close(&r->track);
}

// From the next asked frame to the end.
static sight_err pass(reader *r, bool on_gpu)
{
    r->on_gpu = on_gpu;
    r->kept_at = r->no_jump = -1;
    r->counted = r->fed = 0;
    r->landed = false;
    sight_err err = video_track_open(&r->track, r->v);
    if (err) return err;
    r->packet = av_packet_alloc();
    r->decoded = av_frame_alloc();
    r->kept = av_frame_alloc();
    if (!r->packet || !r->decoded || !r->kept) err = no_memory(r);
    if (!err) err = open_codec(r);
    if (!err) err = run(r);
    pass_done(r);
    return err;
}

bool video_may_use_gpu(const video *v)
{
    return !v->limits.decoders || v->limits.gpu_here;
}

sight_err video_read_raw(video *v, const int64_t *indices, int32_t n, int32_t width, int32_t height,
                         video_sink *sink, void *arg, const video_raw *raw, char **warning)
{
    sight_err err = check_asked(v, indices, n, width, height);
    if (err) return err;
    if (width == 0) {
        width = v->info.width;
        height = v->info.height;
    }
    const bool here = !v->limits.decoders || (raw && raw->cuda_context && video_may_use_gpu(v));
    if (!here) return remote_clip_read(v, indices, n, width, height, sink, arg, raw, warning);
    bool swap = orient_swaps(v->orientation);
    reader r = {.v = v, .asked = indices, .n = n, .sink = sink, .arg = arg, .raw = raw,
                .width = swap ? height : width, .height = swap ? width : height};
    char *words = NULL;
    err = pass(&r, raw && raw->cuda_context);
    if (r.gave_up) err = pass(&r, false);
    if (!err) err = describe_losses(&r, &words);
    av_converter_done(&r.convert);
    frame_unref(&r.last);
    if (err) return err;
    if (warning) *warning = words;
    else free(words);
    return SIGHT_OK;
}

sight_err video_read(video *v, const int64_t *indices, int32_t n, int32_t width, int32_t height,
                     video_sink *sink, void *arg, char **warning)
{
    return video_read_raw(v, indices, n, width, height, sink, arg, NULL, warning);
}
