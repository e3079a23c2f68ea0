// kernels/backend.h - the table behind ops.h: what a backend fills in, and what its files may use.
//
// ops.c checks the arguments once and calls the table. A kernels object owns one table, filled
// from the plainest level upwards: every `*_fill` sets the entries it has and leaves the rest, so
// a level without its own form of an op uses that of the level below. Plain C fills all; it is the oracle.
//
// Files: kernels/cpu/<area>_<level>.c with <area>_<level>_fill, areas linear, rows (norms,
// activations, rope, embedding, convolution, gates, kv_write), attention and delta. A file for
// instructions that the compiler's target lacks (`_neon.c` on x86-64) compiles to nothing.
//
// Entries have the contract of the op_* of the same name, after its asserts: sizes are positive
// (calls without rows do not arrive), pointers are set. They split their work with
// threads_for(k->pool, ...) in pieces that depend on shapes alone, never on the number of threads.
#ifndef SIGHT_KERNELS_BACKEND_H
#define SIGHT_KERNELS_BACKEND_H

#include "base/threads.h"
#include "kernels/fused.h"
#include "kernels/ops.h"

// What is done with a product's result.
typedef enum linear_mode {
    LINEAR_SET,     // y = x w^T + bias
    LINEAR_ADD,     // y += x w^T + bias
    LINEAR_SILU_MUL // y[0] = silu(x w[0]^T) * (x w[1]^T), n_w is 2
} linear_mode;

struct linear_kernels; // the inner loops of products: kernels/cpu/linear.h
struct packed_kernels; // those of packed weights with rows in int8: kernels/cpu/packed.h
struct copy_part;      // kernels/memory.h
struct output_kernels; // those of the output layer's looks: kernels/cpu/output.h

