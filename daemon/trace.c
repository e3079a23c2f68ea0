#include "daemon/trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/safetensors.h"
#include "daemon/stages.h"
#include "daemon/task.h"
#include "kernels/memory.h"

#define DEFAULT_TOKENS 16
#define MAX_ENTRIES    (8 + 2 * (3 + CONFIG_MAX_DEEPSTACK))

// What is kept of one kind of medium.
typedef struct trace_kind {
    int32_t n;
    int32_t *grids; // [n, 3]
    int64_t patches, rows;
    float *pixels;                          // [patches, row]
    float *features;                        // [rows, width]
    float *deepstack[CONFIG_MAX_DEEPSTACK]; // [levels] of [rows, width]
} trace_kind;

typedef struct trace {
    task *task;
    const model_config *config;
    stages *stages; // owns features and sequence
    trace_kind kinds[2]; // by media_kind
    int64_t *first_patch; // [n_media], in its kind's pixels
    float *logits, *mtp_logits; // [L, V]
    float *hidden;              // [L, D], backend memory of the text model
    float *next_logits;                  // [V], of generated tokens
    int32_t *output;                     // [n_output]
    int32_t n_output;
    safetensors_entry entries[MAX_ENTRIES];
    char names[MAX_ENTRIES][40];
    size_t n_entries;
} trace;

static sight_err take(void **out, int64_t n, size_t size, const char *what)
{
    *out = calloc((size_t)n + 1, size);
    if (*out) return SIGHT_OK;
    return sight_fail(SIGHT_E_MEMORY, "no memory for %lld %s of a trace", (long long)n, what);
}

static sight_err take_floats(float **out, int64_t n, const char *what)
{
    return take((void **)out, n, sizeof(float), what);
}

// ---- media ----

static sight_err prepare_media(trace *t)
{
    const int32_t n = t->task->asked->n_media;
    sight_err err = take((void **)&t->first_patch, n, sizeof *t->first_patch, "media");
    for (int k = 0; k < 2 && !err; k++) {
        err = take((void **)&t->kinds[k].grids, 3 * n, sizeof(int32_t), "grids");
    }
    for (int32_t i = 0; i < n && !err; i++) {
        const vision_plan *p = &t->task->media[i].plan;
        trace_kind *kind = &t->kinds[t->task->asked->media[i].kind];
        const int32_t grid[3] = {p->grid.t, p->grid.h, p->grid.w};
        memcpy(kind->grids + 3 * kind->n++, grid, sizeof grid);
        t->first_patch[i] = kind->patches;
        kind->patches += p->patches;
        kind->rows += p->tokens;
    }
    const int64_t row = t->config->has_vision ? preprocess_row_size(&t->config->vision) : 0;
    for (int k = 0; k < 2 && !err; k++) {
        err = take_floats(&t->kinds[k].pixels, t->kinds[k].patches * row, "pixels");
    }
    return err;
}

static void keep_pixels(void *arg, const feed_piece *piece)
{
    trace *t = arg;
    const task_media *m = &t->task->media[piece->media];
    const int64_t row = preprocess_row_size(&t->config->vision);
    const int64_t per_pair = (int64_t)m->plan.grid.h * m->plan.grid.w;
    const int64_t at = t->first_patch[piece->media] + piece->first_pair * per_pair;
    float *to = t->kinds[m->asked->kind].pixels + at * row;
    const size_t bytes = (size_t)(piece->n_pairs * per_pair * row) * sizeof *to;
    if (!piece->owner) memcpy(to, piece->patches, bytes);
    else kernels_read(tower_kernels(engine_tower(t->task->model)), to, piece->patches, bytes); // fails later too
}

// Copies the rows of one kind of medium, which stand in order of appearance among the others.
static sight_err split_rows(const trace *t, float **out, int k, const float *all)
{
    const features *f = stages_features(t->stages);
    sight_err err = take_floats(out, t->kinds[k].rows * f->width, "features");
    float *to = *out;
    for (int32_t i = 0; i < t->task->asked->n_media && !err; i++) {
        const int64_t n = t->task->media[i].plan.tokens * f->width;
        if ((int)t->task->asked->media[i].kind == k) {
            err = kernels_read(f->k, to, all, (size_t)n * sizeof *to);
            to += n;
        }
        all += n;
    }
    return err;
}

