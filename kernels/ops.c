#include "kernels/ops.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/backend.h"
#include "kernels/low_rank.h"
#include "kernels/memory.h"
#include "kernels/profile.h"

// ---- the object ----

static void fill_table(backend_ops *ops, simd_level level, bool exact)
{
    memory_plain_fill(ops);
    positions_plain_fill(ops);
    linear_plain_fill(ops);
    packed_plain_fill(ops);
    rows_plain_fill(ops);
    attention_plain_fill(ops);
    delta_plain_fill(ops);
    output_plain_fill(ops);
#if defined(__x86_64__)
    if (level >= SIMD_AVX2 && level <= SIMD_AVX512BF16) {
        linear_avx2_fill(ops);
        packed_avx2_fill(ops);
        packed_unpack_avx2_fill(ops);
        if (simd_has_avxvnni()) packed_avxvnni_fill(ops);
        rows_avx2_fill(ops);
        attention_avx2_fill(ops);
        delta_avx2_fill(ops);
        output_avx2_fill(ops);
    }
    if (level >= SIMD_AVX512 && level <= SIMD_AVX512BF16) {
        linear_avx512_fill(ops);
        packed_avx512_fill(ops);
        rows_avx512_fill(ops);
        attention_avx512_fill(ops);
        delta_avx512_fill(ops);
        if (simd_has_vnni()) {
            packed_avx512vnni_fill(ops);
            output_avx512vnni_fill(ops);
            if (!exact) attention_avx512vnni_fill(ops);
        }
    }
    if (level == SIMD_AVX512BF16 && !exact) linear_avx512bf16_fill(ops);
#endif
#if defined(__aarch64__)
    if (level == SIMD_NEON) {
        linear_neon_fill(ops);
        packed_neon_fill(ops);
        rows_neon_fill(ops);
        attention_neon_fill(ops);
        delta_neon_fill(ops);
        output_neon_fill(ops);
        if (simd_has_dotprod()) {
            packed_neondot_fill(ops);
            output_neondot_fill(ops);
        }
        if (simd_has_dotprod() && simd_has_i8mm()) packed_neoni8mm_fill(ops);
    }
#endif
}

static size_t second_cache_bytes(void)
{
    long bytes = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    return bytes > 0 ? (size_t)bytes : (size_t)1 << 20;
}

// Anonymous pages: nothing is used until a kernel writes to it.
static sight_err scratch_create(kernels *k)
{
    size_t floats = (size_t)threads_count(k->pool) * KERNELS_SCRATCH_FLOATS + KERNELS_SHARED_FLOATS +
                    KERNELS_LOW_RANK_FLOATS;
    size_t bytes = floats * sizeof(float);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for %zu MiB of scratch", bytes >> 20);
    }
#ifdef MADV_HUGEPAGE
    madvise(p, bytes, MADV_HUGEPAGE);
#endif
    k->scratch = p;
    k->scratch_bytes = bytes;
    return SIGHT_OK;
}

static sight_err open_device(kernels *k, const kernels_options *options)
{
#ifdef SIGHT_CUDA
    return cuda_open(k, options);
#else
    return sight_fail(SIGHT_E_UNSUPPORTED, "device cuda:%d: %s", k->device.index, device_without_gpu());
#endif
}

sight_err kernels_create(kernels **out, const kernels_options *options)
{
    simd_level level = options->simd;
    if (level == SIMD_AUTO) level = simd_level_best(options->exact);
    if ((unsigned)level >= SIMD_COUNT) {
        return sight_fail(SIGHT_E_ARGUMENT, "SIMD level %d does not exist", (int)level);
    }
    if (!simd_level_available(level)) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "this processor has no %s", simd_level_name(level));
    }
    kernels *k = calloc(1, sizeof *k);
    if (!k) return sight_fail(SIGHT_E_MEMORY, "no memory for the kernels");
    k->level = level;
    k->exact = options->exact;
    k->no_f8 = options->no_f8;
    k->cache_bytes = second_cache_bytes();
    k->device = options->device;
    fill_table(&k->ops, level, options->exact);
    sight_err err = threads_create(&k->pool, options->threads);
    if (!err) err = scratch_create(k);
    if (!err && k->device.kind == DEVICE_CUDA) err = open_device(k, options);
    if (err) {
        kernels_destroy(&k);
        return err;
    }
    *out = k;
    return SIGHT_OK;
}

