#include "text/model.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kernels/output.h"
#include "text/model_parts.h"
#include "text/planes.h"

#define LOGIT_ROWS 32 // rows whose logits are computed together when they go to different places

// ---- workspace ----

// Cuts pieces from one allocation; with memory NULL it only measures.
typedef struct carver {
    char *memory;
    int64_t at;
} carver;

static void *carve(carver *c, int64_t n, size_t size)
{
    int64_t at = c->at;
    c->at += (n * (int64_t)size + 63) / 64 * 64;
    return c->memory ? c->memory + at : NULL;
}

static int64_t carve_workspace(workspace *ws, void *memory, const text_model *m)
{
    const text_config *t = &m->config->text;
    const int64_t N = m->max_rows;
    const int64_t half = model_rotary(t) / 2;
    carver c = {memory, 0};
    ws->h = carve(&c, N * t->hidden, sizeof(float));
    ws->x = carve(&c, N * t->hidden, sizeof(float));
    ws->mixer = carve(&c, N * layer_mixer_floats(t, m->mtp != NULL), sizeof(float));
    ws->cos = carve(&c, N * half, sizeof(float));
    ws->sin = carve(&c, N * half, sizeof(float));
    ws->ids = carve(&c, N, sizeof *ws->ids);
    ws->outputs = carve(&c, N, sizeof(output_row *));
    ws->parts = carve(&c, N, sizeof *ws->parts);
    ws->attention = carve(&c, N, sizeof *ws->attention);
    ws->conv = carve(&c, N, sizeof *ws->conv);
    ws->delta = carve(&c, N, sizeof *ws->delta);
    ws->logits = carve(&c, m->logit_rows * t->vocab, sizeof(float));
    return c.at;
}

static sight_err create_workspace(text_model *m)
{
    workspace *ws = &m->ws;
    ws->bytes = carve_workspace(ws, NULL, m);
    size_t align = ws->bytes >= 4 << 20 ? 2 << 20 : 64;
    if (posix_memalign(&ws->memory, align, (size_t)ws->bytes)) {
        ws->memory = NULL;
        return sight_fail(SIGHT_E_MEMORY, "no memory for %.1f MiB of the text model's workspace",
                          (double)ws->bytes / 1048576);
    }
#ifdef MADV_HUGEPAGE
    if (align > 64) madvise(ws->memory, (size_t)ws->bytes, MADV_HUGEPAGE);
#endif
    carve_workspace(ws, ws->memory, m);
    return SIGHT_OK;
}

// ---- the object ----

// Planes where the head is big and a good part of the weights: they are read for every token.
static sight_err create_output(text_model *m, const checkpoint *c)
{
    output_options o = {.block = text_planes_block(c)};
    o.planes = op_output_pays(m->k, &m->head) && (o.block || text_planes_wanted(&m->config->text));
    return output_create(&m->output, m->k, &m->head, &o);
}

sight_err text_model_create(text_model **out, const checkpoint *c, kernels *k, int64_t max_rows)
{
    if (max_rows < 1 || max_rows > 1 << 20) {
        return sight_fail(SIGHT_E_ARGUMENT, "steps of up to %lld rows; 1 to 1048576 are possible",
                          (long long)max_rows);
    }
    text_model *m = calloc(1, sizeof *m);
    if (!m) return sight_fail(SIGHT_E_MEMORY, "no memory for the text model");
    m->config = checkpoint_config(c);
    m->k = k;
    m->max_rows = max_rows;
    m->logit_rows = max_rows < LOGIT_ROWS ? max_rows : LOGIT_ROWS;
    sight_err err = model_load(m, c);
    if (!err) err = create_output(m, c);
    if (!err) err = create_workspace(m);
    if (err) {
        text_model_destroy(&m);
        return err;
    }
    *out = m;
    return SIGHT_OK;
}

void text_model_destroy(text_model **pm)
{
    text_model *m = *pm;
    if (!m) return;
    output_destroy(&m->output);
    model_unload(m);
    free(m->ws.memory);
    free(m);
    *pm = NULL;
}

int64_t text_model_max_rows(const text_model *m)
{
    return m->max_rows;
}

int64_t text_model_workspace_bytes(const text_model *m)
{
    return m->ws.bytes + output_bytes(m->output);
}

const text_config *text_model_config(const text_model *m)
{
    return &m->config->text;
}

bool text_model_has_mtp(const text_model *m)
{
    return m->mtp != NULL;
}

draft_plan *text_model_plan(text_model *m)
{
    return &m->plan;
}

// ---- checks: all before anything changes ----

