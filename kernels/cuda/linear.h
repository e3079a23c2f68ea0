// kernels/cuda/linear.h - products of plain weights: what linear.c hands to the launchers of
// linear_*.cu.
//
// A weight on the device is row-major [M, K] like the checkpoint's, but its rows begin at multiples
// of 16 bytes (linear_stride; what lies between is 0), so that every kernel reads 16 bytes at a
// time. x and y have no gaps.
//
// Which kernel, by rows N and the weights' type:
//   linear_mid    N <= 64, bf16 and f16: tensor cores, rows cut in two bf16 numbers each (packed_mid alike)
//   linear_few    N <= 64, 8 at a time: float32 weights and exact products (packed_few alike), in float32 arithmetic
//   linear_big    above: tensor cores, rows rounded to bf16 (or cuBLASLt: cublaslt.h)
//   linear_f8     above, E4M3 weights published for such rows: rows rounded to E4M3 (linear_f8.h)
//   linear_tile   above, float32 arithmetic: exact products, float32 weights, low-rank additions
// f16 weights become bf16 in scratch for more than 64 rows (packed_unpack does that), packed ones
// too.
//
// A row's result does not depend on the rows beside it, be they 1 or 64: steps of up to 64 rows give each of them the bits that
// it gets alone. Above it does not either as long as it comes from the same kernel.
//
// Pointers are device memory. Structs have no padding.
#ifndef SIGHT_KERNELS_CUDA_LINEAR_H
#define SIGHT_KERNELS_CUDA_LINEAR_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LINEAR_JOBS     8 // products of one input that a launch takes
#define LINEAR_FEW_ROWS 8
#define LINEAR_MID_ROWS 64
#define LINEAR_RAW_ROWS 8 // that linear_mid and packed_mid take as they are; more are cut beforehand (launch_cut)
#define LINEAR_CUT_MOST_K 32768 // of rows that are normed

// Types as in tensor_type, and modes as in linear_mode; numbers, since C++ does not read those
// headers.
enum { LINEAR_F32, LINEAR_BF16, LINEAR_F16 };
enum { LINEAR_MODE_SET, LINEAR_MODE_ADD, LINEAR_MODE_SILU_MUL };

typedef struct linear_job {
    const void *w;     // [M, stride]
    const float *bias; // [M] or NULL
    float *y;          // [N, y_stride], from its column of this job's first row
    int64_t M, y_stride;
} linear_job;

// With LINEAR_MODE_SILU_MUL there are two jobs, gate and up, and y is the first one's.
typedef struct linear_args {
    linear_job jobs[LINEAR_JOBS];
    const void *x; // [N, K] float32; mid above LINEAR_RAW_ROWS: as cut_args has it; big: [N, stride] bf16, zeros past K
    int64_t N, K;
    int64_t stride; // elements from row to row of the weights
    double alpha;   // a float's value: y = alpha x w^T + bias
    const float *norm; // [K], few, and mid of rows as they are: rms_norm(x, norm, eps); NULL: as they are
    const float *scales; // [N], of cut rows that were normed, else NULL
    double eps;        // a float's value
    int32_t n_jobs, type, mode;
    int32_t wide; // rows of x begin at multiples of 16 bytes
} linear_args;

typedef struct round_args { // y = bf16(x), rows padded with zeros
    uint16_t *y;            // [N, stride]
    const float *x;         // [N, K]
    int64_t N, K, stride;
} round_args;

// Rows cut for linear_mid and packed_mid (linear_mid.h), normed on the way but for their scale.
typedef struct cut_args {
    void *y;             // [N, fours] of 16 bytes: high parts of four numbers, then low parts; zeros past K
    float *scales;       // [N], with a norm
    const float *x;      // [N, K]
    const float *norm;   // [K] or NULL
    int64_t N, K, fours; // fours: of 32 inputs each, 8
    double eps;          // a float's value
    int64_t packed;      // which lane of a product has which inputs: their squares are added up as it would
} cut_args;

typedef struct silu_mul_args { // y = silu(y) * up
    float *y;                  // [N, y_stride], of which M columns
    const float *up;           // [N, M]
    int64_t N, M, y_stride;
} silu_mul_args;

typedef struct embed_args { // rows of a plain table
    float *y;               // [N, D]
    const void *table;      // [., stride]
    const int32_t *ids;     // [N]
    int64_t N, D, stride, type;
} embed_args;

void launch_linear_few(cudaStream_t stream, const void *args);
void launch_linear_mid(cudaStream_t stream, const void *args);
void launch_linear_big(cudaStream_t stream, const void *args);
void launch_linear_tile(cudaStream_t stream, const void *args);
void launch_round(cudaStream_t stream, const void *args);
void launch_cut(cudaStream_t stream, const void *args);
void launch_silu_mul(cudaStream_t stream, const void *args);
void launch_embed(cudaStream_t stream, const void *args);

#ifdef __cplusplus
}
#endif

#endif
