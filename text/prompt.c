#include "text/prompt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

// More visual tokens than this in one prompt would overflow sizes long after they made no sense.
#define MAX_VISUAL ((int64_t)1 << 24)

typedef struct piece { // of text, not ended by a NUL
    const char *text;
    size_t n;
} piece;

typedef struct expansion {
    piece rest; // of the prompt, not copied yet
    buf out;
    piece image_pad, video_pad, start, end; // empty: the model has none
} expansion;

// ---- checking what was given ----

static sight_err check_medium(const prompt_media *m, int32_t i, int64_t *total)
{
    if (m->t < 1 || m->h < 1 || m->w < 1 || (!m->video && m->t != 1))
        return sight_fail(SIGHT_E_ARGUMENT, "medium %d has a grid of %d x %d x %d", i + 1, m->t,
                          m->h, m->w);
    if (m->video && !m->times_s)
        return sight_fail(SIGHT_E_ARGUMENT, "medium %d is a video without times", i + 1);
    int64_t frame = (int64_t)m->h * m->w;
    if (frame > MAX_VISUAL || m->t > MAX_VISUAL / frame ||
        (*total += frame * m->t) > MAX_VISUAL)
        return sight_fail(SIGHT_E_ARGUMENT, "the media take over %lld tokens",
                          (long long)MAX_VISUAL);
    return SIGHT_OK;
}

static sight_err check_media(const prompt_media *media, int32_t n, const model_config *config,
                             int64_t *total)
{
    *total = 0;
    if (n > 0 && !config->has_vision)
        return sight_fail(SIGHT_E_ARGUMENT, "this model reads text only, no pictures or videos");
    for (int32_t i = 0; i < n; i++) {
        sight_err err = check_medium(&media[i], i, total);
        if (err) return err;
    }
    return SIGHT_OK;
}

static sight_err token_text(piece *out, const tokenizer *t, int32_t id, const char *what)
{
    out->text = id >= 0 ? tokenizer_bytes(t, id, &out->n) : NULL;
    if (out->text && out->n) return SIGHT_OK;
    return sight_fail(SIGHT_E_MODEL, "config.json: %s is %d, which the tokenizer does not have",
                      what, id);
}

static sight_err token_texts(expansion *e, const tokenizer *t, const model_config *config)
{
    sight_err err = SIGHT_OK;
    if (!config->has_vision) return err;
    if (!err) err = token_text(&e->image_pad, t, config->image_token, "image_token_id");
    if (!err) err = token_text(&e->video_pad, t, config->video_token, "video_token_id");
    if (!err) err = token_text(&e->start, t, config->vision_start_token, "vision_start_token_id");
    if (!err) err = token_text(&e->end, t, config->vision_end_token, "vision_end_token_id");
    return err;
}

// ---- expanding pads ----

static bool starts(piece text, piece with)
{
    return with.n > 0 && text.n >= with.n && memcmp(text.text, with.text, with.n) == 0;
}

// Copies text up to the next pad. Pads inside a client's text carry marks and are not found.
static bool copy_to_pad(expansion *e, bool *video)
{
    for (size_t i = 0; i < e->rest.n; i++) {
        piece here = { e->rest.text + i, e->rest.n - i };
        *video = starts(here, e->video_pad);
        if (!*video && !starts(here, e->image_pad)) continue;
        buf_add(&e->out, e->rest.text, i);
        e->rest = here;
        return true;
    }
    buf_add(&e->out, e->rest.text, e->rest.n);
    e->rest.n = 0;
    return false;
}

static void skip(piece *p, size_t n)
{
    p->text += n;
    p->n -= n;
}

static void add_pads(buf *out, piece pad, int64_t n)
{
    if (!buf_reserve(out, pad.n * (size_t)n)) return;
    for (int64_t i = 0; i < n; i++) buf_add(out, pad.text, pad.n);
}

static void expand_image(expansion *e, const prompt_media *m)
{
    skip(&e->rest, e->image_pad.n);
    add_pads(&e->out, e->image_pad, (int64_t)m->h * m->w);
}

// The template's start and end around a video's pad give way to those around each frame pair.
static void expand_video(expansion *e, const prompt_media *m, bool keep_outer)
{
    skip(&e->rest, e->video_pad.n);
    size_t n = e->start.n;
    bool opened = e->out.size >= n && memcmp(e->out.data + e->out.size - n, e->start.text, n) == 0;
    if (!keep_outer && opened && starts(e->rest, e->end)) {
        e->out.size -= n;
        skip(&e->rest, e->end.n);
    }
    for (int32_t i = 0; i < m->t; i++) {
        // printf rounds the exact binary value half to even, as Python's .1f does.
        buf_printf(&e->out, "<%.1f seconds>", m->times_s[i]);
        buf_add(&e->out, e->start.text, n);
        add_pads(&e->out, e->video_pad, (int64_t)m->h * m->w);
        buf_add(&e->out, e->end.text, e->end.n);
    }
}

