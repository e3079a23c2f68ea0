// Which kernel a product takes is in linear.h. Consecutive products of a call that take the same
// one share a launch.
#include "kernels/cuda/linear.h"

#include <assert.h>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/linear_f8.h"
#include "kernels/cuda/linear_weights.h"
#include "kernels/memory.h"

static_assert(sizeof(linear_job) == 40 && sizeof(linear_args) == 400, "no padding");
static_assert(sizeof(packed_matrix) == 72 && sizeof(packed_job) == 88 && sizeof(packed_args) == 416,
              "no padding");
static_assert(sizeof(unpack_args) == 120 && sizeof(packed_embed_args) == 104, "no padding");
static_assert(sizeof(cut_args) == 72 && sizeof(round_args) == 40 && sizeof(silu_mul_args) == 40 && sizeof(embed_args) == 56,
              "no padding");
static_assert((int)LINEAR_F32 == (int)TENSOR_F32 && (int)LINEAR_BF16 == (int)TENSOR_BF16 &&
                  (int)LINEAR_F16 == (int)TENSOR_F16 && LINEAR_MODE_ADD == (int)LINEAR_ADD &&
                  LINEAR_MODE_SILU_MUL == (int)LINEAR_SILU_MUL,
              "the same numbers");

// One call of the table's entry.
typedef struct product {
    kernels *k;
    const void *x; // float32, or bf16 where rows were rounded, or cut (cut_args)
    const float *scales; // of cut rows that were normed
    int64_t N, K;
    int64_t all; // rows of the whole call, of which N are a piece: they choose the kernel
    double alpha;
    linear_mode mode;
    bool exact; // float32 arithmetic
    const norm_of *norm; // of at most LINEAR_MID_ROWS; NULL: none
} product;