typedef struct backend_ops {
    // products
    void (*linear)(kernels *k, float *const *y, const float *x, const weight *const *w, int n_w,
                   int64_t N, linear_mode mode);
    const struct linear_kernels *linear_kernels; // inner loops behind linear
    const struct linear_kernels *linear_bf16;    // those for bf16 weights, where they differ
    // As linear, for weights that are all packed in integers; rows of x in int8. linear itself takes
    // packed weights too, with float32 rows: E4M3, exact products.
    void (*packed)(kernels *k, float *const *y, const float *x, const weight *const *w, int n_w,
                   int64_t N, linear_mode mode);
    const struct packed_kernels *packed_kernels; // inner loops behind packed
    // Rows first .. first + n - 1 as float32 [n, K].
    void (*unpack)(const packed *p, float *out, int64_t first, int64_t n);

    const struct output_kernels *output;

    // memory: kernels/memory.h, where every entry is described
    void *(*alloc)(kernels *k, size_t bytes); // NULL: none
    void (*free)(kernels *k, void *p);
    void (*write)(kernels *k, void *to, const void *host, size_t bytes);
    sight_err (*read)(kernels *k, void *host, const void *from, size_t bytes);
    void (*zero)(kernels *k, void *p, size_t bytes);
    void (*copy)(kernels *k, void *to, const void *from, size_t bytes);
    void (*copy_rows)(kernels *k, float *to, int64_t to_stride, const float *from,
                      int64_t from_stride, int64_t n, int64_t width);
    // A device's; NULL with the CPU.
    void (*copy_parts)(kernels *k, const struct copy_part *parts, int64_t n);
    sight_err (*take_weight)(kernels *k, weight *w);
    void (*drop_weight)(kernels *k, weight *w);
    void (*step_begin)(kernels *k);
    sight_err (*step_end)(kernels *k);
    sight_err (*status)(kernels *k);
    void (*after)(kernels *k, kernels *before);
    sight_err (*pick_logits)(kernels *k, const float *logits, output_row *const *rows, int64_t N,
                             int64_t M);
    void (*low_rank)(kernels *k, float *y, const float *x, const weight *w, int64_t N); // low_rank_add

    // rows
    void (*embed)(kernels *k, float *y, const int32_t *ids, const weight *table, int64_t N);
    void (*add_taps)(kernels *k, float *x, const float *table, const int32_t *rows,
                     const float *weights, int64_t N, int64_t D);
    void (*rope_angles)(kernels *k, float *cos, float *sin, const int32_t *positions,
                        int64_t stride, int64_t N, const rope_table *table);
    void (*rms_norm)(kernels *k, float *y, const float *x, const float *w, int64_t N, int64_t D,
                     float eps);
    void (*layer_norm)(kernels *k, float *y, const float *x, const float *w, const float *b,
                       int64_t N, int64_t D, float eps);
    void (*rms_norm_gated)(kernels *k, float *y, const float *o, const float *z, const float *w,
                           int64_t N, int64_t heads, int64_t C, float eps);
    void (*add)(kernels *k, float *y, const float *x, int64_t n);
    void (*gelu_tanh)(kernels *k, float *y, const float *x, int64_t n);
    void (*gelu_erf)(kernels *k, float *y, const float *x, int64_t n);
    void (*sigmoid_mul)(kernels *k, float *y, const float *gate, int64_t N, int64_t H, int64_t C,
                        int64_t row_stride, int64_t head_stride);
    void (*norm_rope)(kernels *k, float *y, const float *x, const float *w, const float *cos,
                      const float *sin, int64_t N, int64_t H, int64_t C, int64_t R,
                      int64_t row_stride, int64_t head_stride, float eps);
    void (*conv_silu)(kernels *k, const conv_seq *seqs, int64_t S, const float *w,
                      int64_t channels, int64_t width, int64_t x_stride);
    void (*delta_gates)(kernels *k, float *g, float *beta, const float *a, const float *b,
                        const float *A_log, const float *dt_bias, int64_t N, int64_t heads);

    // attention
    void (*kv_write)(kernels *kk, const kv_view *kv, const float *k, const float *v, int64_t past,
                     int64_t n, int64_t G, int64_t C);
    // NULL: one after another.
    void (*kv_write_many)(kernels *kk, const kv_rows *seqs, int64_t S, const float *k,
                          const float *v, int64_t G, int64_t C);
    void (*attention)(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G,
                      int64_t C, float scale);
    void (*attention_spans)(kernels *k, float *out, const float *qkv, int64_t spans, int64_t span,
                            int64_t H, int64_t C, float scale);

    // delta rule; op_delta_rule_naive has no entry, it lives in delta_plain.c
    void (*delta_rule)(kernels *k, const delta_seq *seqs, int64_t S, const delta_shape *shape);
    // kernels/fused.h: NULL where the parts are called one by one; each may say false.
    bool (*linear_normed)(kernels *k, float *const *y, const float *x, const norm_of *norm,
                          const weight *const *w, int n_w, int64_t N, linear_mode mode);
    bool (*heads_write)(kernels *kk, const heads_rows *rows, const kv_rows *seqs, int64_t S);
    bool (*attention_gated)(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G,
                            int64_t C, float scale, const gated_attention *gated);
    // NULL where the parts are called one by one.
    bool (*delta_mixer)(kernels *k, const mixer_seq *seqs, int64_t S, const mixer_weights *weights,
                        const delta_shape *shape);
} backend_ops;

// Scratch is fixed and virtual: had at create, touched as used, so that ops cannot run out of it.
// Longer work is cut into blocks that fit.
#define KERNELS_SCRATCH_FLOATS ((size_t)2 << 20) // of each worker, 8 MiB
#define KERNELS_SHARED_FLOATS ((size_t)4 << 20)  // of the object, 16 MiB
#define KERNELS_LOW_RANK_FLOATS ((size_t)16 << 20) // of low_rank.c, 64 MiB
#define KERNELS_MAX_PACKED_INPUTS ((int64_t)KERNELS_SCRATCH_FLOATS / 16) // K of packed weights

