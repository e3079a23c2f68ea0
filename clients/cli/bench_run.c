#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/sort.h"
#include "checkpoint/prepare.h"
#include "clients/cli/bench.h"
#include "clients/cli/terminal.h"
#include "kernels/memory.h"
#include "vision/plan.h"

#define DECODE_TOKENS 48
#define BATCH         8
#define LARGE_BATCH   32
#define WARMING       3 // steps before any is timed: the first touch memory, or become graphs

// A sequence being measured, with room for its logits: those that greedy answers need.
typedef struct runner {
    engine *e;
    sequence *seq;
    output_row row;
    int32_t next; // position and made-up id of the next token
} runner;

static sight_err runner_init(runner *r, engine *e)
{
    const size_t vocab = (size_t)engine_config(e)->text.vocab;
    *r = (runner){.e = e, .row = {.k = 1}};
    r->row.logits = malloc(sizeof(float) * vocab);
    r->row.ids = malloc(sizeof(int32_t) * vocab);
    if (!r->row.logits || !r->row.ids) return sight_fail(SIGHT_E_MEMORY, "no memory for logits");
    return sequence_create(&r->seq, engine_pool(e));
}

static void runner_done(runner *r)
{
    sequence_drop(&r->seq);
    free(r->row.logits);
    free(r->row.ids);
    r->row = (output_row){0};
}

// Ids spread over the vocabulary, so that no row of the table stays in a cache.
static int32_t id_at(const runner *r, int32_t i)
{
    return (int32_t)((uint32_t)i * 2654435761u % (uint32_t)engine_config(r->e)->text.vocab);
}

// Reads n tokens in the engine's pieces; what the next one needs is computed.
static sight_err read_tokens(runner *r, int32_t n)
{
    int64_t most = text_model_max_rows(engine_text(r->e));
    int32_t *ids = malloc(sizeof *ids * 4 * (size_t)n);
    if (!ids) return sight_fail(SIGHT_E_MEMORY, "no memory for %d tokens", (int)n);
    for (int32_t i = 0; i < n; i++) {
        ids[i] = id_at(r, r->next + i);
        for (int axis = 1; axis <= 3; axis++) ids[axis * n + i] = r->next + i;
    }
    sight_err err = SIGHT_OK;
    for (int32_t done = 0; done < n && !err;) {
        int32_t rows = n - done < most ? n - done : (int32_t)most;
        segment s = {.seq = r->seq, .n = rows, .ids = ids + done, .positions = ids + n + done,
                     .position_stride = n};
        if (done + rows == n) {
            s.n_logits = 1;
            s.outputs = &r->row;
        }
        err = text_model_step(engine_text(r->e), &s, 1);
        done += rows;
    }
    r->next += n;
    free(ids);
    return err;
}

// The kernels of text and of vision, which are one with the CPU.
static void set_profiles(engine *e, profile *p)
{
    kernels_set_profile(engine_kernels(e), p);
    if (engine_tower(e)) kernels_set_profile(tower_kernels(engine_tower(e)), p);
}

// Waits for all that was asked of a device. What went wrong there is told by the step that follows.
static void wait_for(engine *e)
{
    kernels_read(engine_kernels(e), NULL, NULL, 0);
    if (engine_tower(e)) kernels_read(tower_kernels(engine_tower(e)), NULL, NULL, 0);
}

// Between these the ops of e note what they take. p NULL: they do not.
static double watch_begin(engine *e, profile *p)
{
    wait_for(e);
    set_profiles(e, p);
    return clock_now_s();
}

static double watch_end(engine *e, profile *p, double start)
{
    wait_for(e);
    const double seconds = clock_now_s() - start;
    set_profiles(e, NULL);
    if (p) p->seconds += seconds;
    return seconds;
}

static sight_err time_prefill(engine *e, int32_t n, double *tok_s, profile *p)
{
    runner r;
    sight_err err = runner_init(&r, e);
    double start = watch_begin(e, p);
    if (!err) err = read_tokens(&r, n);
    *tok_s = n / watch_end(e, p, start);
    runner_done(&r);
    return err;
}

// Tokens one at a time after `depth` others: the median one.
static sight_err time_decode(engine *e, int32_t depth, double *tok_s, profile *p)
{
    runner r;
    sight_err err = runner_init(&r, e);
    if (!err) err = read_tokens(&r, depth);
    for (int i = 0; i < WARMING && !err; i++) err = read_tokens(&r, 1);
    double seconds[DECODE_TOKENS] = {0};
    for (int i = 0; i < DECODE_TOKENS && !err; i++) {
        double start = watch_begin(e, p);
        err = read_tokens(&r, 1);
        seconds[i] = watch_end(e, p, start);
    }
    sort_doubles(seconds, DECODE_TOKENS);
    *tok_s = 1 / seconds[DECODE_TOKENS / 2];
    runner_done(&r);
    return err;
}

