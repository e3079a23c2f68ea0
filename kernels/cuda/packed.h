// kernels/cuda/packed.h - products of packed weights on the device: what linear.c hands to
// packed_*.cu.
//
// A packed matrix keeps the CPU's layout (kernels/packed.h): a 64-byte line of 16 rows by 4 inputs
// (8 bits) or 8 inputs (4 bits) suits a GPU as well. A warp's 16-byte loads take 8 lines: lane l
// has rows 4 (l % 4) .. + 3 of line l / 4, so a number of x serves four products in the lane, and
// eight neighbouring lines' x are one coalesced access.
//
// Structs have no padding. Pointers are device memory.
#ifndef SIGHT_KERNELS_CUDA_PACKED_H
#define SIGHT_KERNELS_CUDA_PACKED_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PACKED_JOBS 4

// How codes become numbers: kernels are made for each.
enum { PACKED_KIND_8, PACKED_KIND_F8, PACKED_KIND_4, PACKED_KIND_TABLE, PACKED_KINDS };
enum { PACKED_SCALES_F16, PACKED_SCALES_F32, PACKED_SCALES_BYTES };

// A matrix as kernels see it: packed.h's struct and format, squeezed, divisions done.
typedef struct packed_matrix {
    const uint8_t *codes; // the block; planes begin so many 64 bytes after it:
    uint32_t scales_at, mins_at, super_at, super_min_at;
    float factor;
    int32_t M;
    uint8_t table[16];
    uint8_t kind, offset, scales, group_shift; // a group is 1 << group_shift inputs
    uint8_t signed_sub, has_min, pad[2];
    int32_t groups, supers; // of a row
    uint32_t super_magic;   // group g has super-scale (g super_magic) >> 32; 0: super-scale g
    uint32_t more;
} packed_matrix;

typedef struct packed_job {
    packed_matrix w;
    const float *bias; // [M] or NULL
    float *y;          // [N, M]
} packed_job;

// As linear_args; all jobs are of one kind, and of one form of scales.
typedef struct packed_args {
    packed_job jobs[PACKED_JOBS];
    const void *x;     // [N, K] float32; packed_mid above LINEAR_RAW_ROWS: as cut_args has it
    int64_t N, K;
    const float *norm, *scales; // as in linear_args
    double eps;
    int32_t n_jobs, mode, kind, wide;
} packed_args;

// Rows first .. first + n - 1 as bf16 [n, stride], zeros past K, or float32 [n, K].
typedef struct unpack_args {
    packed_matrix w;
    uint16_t *bf16;
    float *f32; // one of both is set
    int64_t K, first, n, stride;
} unpack_args;

typedef struct packed_embed_args {
    packed_matrix w;
    float *y;           // [N, K]
    const int32_t *ids; // [N]
    int64_t N, K;
} packed_embed_args;

typedef struct widen_args { // bf16 [n, stride] of f16 of the same shape
    uint16_t *y;
    const uint16_t *x;
    int64_t n;
} widen_args;

void launch_packed_few(cudaStream_t stream, const void *args); // N <= 8, float32 arithmetic
void launch_packed_mid(cudaStream_t stream, const void *args); // N <= 64
void launch_packed_unpack(cudaStream_t stream, const void *args);
void launch_packed_embed(cudaStream_t stream, const void *args);
void launch_f16_to_bf16(cudaStream_t stream, const void *args);

#ifdef __cplusplus
}
#endif

#endif