sight_err model_check_rows(const text_model *m, const int32_t *ids, const uint8_t *visual,
                           const float *features, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (visual && visual[i]) {
            if (!features) {
                return sight_fail(SIGHT_E_ARGUMENT, "row %d is visual and has no features", i);
            }
        } else if (ids[i] < 0 || ids[i] >= m->config->text.vocab) {
            return sight_fail(SIGHT_E_ARGUMENT, "token id %d is not below the vocabulary's %d",
                              ids[i], m->config->text.vocab);
        }
    }
    return SIGHT_OK;
}

static sight_err check_segment(const text_model *m, const segment *s)
{
    int64_t limit = m->config->text.max_positions;
    if (s->n < 1 || s->n_logits < 0 || s->n_logits > s->n ||
        (s->n_logits && !s->logits && !s->outputs)) {
        return sight_fail(SIGHT_E_ARGUMENT, "a segment of %d rows, %d with logits", s->n,
                          s->n_logits);
    }
    if (s->rewindable && s->n > sequence_rewind_rows(s->seq)) {
        return sight_fail(SIGHT_E_ARGUMENT, "%d rows that can be taken back, %d have room", s->n,
                          sequence_rewind_rows(s->seq));
    }
    if (sequence_length(s->seq) + s->n > limit) {
        return sight_fail(SIGHT_E_LIMIT,
                          "%lld tokens and %d more exceed the context length of %lld",
                          (long long)sequence_length(s->seq), s->n, (long long)limit);
    }
    return model_check_rows(m, s->ids, s->visual, s->features, s->n);
}

static sight_err check_step(const text_model *m, const segment *segments, int32_t n)
{
    int64_t rows = 0;
    for (int32_t i = 0; i < n; i++) {
        sight_err err = check_segment(m, &segments[i]);
        if (err) return err;
        for (int32_t j = 0; j < i; j++) {
            if (segments[j].seq == segments[i].seq) {
                return sight_fail(SIGHT_E_ARGUMENT, "segments %d and %d are of one sequence", j, i);
            }
        }
        rows += segments[i].n;
    }
    if (n < 1 || rows > m->max_rows) {
        return sight_fail(SIGHT_E_ARGUMENT, "a step of %d segments, %lld rows; 1 to %lld rows fit",
                          n, (long long)rows, (long long)m->max_rows);
    }
    return SIGHT_OK;
}

static sight_err reserve(const segment *segments, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        sequence *seq = segments[i].seq;
        sight_err err = sequence_reserve(seq, sequence_length(seq), segments[i].n);
        if (!err) continue;
        while (i-- > 0) sequence_trim(segments[i].seq);
        return err;
    }
    return SIGHT_OK;
}

// ---- the step ----

void model_embed(text_model *m, int64_t first, int64_t n, const int32_t *ids,
                 const uint8_t *visual, const float *features)
{
    const int64_t D = m->config->text.hidden;
    float *h = m->ws.h + first * D;
    for (int64_t i = 0; i < n; i++) m->ws.ids[i] = visual && visual[i] ? 0 : ids[i];
    op_embed(m->k, h, m->ws.ids, &m->embedding, n);
    for (int64_t i = 0; visual && i < n; i++) {
        if (!visual[i]) continue;
        memcpy(h + i * D, features, (size_t)D * sizeof *h);
        features += D;
    }
}

// Lays the segments' rows out one after another; returns how many.
static int64_t lay_out(text_model *m, const segment *segments, int32_t n)
{
    const text_config *t = &m->config->text;
    const int64_t half = model_rotary(t) / 2;
    int64_t row = 0;
    for (int32_t i = 0; i < n; i++) {
        const segment *s = &segments[i];
        m->ws.parts[i] = (batch_part){s->seq, row, s->n, sequence_length(s->seq), s->rewindable};
        sequence_mark(s->seq, s->rewindable);
        model_embed(m, row, s->n, s->ids, s->visual, s->features);
        rope_angles(m->ws.cos + row * half, m->ws.sin + row * half, s->positions,
                    s->position_stride, s->n, t);
        row += s->n;
    }
    return row;
}

// h += rows at visual rows, a run of them at a time.
static void add_visual(text_model *m, float *h, const float *rows, const uint8_t *visual, int64_t n)
{
    const int64_t D = m->config->text.hidden;
    for (int64_t i = 0; i < n;) {
        int64_t end = i;
        while (end < n && visual[end]) end++;
        op_add(m->k, h + i * D, rows, (end - i) * D);
        rows += (end - i) * D;
        i = end + 1;
    }
}

static void add_deepstack(text_model *m, int32_t level, const segment *segments, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const segment *s = &segments[i];
        if (!s->visual || !s->deepstack || !s->deepstack[level]) continue;
        add_visual(m, m->ws.h + m->ws.parts[i].first * m->config->text.hidden,
                   s->deepstack[level], s->visual, s->n);
    }
}

static void copy_logits(float *const *to, const int32_t *rows, int32_t n, const float *from,
                        int64_t vocab)
{
    for (int32_t i = 0; i < n; i++) {
        memcpy(to[i], from, (size_t)(rows[i] * vocab) * sizeof *from);
        from += rows[i] * vocab;
    }
}