static sight_err step_batch(runner *runners, int n)
{
    segment segments[LARGE_BATCH];
    int32_t ids[LARGE_BATCH], positions[LARGE_BATCH][3];
    for (int i = 0; i < n; i++) {
        runner *r = &runners[i];
        ids[i] = id_at(r, r->next + 977 * i);
        for (int axis = 0; axis < 3; axis++) positions[i][axis] = r->next;
        r->next++;
        segments[i] = (segment){.seq = r->seq, .n = 1, .ids = &ids[i], .positions = positions[i],
                                .position_stride = 1, .n_logits = 1, .outputs = &r->row};
    }
    return text_model_step(engine_text(runners[0].e), segments, n);
}

static sight_err time_batch(engine *e, int n, double *tok_s, profile *p)
{
    runner runners[LARGE_BATCH] = {0};
    sight_err err = SIGHT_OK;
    for (int i = 0; i < n && !err; i++) {
        err = runner_init(&runners[i], e);
        if (!err) err = read_tokens(&runners[i], 16);
    }
    for (int i = 0; i < WARMING && !err; i++) err = step_batch(runners, n);
    double start = watch_begin(e, p);
    for (int i = 0; i < DECODE_TOKENS / 2 && !err; i++) err = step_batch(runners, n);
    *tok_s = n * (DECODE_TOKENS / 2) / watch_end(e, p, start);
    for (int i = 0; i < n; i++) runner_done(&runners[i]);
    return err;
}

// A made-up picture, planned as a checkpoint would, and room for what is made of it.
typedef struct picture {
    vision_plan plan;
    float *patches;  // backend memory, as all of it
    float *features; // then the levels of DeepStack
    float *levels[CONFIG_MAX_DEEPSTACK];
} picture;

static sight_err write_patches(kernels *k, float *to, size_t n)
{
    float *patches = malloc(sizeof *patches * n);
    if (!patches) return sight_fail(SIGHT_E_MEMORY, "no memory for a picture");
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525u + 1013904223u;
        patches[i] = (float)(state >> 8) / 8388608.0f - 1;
    }
    kernels_write(k, to, patches, sizeof *patches * n);
    free(patches);
    return SIGHT_OK;
}

static sight_err picture_init(picture *pic, engine *e, int32_t width, int32_t height)
{
    kernels *k = tower_kernels(engine_tower(e));
    const model_config *config = engine_config(e);
    const vision_config *v = &config->vision;
    *pic = (picture){0};
    sight_err err = plan_image(&pic->plan, width, height, v, &config->image);
    if (err) return err;
    const size_t row = (size_t)v->channels * (size_t)v->temporal_patch * (size_t)v->patch * (size_t)v->patch;
    const size_t n = row * (size_t)pic->plan.patches, level = (size_t)pic->plan.tokens * (size_t)v->out_hidden;
    err = kernels_alloc((void **)&pic->patches, k, sizeof(float) * n, "a picture");
    if (!err) {
        err = kernels_alloc((void **)&pic->features, k,
                            sizeof(float) * level * (size_t)(1 + v->n_deepstack), "features");
    }
    if (!err) err = write_patches(k, pic->patches, n);
    for (int i = 0; i < v->n_deepstack && !err; i++) {
        pic->levels[i] = pic->features + level * (size_t)(i + 1);
    }
    return err;
}

static void picture_done(picture *pic, engine *e)
{
    kernels *k = tower_kernels(engine_tower(e));
    kernels_free(k, pic->patches);
    kernels_free(k, pic->features);
}

// Encodes one whose patches are where the tower reads them.
static sight_err time_picture(engine *e, int32_t width, int32_t height, double *seconds,
                              profile *p)
{
    picture pic;
    sight_err err = picture_init(&pic, e, width, height);
    const double start = watch_begin(e, p);
    if (!err) {
        err = tower_encode_placed(engine_tower(e), pic.patches, &pic.plan.grid, pic.features, pic.levels);
    }
    *seconds = watch_end(e, p, start);
    if (!err) err = kernels_status(tower_kernels(engine_tower(e)));
    picture_done(&pic, e);
    return err;
}

// What is measured, and what its ops note.
typedef struct plan {
    engine *e;
    unsigned works; // bits of bench_work
    profile *profiles;
} plan;

static bool wanted(const plan *p, bench_work w)
{
    return p->works >> w & 1;
}

static profile *profile_of(const plan *p, bench_work w)
{
    return p->profiles ? &p->profiles[w] : NULL;
}