static sight_err expand(expansion *e, const prompt_media *media, int32_t n, bool keep_outer)
{
    bool video;
    int32_t i = 0, pads = 0;
    for (; copy_to_pad(e, &video); pads++) {
        if (i == n) {
            skip(&e->rest, video ? e->video_pad.n : e->image_pad.n);
            continue; // counted for the message below
        }
        if (media[i].video != video)
            return sight_fail(SIGHT_E_ARGUMENT,
                              "medium %d is a %s, but the messages have a %s there", i + 1,
                              media[i].video ? "video" : "picture", video ? "video" : "picture");
        if (video) expand_video(e, &media[i], keep_outer);
        else expand_image(e, &media[i]);
        i++;
    }
    if (pads != n)
        return sight_fail(SIGHT_E_ARGUMENT,
                          "the messages have %d pictures and videos, but %d are given", pads, n);
    return buf_failed(&e->out) ? sight_fail(SIGHT_E_MEMORY, "no memory for a prompt") : SIGHT_OK;
}

// ---- positions ----

typedef struct placing {
    prompt *p;
    int32_t next; // position of the next token
} placing;

static void place(placing *at, int32_t i, int32_t t, int32_t h, int32_t w)
{
    int32_t *positions = at->p->positions;
    positions[i] = t;
    positions[at->p->n + i] = h;
    positions[2 * at->p->n + i] = w;
}

// One picture or frame pair from token i on: its rows and columns count from where it stands.
static void place_grid(placing *at, int32_t i, const prompt_media *m)
{
    for (int32_t row = 0; row < m->h; row++) {
        for (int32_t column = 0; column < m->w; column++, i++) {
            place(at, i, at->next, at->next + row, at->next + column);
            at->p->visual[i] = 1;
        }
    }
    at->next += m->h > m->w ? m->h : m->w;
}

// Whether the n tokens from i on are all the pad.
static bool all_pads(const prompt *p, int32_t i, int64_t n, int32_t pad)
{
    if (n > p->n - i) return false;
    for (int64_t k = 0; k < n; k++) {
        if (p->ids[i + k] != pad) return false;
    }
    return true;
}

static sight_err place_all(prompt *p, const prompt_media *media, int32_t n_media,
                           const model_config *config)
{
    placing at = { p, 0 };
    int32_t medium = 0, frame = 0;
    for (int32_t i = 0; i < p->n;) {
        bool pad = config->has_vision &&
                   (p->ids[i] == config->image_token || p->ids[i] == config->video_token);
        if (!pad) {
            place(&at, i, at.next, at.next, at.next);
            at.next++;
            i++;
            continue;
        }
        const prompt_media *m = medium < n_media ? &media[medium] : NULL;
        int32_t area = m ? m->h * m->w : 0;
        if (!m || !all_pads(p, i, area, m->video ? config->video_token : config->image_token))
            return sight_fail(SIGHT_E_INTERNAL, "token %d is a visual one that no medium has", i);
        place_grid(&at, i, m);
        p->n_visual += area;
        i += area;
        if (++frame == m->t) {
            frame = 0;
            medium++;
        }
    }
    if (medium != n_media)
        return sight_fail(SIGHT_E_INTERNAL, "the tokenizer lost the visual tokens of a medium");
    p->next_position = at.next;
    return SIGHT_OK;
}

// ---- the whole ----

static sight_err tokenize(prompt *p, const tokenizer *t, const buf *text)
{
    token_list ids = { 0 };
    sight_err err = tokenizer_encode(t, &ids, buf_text(text), text->size, TOKENIZER_PROMPT);
    if (!err && ids.n > INT32_MAX / 3)
        err = sight_fail(SIGHT_E_ARGUMENT, "a prompt of %zu tokens", ids.n);
    if (err) {
        token_list_done(&ids);
        return err;
    }
    p->ids = ids.ids;
    p->n = (int32_t)ids.n;
    p->positions = malloc(3 * ids.n * sizeof *p->positions + 1);
    p->visual = calloc(ids.n + 1, 1);
    return p->positions && p->visual ? SIGHT_OK
                                     : sight_fail(SIGHT_E_MEMORY, "no memory for a prompt");
}

sight_err prompt_build(prompt *out, const tokenizer *t, const char *text, size_t size,
                       const prompt_media *media, int32_t n_media, const model_config *config)
{
    expansion e = { .rest = { text, size } };
    prompt p = { 0 };
    int64_t total;
    sight_err err = check_media(media, n_media, config, &total);
    if (err) return err;
    buf_init(&e.out);
    err = token_texts(&e, t, config);
    if (!err) err = expand(&e, media, n_media, config->video_outer_pair);
    if (!err) err = tokenize(&p, t, &e.out);
    if (!err) err = place_all(&p, media, n_media, config);
    buf_done(&e.out);
    if (err) {
        prompt_done(&p);
        return err;
    }
    *out = p;
    return SIGHT_OK;
}

void prompt_done(prompt *p)
{
    free(p->ids);
    free(p->positions);
    free(p->visual);
    *p = (prompt){ 0 };
}
