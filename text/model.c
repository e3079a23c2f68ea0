#include "text/model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/output.h"
#include "text/model_parts.h"
#include "text/planes.h"

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

static int64_t carve_backend(workspace *ws, void *memory, const text_model *m)
{
    const text_config *t = &m->config->text;
    const int64_t N = m->max_rows;
    carver c = {memory, 0};
    ws->h = carve(&c, N * t->hidden, sizeof(float));
    ws->x = carve(&c, N * t->hidden, sizeof(float));
    ws->mixer = carve(&c, N * layer_mixer_floats(t, m->mtp != NULL), sizeof(float));
    ws->cos = carve(&c, N * m->rope.half, sizeof(float));
    ws->sin = carve(&c, N * m->rope.half, sizeof(float));
    ws->logits = carve(&c, m->logit_rows * t->vocab, sizeof(float));
    if (m->group) {
        ws->part = carve(&c, m->logit_rows * (t->vocab / m->at.ranks), sizeof(float));
        ws->room = carve(&c, m->logit_rows * t->vocab, sizeof(float));
    }
    return c.at;
}

static int64_t carve_host(workspace *ws, void *memory, const text_model *m)
{
    const int64_t N = m->max_rows;
    carver c = {memory, 0};
    ws->ids = carve(&c, N, sizeof *ws->ids);
    ws->positions = carve(&c, 3 * N, sizeof *ws->positions);
    ws->outputs = carve(&c, N, sizeof(output_row *));
    ws->all = carve(&c, N, sizeof *ws->all);
    ws->parts = carve(&c, N, sizeof *ws->parts);
    ws->attention = carve(&c, N, sizeof *ws->attention);
    ws->gates = carve(&c, N, sizeof *ws->gates);
    ws->written = carve(&c, N, sizeof *ws->written);
    ws->conv = carve(&c, N, sizeof *ws->conv);
    ws->delta = carve(&c, N, sizeof *ws->delta);
    ws->mixers = carve(&c, N, sizeof *ws->mixers);
    ws->copies = carve(&c, RECORDED * N, sizeof *ws->copies);
    return c.at;
}

static sight_err create_workspace(text_model *m)
{
    workspace *ws = &m->ws;
    const int64_t bytes = carve_backend(ws, NULL, m), host = carve_host(ws, NULL, m);
    sight_err err = kernels_alloc(&ws->memory, m->k, (size_t)bytes, "the text model's workspace");
    if (err) return err;
    if (posix_memalign(&ws->host, 64, (size_t)host)) {
        ws->host = NULL;
        return sight_fail(SIGHT_E_MEMORY, "no memory for %.1f MiB of the text model's arrays",
                          (double)host / 1048576);
    }
    ws->bytes = bytes + host;
    carve_backend(ws, ws->memory, m);
    carve_host(ws, ws->host, m);
    return SIGHT_OK;
}

// ---- the object ----

// Planes where the head is big and a good part of the weights: they are read for every token.
static sight_err create_output(text_model *m, const checkpoint *c)
{
    output_options o = {.block = text_planes_block(c)};
    o.planes = !m->group && op_output_pays(m->k, &m->head) && (o.block || text_planes_wanted(&m->config->text));
    return output_create(&m->output, m->k, &m->head, &o);
}

static sight_err create(text_model **out, const checkpoint *c, kernels *k, int64_t max_rows,
                        collective *group, int32_t rank)
{
    if (max_rows < 1 || max_rows > 1 << 20) {
        return sight_fail(SIGHT_E_ARGUMENT, "steps of up to %lld rows; 1 to 1048576 are possible",
                          (long long)max_rows);
    }
    text_model *m = calloc(1, sizeof *m);
    if (!m) return sight_fail(SIGHT_E_MEMORY, "no memory for the text model");
    m->config = checkpoint_config(c);
    if (group) {
        m->own = *m->config;
        m->at = (split){rank, collective_ranks(group)};
        m->group = group;
        m->own.text = split_config(&m->config->text, &m->at);
        m->config = &m->own;
    }
    m->k = k;
    m->max_rows = max_rows;
    const int64_t together = kernels_on_device(k) ? LOGIT_ROWS_ON_DEVICE : LOGIT_ROWS;
    m->logit_rows = max_rows < together ? max_rows : together;
    sight_err err = model_load(m, c);
    if (!err) err = rope_create(&m->rope, k, &m->config->text);
    if (!err) err = create_output(m, c);
    if (!err) err = create_workspace(m);
    if (err) {
        text_model_destroy(&m);
        return err;
    }
    *out = m;
    return SIGHT_OK;
}

