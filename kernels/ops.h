// kernels/ops.h - every operation the models need, one name each.
//
// Ops know no models. Activations are float32, row-major and contiguous unless a stride is given;
// weights are views of the checkpoint's memory (bf16, f16 or f32), used as stored, or a device's copy of
// it. What pointers may point to: kernels/memory.h. Arguments are checked here once (assert: a wrong shape is a defect of the caller); the SIMD files behind the
// table trust them. No op allocates; scratch belongs to the kernels object, per thread.
//
// Letters, the same everywhere (docs/KERNELS.md): N rows (tokens or patches), D width, M and K
// outputs and inputs of a product, H query heads, G key/value heads, C head width, R rotated width,
// S sequences in a step.
//
// Results do not depend on the number of threads, bit for bit. Between SIMD levels they agree
// within the tolerances of tests/kernels.
//
// Threads: a kernels object is used by one thread at a time (it owns the pool).
#ifndef SIGHT_KERNELS_OPS_H
#define SIGHT_KERNELS_OPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/device.h"
#include "kernels/packed.h"
#include "kernels/tensor.h"

typedef struct kernels kernels;

typedef enum simd_level {
    SIMD_AUTO,
    SIMD_PLAIN,      // portable C, the oracle
    SIMD_AVX2,       // AVX2 + FMA + F16C
    SIMD_AVX512,     // F, BW, DQ, VL
    SIMD_AVX512BF16, // and BF16 products; AUTO takes it only where the chip runs them faster
    SIMD_NEON,
    SIMD_COUNT
} simd_level;

typedef struct kernels_options {
    int threads;     // 0 = all processors of this process
    simd_level simd; // SIMD_AUTO, or a level: SIGHT_E_UNSUPPORTED where the processor lacks it
    bool exact;      // products in float32 always (trace); else bf16 products are allowed
    bool no_f8;      // rows never become E4M3, whatever the weights were published for (a GPU's products)
    device_id device; // zeroed: the CPU. With a GPU threads and simd are for what runs beside it
    int64_t device_bytes; // of a GPU's memory, allocated at once; 0: nearly all that is free
} kernels_options;

// SIGHT_E_UNSUPPORTED, SIGHT_E_ARGUMENT, SIGHT_E_MEMORY.
sight_err kernels_create(kernels **out, const kernels_options *options);
void kernels_destroy(kernels **k); // accepts NULL; leaves NULL
// Ops leave work out once *flag is true (NULL: never): a cancelled request ends within an op. Their
// results are then unfinished, so the caller looks at the flag before it uses one. The flag outlives
// its use here. Returns the flag before, to be set again after what must be whole.
const atomic_bool *kernels_set_stop(kernels *k, const atomic_bool *flag);
// threads_for (base/threads.h) on the object's threads, for a caller's own row-wise arithmetic.
typedef void kernels_rows_fn(void *arg, int64_t begin, int64_t end, int worker);
void kernels_rows(kernels *k, int64_t n, int64_t grain, kernels_rows_fn *fn, void *arg);
simd_level kernels_simd(const kernels *k);
device_id kernels_device(const kernels *k);
int kernels_threads(const kernels *k);
const char *simd_level_name(simd_level level);              // "avx512"
sight_err simd_level_parse(simd_level *out, const char *name); // SIGHT_E_ARGUMENT

// ---- products ----

// A matrix [M, K] of the checkpoint, and optionally its bias [M] (float32).
typedef struct weight {
    tensor_view w;        // n_dims 2; data is NULL when packed is set
    const float *bias;    // NULL: none
    const packed *packed; // NULL: w as it is. Activations are int8 by groups of 32 then, or float32
                          // with kernels_options.exact
    const low_rank *lora; // NULL: none. Products add it; op_embed does not
} weight;

