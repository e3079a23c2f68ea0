// What callers get of a step: hidden rows, logits, or those logits that can win.
//
// With the CPU logits are written where they are wanted, or picked while they are computed
// (text/output.h). On a device they are computed side by side into ws.logits, and picked from there
// (op_pick_logits); the product of the first logit_rows rows still belongs to the step under way.
#include <string.h>

#include "text/model_parts.h"

// to [n, vocab]: logits of x [n, D]. Those of a split model come from all ranks, and stay in ws.logits, one group over
// the other, with a rank that another speaks for.
static void compute_logits(text_model *m, float *to, const float *x, int64_t n)
{
    const int64_t D = m->config->text.hidden, vocab = m->config->text.vocab;
    if (!m->group) {
        op_linear(m->k, to, x, &m->head, n);
        return;
    }
    for (int64_t row = 0, group; row < n; row += group) {
        group = n - row < m->logit_rows ? n - row : m->logit_rows;
        op_linear(m->k, m->ws.part, x + row * D, &m->head, group);
        float *at = m->follows ? m->ws.logits : to + row * vocab;
        collective_gather(m->group, m->at.rank, at, m->ws.room, m->ws.part, group,
                          vocab / m->at.ranks);
    }
}

// ---- with the CPU ----

// Logits of the normed rows x for outputs [n]: those that can win, or of a split model all.
static void run_outputs(text_model *m, const float *x, output_row *const *outputs, int64_t n)
{
    if (!m->group) {
        output_run(m->output, x, outputs, (int32_t)n);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const float *row = x + i * m->config->text.hidden;
        if (m->follows) {
            compute_logits(m, NULL, row, 1);
            continue;
        }
        compute_logits(m, outputs[i]->logits, row, 1);
        outputs[i]->n = m->config->text.vocab;
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
        compute_logits(m, together ? to[0] : m->ws.logits, x, total);
        if (!together && !m->follows) copy_logits(to, rows, group, m->ws.logits, vocab);
        x += total * D;
    }
}

// ---- on a device ----

// Logits of ws.x [n, D] for ws.outputs [n].
static sight_err pick(text_model *m, int64_t n, bool again)
{
    const int64_t D = m->config->text.hidden, vocab = m->config->text.vocab;
    sight_err err = SIGHT_OK;
    for (int64_t row = 0, group; row < n && !err; row += group) {
        group = n - row < m->logit_rows ? n - row : m->logit_rows;
        compute_logits(m, m->ws.logits, m->ws.x + row * D, group);
        if (again) err = model_graph_end(m);
        again = false;
        if (!err && !m->follows) err = op_pick_logits(m->k, m->ws.logits, m->ws.outputs + row, group, vocab);
    }
    if (again) err = model_graph_end(m);
    return err ? err : kernels_status(m->k);
}

// ---- steps ----

// Where the n wanted rows go that are the next of ws.x, `row` of it having been taken.
static void note_outputs(text_model *m, int64_t row, int32_t n, output_row *outputs, float *logits)
{
    workspace *ws = &m->ws;
    const int64_t vocab = m->config->text.vocab;
    for (int32_t j = 0; j < n; j++) {
        if (!outputs) ws->all[row + j] = (output_row){.logits = logits + j * vocab};
        ws->outputs[row + j] = outputs ? &outputs[j] : &ws->all[row + j];
    }
}

static void norm_rows(text_model *m, float *to, int64_t first, int64_t n)
{
    const text_config *t = &m->config->text;
    op_rms_norm(m->k, to, m->ws.h + first * t->hidden, m->norm, n, t->hidden, (float)t->rms_eps);
}

// Brings the wanted rows of segments that ask for all logits, or of those with outputs, normed
// behind the first `row` of ws.x: neighbours at once. Returns how many there are then.
static int64_t norm_wanted(text_model *m, int64_t row, const segment *segments, int32_t n,
                           bool outputs)
{
    const int64_t D = m->config->text.hidden;
    int64_t first = 0, run = 0; // rows of ws.h that are still to be normed
    for (int32_t i = 0; i < n; i++) {
        const segment *s = &segments[i];
        if (outputs != (s->outputs != NULL)) continue;
        const int64_t from = m->ws.parts[i].first + s->n - s->n_logits;
        if (run > 0 && from != first + run) {
            norm_rows(m, m->ws.x + row * D, first, run);
            row += run;
            run = 0;
        }
        if (run == 0) first = from;
        note_outputs(m, row + run, s->n_logits, s->outputs, s->logits);
        run += s->n_logits;
    }
    norm_rows(m, m->ws.x + row * D, first, run);
    return row + run;
}

// Hidden rows of a step that comes again are left in ws.mixer: where they go is not part of it.
static void norm_hidden(text_model *m, const segment *segments, int32_t n, bool again)
{
    const int64_t D = m->config->text.hidden;
    for (int32_t i = 0; i < n; i++) {
        const segment *s = &segments[i];
        const int64_t first = m->ws.parts[i].first;
        if (s->hidden) norm_rows(m, again ? m->ws.mixer + first * D : s->hidden, first, s->n);
    }
}

static void copy_hidden(text_model *m, const segment *segments, int32_t n)
{
    const int64_t D = m->config->text.hidden;
    for (int32_t i = 0; i < n; i++) {
        const segment *s = &segments[i];
        if (!s->hidden) continue;
        op_copy(m->k, s->hidden, m->ws.mixer + m->ws.parts[i].first * D,
                (size_t)(s->n * D) * sizeof(float));
    }
}

sight_err model_results(text_model *m, const segment *segments, int32_t n, bool again)
{
    workspace *ws = &m->ws;
    norm_hidden(m, segments, n, again);
    const int64_t all = norm_wanted(m, 0, segments, n, false);
    const int64_t wanted = norm_wanted(m, all, segments, n, true);
    sight_err err = SIGHT_OK;
    if (kernels_on_device(m->k)) {
        err = pick(m, wanted, again);
    } else {
        write_logits(m, ws->x, segments, n);
        run_outputs(m, ws->x + all * m->config->text.hidden, ws->outputs + all, wanted - all);
    }
    if (again) copy_hidden(m, segments, n);
    return err;
}

sight_err model_mtp_results(text_model *m, const mtp_segment *s, const float *w, bool again)
{
    workspace *ws = &m->ws;
    const int64_t D = m->config->text.hidden;
    const float eps = (float)m->config->text.rms_eps;
    float *hidden = again ? ws->mixer : s->hidden_out;
    if (s->hidden_out) op_rms_norm(m->k, hidden, ws->h, w, s->n, D, eps);
    op_rms_norm(m->k, ws->x, ws->h + (s->n - s->n_logits) * D, w, s->n_logits, D, eps);
    note_outputs(m, 0, s->n_logits, s->outputs, s->logits);
    sight_err err = SIGHT_OK;
    if (kernels_on_device(m->k)) err = pick(m, s->n_logits, again);
    else if (s->outputs) run_outputs(m, ws->x, ws->outputs, s->n_logits);
    else compute_logits(m, s->logits, ws->x, s->n_logits);
    if (s->hidden_out && again) {
        op_copy(m->k, s->hidden_out, hidden, (size_t)(s->n * D) * sizeof *hidden);
    }
    return err;
}