void kernels_destroy(kernels **p)
{
    kernels *k = *p;
    if (!k) return;
#ifdef SIGHT_CUDA
    cuda_close(k);
#endif
    threads_destroy(&k->pool);
    if (k->scratch) munmap(k->scratch, k->scratch_bytes);
    free(k);
    *p = NULL;
}

const atomic_bool *kernels_set_stop(kernels *k, const atomic_bool *flag)
{
    const atomic_bool *before = k->stop;
    k->stop = flag;
    threads_set_stop(k->pool, flag);
    return before;
}

void kernels_rows(kernels *k, int64_t n, int64_t grain, kernels_rows_fn *fn, void *arg)
{
    threads_for(k->pool, n, grain, fn, arg);
}

simd_level kernels_simd(const kernels *k)
{
    return k->level;
}

device_id kernels_device(const kernels *k)
{
    return k->device;
}

int kernels_threads(const kernels *k)
{
    return threads_count(k->pool);
}

float *kernels_scratch(const kernels *k, int worker, size_t floats)
{
    assert(worker >= 0 && worker < threads_count(k->pool) && floats <= KERNELS_SCRATCH_FLOATS);
    return k->scratch + (size_t)worker * KERNELS_SCRATCH_FLOATS;
}

float *kernels_shared(const kernels *k, size_t floats)
{
    assert(floats <= KERNELS_SHARED_FLOATS);
    return k->scratch + (size_t)threads_count(k->pool) * KERNELS_SCRATCH_FLOATS;
}

sight_err kernels_create_beside(kernels **out, kernels *first)
{
    *out = first;
    if (!kernels_on_device(first)) return SIGHT_OK;
#ifdef SIGHT_CUDA
    kernels *k = calloc(1, sizeof *k);
    if (!k) return sight_fail(SIGHT_E_MEMORY, "no memory for the kernels");
    k->level = first->level;
    k->exact = first->exact;
    k->no_f8 = first->no_f8;
    k->cache_bytes = first->cache_bytes;
    k->ops = first->ops;
    k->device = first->device;
    sight_err err = threads_create(&k->pool, 1);
    if (!err) err = cuda_open_beside(k, first);
    if (err) kernels_destroy(&k);
    *out = k;
    return err;
#else
    return SIGHT_OK;
#endif
}

void kernels_destroy_beside(kernels **beside, kernels *first)
{
    if (*beside != first) kernels_destroy(beside);
    *beside = NULL;
}

// ---- noting what an op took ----

static double begin(const kernels *k)
{
    return k->profile ? clock_now_s() : 0;
}

static void end(kernels *k, double start, const char *op, double bytes, double operations)
{
    if (k->profile && k->ops.read) k->ops.read(k, NULL, NULL, 0); // a device runs behind
    if (k->profile) profile_add(k->profile, op, clock_now_s() - start, bytes, operations);
}

#define FLOATS(n) ((double)(n) * (double)sizeof(float))

// ---- products ----

static void end_products(kernels *k, double start, const weight *const *w, int n_w, int64_t N)
{
    if (!k->profile) return;
    double bytes = FLOATS(N * w[0]->w.shape[1]), operations = 0;
    for (int i = 0; i < n_w; i++) {
        bytes += profile_weight_bytes(w[i]) + FLOATS(N * w[i]->w.shape[0]);
        operations += 2.0 * (double)N * (double)w[i]->w.shape[0] * (double)w[i]->w.shape[1];
    }
    end(k, start, profile_product_name(w[0]), bytes, operations);
}