sight_err text_model_create(text_model **out, const checkpoint *c, kernels *k, int64_t max_rows)
{
    return create(out, c, k, max_rows, NULL, 0);
}

sight_err text_model_create_split(text_model **out, const checkpoint *c, kernels *k, int64_t max_rows,
                                  collective *group, int32_t rank)
{
    assert(rank >= 0 && rank < collective_ranks(group));
    sight_err err = split_check(&checkpoint_config(c)->text, collective_ranks(group));
    return err ? err : create(out, c, k, max_rows, group, rank);
}

void text_model_destroy(text_model **pm)
{
    text_model *m = *pm;
    if (!m) return;
    group_destroy(&m->lead);
    output_destroy(&m->output);
    model_unload(m);
    rope_destroy(&m->rope, m->k);
    kernels_free(m->k, m->ws.memory);
    free(m->ws.host);
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

kernels *text_model_kernels(const text_model *m)
{
    return m->k;
}

sight_err text_model_status(text_model *m)
{
    return m->lead ? group_status(m->lead) : kernels_status(m->k);
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
            if (!features && m->at.rank == 0) {
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

sight_err model_agree(text_model *m, sight_err err)
{
    if (!m->group) return err;
    const bool all = collective_agree(m->group, m->at.rank, !err);
    m->agreed = all;
    m->by_others = !err && !all;
    if (err || all) return err;
    return sight_fail(SIGHT_E_INTERNAL, "another device of the model could not take the step");
}

sight_err model_graph_end(text_model *m)
{
    return m->group ? collective_step_end(m->group, m->at.rank) : kernels_step_end(m->k);
}

const float *model_shared(text_model *m, const float *rows, int64_t n)
{
    if (!m->group) return rows;
    float *x = m->at.rank ? m->ws.mixer : (float *)rows; // only read
    collective_share(m->group, m->at.rank, x, n * m->config->text.hidden);
    return x;
}

// ---- the step ----

void model_note_rows(text_model *m, int64_t first, int64_t n, const int32_t *ids,
                     const uint8_t *visual, const int32_t *positions, int64_t position_stride)
{
    workspace *ws = &m->ws;
    for (int64_t i = 0; i < n; i++) ws->ids[first + i] = visual && visual[i] ? 0 : ids[i];
    for (int axis = 0; axis < 3; axis++) {
        memcpy(ws->positions + axis * m->max_rows + first, positions + axis * position_stride,
               (size_t)n * sizeof *positions);
    }
}

void model_embed(text_model *m, int64_t N)
{
    op_embed(m->k, m->ws.h, m->ws.ids, &m->embedding, N);
    op_rope_angles(m->k, m->ws.cos, m->ws.sin, m->ws.positions, m->max_rows, N, &m->rope);
}

// Where the run of visual rows that begins at row i ends: i where there is none.
static int64_t end_of_run(const uint8_t *visual, int64_t i, int64_t n)
{
    while (i < n && visual[i]) i++;
    return i;
}

static int64_t count_visual(const uint8_t *visual, int64_t n)
{
    int64_t some = 0;
    for (int64_t i = 0; i < n; i++) some += visual[i] != 0;
    return some;
}

void model_put_visual(text_model *m, float *h, const float *features, const uint8_t *visual,
                      int64_t n)
{
    const int64_t D = m->config->text.hidden;
    features = model_shared(m, features, count_visual(visual, n));
    for (int64_t i = 0, end; i < n; i = end + 1) {
        end = end_of_run(visual, i, n);
        op_copy(m->k, h + i * D, features, (size_t)((end - i) * D) * sizeof *h);
        features += (end - i) * D;
    }
}

// Lays the segments' rows out one after another; returns how many.
static int64_t lay_out(text_model *m, const segment *segments, int32_t n)
{
    int64_t row = 0;
    for (int32_t i = 0; i < n; i++) {
        const segment *s = &segments[i];
        m->ws.parts[i] = (batch_part){s->seq, row, s->n, sequence_length(s->seq), s->rewindable};
        sequence_mark(s->seq, s->rewindable);
        model_note_rows(m, row, s->n, s->ids, s->visual, s->positions, s->position_stride);
        row += s->n;
    }
    return row;
}

// h [n, D] += rows at visual rows.
static void add_visual(text_model *m, float *h, const float *rows, const uint8_t *visual, int64_t n)
{
    const int64_t D = m->config->text.hidden;
    rows = model_shared(m, rows, count_visual(visual, n));
    for (int64_t i = 0, end; i < n; i = end + 1) {
        end = end_of_run(visual, i, n);
        op_add(m->k, h + i * D, rows, (end - i) * D);
        rows += (end - i) * D;
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

static void put_features(text_model *m, const segment *segments, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        const segment *s = &segments[i];
        float *h = m->ws.h + m->ws.parts[i].first * m->config->text.hidden;
        if (s->visual) model_put_visual(m, h, s->features, s->visual, s->n);
    }
}

// A few rows of text each: such a step looks like many that follow.
static bool comes_again(const segment *segments, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (segments[i].n > SHORT_ROWS || segments[i].visual) return false;
    }
    return true;
}

void model_step_undo(const segment *segments, int32_t n)
{
    for (int32_t i = 0; i < n; i++) {
        if (segments[i].rewindable) sequence_return(segments[i].seq);
        sequence_trim(segments[i].seq);
    }
}

sight_err model_step_begin(text_model *m, int64_t *N, const segment *segments, int32_t n)
{
    sight_err err = check_step(m, segments, n);
    if (!err) err = reserve(segments, n);
    const bool fine = !err;
    err = model_agree(m, err);
    for (int32_t i = 0; fine && err && i < n; i++) sequence_trim(segments[i].seq);
    if (!err) *N = lay_out(m, segments, n);
    return err;
}

void model_step_embed(text_model *m, const segment *segments, int32_t n, int64_t N)
{
    model_embed(m, N);
    put_features(m, segments, n);
}

void model_after_layer(text_model *m, int32_t layer, const segment *segments, int32_t n)
{
    const int32_t levels = m->config->has_vision ? m->config->vision.n_deepstack : 0;
    if (layer < levels) add_deepstack(m, layer, segments, n);
}

sight_err model_step_end(text_model *m, const segment *segments, int32_t n, bool again)
{
    sight_err err = model_results(m, segments, n, again);
    if (!err && m->group) err = collective_status(m->group, m->at.rank);
    if (err) {
        model_step_undo(segments, n);
        return err;
    }
    for (int32_t i = 0; i < n; i++) sequence_advance(segments[i].seq, segments[i].n);
    return SIGHT_OK;
}

sight_err text_model_step(text_model *m, const segment *segments, int32_t n_segments)
{
    return m->lead ? group_step(m->lead, segments, n_segments) : model_step_rank(m, segments, n_segments);
}

sight_err model_step_rank(text_model *m, const segment *segments, int32_t n_segments)
{
    int64_t N;
    sight_err err = model_step_begin(m, &N, segments, n_segments);
    if (err) return err;
    const bool again = comes_again(segments, n_segments);
    if (again) kernels_step_begin(m->k);
    model_step_embed(m, segments, n_segments, N);
    for (int32_t i = 0; i < m->config->text.n_layers; i++) {
        layer_run(m, &m->layers[i], m->ws.parts, n_segments, N);
        model_after_layer(m, i, segments, n_segments);
    }
    return model_step_end(m, segments, n_segments, again);
}

sight_err text_model_rewind(text_model *m, sequence *seq, int32_t n)
{
    return m->lead ? group_rewind(m->lead, seq, n) : model_rewind_rank(m, seq, n);
}

sight_err model_rewind_rank(text_model *m, sequence *seq, int32_t n)
{
    const int64_t rows = sequence_length(seq) - sequence_mark_length(seq);
    if (!sequence_marked(seq) || n < 0 || n > rows) {
        return sight_fail(SIGHT_E_ARGUMENT, "%d rows of the last step were to stay", n);
    }
    if (n == rows) return SIGHT_OK;
    sequence_return(seq);
    kernels_step_begin(m->k);
    for (int32_t i = 0; n > 0 && i < m->config->text.n_layers; i++) {
        if (m->layers[i].kind == LAYER_LINEAR) layer_replay(m, &m->layers[i], seq, n);
    }
    sight_err err = kernels_step_end(m->k);
    if (!err) sequence_advance(seq, n);
    return err;
}