static sight_err time_vision(const plan *p, bench_result *out)
{
    double seconds = 0;
    sight_err err = SIGHT_OK;
    if (wanted(p, BENCH_PICTURE)) {
        err = time_picture(p->e, 640, 480, &seconds, NULL);
        if (!err) err = time_picture(p->e, 640, 480, &seconds, profile_of(p, BENCH_PICTURE));
        if (err) return err;
        out->vision_640x480_ms = 1e3 * seconds;
        out->video_frames_s = 2 / seconds; // a pair of frames is one picture's work
    }
    if (wanted(p, BENCH_BIG_PICTURE)) {
        if (kernels_on_device(engine_kernels(p->e))) { // as for long prompts
            err = time_picture(p->e, 1920, 1080, &seconds, NULL);
        }
        if (!err) err = time_picture(p->e, 1920, 1080, &seconds, profile_of(p, BENCH_BIG_PICTURE));
        if (!err) out->vision_1920x1080_ms = 1e3 * seconds;
    }
    return err;
}

static sight_err time_long_prefill(const plan *p, int32_t n, double *tok_s, bench_work w)
{
    sight_err err = SIGHT_OK;
    // The first steps of a size choose how a GPU's products run.
    if (kernels_on_device(engine_kernels(p->e))) err = time_prefill(p->e, n, tok_s, NULL);
    return err ? err : time_prefill(p->e, n, tok_s, profile_of(p, w));
}

static sight_err time_prefills(const plan *p, bench_result *out)
{
    double ignored;
    sight_err err = SIGHT_OK;
    if (wanted(p, BENCH_PREFILL)) {
        err = time_prefill(p->e, 512, &ignored, NULL); // the first large step grows scratch memory
        if (!err) {
            err = time_prefill(p->e, 512, &out->prefill_512_tok_s, profile_of(p, BENCH_PREFILL));
        }
    }
    if (!err && wanted(p, BENCH_LONG_PREFILL)) {
        err = time_long_prefill(p, 2048, &out->prefill_2048_tok_s, BENCH_LONG_PREFILL);
    }
    if (!err && wanted(p, BENCH_VERY_LONG_PREFILL)) {
        err = time_long_prefill(p, 8192, &out->prefill_8192_tok_s, BENCH_VERY_LONG_PREFILL);
    }
    return err;
}

static sight_err time_decodes(const plan *p, bench_result *out)
{
    sight_err err = SIGHT_OK;
    if (wanted(p, BENCH_DECODE)) {
        err = time_decode(p->e, 1, &out->decode_tok_s, profile_of(p, BENCH_DECODE));
    }
    if (!err && wanted(p, BENCH_DEEP_DECODE)) {
        err = time_decode(p->e, 4096, &out->decode_4096_tok_s, profile_of(p, BENCH_DEEP_DECODE));
    }
    if (!err && wanted(p, BENCH_BATCH)) {
        err = time_batch(p->e, BATCH, &out->batch8_decode_tok_s, profile_of(p, BENCH_BATCH));
    }
    if (!err && wanted(p, BENCH_LARGE_BATCH)) {
        err = time_batch(p->e, LARGE_BATCH, &out->batch32_decode_tok_s,
                         profile_of(p, BENCH_LARGE_BATCH));
    }
    if (!err && wanted(p, BENCH_DRAFTS) && text_model_has_mtp(engine_text(p->e))) {
        err = bench_drafts(p->e, out);
    }
    return err;
}

// What one token multiplies with: all layers, and the output layer.
static void count_work(const engine *e, bench_result *out)
{
    const text_config *t = &engine_config(e)->text;
    double d = t->hidden, layers = 0;
    for (int i = 0; i < t->n_layers; i++) {
        double mixer;
        if (t->layers[i] == LAYER_FULL) {
            double q = (double)t->heads * t->head_dim, kv = (double)t->kv_heads * t->head_dim;
            mixer = d * (q * (t->attention_gate ? 2 : 1) + 2 * kv) + q * d;
        } else {
            double key = (double)t->linear_key_heads * t->linear_key_dim;
            double value = (double)t->linear_value_heads * t->linear_value_dim;
            mixer = d * (2 * key + 2 * value + 2 * t->linear_value_heads) + value * d;
        }
        layers += mixer + 3 * d * t->intermediate;
    }
    out->prefill_ops = 2 * layers;
    const checkpoint *c = engine_checkpoint(e);
    out->decode_bytes = (double)checkpoint_bytes_of(c, "model.language_model.layers.") +
                        (double)checkpoint_bytes_of(c, t->tied ? "model.language_model.embed_tokens."
                                                               : "lm_head.");
}

sight_err bench_run(engine *e, bench_result *out, double start, unsigned works, profile *profiles)
{
    const plan p = {e, works, profiles};
    double ignored;
    count_work(e, out);
    sight_err err = time_prefill(e, 16, &ignored, NULL);
    out->first_token_s = clock_now_s() - start;
    terminal_progress("prefill ...");
    if (!err) err = time_prefills(&p, out);
    terminal_progress("decode ...");
    if (!err) err = time_decodes(&p, out);
    terminal_progress("vision ...");
    if (!err && engine_tower(e)) err = time_vision(&p, out);
    terminal_clear();
    return err;
}