// Packed integers meet rows in int8, everything else float32 rows.
static bool in_integers(const kernels *k, const weight *w)
{
    return w->packed && !w->packed->format.f8 && !k->exact;
}

static void run_products(kernels *k, float *const *y, const float *x, const weight *const *w,
                         int n_w, int64_t N, linear_mode mode)
{
    if (mode == LINEAR_SILU_MUL) {
        const bool integers = in_integers(k, w[0]) && in_integers(k, w[1]);
        (integers ? k->ops.packed : k->ops.linear)(k, y, x, w, n_w, N, mode);
        return;
    }
    for (int i = 0, n; i < n_w; i += n) {
        const bool integers = in_integers(k, w[i]);
        for (n = 1; i + n < n_w && in_integers(k, w[i + n]) == integers;) n++;
        (integers ? k->ops.packed : k->ops.linear)(k, y + i, x, w + i, n, N, mode);
    }
}

static void product_alone(kernels *k, float *y, const float *x, const weight *w, int64_t N)
{
    run_products(k, &y, x, &w, 1, N, LINEAR_SET);
}

// The products, then what adapters add to them.
static void run_adapted(kernels *k, float *const *y, const float *x, const weight *const *w, int n_w,
                        int64_t N, linear_mode mode)
{
    if (mode == LINEAR_SILU_MUL && (w[0]->lora || w[1]->lora) && !k->ops.low_rank) {
        low_rank_silu_mul(k, y[0], x, w[0], w[1], N, product_alone);
        return;
    }
    run_products(k, y, x, w, n_w, N, mode);
    if (mode == LINEAR_SILU_MUL) return;
    for (int i = 0; i < n_w; i++) {
        if (k->ops.low_rank) k->ops.low_rank(k, y[i], x, w[i], N);
        else low_rank_add(k, y[i], x, w[i], N);
    }
}

static void products(kernels *k, float *const *y, const float *x, const weight *const *w, int n_w,
                     int64_t N, linear_mode mode)
{
    if (N <= 0 || n_w <= 0) return;
    const double start = begin(k);
    run_adapted(k, y, x, w, n_w, N, mode);
    end_products(k, start, w, n_w, N);
}

static bool is_weight_type(tensor_type t)
{
    return t == TENSOR_BF16 || t == TENSOR_F16 || t == TENSOR_F32;
}

static void check_weight(const weight *w)
{
    assert(w->w.n_dims == 2 && w->w.shape[0] > 0 && w->w.shape[1] > 0);
    assert(w->packed ? w->packed->M == w->w.shape[0] && w->packed->K == w->w.shape[1]
                     : w->w.data && is_weight_type(w->w.type));
    assert(w->w.shape[1] <= (int64_t)KERNELS_SHARED_FLOATS / 2); // a row must fit the scratch
    assert(!w->packed || w->w.shape[1] <= KERNELS_MAX_PACKED_INPUTS);
}

void op_linear(kernels *k, float *y, const float *x, const weight *w, int64_t N)
{
    check_weight(w);
    products(k, &y, x, &w, 1, N, LINEAR_SET);
}

void op_linear_add(kernels *k, float *y, const float *x, const weight *w, int64_t N)
{
    check_weight(w);
    products(k, &y, x, &w, 1, N, LINEAR_ADD);
}

void op_linear_many(kernels *k, float *const *y, const float *x, const weight *const *w, int n_w,
                    int64_t N)
{
    for (int i = 0; i < n_w; i++) {
        check_weight(w[i]);
        assert(w[i]->w.shape[1] == w[0]->w.shape[1]);
    }
    products(k, y, x, w, n_w, N, LINEAR_SET);
}

void op_linear_silu_mul(kernels *k, float *y, const float *x, const weight *gate, const weight *up,
                        int64_t N)
{
    check_weight(gate);
    check_weight(up);
    assert(gate->w.shape[0] == up->w.shape[0] && gate->w.shape[1] == up->w.shape[1]);
    const weight *w[] = {gate, up};
    products(k, &y, x, w, 2, N, LINEAR_SILU_MUL);
}

