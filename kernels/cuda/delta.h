// kernels/cuda/delta.h - Gated DeltaNet: what delta.c hands to the launchers of delta.cu,
// delta_prepare.cu, delta_walk.cu and delta_mixer.cu.
//
// Pointers are device memory. Numbers are as wide as pointers, so that no struct has padding. The
// arrays of sequences have the layout of conv_seq, delta_seq and mixer_seq in kernels/ops.h, which
// C++ cannot include; delta.c asserts that they agree.
#ifndef SIGHT_KERNELS_CUDA_DELTA_H
#define SIGHT_KERNELS_CUDA_DELTA_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define DELTA_L2_EPS 1e-6f

typedef struct conv_rows { // conv_seq
    float *y;
    const float *x;
    float *tail;
    int64_t n;
} conv_rows;

typedef struct conv_args {
    const conv_rows *seqs; // [S]
    const float *w;        // [channels, width]
    int64_t S, channels, width, x_stride;
    int64_t max_n; // of all sequences
    int64_t wide;  // rows may be read and written 16 bytes at a time
} conv_args;

typedef struct gates_args {
    float *g, *beta;
    const float *a, *b, *A_log, *dt_bias;
    int64_t N, heads;
} gates_args;

typedef struct gated_norm_args {
    float *y;
    const float *o, *z, *w;
    int64_t rows, C; // rows: of all heads
    double eps;      // a float's value
    int64_t wide;
} gated_norm_args;

typedef struct delta_rows { // delta_seq
    const float *qkv, *g, *beta;
    float *out, *state;
    int64_t n;
    const float *before;
} delta_rows;

typedef struct delta_sizes { // delta_shape
    int64_t key_heads, value_heads, Dk, Dv, stride, tiled;
} delta_sizes;

// One token at a time, for the sequences of at most `most` rows.
typedef struct delta_step_args {
    const delta_rows *seqs; // [S]
    delta_sizes size;
    int64_t S, most;
    int64_t wide; // columns may be read and written 16 bytes at a time
} delta_step_args;

// ---- in chunks ----

#define DELTA_CHUNK 64 // tokens

// What the first kernel leaves for a chunk of a value head: the two triangles T and P [64][64], of
// which rows are written up to the end of their diagonal 16 x 16 block, then [4][64]: what the
// state's products with raw keys and with raw queries are scaled by, what raw keys are scaled by on
// their way into the state, and at [3][0] what the state itself keeps.
#define DELTA_TRIANGLE     (DELTA_CHUNK * DELTA_CHUNK)
#define DELTA_CHUNK_FLOATS (2 * DELTA_TRIANGLE + 4 * DELTA_CHUNK)

typedef struct delta_chunk_args {
    const delta_rows *seqs; // [S]: their rows of this round
    float *room;            // [S][chunks][value_heads][DELTA_CHUNK_FLOATS]
    delta_sizes size;
    int64_t S, chunks; // of the longest sequence
    int64_t exact;     // float32 throughout
    int64_t wide;      // rows of qkv may be read 16 bytes at a time
    int64_t ahead;     // the walk reads ahead, at the price of more shared memory
} delta_chunk_args;

// Shared memory that the two kernels ask for, in bytes.
size_t delta_prepare_shared(int64_t Dk);
size_t delta_walk_shared(int64_t Dk, int64_t ahead);
#define DELTA_CHUNK_MAX_DK  256
#define DELTA_CHUNK_COLUMNS 32 // of the state in one block of the walk

// ---- fused, for one row of each sequence ----

typedef struct mixer_rows { // mixer_seq
    const float *x, *z, *a, *b;
    float *out, *tail, *state;
} mixer_rows;

typedef struct mixer_args {
    const mixer_rows *seqs; // [S]
    const float *conv, *A_log, *dt_bias, *norm;
    int64_t width;
    double eps; // a float's value
    delta_sizes size;
    int64_t S;
    int64_t wide; // columns of the state may be read and written 16 bytes at a time
} mixer_args;

// heads: value heads of a key head
size_t delta_mixer_shared(int64_t Dk, int64_t Dv, int64_t heads);
#define DELTA_MIXER_MAX_DK 256

void launch_conv_silu(cudaStream_t stream, const void *conv_args);
void launch_delta_gates(cudaStream_t stream, const void *gates_args);
void launch_gated_norm(cudaStream_t stream, const void *gated_norm_args);
void launch_delta_steps(cudaStream_t stream, const void *delta_step_args);
void launch_delta_prepare(cudaStream_t stream, const void *delta_chunk_args); // delta_prepare.cu
void launch_delta_walk(cudaStream_t stream, const void *delta_chunk_args);    // delta_walk.cu
void launch_delta_mixer(cudaStream_t stream, const void *mixer_args);         // delta_mixer.cu

#ifdef __cplusplus
}
#endif

#endif