struct kernels {
    threads *pool;
    simd_level level;
    bool exact, no_f8;
    backend_ops ops;
    size_t cache_bytes; // second-level cache of a core; decides how work is cut, not what it gives
    float *scratch;     // [workers][KERNELS_SCRATCH_FLOATS], [KERNELS_SHARED_FLOATS], then low_rank.c's
    size_t scratch_bytes;
    const atomic_bool *stop; // as the pool has it
    struct profile *profile; // NULL: nothing is noted
    device_id device;
    struct cuda_device *cuda; // kernels/cuda/device.h; NULL with the CPU
};

// The worker's own scratch, 64-byte aligned, kept between calls but with any contents. floats at
// most KERNELS_SCRATCH_FLOATS (asserted). Every call gives the same memory: split it yourself.
float *kernels_scratch(const kernels *k, int worker, size_t floats);
// The same for memory that all workers of one op see; the caller of threads_for takes it.
float *kernels_shared(const kernels *k, size_t floats);

// kernels/cuda/: fills k->cuda and every entry of the table, or says why it cannot. Only in builds
// with CUDA (SIGHT_CUDA).
sight_err cuda_open(kernels *k, const kernels_options *options);
sight_err cuda_open_beside(kernels *k, kernels *first);
void cuda_close(kernels *k); // accepts one that was not opened

// The process's own memory.
void memory_plain_fill(backend_ops *ops);
void positions_plain_fill(backend_ops *ops);
// Every level that a processor of this kind could have, plainest first.
void linear_plain_fill(backend_ops *ops);
void packed_plain_fill(backend_ops *ops);
void rows_plain_fill(backend_ops *ops);
void attention_plain_fill(backend_ops *ops);
void delta_plain_fill(backend_ops *ops);
void output_plain_fill(backend_ops *ops);

#if defined(__x86_64__)
void linear_avx2_fill(backend_ops *ops);
void packed_avx2_fill(backend_ops *ops);
void packed_unpack_avx2_fill(backend_ops *ops);
void packed_avxvnni_fill(backend_ops *ops); // where the processor has AVX-VNNI
void rows_avx2_fill(backend_ops *ops);
void attention_avx2_fill(backend_ops *ops);
void delta_avx2_fill(backend_ops *ops);
void output_avx2_fill(backend_ops *ops);

void linear_avx512_fill(backend_ops *ops);
void packed_avx512_fill(backend_ops *ops);
void packed_avx512vnni_fill(backend_ops *ops); // where the processor has VNNI
void rows_avx512_fill(backend_ops *ops);
void attention_avx512_fill(backend_ops *ops);
void delta_avx512_fill(backend_ops *ops);
void attention_avx512vnni_fill(backend_ops *ops); // not called when exact

void linear_avx512bf16_fill(backend_ops *ops); // not called when exact
void output_avx512vnni_fill(backend_ops *ops); // where the processor has VNNI
#endif

#if defined(__aarch64__)
void linear_neon_fill(backend_ops *ops);
void packed_neon_fill(backend_ops *ops);
void packed_neondot_fill(backend_ops *ops);  // where the processor has FEAT_DotProd
void packed_neoni8mm_fill(backend_ops *ops); // where it has FEAT_I8MM too
void rows_neon_fill(backend_ops *ops);
void attention_neon_fill(backend_ops *ops);
void delta_neon_fill(backend_ops *ops);
void output_neon_fill(backend_ops *ops);
void output_neondot_fill(backend_ops *ops);
#endif

// The key head of value head v.
static inline int64_t delta_key_head(const delta_shape *s, int64_t v)
{
    return s->tiled ? v % s->key_heads : v / (s->value_heads / s->key_heads);
}

// ---- limits_device.c ----

void limits_device_measure(kernels *k, machine_limits *out);

// ---- simd.c ----

bool simd_level_available(simd_level level); // this processor and its system run it
simd_level simd_level_best(bool exact);      // what SIMD_AUTO means here
#if defined(__x86_64__)
bool simd_has_avxvnni(void); // products of bytes without AVX-512
bool simd_has_vnni(void); // AVX-512's products of bytes and of 16-bit numbers
#elif defined(__aarch64__)
bool simd_has_dotprod(void); // products of four bytes
bool simd_has_i8mm(void);    // products of small matrices of bytes
#endif

#endif