void op_embed(kernels *k, float *y, const int32_t *ids, const weight *table, int64_t N)
{
    check_weight(table);
    for (int64_t i = 0; i < N; i++) assert(ids[i] >= 0 && ids[i] < table->w.shape[0]);
    if (N <= 0) return;
    const int64_t D = table->w.shape[1];
    const double start = begin(k);
    const bool by_row = table->packed && !k->cuda;
    if (!by_row) k->ops.embed(k, y, ids, table, N);
    for (int64_t i = 0; by_row && i < N; i++) {
        k->ops.unpack(table->packed, y + i * D, ids[i], 1);
    }
    end(k, start, "embedding", FLOATS(2 * N * D), 0);
}

// ---- row-wise ----

void op_rms_norm(kernels *k, float *y, const float *x, const float *w, int64_t N, int64_t D,
                 float eps)
{
    assert(w && D > 0);
    if (N <= 0) return;
    const double start = begin(k);
    k->ops.rms_norm(k, y, x, w, N, D, eps);
    end(k, start, "norms", FLOATS(2 * N * D), 4.0 * (double)(N * D));
}

void op_layer_norm(kernels *k, float *y, const float *x, const float *w, const float *b, int64_t N,
                   int64_t D, float eps)
{
    assert(w && b && D > 0);
    if (N <= 0) return;
    const double start = begin(k);
    k->ops.layer_norm(k, y, x, w, b, N, D, eps);
    end(k, start, "norms", FLOATS(2 * N * D), 6.0 * (double)(N * D));
}

void op_rms_norm_gated(kernels *k, float *y, const float *o, const float *z, const float *w,
                       int64_t N, int64_t heads, int64_t C, float eps)
{
    assert(w && heads > 0 && C > 0);
    if (N <= 0) return;
    const double start = begin(k);
    k->ops.rms_norm_gated(k, y, o, z, w, N, heads, C, eps);
    end(k, start, "gated norm", FLOATS(3 * N * heads * C), 6.0 * (double)(N * heads * C));
}

void op_add(kernels *k, float *y, const float *x, int64_t n)
{
    if (n <= 0) return;
    const double start = begin(k);
    k->ops.add(k, y, x, n);
    end(k, start, "add", FLOATS(3 * n), (double)n);
}

void op_gelu_tanh(kernels *k, float *y, const float *x, int64_t n)
{
    if (n <= 0) return;
    const double start = begin(k);
    k->ops.gelu_tanh(k, y, x, n);
    end(k, start, "gelu", FLOATS(2 * n), (double)n);
}

void op_gelu_erf(kernels *k, float *y, const float *x, int64_t n)
{
    if (n <= 0) return;
    const double start = begin(k);
    k->ops.gelu_erf(k, y, x, n);
    end(k, start, "gelu", FLOATS(2 * n), (double)n);
}

void op_sigmoid_mul(kernels *k, float *y, const float *gate, int64_t N, int64_t H, int64_t C,
                    int64_t row_stride, int64_t head_stride)
{
    assert(H > 0 && C > 0);
    if (N <= 0) return;
    const double start = begin(k);
    k->ops.sigmoid_mul(k, y, gate, N, H, C, row_stride, head_stride);
    end(k, start, "output gate", FLOATS(3 * N * H * C), 2.0 * (double)(N * H * C));
}

void op_add_taps(kernels *k, float *x, const float *table, const int32_t *rows,
                 const float *weights, int64_t N, int64_t D)
{
    assert(D > 0);
    if (N <= 0) return;
    const double start = begin(k);
    k->ops.add_taps(k, x, table, rows, weights, N, D);
    end(k, start, "positions", FLOATS(6 * N * D), 8.0 * (double)(N * D));
}

