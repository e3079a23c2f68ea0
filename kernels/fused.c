#include "kernels/fused.h"

#include <assert.h>

#include "kernels/backend.h"

static bool shapes_meet(const weight *const *w, int n_w)
{
    for (int i = 0; i < n_w; i++) {
        if (w[i]->lora) return false; // what it adds reads the normed rows
        assert(w[i]->w.shape[1] == w[0]->w.shape[1]);
    }
    return n_w > 0;
}

bool op_linear_normed(kernels *k, float *const *y, const float *x, const norm_of *norm, const weight *const *w,
                      int n_w, int64_t N)
{
    if (!k->ops.linear_normed || k->profile || N <= 0 || !shapes_meet(w, n_w)) return false;
    return k->ops.linear_normed(k, y, x, norm, w, n_w, N, LINEAR_SET);
}

bool op_linear_silu_mul_normed(kernels *k, float *y, const float *x, const norm_of *norm, const weight *gate,
                               const weight *up, int64_t N)
{
    const weight *w[] = {gate, up};
    assert(gate->w.shape[0] == up->w.shape[0]);
    if (!k->ops.linear_normed || k->profile || N <= 0 || !shapes_meet(w, 2)) return false;
    return k->ops.linear_normed(k, &y, x, norm, w, 2, N, LINEAR_SILU_MUL);
}

bool op_heads_write(kernels *kk, const heads_rows *rows, const kv_rows *seqs, int64_t S)
{
    assert(rows->G > 0 && rows->H % rows->G == 0 && rows->R >= 0 && rows->R <= rows->C && rows->R % 2 == 0);
    if (!kk->ops.heads_write || kk->profile || S <= 0) return false;
    for (int64_t s = 1; s < S; s++) {
        assert(seqs[s].kv.type == seqs[0].kv.type && seqs[s].kv.page_rows == seqs[0].kv.page_rows);
    }
    return kk->ops.heads_write(kk, rows, seqs, S);
}

bool op_attention_gated(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G, int64_t C, float scale,
                        const gated_attention *gated)
{
    assert(G > 0 && H % G == 0 && C > 0);
    if (!k->ops.attention_gated || k->profile || S <= 0) return false;
    return k->ops.attention_gated(k, seqs, S, H, G, C, scale, gated);
}
