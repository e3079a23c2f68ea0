// tests/text/golden_steps.h - a text model's steps over reference cases, on any kind of backend, beside the reference's logits.
//
// Features, deepstack and hidden states are where the model's ops read them; logits are the caller's. Fails the test instead of
// returning an error.
#ifndef TESTS_TEXT_GOLDEN_STEPS_H
#define TESTS_TEXT_GOLDEN_STEPS_H

#include "text/golden.h"

// Made-up weights amplify rounding: in float64 the reference itself moves by up to 2.8e-4 on pictures and clips
// (hybrid/video-96x80-30f), by 1.3e-5 on text.
#define GOLDEN_TEXT_LIMIT    1e-4
#define GOLDEN_PICTURE_LIMIT 6e-4

// Of a case's logits in float32.
static inline double golden_limit(const char *name)
{
    return strncmp(name, "text", 4) ? GOLDEN_PICTURE_LIMIT : GOLDEN_TEXT_LIMIT;
}

// Of the first token after the case.
static inline int32_t golden_next_position(const golden_case *g)
{
    int32_t most = 0;
    for (int32_t i = 0; i < 3 * g->n; i++) most = g->positions[i] > most ? g->positions[i] : most;
    return most + 1;
}

// Reads rows first .. first + n - 1; logits [n, vocab] and hidden [n, D] may be NULL.
static inline void golden_read(text_model *m, const text_config *t, const golden_case *g, sequence *s, int32_t first,
                               int32_t n, float *logits, float *hidden)
{
    const float *levels[CONFIG_MAX_DEEPSTACK];
    segment seg = golden_segment(g, s, first, n, levels, t->hidden);
    seg.logits = logits;
    seg.n_logits = logits ? n : 0;
    seg.hidden = hidden;
    assert_ok(text_model_step(m, &seg, 1));
}

// Reads n cases to their ends, in the same steps: sizes[i] rows a step of the one that s[i] reads. logits[i] [g[i].n, vocab].
#define GOLDEN_TOGETHER 4
static inline void golden_read_together(text_model *m, const text_config *t, const golden_case *g, sequence *const *s,
                                        const int32_t *sizes, float *const *logits, int n)
{
    assert_true(n <= GOLDEN_TOGETHER);
    for (bool more = true; more;) {
        const float *levels[GOLDEN_TOGETHER][CONFIG_MAX_DEEPSTACK];
        segment seg[GOLDEN_TOGETHER];
        int32_t n_seg = 0;
        for (int i = 0; i < n; i++) {
            const int32_t at = (int32_t)sequence_length(s[i]), left = g[i].n - at;
            if (left == 0) continue;
            const int32_t rows = left < sizes[i] ? left : sizes[i];
            seg[n_seg] = golden_segment(&g[i], s[i], at, rows, levels[n_seg], t->hidden);
            seg[n_seg].n_logits = rows;
            seg[n_seg++].logits = logits[i] + at * (int64_t)t->vocab;
        }
        more = n_seg > 0;
        if (more) assert_ok(text_model_step(m, seg, n_seg));
    }
}

// One token; logits [vocab].
static inline void golden_decode(text_model *m, sequence *s, int32_t id, int32_t position, float *logits)
{
    const int32_t positions[3] = {position, position, position};
    const segment seg = {.seq = s, .n = 1, .ids = &id, .positions = positions, .position_stride = 1, .n_logits = 1,
                         .logits = logits};
    assert_ok(text_model_step(m, &seg, 1));
}

// The rows of got [g->n, vocab] that the reference has under that name.
static inline void golden_compare(const golden_case *g, const char *name, const float *got, int64_t vocab, double limit)
{
    int64_t n_rows = 0, n = 0;
    int32_t *rows = golden_copy(g->file, "logit_positions", &n_rows);
    float *want = golden_copy(g->file, name, &n);
    float *picked = golden_alloc(n, sizeof *picked);
    assert_int_equal(n, n_rows * vocab);
    for (int64_t i = 0; i < n_rows; i++) {
        memcpy(picked + i * vocab, got + rows[i] * vocab, (size_t)vocab * sizeof *got);
    }
    char what[400];
    snprintf(what, sizeof what, "%s %s", g->name, name);
    assert_close(picked, want, n, limit, what);
    free(rows);
    free(want);
    free(picked);
}

// Drafts for every row of the prompt, from hidden [g->n, D]; the last is paired with the model's own choice. Nothing where the
// reference has none.
static inline void golden_check_mtp(text_model *m, const text_config *t, const golden_case *g, sequence *s,
                                    const float *hidden, int32_t choice, double limit)
{
    if (safetensors_find(g->file, "mtp_logits") < 0) return;
    int32_t *next = golden_alloc(g->n, sizeof *next);
    uint8_t *visual = golden_alloc(g->n, 1);
    float *logits = golden_alloc(g->n * (int64_t)t->vocab, sizeof *logits);
    for (int32_t i = 0; i + 1 < g->n; i++) {
        next[i] = g->ids[i + 1];
        visual[i] = g->visual[i + 1];
    }
    next[g->n - 1] = choice;
    const mtp_segment seg = {.seq = s, .n = g->n, .hidden = hidden, .next_ids = next, .next_visual = visual,
                             .next_features = g->features, .positions = g->positions, .position_stride = g->n,
                             .n_logits = g->n, .logits = logits};
    assert_ok(text_model_mtp(m, &seg));
    assert_int_equal(sequence_mtp_length(s), g->n);
    golden_compare(g, "mtp_logits", logits, t->vocab, limit);
    free(next);
    free(visual);
    free(logits);
}

// What the reference answers, token by token. id: the choice of the model after the case.
static inline void golden_expect_token(const golden_case *g, int32_t i, int32_t id)
{
    if (id == g->greedy[i]) return;
    fail_msg("%s: token %d is %d, not %d (closest choice %.4f)", g->name, i, id, g->greedy[i], g->margin);
}

#endif
