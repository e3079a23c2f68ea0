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
#include "kernels/ops.h"

// What is done with a product's result.
typedef enum linear_mode {
    LINEAR_SET,     // y = x w^T + bias
    LINEAR_ADD,     // y += x w^T + bias
    LINEAR_SILU_MUL // y[0] = silu(x w[0]^T) * (x w[1]^T), n_w is 2
} linear_mode;

struct linear_kernels; // the inner loops of products: kernels/cpu/linear.h
struct packed_kernels; // those of packed weights with rows in int8: kernels/cpu/packed.h
struct output_kernels; // those of the output layer's looks: kernels/cpu/output.h

typedef struct cpu_ops {
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

    // rows
    void (*embed)(kernels *k, float *y, const int32_t *ids, const tensor_view *table, int64_t N);
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
    void (*attention)(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G,
                      int64_t C, float scale);
    void (*attention_spans)(kernels *k, float *out, const float *qkv, int64_t spans, int64_t span,
                            int64_t H, int64_t C, float scale);

    // delta rule; op_delta_rule_naive has no entry, it lives in delta_plain.c
    void (*delta_rule)(kernels *k, const delta_seq *seqs, int64_t S, const delta_shape *shape);
} cpu_ops;

// Scratch is fixed and virtual: had at create, touched as used, so that ops cannot run out of it.
// Longer work is cut into blocks that fit.
#define KERNELS_SCRATCH_FLOATS ((size_t)2 << 20) // of each worker, 8 MiB
#define KERNELS_SHARED_FLOATS ((size_t)4 << 20)  // of the object, 16 MiB
#define KERNELS_LOW_RANK_FLOATS ((size_t)16 << 20) // of low_rank.c, 64 MiB
#define KERNELS_MAX_PACKED_INPUTS ((int64_t)KERNELS_SCRATCH_FLOATS / 16) // K of packed weights

struct kernels {
    threads *pool;
    simd_level level;
    bool exact;
    cpu_ops ops;
    size_t cache_bytes; // second-level cache of a core; decides how work is cut, not what it gives
    float *scratch;     // [workers][KERNELS_SCRATCH_FLOATS], [KERNELS_SHARED_FLOATS], then low_rank.c's
    size_t scratch_bytes;
    struct profile *profile; // NULL: nothing is noted
};

// The worker's own scratch, 64-byte aligned, kept between calls but with any contents. floats at
// most KERNELS_SCRATCH_FLOATS (asserted). Every call gives the same memory: split it yourself.
float *kernels_scratch(const kernels *k, int worker, size_t floats);
// The same for memory that all workers of one op see; the caller of threads_for takes it.
float *kernels_shared(const kernels *k, size_t floats);

// Every level that a processor of this kind could have, plainest first.
void linear_plain_fill(cpu_ops *ops);
void packed_plain_fill(cpu_ops *ops);
void rows_plain_fill(cpu_ops *ops);
void attention_plain_fill(cpu_ops *ops);
void delta_plain_fill(cpu_ops *ops);
void output_plain_fill(cpu_ops *ops);

#if defined(__x86_64__)
void linear_avx2_fill(cpu_ops *ops);
void packed_avx2_fill(cpu_ops *ops);
void packed_unpack_avx2_fill(cpu_ops *ops);
void packed_avxvnni_fill(cpu_ops *ops); // where the processor has AVX-VNNI
void rows_avx2_fill(cpu_ops *ops);
void attention_avx2_fill(cpu_ops *ops);
void delta_avx2_fill(cpu_ops *ops);
void output_avx2_fill(cpu_ops *ops);

void linear_avx512_fill(cpu_ops *ops);
void packed_avx512_fill(cpu_ops *ops);
void packed_avx512vnni_fill(cpu_ops *ops); // where the processor has VNNI
void rows_avx512_fill(cpu_ops *ops);
void attention_avx512_fill(cpu_ops *ops);
void delta_avx512_fill(cpu_ops *ops);
void attention_avx512vnni_fill(cpu_ops *ops); // not called when exact

void linear_avx512bf16_fill(cpu_ops *ops); // not called when exact
void output_avx512vnni_fill(cpu_ops *ops); // where the processor has VNNI
#endif

#if defined(__aarch64__)
void linear_neon_fill(cpu_ops *ops);
void packed_neon_fill(cpu_ops *ops);
void packed_neondot_fill(cpu_ops *ops);  // where the processor has FEAT_DotProd
void packed_neoni8mm_fill(cpu_ops *ops); // where it has FEAT_I8MM too
void rows_neon_fill(cpu_ops *ops);
void attention_neon_fill(cpu_ops *ops);
void delta_neon_fill(cpu_ops *ops);
void output_neon_fill(cpu_ops *ops);
void output_neondot_fill(cpu_ops *ops);
#endif

// The key head of value head v.
static inline int64_t delta_key_head(const delta_shape *s, int64_t v)
{
    return s->tiled ? v % s->key_heads : v / (s->value_heads / s->key_heads);
}

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