// Logits of the normed rows x, which hold the wanted rows of segment after segment. As many
// segments as logit_rows allows share a product, since that reads the whole output matrix; it
// writes to its place at once when the outputs follow each other in memory.
static void write_logits(text_model *m, const float *x, const segment *segments, int32_t n)
{
    const int64_t D = m->config->text.hidden, vocab = m->config->text.vocab;
    float *to[LOGIT_ROWS];
    int32_t rows[LOGIT_ROWS];
    for (int32_t i = 0; i < n;) {
        int32_t group = 0;
        int64_t total = 0;
        bool together = true;
        for (; i < n; i++) {
            const segment *s = &segments[i];
            if (s->n_logits == 0 || s->outputs) continue;
            if (total > 0 && total + s->n_logits > m->logit_rows) break;
            if (total > 0 && s->logits != to[0] + total * vocab) together = false;
            to[group] = s->logits;
            rows[group++] = s->n_logits;
            total += s->n_logits;
        }
        if (total == 0) return;
        op_linear(m->k, together ? to[0] : m->ws.logits, x, &m->head, total);
        if (!together) copy_logits(to, rows, group, m->ws.logits, vocab);
        x += total * D;
    }
}

void model_outputs(text_model *m, const float *x, output_row *outputs, int32_t n)
{
    for (int32_t i = 0; i < n; i++) m->ws.outputs[i] = &outputs[i];
    output_run(m->output, x, m->ws.outputs, n);
}

// Gathers the wanted rows of segments that ask for all logits, or of those with outputs, behind the
// first `row` of ws.x. Returns how many there are then.
static int64_t gather_wanted(text_model *m, int64_t row, const segment *segments, int32_t n,
                             bool outputs)
{
    const int64_t D = m->config->text.hidden;
    for (int32_t i = 0; i < n; i++) {
        const segment *s = &segments[i];
        if (outputs != (s->outputs != NULL)) continue;
        const float *h = m->ws.h + m->ws.parts[i].first * D;
        memcpy(m->ws.x + row * D, h + (s->n - s->n_logits) * D,
               (size_t)(s->n_logits * D) * sizeof *h);
        for (int32_t j = 0; outputs && j < s->n_logits; j++) m->ws.outputs[row + j] = &s->outputs[j];
        row += s->n_logits;
    }
    return row;
}

static void write_outputs(text_model *m, const segment *segments, int32_t n)
{
    const int64_t D = m->config->text.hidden;
    const float eps = (float)m->config->text.rms_eps;
    for (int32_t i = 0; i < n; i++) {
        const segment *s = &segments[i];
        const float *h = m->ws.h + m->ws.parts[i].first * D;
        if (s->hidden) op_rms_norm(m->k, s->hidden, h, m->norm, s->n, D, eps);
    }
    const int64_t all = gather_wanted(m, 0, segments, n, false);
    const int64_t wanted = gather_wanted(m, all, segments, n, true);
    op_rms_norm(m->k, m->ws.x, m->ws.x, m->norm, wanted, D, eps);
    write_logits(m, m->ws.x, segments, n);
    output_run(m->output, m->ws.x + all * D, m->ws.outputs + all, (int32_t)(wanted - all));
}

sight_err text_model_step(text_model *m, const segment *segments, int32_t n_segments)
{
    sight_err err = check_step(m, segments, n_segments);
    if (!err) err = reserve(segments, n_segments);
    if (err) return err;
    int32_t levels = m->config->has_vision ? m->config->vision.n_deepstack : 0;
    int64_t N = lay_out(m, segments, n_segments);
    for (int32_t i = 0; i < m->config->text.n_layers; i++) {
        layer_run(m, &m->layers[i], m->ws.parts, n_segments, N);
        if (i < levels) add_deepstack(m, i, segments, n_segments);
    }
    write_outputs(m, segments, n_segments);
    for (int32_t i = 0; i < n_segments; i++) sequence_advance(segments[i].seq, segments[i].n);
    return SIGHT_OK;
}

sight_err text_model_rewind(text_model *m, sequence *seq, int32_t n)
{
    const int64_t rows = sequence_length(seq) - sequence_mark_length(seq);
    if (!sequence_marked(seq) || n < 0 || n > rows) {
        return sight_fail(SIGHT_E_ARGUMENT, "%d rows of the last step were to stay", n);
    }
    if (n == rows) return SIGHT_OK;
    sequence_return(seq);
    for (int32_t i = 0; n > 0 && i < m->config->text.n_layers; i++) {
        if (m->layers[i].kind == LAYER_LINEAR) layer_replay(m, &m->layers[i], seq, n);
    }
    sequence_advance(seq, n);
    return SIGHT_OK;
}
