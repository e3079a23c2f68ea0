#include "decoder/video_state.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

// As video_index.c has them: frames of a clip, and how far a key may lie past its place.
#define MAX_FRAMES  (1 << 24)
#define MAX_LEADING 16
// A frame is shown at most so much wider than it is stored (video.c, describe).
#define MAX_ASPECT 16

typedef struct state {
    video_info info;
    int64_t first, n, n_keys, lost;
    double tick_s, fps, duration_s, claimed_s;
    int32_t orientation;
    bool by_count, constant, cut_off;
} state;

void video_state_pack(buf *b, const video *v)
{
    const video_index *x = &v->index;
    state s;
    memset(&s, 0, sizeof s); // no byte of the stack between the fields
    s.info = v->info;
    s.first = v->first;
    s.n = x->n;
    s.n_keys = x->n_keys;
    s.lost = x->lost;
    s.tick_s = x->tick_s;
    s.fps = x->fps;
    s.duration_s = x->duration_s;
    s.claimed_s = x->claimed_s;
    s.orientation = v->orientation;
    s.by_count = x->by_count;
    s.constant = x->constant;
    s.cut_off = x->cut_off;
    buf_add(b, &s, sizeof s);
    buf_add(b, x->pts, (size_t)x->n * sizeof *x->pts);
    buf_add(b, x->keys, (size_t)x->n_keys * sizeof *x->keys);
}

// ---- from foreign bytes ----

static bool is_name(const char *s, size_t size)
{
    const char *end = memchr(s, 0, size);
    if (!end) return false;
    for (; s < end; s++) {
        if (*s < 0x20 || *s > 0x7e) return false;
    }
    return true;
}

static bool is_flag(const bool *b)
{
    uint8_t byte;
    memcpy(&byte, b, 1);
    return byte <= 1;
}

static bool counts_fit(const state *s, size_t size)
{
    if (s->n < 1 || s->n > MAX_FRAMES || s->n_keys < 0 || s->n_keys > MAX_FRAMES) return false;
    if (s->first < 0 || s->first >= s->n || s->lost < 0 || s->lost > INT64_MAX - s->n) return false;
    if (s->info.n_frames < 1 || s->info.n_frames > s->n - s->first) return false;
    return size == sizeof *s + (size_t)s->n * sizeof(int64_t) + (size_t)s->n_keys * sizeof(video_key);
}

static bool times_fit(const state *s)
{
    const video_info *i = &s->info;
    const double positive[] = {s->tick_s, s->fps, i->fps}, others[] = {s->duration_s, s->claimed_s, i->duration_s,
                                                                        i->start_s};
    for (size_t k = 0; k < sizeof positive / sizeof *positive; k++) {
        if (!isfinite(positive[k]) || positive[k] <= 0) return false;
    }
    for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
        if (!isfinite(others[k]) || others[k] < 0) return false;
    }
    return true;
}

static bool info_fits(const state *s, int64_t max_pixels)
{
    const video_info *i = &s->info;
    if (i->width < 1 || i->height < 1 || s->orientation < 1 || s->orientation > 8) return false;
    if (i->orientation != s->orientation) return false;
    if ((double)i->width * i->height > (double)max_pixels * MAX_ASPECT) return false;
    return is_name(i->codec, sizeof i->codec) && is_name(i->container, sizeof i->container);
}

static bool flags_fit(const uint8_t *bytes)
{
    static const size_t at[] = {offsetof(state, by_count), offsetof(state, constant), offsetof(state, cut_off),
                                offsetof(state, info) + offsetof(video_info, variable_rate)};
    for (size_t k = 0; k < sizeof at / sizeof *at; k++) {
        if (!is_flag((const bool *)(bytes + at[k]))) return false;
    }
    return true;
}

// Differences of times stay in range, and every frame has its own.
static bool pts_ascend(const int64_t *pts, int64_t n)
{
    const int64_t most = INT64_MAX >> 2;
    for (int64_t i = 0; i < n; i++) {
        if (pts[i] <= -most || pts[i] >= most || (i && pts[i] <= pts[i - 1])) return false;
    }
    return true;
}

static bool keys_ascend(const video_key *keys, int64_t n_keys, int64_t n)
{
    for (int64_t i = 0; i < n_keys; i++) {
        if (keys[i].frame < (i ? keys[i - 1].frame : 0) || keys[i].frame > n + MAX_LEADING) return false;
    }
    return true;
}

static sight_err take_lists(video_index *x, const state *s, const uint8_t *at)
{
    const size_t pts_bytes = (size_t)s->n * sizeof *x->pts, key_bytes = (size_t)s->n_keys * sizeof *x->keys;
    x->pts = malloc(pts_bytes);
    x->keys = s->n_keys ? malloc(key_bytes) : NULL;
    if (!x->pts || (s->n_keys && !x->keys)) return SIGHT_E_MEMORY;
    memcpy(x->pts, at, pts_bytes);
    if (s->n_keys) memcpy(x->keys, at + pts_bytes, key_bytes);
    return pts_ascend(x->pts, s->n) && keys_ascend(x->keys, s->n_keys, s->n) ? SIGHT_OK : SIGHT_E_MEDIA;
}

static sight_err fail_state(sight_err err, const video *v)
{
    if (err == SIGHT_E_MEMORY) return sight_fail(err, "no memory for the frame list of '%s'", v->name);
    return sight_fail(SIGHT_E_MEDIA, "'%s': the decoder tells of a clip that cannot be", v->name);
}

sight_err video_state_unpack(video *v, const void *bytes, size_t size)
{
    state s;
    if (size < sizeof s || !flags_fit(bytes)) return fail_state(SIGHT_E_MEDIA, v);
    memcpy(&s, bytes, sizeof s);
    if (!counts_fit(&s, size) || !times_fit(&s) || !info_fits(&s, v->limits.max_pixels)) {
        return fail_state(SIGHT_E_MEDIA, v);
    }
    video_index x = {.n = s.n, .tick_s = s.tick_s, .by_count = s.by_count, .constant = s.constant, .fps = s.fps,
                     .duration_s = s.duration_s, .n_keys = s.n_keys, .lost = s.lost, .cut_off = s.cut_off,
                     .claimed_s = s.claimed_s};
    sight_err err = take_lists(&x, &s, (const uint8_t *)bytes + sizeof s);
    if (err) {
        video_index_done(&x);
        return fail_state(err, v);
    }
    v->index = x;
    v->info = s.info;
    v->orientation = s.orientation;
    v->first = s.first;
    return SIGHT_OK;
}