static bool aligned16(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static void launch(const product *p, cuda_launcher *launcher, linear_args *a, int64_t stride,
                   int type)
{
    a->N = p->N;
    a->K = p->K;
    a->stride = stride;
    a->alpha = p->alpha;
    a->norm = p->norm ? p->norm->w : NULL;
    a->scales = p->scales;
    a->eps = p->norm ? (double)p->norm->eps : 0;
    a->type = type;
    a->mode = (int32_t)p->mode;
    a->wide = p->K % 4 == 0 && aligned16(a->x) && (!p->norm || aligned16(p->norm->w));
    cuda_launch(p->k, launcher, a, sizeof *a);
}

static void set_job(linear_job *job, float *y, const weight *w)
{
    *job = (linear_job){w->w.data, w->bias, y, w->w.shape[0], w->w.shape[0]};
}

// ---- kinds: products that one launch can take together ----

#define KIND_PACKED 16
#define KIND_F8     32 // rows in E4M3 too

static int kind_of(const product *p, const weight *w)
{
    if (!p->exact && linear_f8_takes(p->k, w, p->all)) return KIND_F8;
    if (!w->packed) return (int)w->w.type;
    return KIND_PACKED + linear_packed(w)->kind + PACKED_KINDS * linear_packed(w)->scales;
}

static int run_of(const product *p, const weight *const *w, int n_w, int most)
{
    int n = 1;
    while (n < n_w && n < most && kind_of(p, w[n]) == kind_of(p, w[0]))
        n++;
    return n;
}

// ---- plain weights as they are ----

static void plain_run(const product *p, cuda_launcher *launcher, float *const *y,
                      const weight *const *w, int n_w)
{
    linear_args a = {.x = p->x, .n_jobs = n_w};
    for (int i = 0; i < n_w; i++)
        set_job(&a.jobs[i], y[p->mode == LINEAR_SILU_MUL ? 0 : i], w[i]);
    launch(p, launcher, &a, linear_stride(w[0]->w.type, p->K), (int)w[0]->w.type);
}

// ---- packed weights as they are ----

static void packed_run(const product *p, cuda_launcher *launcher, float *const *y,
                       const weight *const *w, int n_w)
{
    packed_args a = {.x = p->x, .N = p->N, .K = p->K, .n_jobs = n_w, .mode = (int32_t)p->mode};
    a.norm = p->norm ? p->norm->w : NULL;
    a.scales = p->scales;
    a.eps = p->norm ? (double)p->norm->eps : 0;
    a.kind = linear_packed(w[0])->kind;
    a.wide = p->K % 4 == 0 && aligned16(p->x) && (!p->norm || aligned16(p->norm->w));
    for (int i = 0; i < n_w; i++) {
        a.jobs[i] =
            (packed_job){*linear_packed(w[i]), w[i]->bias, y[p->mode == LINEAR_SILU_MUL ? 0 : i]};
    }
    cuda_launch(p->k, launcher, &a, sizeof a);
}

// ---- weights as other numbers, in pieces ----

// Rows first .. first + n - 1 of a weight: where they lie as bf16 (f32: as float32), made so in
// scratch if need be.
static const void *piece_of(const product *p, const weight *w, int slot, int64_t first, int64_t n,
                            bool f32)
{
    const int64_t stride = linear_stride(f32 ? TENSOR_F32 : TENSOR_BF16, p->K);
    if (!w->packed && w->w.type != TENSOR_F16)
        return (const char *)w->w.data + first * stride * (f32 ? 4 : 2);
    void *room = cuda_scratch(p->k, slot, (size_t)(n * stride) * (f32 ? 4 : 2));
    if (!room) return NULL;
    if (w->packed) {
        unpack_args a = {
            .w = *linear_packed(w), .K = p->K, .first = first, .n = n, .stride = stride};
        if (f32)
            a.f32 = room;
        else
            a.bf16 = room;
        cuda_launch(p->k, launch_packed_unpack, &a, sizeof a);
    } else {
        const widen_args a = {room, (const uint16_t *)w->w.data + first * stride, n * stride};
        cuda_launch(p->k, launch_f16_to_bf16, &a, sizeof a);
    }
    return room;
}

// Weight rows to take at once: all, unless they are made in scratch.
static int64_t piece_rows(const product *p, const weight *w, bool f32)
{
    if (!w->packed && w->w.type != TENSOR_F16) return w->w.shape[0];
    const int64_t rows = linear_piece_bytes(p->k) / (p->K * (f32 ? 4 : 2)) / PACKED_PANEL * PACKED_PANEL;
    return rows > PACKED_PANEL ? rows : PACKED_PANEL;
}

// The library for one piece as launch_linear_big has it. false: nothing was done that stays.
static bool library_takes(const product *p, const linear_args *a)
{
    const linear_job *job = &a->jobs[0];
    cublaslt_call call = {.job = job,
                          .x = a->x,
                          .N = p->N,
                          .stride = linear_stride(TENSOR_BF16, p->K),
                          .add = p->mode == LINEAR_ADD};
    if (!cublaslt_product(p->k, &call)) return false;
    if (p->mode != LINEAR_SILU_MUL) return true;
    linear_job up = a->jobs[1];
    up.y = cuda_scratch(p->k, LINEAR_SLOT_UP, (size_t)(p->N * job->M) * sizeof *up.y);
    up.y_stride = job->M;
    call.job = &up;
    if (!up.y || !cublaslt_product(p->k, &call)) return false;
    const silu_mul_args gate = {job->y, up.y, p->N, job->M, job->y_stride};
    cuda_launch(p->k, launch_silu_mul, &gate, sizeof gate);
    return true;
}

static void run_pieces(const product *p, cuda_launcher *launcher, float *y, const weight *const *w,
                       bool f32)
{
    const int n_w = p->mode == LINEAR_SILU_MUL ? 2 : 1;
    const int64_t M = w[0]->w.shape[0];
    int64_t rows = piece_rows(p, w[0], f32);
    if (n_w == 2) rows = least(rows, piece_rows(p, w[1], f32));
    for (int64_t first = 0; first < M; first += rows) {
        const int64_t n = least(rows, M - first);
        linear_args a = {.x = p->x, .n_jobs = n_w};
        for (int i = 0; i < n_w; i++) {
            const void *piece =
                piece_of(p, w[i], i ? LINEAR_SLOT_WEIGHTS_UP : LINEAR_SLOT_WEIGHTS, first, n, f32);
            if (!piece) return;
            a.jobs[i] =
                (linear_job){piece, w[i]->bias ? w[i]->bias + first : NULL, y + first, n, M};
        }
        if (launcher == launch_linear_big && library_takes(p, &a)) continue;
        launch(p, launcher, &a, linear_stride(f32 ? TENSOR_F32 : TENSOR_BF16, p->K),
               f32 ? LINEAR_F32 : LINEAR_BF16);
    }
}

// ---- rows in bf16 ----

// One kind of weights.
static void rounded_products(const product *p, float *const *y, const weight *const *w, int n_w)
{
    const int step = p->mode == LINEAR_SILU_MUL ? 2 : 1;
    for (int i = 0; i < n_w; i += step)
        run_pieces(p, launch_linear_big, y[i], w + i, false);
}

// Rows to take at once: those whose bf16 form (and gated, whose second sums) fits a piece of
// scratch.
static int64_t rows_at_once(const product *p, const weight *w)
{
    int64_t bytes = linear_stride(TENSOR_BF16, p->K) * 2;
    if (p->mode == LINEAR_SILU_MUL && w->w.shape[0] * 2 > bytes) bytes = w->w.shape[0] * 2;
    const int64_t fit = linear_piece_bytes(p->k) / bytes;
    return fit > 128 ? fit / 128 * 128 : 128;
}

static void rounded_run(const product *whole, float *const *y, const weight *const *w, int n_w)
{
    const int64_t stride = linear_stride(TENSOR_BF16, whole->K), most = rows_at_once(whole, w[0]);
    for (int64_t first = 0; first < whole->N; first += most) {
        product p = *whole;
        p.N = least(most, whole->N - first);
        uint16_t *x = cuda_scratch(p.k, LINEAR_SLOT_ROWS, (size_t)(p.N * stride) * sizeof *x);
        if (!x) return;
        const round_args round = {x, (const float *)whole->x + first * p.K, p.N, p.K, stride};
        cuda_launch(p.k, launch_round, &round, sizeof round);
        p.x = x;
        float *at[LINEAR_JOBS];
        for (int i = 0; i < n_w; i++) {
            at[i] = p.mode == LINEAR_SILU_MUL && i ? NULL : y[i] + first * w[i]->w.shape[0];
        }
        rounded_products(&p, at, w, n_w);
    }
}

// ---- up to 64 rows ----

// In float32 arithmetic: weights are read for every 8 rows.
static void few_run(const product *whole, float *const *y, const weight *const *w, int n_w)
{
    for (int64_t first = 0; first < whole->N; first += LINEAR_FEW_ROWS) {
        product p = *whole;
        p.N = least(LINEAR_FEW_ROWS, whole->N - first);
        p.x = (const float *)whole->x + first * p.K;
        float *at[LINEAR_JOBS];
        for (int i = 0; i < n_w; i++)
            at[i] = p.mode == LINEAR_SILU_MUL && i ? NULL : y[i] + first * w[i]->w.shape[0];
        if (w[0]->packed)
            packed_run(&p, launch_packed_few, at, w, n_w);
        else
            plain_run(&p, launch_linear_few, at, w, n_w);
    }
}

// Cuts rows beforehand, and norms them. false: no memory, which is kept. Scratch is asked for as many as there may be: were it to
// grow with a batch, graphs of smaller ones would be of no use.
static bool cut_rows(product *p, bool packed_lanes)
{
    const int64_t fours = (p->K + 31) / 32 * 8;
    void *y = cuda_scratch(p->k, LINEAR_SLOT_ROWS, (size_t)(LINEAR_MID_ROWS * fours) * 16);
    float *scales = cuda_scratch(p->k, LINEAR_SLOT_SCALES, LINEAR_MID_ROWS * sizeof *scales);
    if (!y || !scales) return false;
    const cut_args cut = {.y = y, .scales = scales, .x = p->x, .norm = p->norm ? p->norm->w : NULL, .N = p->N,
                          .K = p->K, .fours = fours, .eps = p->norm ? (double)p->norm->eps : 0,
                          .packed = packed_lanes};
    cuda_launch(p->k, launch_cut, &cut, sizeof cut);
    p->x = y;
    p->scales = p->norm ? scales : NULL;
    p->norm = NULL;
    return true;
}

// On the tensor cores.
static void mid_run(const product *whole, float *const *y, const weight *const *w, int n_w)
{
    product p = *whole;
    if (p.N > LINEAR_RAW_ROWS && !cut_rows(&p, w[0]->packed)) return;
    if (w[0]->packed)
        packed_run(&p, launch_packed_mid, y, w, n_w);
    else
        plain_run(&p, launch_linear_mid, y, w, n_w);
}

// ---- the choice ----

static void run_same(const product *p, float *const *y, const weight *const *w, int n_w)
{
    const bool is_packed = w[0]->packed, exact = p->exact || (!is_packed && w[0]->w.type == TENSOR_F32);
    if (p->all <= LINEAR_MID_ROWS) {
        if (exact) few_run(p, y, w, n_w);
        else mid_run(p, y, w, n_w);
    } else if (kind_of(p, w[0]) == KIND_F8) {
        linear_f8(p->k, y, p->x, p->norm, w, n_w, p->N, p->mode);
    } else if (!is_packed && exact) {
        plain_run(p, launch_linear_tile, y, w, n_w);
    } else {
        const int step = p->mode == LINEAR_SILU_MUL ? 2 : 1;
        for (int i = 0; i < n_w && p->exact; i += step)
            run_pieces(p, launch_linear_tile, y[i], w + i, true);
        if (!p->exact) rounded_run(p, y, w, n_w);
    }
}

// Gate and up of kinds that no kernel takes together, or with additions.
static void gated_apart(const product *whole, float *y, const weight *const *w)
{
    const int64_t M = w[0]->w.shape[0], most = rows_at_once(whole, w[0]);
    for (int64_t first = 0; first < whole->N; first += most, y += most * M) {
        product p = *whole;
        p.N = least(most, whole->N - first);
        p.x = (const float *)whole->x + first * p.K;
        p.mode = LINEAR_SET;
        float *up = cuda_scratch(p.k, LINEAR_SLOT_UP, (size_t)(p.N * M) * sizeof *up), *out[] = {y, up};
        if (!up) return;
        for (int i = 0; i < 2; i++) {
            run_same(&p, &out[i], w + i, 1);
            p.k->ops.low_rank(p.k, out[i], p.x, w[i], p.N);
        }
        const silu_mul_args a = {y, up, p.N, M, M};
        cuda_launch(p.k, launch_silu_mul, &a, sizeof a);
    }
}

static void run_products(const product *p, float *const *y, const weight *const *w, int n_w)
{
    for (int i = 0, n; i < n_w; i += n) {
        n = run_of(p, w + i, n_w - i, w[i]->packed ? PACKED_JOBS : LINEAR_JOBS);
        run_same(p, y + i, w + i, n);
    }
}

// Norms are taken on the way by kernels for up to LINEAR_MID_ROWS, and where rows become E4M3.
static bool cuda_linear_normed(kernels *k, float *const *y, const float *x, const norm_of *norm,
                               const weight *const *w, int n_w, int64_t N, linear_mode mode)
{
    const product p = {.k = k, .x = x, .N = N, .K = w[0]->w.shape[1], .all = N, .alpha = 1, .mode = mode,
                       .exact = k->exact, .norm = norm};
    const bool gated = mode == LINEAR_SILU_MUL;
    if (gated && kind_of(&p, w[0]) != kind_of(&p, w[1])) return false;
    if (N <= LINEAR_MID_ROWS && p.K > LINEAR_CUT_MOST_K) return false;
    for (int i = 0; i < n_w && N > LINEAR_MID_ROWS; i++)
        if (kind_of(&p, w[i]) != KIND_F8) return false;
    if (cuda_failed(k)) return true;
    if (gated) run_same(&p, y, w, 2);
    else run_products(&p, y, w, n_w);
    return true;
}

static void cuda_linear(kernels *k, float *const *y, const float *x, const weight *const *w,
                        int n_w, int64_t N, linear_mode mode)
{
    const product p = {.k = k, .x = x, .N = N, .K = w[0]->w.shape[1], .all = N, .alpha = 1, .mode = mode,
                       .exact = k->exact};
    if (cuda_failed(k)) return;
    if (mode == LINEAR_SILU_MUL) {
        if (kind_of(&p, w[0]) != kind_of(&p, w[1]) || w[0]->lora || w[1]->lora)
            gated_apart(&p, y[0], w);
        else
            run_same(&p, y, w, 2);
        return;
    }
    run_products(&p, y, w, n_w);
}

// ---- the other entries ----

// In float32 arithmetic beside weights of any form, as on the CPU.
static void cuda_low_rank(kernels *k, float *y, const float *x, const weight *w, int64_t N)
{
    for (const low_rank *l = w->lora; l && !cuda_failed(k); l = l->next) {
        const weight a = {.w = l->a}, b = {.w = l->b}, *pa = &a, *pb = &b;
        const int64_t r = l->a.shape[0];
        float *t = cuda_scratch(k, LINEAR_SLOT_RANK, (size_t)(N * r) * sizeof *t);
        if (!t) return;
        const product first = {.k = k, .x = x, .N = N, .K = w->w.shape[1], .all = N, .alpha = (double)l->scale,
                               .mode = LINEAR_SET, .exact = true};
        const product second = {.k = k, .x = t, .N = N, .K = r, .all = N, .alpha = 1, .mode = LINEAR_ADD,
                                .exact = true};
        run_same(&first, &t, &pa, 1);
        run_same(&second, &y, &pb, 1);
    }
}

static void cuda_embed(kernels *k, float *y, const int32_t *ids, const weight *table, int64_t N)
{
    const int32_t *there = cuda_args(k, ids, (size_t)N * sizeof *ids);
    const int64_t D = table->w.shape[1];
    if (!there) return;
    if (table->packed) {
        const packed_embed_args a = {*linear_packed(table), y, there, N, D};
        cuda_launch(k, launch_packed_embed, &a, sizeof a);
        return;
    }
    const embed_args a = {
        y, table->w.data, there, N, D, linear_stride(table->w.type, D), (int64_t)table->w.type};
    cuda_launch(k, launch_embed, &a, sizeof a);
}

void linear_cuda_fill(backend_ops *ops)
{
    ops->linear = cuda_linear;
    ops->packed = cuda_linear;
    ops->linear_normed = cuda_linear_normed;
    ops->unpack = NULL; // of host memory; embed takes packed tables
    ops->low_rank = cuda_low_rank;
    ops->embed = cuda_embed;
    ops->take_weight = linear_take_weight;
    ops->drop_weight = linear_drop_weight;
}