// y[N, M] = x[N, K] w^T + bias. y and x may not overlap.
void op_linear(kernels *k, float *y, const float *x, const weight *w, int64_t N);
// y[N, M] += x[N, K] w^T + bias.
void op_linear_add(kernels *k, float *y, const float *x, const weight *w, int64_t N);
// Several products of the same input in one pass over the threads: y[i] [N, w[i].M].
// The same results as op_linear one by one.
void op_linear_many(kernels *k, float *const *y, const float *x, const weight *const *w, int n_w,
                    int64_t N);
// y[N, M] = silu(x gate^T) * (x up^T): the first half of the gated MLP.
void op_linear_silu_mul(kernels *k, float *y, const float *x, const weight *gate,
                        const weight *up, int64_t N);
// y[N, D] = rows ids[] (host memory) of the table [V, D]. ids are within the table.
void op_embed(kernels *k, float *y, const int32_t *ids, const weight *table, int64_t N);

// ---- row-wise ----

// y = x * rsqrt(mean(x^2) + eps) * w, per row. w [D] float32 (zero-centred weights get their 1
// added at load). y may be x.
void op_rms_norm(kernels *k, float *y, const float *x, const float *w, int64_t N, int64_t D,
                 float eps);
// y = (x - mean) * rsqrt(var + eps) * w + b, per row. y may be x.
void op_layer_norm(kernels *k, float *y, const float *x, const float *w, const float *b, int64_t N,
                   int64_t D, float eps);
// Per head of width C: y = rms_norm(o, w [C]) * silu(z). All [N, heads, C]. y may be o.
void op_rms_norm_gated(kernels *k, float *y, const float *o, const float *z, const float *w,
                       int64_t N, int64_t heads, int64_t C, float eps);
void op_add(kernels *k, float *y, const float *x, int64_t n);           // y += x
void op_gelu_tanh(kernels *k, float *y, const float *x, int64_t n);     // y may be x
void op_gelu_erf(kernels *k, float *y, const float *x, int64_t n);      // y may be x
// y[N, H, C] *= sigmoid(gate); gate row n, head h starts at gate + n*row_stride + h*head_stride.
void op_sigmoid_mul(kernels *k, float *y, const float *gate, int64_t N, int64_t H, int64_t C,
                    int64_t row_stride, int64_t head_stride);

// x[N, D] += the sum of four rows of table [.., D] by weights: row i takes rows[4 i ..], weights[4 i ..].
void op_add_taps(kernels *k, float *x, const float *table, const int32_t *rows,
                 const float *weights, int64_t N, int64_t D);

// ---- rotary ----

// Which of three positions turns each of `half` frequencies, and how fast.
typedef struct rope_table {
    const float *inv;    // [half], angle per position
    const int32_t *axis; // [half], 0 to 2
    int64_t half;
    float amplitude;
} rope_table;

// cos, sin [N, half] of angles positions[axis][row] * inv, times the amplitude. positions: host memory, row i's
// three at [i], [stride + i], [2 * stride + i].
void op_rope_angles(kernels *k, float *cos, float *sin, const int32_t *positions, int64_t stride,
                    int64_t N, const rope_table *table);

// Per head: y[N, H, C] = rotate(rms_norm(x, w [C], eps)); the first R components are turned in
// halves (j with j + R/2) by cos, sin [N, R/2], the rest pass. w NULL: no norm.
// Head h of row n starts at x + n*row_stride + h*head_stride. y is contiguous; y may be x only
// when x is contiguous too.
void op_norm_rope(kernels *k, float *y, const float *x, const float *w, const float *cos,
                  const float *sin, int64_t N, int64_t H, int64_t C, int64_t R, int64_t row_stride,
                  int64_t head_stride, float eps);

// ---- attention ----

