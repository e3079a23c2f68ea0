// Who takes it, and why those (nothing is measured):
//   sm_89, sm_120   own kernel: mma.sync multiplies E4M3 at twice the rate of bf16
//   sm_90           cuBLASLt alone multiplies E4M3 as such there (wgmma): ptxas makes mma.sync of it two
//                   products of f16 behind conversions, so without the library rows stay bf16. The own
//                   kernel takes what the library leaves: up to three last rows, odd shapes
//   sm_100          stays bf16: mma.sync is made of f16 products there too, and the library's scales
//                   are powers of two for 32 inputs, which published weights' are not
#include "kernels/cuda/linear_f8.h"

#include <assert.h>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/linear_weights.h"

static_assert(sizeof(f8_rows_args) == 72 && sizeof(f8_lay_args) == 112 && sizeof(f8_bias_args) == 48, "no padding");
static_assert(sizeof(f8_args) == sizeof(packed_args) + 24 && sizeof(f8_args) <= CUDA_MAX_ARGS, "no padding");

#define PIECE_ROWS 128 // rows of x are cut at multiples of this

// One call, or the part of its rows under way.
typedef struct product {
    kernels *k;
    const uint8_t *codes;
    const float *scales;
    const float *x;
    const norm_of *norm;
    int64_t N, K, stride, places;
    linear_mode mode;
    bool by_library; // is asked first
} product;

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t up_to(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

// ---- who takes it ----

// Chips whose mma.sync multiplies E4M3 as such; the shim multiplies anything.
static bool chip_has_f8(const cuda_chip *c)
{
    return c->emulated || (c->major == 8 && c->minor == 9) || c->major == 12;
}

bool linear_f8_takes(kernels *k, const weight *w, int64_t N)
{
    if (!w->packed || N <= LINEAR_MID_ROWS || k->exact || k->no_f8) return false;
    const packed_format *f = &w->packed->format;
    return f->f8_rows && f->group == LINEAR_F8_GROUP && f->scales != PACKED_TWO_LEVEL &&
           (chip_has_f8(cuda_get_chip(k)) || cublaslt_has_f8(k));
}

// ---- rows of x ----

static bool round_rows(product *p)
{
    const int64_t codes = up_to(p->N * p->stride, 256), groups = p->stride / LINEAR_F8_GROUP;
    p->places = up_to(p->N, 4);
    uint8_t *room = cuda_scratch(p->k, LINEAR_SLOT_ROWS, (size_t)(codes + groups * p->places * 4));
    if (!room) return false;
    p->codes = room;
    p->scales = (const float *)(const void *)(room + codes);
    const f8_rows_args a = {
        .codes = room,
        .scales = (float *)(void *)(room + codes),
        .x = p->x,
        .norm = p->norm ? p->norm->w : NULL,
        .eps = p->norm ? (double)p->norm->eps : 0,
        .N = p->N,
        .K = p->K,
        .stride = p->stride,
        .places = p->places,
    };
    cuda_launch(p->k, launch_f8_rows, &a, sizeof a);
    return true;
}

// ---- by the own kernel ----

static void run_own(const product *p, float *const *y, const weight *const *w, int n_w)
{
    f8_args a = {.p = {.x = p->codes, .N = p->N, .K = p->K, .n_jobs = n_w, .mode = (int32_t)p->mode},
                 .scales = p->scales,
                 .stride = p->stride,
                 .places = p->places};
    for (int i = 0; i < n_w; i++) {
        a.p.jobs[i] = (packed_job){*linear_packed(w[i]), w[i]->bias, y[p->mode == LINEAR_SILU_MUL ? 0 : i]};
    }
    cuda_launch(p->k, launch_linear_f8, &a, sizeof a);
}

// ---- by the library ----

// Weight rows laid out for the library, at once.
static int64_t rows_laid(const product *p)
{
    const int64_t rows = linear_piece_bytes(p->k) / (p->stride + p->stride / LINEAR_F8_GROUP * 4);
    return rows > PACKED_PANEL ? rows / PACKED_PANEL * PACKED_PANEL : PACKED_PANEL;
}

// Rows first .. first + n - 1 of w in scratch. y: what they give, from that column on.
static bool lay(const product *p, cublaslt_call *call, linear_job *job, float *y, const weight *w, int64_t first,
                int64_t n, int slot)
{
    const int64_t codes = up_to(n * p->stride, 256), groups = p->stride / LINEAR_F8_GROUP;
    uint8_t *room = cuda_scratch(p->k, slot, (size_t)(codes + groups * n * 4));
    *job = (linear_job){room, NULL, y + first, n, w->w.shape[0]};
    *call = (cublaslt_call){.job = job,
                            .x = p->codes,
                            .N = p->N,
                            .stride = p->stride,
                            .add = p->mode == LINEAR_ADD || w->bias,
                            .w_scales = (const float *)(const void *)(room + codes),
                            .x_scales = p->scales};
    return room;
}

// y = bias, or y += bias: the library then adds to it (with sums in float32 it has only biases in bf16).
static void add_bias(const product *p, const linear_job *job, const weight *w, int64_t first)
{
    if (!w->bias) return;
    const f8_bias_args a = {job->y, w->bias + first, p->N, job->M, job->y_stride, p->mode == LINEAR_ADD};
    cuda_launch(p->k, launch_f8_bias, &a, sizeof a);
}

// One matrix. false: the library has not taken some of it.
static bool library_runs(const product *p, float *y, const weight *w, int slot)
{
    const int64_t M = w->w.shape[0], most = rows_laid(p);
    cublaslt_call call;
    linear_job job;
    for (int64_t first = 0; first < M; first += most) { // before anything is added to y
        if (!lay(p, &call, &job, y, w, first, least(most, M - first), slot) || !cublaslt_can(p->k, &call)) return false;
    }
    for (int64_t first = 0; first < M; first += most) {
        if (!lay(p, &call, &job, y, w, first, least(most, M - first), slot)) return false;
        const f8_lay_args a = {
            .w = *linear_packed(w),
            .codes = (uint8_t *)job.w,
            .scales = (float *)call.w_scales,
            .first = first,
            .n = job.M,
            .stride = p->stride,
        };
        cuda_launch(p->k, launch_f8_lay, &a, sizeof a);
        add_bias(p, &job, w, first);
        if (cublaslt_product(p->k, &call)) continue;
        if (p->mode == LINEAR_ADD) {
            cuda_fail(p->k, SIGHT_E_INTERNAL, "cuBLASLt has an algorithm for a product of %lld rows in E4M3, and refuses it",
                      (long long)p->N);
        }
        return false;
    }
    return true;
}

static bool library_takes(const product *p, float *const *y, const weight *const *w)
{
    const int64_t M = w[0]->w.shape[0];
    if (p->N % 4 || M % 4) return false;
    if (p->mode != LINEAR_SILU_MUL) return library_runs(p, y[0], w[0], LINEAR_SLOT_WEIGHTS);
    float *up = cuda_scratch(p->k, LINEAR_SLOT_UP, (size_t)(p->N * M) * sizeof *up);
    if (!up || !library_runs(p, y[0], w[0], LINEAR_SLOT_WEIGHTS) || !library_runs(p, up, w[1], LINEAR_SLOT_WEIGHTS)) {
        return false;
    }
    const silu_mul_args gate = {y[0], up, p->N, M, M};
    cuda_launch(p->k, launch_silu_mul, &gate, sizeof gate);
    return true;
}

// ---- the pieces ----

// Rows to take at once: those whose codes (and gated, whose second sums) fit a piece of scratch. The library
// wants a multiple of four.
static int64_t rows_at_once(const product *p, const weight *w, int64_t left)
{
    int64_t bytes = p->stride + p->stride / LINEAR_F8_GROUP * 4;
    if (p->by_library && p->mode == LINEAR_SILU_MUL && w->w.shape[0] * 2 > bytes) bytes = w->w.shape[0] * 2;
    const int64_t fit = linear_piece_bytes(p->k) / bytes / PIECE_ROWS * PIECE_ROWS;
    const int64_t n = least(fit > PIECE_ROWS ? fit : PIECE_ROWS, left);
    return p->by_library && n > 4 ? n / 4 * 4 : n;
}

static void run_rows(const product *p, float *const *y, const weight *const *w, int n_w)
{
    const int step = p->mode == LINEAR_SILU_MUL ? 2 : 1;
    if (!p->by_library) {
        run_own(p, y, w, n_w);
        return;
    }
    for (int i = 0; i < n_w; i += step) {
        if (!library_takes(p, y + i, w + i) && !cuda_failed(p->k)) run_own(p, y + i, w + i, step);
    }
}

void linear_f8(kernels *k, float *const *y, const float *x, const norm_of *norm, const weight *const *w, int n_w,
               int64_t N, linear_mode mode)
{
    const int64_t K = w[0]->w.shape[1];
    product p = {.k = k,
                 .norm = norm,
                 .K = K,
                 .stride = up_to(K, LINEAR_F8_GROUP),
                 .mode = mode,
                 .by_library = !chip_has_f8(cuda_get_chip(k))};
    assert(n_w <= PACKED_JOBS);
    for (int64_t first = 0; first < N; first += p.N) {
        p.N = rows_at_once(&p, w[0], N - first);
        p.x = x + first * K;
        if (!round_rows(&p)) return;
        float *at[PACKED_JOBS];
        for (int i = 0; i < n_w; i++)
            at[i] = mode == LINEAR_SILU_MUL && i ? NULL : y[i] + first * w[i]->w.shape[0];
        run_rows(&p, at, w, n_w);
    }
}
