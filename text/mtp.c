// The multi-token prediction block: drafts the token after next (docs/MODEL.md).
//
// x = fc([norm(embedding of the next token), norm(hidden state)]), one full-attention layer with KV
// of its own, a norm, and the main model's output matrix.
#include <string.h>

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

// ws.h = fc of both inputs, each normed.
static void join(text_model *m, const mtp_segment *s)
{
    const mtp_part *p = m->mtp;
    const int64_t D = m->config->text.hidden, N = s->n;
    const float eps = (float)m->config->text.rms_eps;
    float *pairs = m->ws.mixer;      // [N, 2 D]
    float *hidden = pairs + N * 2 * D; // [N, D]
    model_embed(m, 0, N, s->next_ids, s->next_visual, s->next_features);
    op_rms_norm(m->k, m->ws.x, m->ws.h, p->embedding_norm, N, D, eps);
    op_rms_norm(m->k, hidden, s->hidden, p->hidden_norm, N, D, eps);
    for (int64_t i = 0; i < N; i++) {
        memcpy(pairs + i * 2 * D, m->ws.x + i * D, (size_t)D * sizeof *pairs);
        memcpy(pairs + i * 2 * D + D, hidden + i * D, (size_t)D * sizeof *pairs);
    }
    op_linear(m->k, m->ws.h, pairs, &p->fc, N);
}

sight_err text_model_mtp(text_model *m, const mtp_segment *s)
{
    sight_err err = check(m, s);
    if (!err) err = sequence_reserve(s->seq, sequence_mtp_length(s->seq), s->n);
    if (err) return err;
    const mtp_part *p = m->mtp;
    const text_config *t = &m->config->text;
    const int64_t D = t->hidden;
    const float eps = (float)t->rms_eps;
    m->ws.parts[0] = (batch_part){.seq = s->seq, .n = s->n, .past = sequence_mtp_length(s->seq)};
    join(m, s);
    rope_angles(m->ws.cos, m->ws.sin, s->positions, s->position_stride, s->n, t);
    layer_run(m, &p->layer, m->ws.parts, 1, s->n);
    if (s->hidden_out) op_rms_norm(m->k, s->hidden_out, m->ws.h, p->norm, s->n, D, eps);
    sequence_advance_mtp(s->seq, s->n);
    if (s->n_logits == 0) return SIGHT_OK;
    op_rms_norm(m->k, m->ws.x, m->ws.h + (s->n - s->n_logits) * D, p->norm, s->n_logits, D, eps);
    if (s->outputs) model_outputs(m, m->ws.x, s->outputs, s->n_logits);
    else op_linear(m->k, s->logits, m->ws.x, &m->head, s->n_logits);
    return SIGHT_OK;
}