// One layer's keys and values of one sequence, in pages of `page_rows` tokens. A block holds a page of every
// layer; this layer's is `offset` bytes into it. Page p holds tokens
// p*page_rows...; a page is [2 (keys, values)][G][page_rows][C] of `type` (F32, BF16 or I8). With I8,
// float scales [2][G][page_rows][groups] follow at the next multiple of 64 bytes: KV_GROUP neighbouring
// components share one (the last group may be shorter), and a component is its byte times that.
typedef struct kv_view {
    void *const *blocks;
    int64_t offset;
    tensor_type type;
    int32_t page_rows;
} kv_view;

// With the CPU only: where page p lies.
static inline void *kv_page(const kv_view *kv, int64_t p)
{
    return (char *)kv->blocks[p] + kv->offset;
}

#define KV_GROUP 64

static inline int64_t kv_groups(int64_t C)
{
    return (C + KV_GROUP - 1) / KV_GROUP;
}

// Where the scales of an I8 page begin, in bytes.
static inline int64_t kv_scales_at(int64_t page_rows, int64_t G, int64_t C)
{
    return (2 * G * page_rows * C + 63) / 64 * 64;
}

static inline int64_t kv_page_bytes(tensor_type type, int64_t page_rows, int64_t G, int64_t C)
{
    if (type != TENSOR_I8) return 2 * G * page_rows * C * (int64_t)tensor_type_bytes(type);
    return kv_scales_at(page_rows, G, C) +
           2 * G * page_rows * kv_groups(C) * (int64_t)sizeof(float);
}

typedef struct attention_seq {
    const float *q;  // [n, H, C]
    float *out;      // [n, H, C]
    int64_t n;       // rows of this step
    int64_t past;    // tokens before the first of them; row i sees keys 0 .. past + i
    kv_view kv;      // already holds the step's own rows (op_kv_write)
} attention_seq;

// Writes rows k, v [n, G, C] as tokens past .. past + n - 1.
void op_kv_write(kernels *kk, const kv_view *kv, const float *k, const float *v, int64_t past,
                 int64_t n, int64_t G, int64_t C);
// Rows of one sequence among those of a step.
typedef struct kv_rows {
    kv_view kv;
    int64_t first; // of k and v
    int64_t n, past;
} kv_rows;

// op_kv_write for S sequences, whose views are of one type and size of pages: k, v [N, G, C] hold the
// rows of all of them.
void op_kv_write_many(kernels *kk, const kv_rows *seqs, int64_t S, const float *k, const float *v,
                      int64_t G, int64_t C);
// Grouped-query causal softmax attention, H a multiple of G, over S sequences at once. Memory does
// not grow with length.
void op_attention(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G, int64_t C,
                  float scale);
// Bidirectional attention inside equal spans (frame pairs): N = spans * span rows.
// qkv [N, 3, H, C] (q and k already rotated), out [N, H, C].
void op_attention_spans(kernels *k, float *out, const float *qkv, int64_t spans, int64_t span,
                        int64_t H, int64_t C, float scale);

// ---- Gated DeltaNet ----

typedef struct conv_seq {
    float *y;       // [n, channels]
    const float *x; // [n, channels], rows x_stride apart; y may not overlap x
    float *tail;    // [width - 1, channels], oldest first: read, then left as after the last row
    int64_t n;
} conv_seq;

// Depthwise causal convolution over time, then silu. w [channels, width] float32.
void op_conv_silu(kernels *k, const conv_seq *seqs, int64_t S, const float *w, int64_t channels,
                  int64_t width, int64_t x_stride);

// decay[N, heads] = exp(-exp(A_log) * softplus(a + dt_bias)); beta = sigmoid(b). In log form for
// the chunked rule: g = log decay is what is stored.
void op_delta_gates(kernels *k, float *g, float *beta, const float *a, const float *b,
                    const float *A_log, const float *dt_bias, int64_t N, int64_t heads);