static sight_err split_features(trace *t)
{
    const features *f = stages_features(t->stages);
    for (int k = 0; k < 2; k++) {
        trace_kind *kind = &t->kinds[k];
        if (!kind->n) continue;
        sight_err err = split_rows(t, &kind->features, k, f->rows);
        for (int32_t i = 0; i < f->levels && !err; i++) {
            err = split_rows(t, &kind->deepstack[i], k, f->deepstack[i]);
        }
        if (err) return err;
    }
    return SIGHT_OK;
}

// ---- tokens ----

static int32_t greedy(const float *logits, int32_t vocab)
{
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++) {
        if (logits[i] > logits[best]) best = i;
    }
    return best;
}

static sight_err read_prompt(trace *t)
{
    const text_config *c = &t->config->text;
    const int64_t n = t->task->prompt.n;
    sight_err err = take_floats(&t->logits, n * c->vocab, "logits");
    if (!err) {
        err = kernels_alloc((void **)&t->hidden, engine_kernels(t->task->model),
                            (size_t)(n * c->hidden) * sizeof *t->hidden, "hidden states");
    }
    if (err) return err;
    const stages_options o = {.watch = {.piece = keep_pixels, .arg = t},
                              .keep_features = true,
                              .logits = t->logits,
                              .hidden = t->hidden};
    err = stages_create(&t->stages, t->task, &o);
    return err ? err : stages_run(t->stages);
}

static sight_err generate(trace *t)
{
    const int32_t vocab = t->config->text.vocab;
    const int32_t n = t->task->max_tokens;
    sight_err err = take((void **)&t->output, n, sizeof *t->output, "ids");
    if (!err) err = take_floats(&t->next_logits, vocab, "logits");
    if (err) return err;
    const float *logits = t->logits + (int64_t)(t->task->prompt.n - 1) * vocab;
    for (int32_t i = 0; i < n; i++) {
        t->output[t->n_output++] = greedy(logits, vocab);
        if (i + 1 == n) break;
        const int32_t p = t->task->prompt.next_position + i, positions[3] = {p, p, p};
        const segment s = {.seq = stages_sequence(t->stages), .n = 1, .ids = &t->output[i], .positions = positions,
                           .position_stride = 1, .n_logits = 1, .logits = t->next_logits};
        err = text_model_step(engine_text(t->task->model), &s, 1);
        if (err) return err;
        logits = t->next_logits;
    }
    return SIGHT_OK;
}

// Reads the prompt again through the MTP block; next ids and marks are the prompt's, one on.
static sight_err run_mtp(trace *t)
{
    const features *f = stages_features(t->stages);
    const text_config *c = &t->config->text;
    const prompt *p = &t->task->prompt;
    const int64_t most = text_model_max_rows(engine_text(t->task->model));
    int32_t *ids;
    uint8_t *visual;
    sight_err err = take_floats(&t->mtp_logits, (int64_t)p->n * c->vocab, "logits");
    if (err) return err;
    if ((err = take((void **)&ids, p->n, sizeof *ids, "ids"))) return err;
    if ((err = take((void **)&visual, p->n, 1, "marks"))) {
        free(ids);
        return err;
    }
    memcpy(ids, p->ids + 1, (size_t)(p->n - 1) * sizeof *ids);
    memcpy(visual, p->visual + 1, (size_t)(p->n - 1));
    ids[p->n - 1] = greedy(t->logits + (int64_t)(p->n - 1) * c->vocab, c->vocab);
    int64_t row = p->visual[0];
    for (int64_t at = 0; at < p->n && !err;) {
        const int64_t n = p->n - at < most ? p->n - at : most;
        const mtp_segment s = {
            .seq = stages_sequence(t->stages), .n = (int32_t)n, .hidden = t->hidden + at * c->hidden,
            .next_ids = ids + at, .next_visual = f->n ? visual + at : NULL,
            .next_features = f->n ? f->rows + row * f->width : NULL,
            .positions = p->positions + at, .position_stride = p->n, .n_logits = (int32_t)n,
            .logits = t->mtp_logits + at * c->vocab};
        err = text_model_mtp(engine_text(t->task->model), &s);
        for (int64_t i = at; i < at + n; i++) row += visual[i];
        at += n;
    }
    free(ids);
    free(visual);
    return err;
}