void op_rope_angles(kernels *k, float *cos, float *sin, const int32_t *positions, int64_t stride,
                    int64_t N, const rope_table *table)
{
    assert(table->half > 0);
    if (N <= 0) return;
    const double start = begin(k);
    k->ops.rope_angles(k, cos, sin, positions, stride, N, table);
    end(k, start, "angles", FLOATS(2 * N * table->half), 0);
}

void op_norm_rope(kernels *k, float *y, const float *x, const float *w, const float *cos,
                  const float *sin, int64_t N, int64_t H, int64_t C, int64_t R, int64_t row_stride,
                  int64_t head_stride, float eps)
{
    assert(H > 0 && C > 0 && R >= 0 && R <= C && R % 2 == 0);
    assert(y != x || (head_stride == C && row_stride == H * C));
    if (N <= 0) return;
    const double start = begin(k);
    k->ops.norm_rope(k, y, x, w, cos, sin, N, H, C, R, row_stride, head_stride, eps);
    end(k, start, "norm and rotary", FLOATS(2 * N * H * C), (double)(N * H) * (double)(4 * C + 3 * R));
}

// ---- attention ----

static void check_kv(const kv_view *kv)
{
    assert(kv->blocks && kv->page_rows > 0 && kv->offset >= 0);
    assert(kv->type == TENSOR_F32 || kv->type == TENSOR_BF16 || kv->type == TENSOR_I8);
}

void op_kv_write(kernels *kk, const kv_view *kv, const float *k, const float *v, int64_t past,
                 int64_t n, int64_t G, int64_t C)
{
    check_kv(kv);
    assert(past >= 0 && G > 0 && C > 0);
    if (n <= 0) return;
    const double start = begin(kk);
    kk->ops.kv_write(kk, kv, k, v, past, n, G, C);
    end(kk, start, "cache write", FLOATS(3 * n * G * C), 0);
}

void op_kv_write_many(kernels *kk, const kv_rows *seqs, int64_t S, const float *k, const float *v,
                      int64_t G, int64_t C)
{
    int64_t rows = 0;
    for (int64_t s = 0; s < S; s++) {
        check_kv(&seqs[s].kv);
        assert(seqs[s].n > 0 && seqs[s].past >= 0 && seqs[s].first >= 0);
        assert(seqs[s].kv.type == seqs[0].kv.type && seqs[s].kv.page_rows == seqs[0].kv.page_rows);
        rows += seqs[s].n;
    }
    if (S <= 0) return;
    const double start = begin(kk);
    if (kk->ops.kv_write_many) {
        kk->ops.kv_write_many(kk, seqs, S, k, v, G, C);
    } else {
        for (int64_t s = 0; s < S; s++) {
            const int64_t at = seqs[s].first * G * C;
            kk->ops.kv_write(kk, &seqs[s].kv, k + at, v + at, seqs[s].past, seqs[s].n, G, C);
        }
    }
    end(kk, start, "cache write", FLOATS(3 * rows * G * C), 0);
}

static void end_attention(kernels *k, double start, const attention_seq *seqs, int64_t S, int64_t H,
                          int64_t G, int64_t C)
{
    double bytes = 0, operations = 0;
    for (int64_t s = 0; s < S; s++) {
        const double n = (double)seqs[s].n, past = (double)seqs[s].past;
        bytes += FLOATS(2 * seqs[s].n * H * C) +
                 (past + n) * 2 * (double)(G * C) * (double)tensor_type_bytes(seqs[s].kv.type);
        operations += 4 * (double)(H * C) * n * (past + (n + 1) / 2);
    }
    end(k, start, "attention", bytes, operations);
}

void op_attention(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G, int64_t C,
                  float scale)
{
    assert(G > 0 && H > 0 && H % G == 0 && C > 0);
    for (int64_t s = 0; s < S; s++) {
        check_kv(&seqs[s].kv);
        assert(seqs[s].n > 0 && seqs[s].past >= 0);
    }
    if (S <= 0) return;
    const double start = begin(k);
    k->ops.attention(k, seqs, S, H, G, C, scale);
    if (k->profile) end_attention(k, start, seqs, S, H, G, C);
}