typedef struct delta_seq {
    // Row i: q at qkv + i*stride [key_heads, Dk], then k alike, then v [value_heads, Dv]; raw from
    // the convolution: the op l2-normalises q and k (eps 1e-6) and scales q by Dk^-0.5.
    const float *qkv;
    const float *g;    // [n, value_heads], log decay
    const float *beta; // [n, value_heads]
    float *out;        // [n, value_heads, Dv]
    float *state;      // [value_heads, Dk, Dv], read and left as after the last row
    int64_t n;
    const float *before; // the state to begin with, which stays; NULL: what state holds
} delta_seq;

typedef struct delta_shape {
    int64_t key_heads, value_heads, Dk, Dv; // value_heads a multiple of key_heads
    int64_t stride;                         // floats between rows of qkv
    // Which key head value head v goes with: v / (value_heads / key_heads), or, tiled (the order that
    // GGUF files keep value heads in), v % key_heads.
    bool tiled;
} delta_shape;

// S *= exp(g); d = (v - S^T k) beta; S += k d^T; o = S^T q. Chunked above a few rows, one step at a
// time below. The named forms exist for tests and must agree.
void op_delta_rule(kernels *k, const delta_seq *seqs, int64_t S, const delta_shape *shape);
void op_delta_rule_naive(const delta_seq *seq, const delta_shape *shape); // plain C, in double

// One row of one sequence on its way through all of the above.
typedef struct mixer_seq {
    const float *x;     // [2 key_heads Dk + value_heads Dv], what the convolution takes
    const float *z;     // [value_heads, Dv], the norm's gate
    const float *a, *b; // [value_heads], of the gates
    float *out;         // [value_heads, Dv]; overlaps none of the others
    float *tail;        // as in conv_seq
    float *state;       // as in delta_seq
} mixer_seq;

typedef struct mixer_weights {
    const float *conv; // [channels, width]
    int64_t width;
    const float *A_log, *dt_bias; // [value_heads]
    const float *norm;            // [Dv]
    float eps;                    // of the norm
} mixer_weights;

// Convolution, gates, delta rule (shape's stride does not matter) and gated norm of one row of each of S sequences,
// with the bits that they give one by one. false: there is no such form (the CPU; heads too wide for it), and
// nothing was done.
bool op_delta_mixer(kernels *k, const mixer_seq *seqs, int64_t S, const mixer_weights *weights,
                    const delta_shape *shape);

// ---- the output layer on a device (kernels/output.h has the CPU's) ----

// What is wanted of the logits of one row, and what there is. All host memory.
typedef struct output_row {
    int32_t k;              // the k greatest of those allowed, and all that equal them; 0: all
    const uint8_t *allowed; // [vocab], 0 or 1; NULL: all
    uint64_t serial;        // other contents in the same array have another; 0: they never change
    const int32_t *always;  // ids wanted besides, which do not count among the k (what penalties
    int32_t n_always;       // change); each once

    int32_t *ids;  // out: candidates, rising; room for vocab (pages that are not touched cost nothing)
    float *logits; // out: theirs; room for vocab
    int32_t n;     // out: how many; vocab: all logits are there, and ids is not written
} output_row;

// Whether op_pick_logits is there: on devices, where all logits stay and candidates alone come back.
bool op_picks_logits(const kernels *k);
// Fills rows[N] from logits [N, M] in backend memory. Logits that are not finite are not among the k greatest. For k =
// 0 and k > 1,024, for more than 3,072 ids wanted besides, and where more than 4,096 equal the k-th, all logits
// come. Waits for the result.
sight_err op_pick_logits(kernels *k, const float *logits, output_row *const *rows, int64_t N,
                         int64_t M);

// ---- the machine's limits, for bench ----

typedef struct machine_limits {
    double read_gb_s;    // streaming read over all threads, the median of several; of a GPU a copy, both ways
    double f32_gop_s;    // fused multiply-adds count two; 0 of a GPU, as int8
    double bf16_gop_s;   // 0 where the processor has none
    double int8_gop_s;   // 0 where the processor has none
} machine_limits;

// Takes about a second. Threads: those of k.
void kernels_measure_limits(kernels *k, machine_limits *out);

#endif