// ---- the file ----

static void add(trace *t, const char *name, tensor_type type, const void *data, int64_t a,
                int64_t b)
{
    safetensors_entry *e = &t->entries[t->n_entries];
    snprintf(t->names[t->n_entries], sizeof t->names[0], "%s", name);
    e->name = t->names[t->n_entries++];
    e->view = (tensor_view){.data = data, .type = type, .n_dims = b ? 2 : 1, .shape = {a, b}};
}

static void add_kind(trace *t, const trace_kind *kind, const char *short_name, const char *pixels)
{
    if (!kind->n) return;
    const features *f = stages_features(t->stages);
    char name[40];
    snprintf(name, sizeof name, "%s_grid_thw", short_name);
    add(t, name, TENSOR_I32, kind->grids, kind->n, 3);
    add(t, pixels, TENSOR_F32, kind->pixels, kind->patches,
        preprocess_row_size(&t->config->vision));
    snprintf(name, sizeof name, "%s_features", short_name);
    add(t, name, TENSOR_F32, kind->features, kind->rows, f->width);
    for (int32_t i = 0; i < f->levels; i++) {
        snprintf(name, sizeof name, "%s_deepstack_%d", short_name, i);
        add(t, name, TENSOR_F32, kind->deepstack[i], kind->rows, f->width);
    }
}

static sight_err write_file(trace *t, const char *path)
{
    const prompt *p = &t->task->prompt;
    const int32_t vocab = t->config->text.vocab;
    add(t, "input_ids", TENSOR_I32, p->ids, p->n, 0);
    add(t, "position_ids", TENSOR_I32, p->positions, 3, p->n);
    add_kind(t, &t->kinds[MEDIA_IMAGE], "image", "pixel_values");
    add_kind(t, &t->kinds[MEDIA_VIDEO], "video", "pixel_values_videos");
    add(t, "logits", TENSOR_F32, t->logits, p->n, vocab);
    if (t->mtp_logits) add(t, "mtp_logits", TENSOR_F32, t->mtp_logits, p->n, vocab);
    add(t, "output_ids", TENSOR_I32, t->output, t->n_output, 0);
    return safetensors_write(path, t->entries, t->n_entries);
}

// ---- the whole ----

static void trace_done(trace *t)
{
    stages_destroy(&t->stages);
    for (int k = 0; k < 2; k++) {
        free(t->kinds[k].grids);
        free(t->kinds[k].pixels);
        free(t->kinds[k].features);
        for (int i = 0; i < CONFIG_MAX_DEEPSTACK; i++) free(t->kinds[k].deepstack[i]);
    }
    free(t->first_patch);
    free(t->logits);
    if (t->hidden) kernels_free(engine_kernels(t->task->model), t->hidden);
    free(t->mtp_logits);
    free(t->next_logits);
    free(t->output);
    task_destroy(&t->task);
}

static sight_err run_all(trace *t, const char *out_path)
{
    sight_err err = prepare_media(t);
    if (!err) err = read_prompt(t);
    if (!err) err = split_features(t);
    // Before any token is generated: the MTP block's cache goes with the prompt's.
    if (!err && t->config->text.mtp_layers) err = run_mtp(t);
    if (!err) err = generate(t);
    return err ? err : write_file(t, out_path);
}

sight_err trace_run(engine *e, const request_source *source, const request_limits *limits,
                    const char *out_path)
{
    trace t = {.config = engine_config(e)};
    request *asked = NULL;
    sight_err err = request_parse(&asked, source, limits, &t.config->generation);
    if (err) return err;
    if (!asked->max_tokens) asked->max_tokens = DEFAULT_TOKENS;
    err = task_create(&t.task, e, &asked, limits);
    if (!err) err = run_all(&t, out_path);
    request_destroy(&asked);
    trace_done(&t);
    return err;
}
