// The multi-token prediction block: drafts the token after next (docs/MODEL.md).
//
// x = fc([norm(embedding of the next token), norm(hidden state)]), one full-attention layer with KV
// of its own, a norm, and the main model's output matrix.
#include "text/model_parts.h"

static sight_err check(const text_model *m, const mtp_segment *s)
{
    if (!m->mtp) return sight_fail(SIGHT_E_UNSUPPORTED, "the checkpoint has no MTP block");
    if (!sequence_has_mtp(s->seq)) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "the cache keeps nothing for the MTP block");
    }
    if (s->n < 1 || s->n > m->max_rows || s->n_logits < 0 || s->n_logits > s->n) {
        return sight_fail(SIGHT_E_ARGUMENT, "%d rows, %d with logits; 1 to %lld rows fit", s->n,
                          s->n_logits, (long long)m->max_rows);
    }
    int64_t limit = m->config->text.max_positions;
    if (sequence_mtp_length(s->seq) + s->n > limit) {
        return sight_fail(SIGHT_E_LIMIT,
                          "%lld MTP rows and %d more exceed the context length of %lld",
                          (long long)sequence_mtp_length(s->seq), s->n, (long long)limit);
    }
    return model_check_rows(m, s->next_ids, s->next_visual, s->next_features, s->n);
}

// The rows that the hidden states lie in: behind what join puts together.
static float *hidden_rows(const text_model *m, int64_t N)
{
    return m->ws.mixer + N * 2 * m->config->text.hidden;
}

// ws.h = fc of both inputs, each normed.
static void join(text_model *m, const mtp_segment *s)
{
    const mtp_part *p = m->mtp;
    const int64_t D = m->config->text.hidden, N = s->n;
    const float eps = (float)m->config->text.rms_eps;
    float *pairs = m->ws.mixer; // [N, 2 D]
    float *hidden = hidden_rows(m, N);
    model_embed(m, N);
    if (s->next_visual) model_put_visual(m, m->ws.h, s->next_features, s->next_visual, N);
    op_rms_norm(m->k, m->ws.x, m->ws.h, p->embedding_norm, N, D, eps);
    op_rms_norm(m->k, hidden, hidden, p->hidden_norm, N, D, eps);
    op_copy_rows(m->k, pairs, 2 * D, m->ws.x, D, N, D);
    op_copy_rows(m->k, pairs + D, 2 * D, hidden, D, N, D);
    op_linear(m->k, m->ws.h, pairs, &p->fc, N);
}

sight_err text_model_mtp(text_model *m, const mtp_segment *s)
{
    return m->lead ? group_mtp(m->lead, s) : model_mtp_rank(m, s);
}

sight_err model_mtp_rank(text_model *m, const mtp_segment *s)
{
    sight_err err = check(m, s);
    if (!err) err = sequence_reserve(s->seq, sequence_mtp_length(s->seq), s->n);
    const bool fine = !err;
    err = model_agree(m, err);
    if (fine && err) sequence_trim(s->seq);
    if (err) return err;
    const int64_t N = s->n;
    const bool again = N <= SHORT_ROWS && !s->next_visual;
    m->ws.parts[0] = (batch_part){.seq = s->seq, .n = N, .past = sequence_mtp_length(s->seq)};
    model_note_rows(m, 0, N, s->next_ids, s->next_visual, s->positions, s->position_stride);
    // Outside the step: where they were is no part of it.
    const int64_t D = m->config->text.hidden;
    if (m->at.rank == 0) op_copy(m->k, hidden_rows(m, N), s->hidden, (size_t)(N * D) * sizeof(float));
    if (m->group) collective_share(m->group, m->at.rank, hidden_rows(m, N), N * D);
    if (again) kernels_step_begin(m->k);
    join(m, s);
    layer_run(m, &m->mtp->layer, m->ws.parts, 1, N);
    err = model_mtp_results(m, s, m->mtp->norm, again);
    if (!err && m->group) err = collective_status(m->group, m->at.rank);
    if (err) sequence_trim(s->seq);
    else sequence_advance_mtp(s->seq, s->n);
    return err;
}