void op_attention_spans(kernels *k, float *out, const float *qkv, int64_t spans, int64_t span,
                        int64_t H, int64_t C, float scale)
{
    assert(H > 0 && C > 0 && spans >= 0 && span >= 0);
    if (spans <= 0 || span <= 0) return;
    const double start = begin(k);
    k->ops.attention_spans(k, out, qkv, spans, span, H, C, scale);
    end(k, start, "attention in spans", FLOATS(4 * spans * span * H * C), 4.0 * (double)(spans * span) * (double)(span * H * C));
}

// ---- Gated DeltaNet ----

static double conv_work(const conv_seq *seqs, int64_t S)
{
    double rows = 0;
    for (int64_t s = 0; s < S; s++) rows += (double)seqs[s].n;
    return rows;
}

void op_conv_silu(kernels *k, const conv_seq *seqs, int64_t S, const float *w, int64_t channels,
                  int64_t width, int64_t x_stride)
{
    assert(channels > 0 && width > 0 && x_stride >= channels);
    for (int64_t s = 0; s < S; s++) assert(seqs[s].n > 0 && (seqs[s].tail || width == 1));
    if (S <= 0) return;
    const double start = begin(k);
    k->ops.conv_silu(k, seqs, S, w, channels, width, x_stride);
    end(k, start, "convolution", conv_work(seqs, S) * FLOATS(2 * channels), conv_work(seqs, S) * 2.0 * (double)(channels * width));
}

void op_delta_gates(kernels *k, float *g, float *beta, const float *a, const float *b,
                    const float *A_log, const float *dt_bias, int64_t N, int64_t heads)
{
    assert(heads > 0);
    if (N <= 0) return;
    const double start = begin(k);
    k->ops.delta_gates(k, g, beta, a, b, A_log, dt_bias, N, heads);
    end(k, start, "delta gates", FLOATS(4 * N * heads), 0);
}

// As the step form does it: S^T k, the update and S^T q.
static void end_delta(kernels *k, double start, const delta_seq *seqs, int64_t S,
                      const delta_shape *d)
{
    const double state = (double)(d->value_heads * d->Dk * d->Dv);
    double bytes = 0, operations = 0;
    for (int64_t s = 0; s < S; s++) {
        bytes += 2 * FLOATS(state) + FLOATS(seqs[s].n * (d->stride + d->value_heads * d->Dv));
        operations += 6 * state * (double)seqs[s].n;
    }
    end(k, start, "delta rule", bytes, operations);
}

void op_delta_rule(kernels *k, const delta_seq *seqs, int64_t S, const delta_shape *shape)
{
    assert(shape->key_heads > 0 && shape->value_heads % shape->key_heads == 0);
    assert(shape->Dk > 0 && shape->Dv > 0);
    assert(shape->stride >= 2 * shape->key_heads * shape->Dk + shape->value_heads * shape->Dv);
    for (int64_t s = 0; s < S; s++) assert(seqs[s].n > 0 && seqs[s].state);
    if (S <= 0) return;
    const double start = begin(k);
    k->ops.delta_rule(k, seqs, S, shape);
    if (k->profile) end_delta(k, start, seqs, S, shape);
}

bool op_delta_mixer(kernels *k, const mixer_seq *seqs, int64_t S, const mixer_weights *weights,
                    const delta_shape *shape)
{
    assert(shape->key_heads > 0 && shape->value_heads % shape->key_heads == 0);
    assert(shape->Dk > 0 && shape->Dv > 0 && weights->width > 0);
    if (!k->ops.delta_mixer) return false;
    if (S <= 0) return true;
    const double start = begin(k);
    const bool there = k->ops.delta_mixer(k, seqs, S, weights, shape);
    const double heads = (double)shape->value_heads, state = heads * (double)(shape->Dk * shape->Dv);
    if (there) end(k, start, "delta mixer", (double)S * FLOATS(2 * state), 6 * state * (double)S);
    return there;
}
