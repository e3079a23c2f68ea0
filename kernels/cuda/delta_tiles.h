// kernels/cuda/delta_tiles.h - products of tiles in shared memory, and raw keys on their way there;
// for the two kernels of the delta rule in chunks (delta_prepare.cu, delta_walk.cu).
#ifndef SIGHT_KERNELS_CUDA_DELTA_TILES_H
#define SIGHT_KERNELS_CUDA_DELTA_TILES_H

#include "kernels/cuda/delta_parts.h"
#include "kernels/cuda/mma.h"

#define WARPS        4
#define THREADS      (WARPS * GPU_WARP)
#define CHUNK        DELTA_CHUNK
#define BLOCK        16          // rows of a warp's tile, and of a block of the triangular inverse
#define TRIANGLE_ROW (CHUNK + 4) // floats of a triangle's row in shared memory: rows 4 banks apart

// Dk as tiles need it, and floats of a key's row in shared memory: an odd number of fours, so that
// rows are 4 banks apart, or 12, 20, 28: eight rows times four columns meet 32 banks.
static __host__ __device__ __forceinline__ int padded_keys(int64_t Dk)
{
    return (int)((Dk + BLOCK - 1) / BLOCK * BLOCK);
}

static __host__ __device__ __forceinline__ int key_row(int64_t Dk)
{
    return padded_keys(Dk) + 4;
}

// An operand's number for the tensor core, which cuts off the lower 13 bits: rounded, half away
// from zero.
static __device__ __forceinline__ uint32_t tf32_of(float x)
{
    return __float_as_uint(x) + 0x1000u;
}

// d[a][n] += A_a B for tiles of 16 x 8: A_a [16, K] element (m, k) at A + a * a_next + m * am + k *
// ak, B [K, 8 N] element (k, n) at B + k * bk + n * bn. Of NA and NT tiles the first na and nt. K
// is a multiple of 8. Warp-wide; d lies as mma.h says.
template <int NA, int NT>
static __device__ __forceinline__ void product_f32(float d[NA][NT][4], const float *A, int a_next,
                                                   int am, int ak, const float *B, int bk, int bn,
                                                   int K, int na, int nt)
{
    const int group = threadIdx.x % GPU_WARP / 4, t = threadIdx.x % 4;
    for (int k = 0; k < K; k++) {
        float b[NT][2];
#pragma unroll
        for (int n = 0; n < NT; n++) {
            if (n >= nt) continue;
            b[n][0] = B[k * bk + (8 * n + 2 * t) * bn];
            b[n][1] = B[k * bk + (8 * n + 2 * t + 1) * bn];
        }
#pragma unroll
        for (int a = 0; a < NA; a++) {
            if (a >= na) continue;
            const float low = A[a * a_next + group * am + k * ak];
            const float high = A[a * a_next + (group + 8) * am + k * ak];
#pragma unroll
            for (int n = 0; n < NT; n++) {
                if (n >= nt) continue;
                d[a][n][0] = fmaf(low, b[n][0], d[a][n][0]);
                d[a][n][1] = fmaf(low, b[n][1], d[a][n][1]);
                d[a][n][2] = fmaf(high, b[n][0], d[a][n][2]);
                d[a][n][3] = fmaf(high, b[n][1], d[a][n][3]);
            }
        }
    }
}

template <int NA, int NT>
static __device__ __forceinline__ void product_tf32(float d[NA][NT][4], const float *A, int a_next,
                                                    int am, int ak, const float *B, int bk, int bn,
                                                    int K, int na, int nt)
{
    const int group = threadIdx.x % GPU_WARP / 4, t = threadIdx.x % 4;
#pragma unroll 2
    for (int k = 0; k < K; k += 8) {
        uint32_t x[NA][4];
#pragma unroll
        for (int a = 0; a < NA; a++) {
            if (a >= na) continue;
            const float *from = A + a * a_next + group * am + (k + t) * ak;
            x[a][0] = tf32_of(from[0]);
            x[a][1] = tf32_of(from[8 * am]);
            x[a][2] = tf32_of(from[4 * ak]);
            x[a][3] = tf32_of(from[8 * am + 4 * ak]);
        }
#pragma unroll
        for (int n = 0; n < NT; n++) {
            if (n >= nt) continue;
            const float *from = B + (k + t) * bk + (8 * n + group) * bn;
            const uint32_t y[2] = {tf32_of(from[0]), tf32_of(from[4 * bk])};
#pragma unroll
            for (int a = 0; a < NA; a++) {
                if (a < na) mma_tf32(d[a][n], x[a], y);
            }
        }
    }
}

template <bool EXACT, int NA, int NT>
static __device__ __forceinline__ void product(float d[NA][NT][4], const float *A, int a_next,
                                               int am, int ak, const float *B, int bk, int bn,
                                               int K, int na, int nt)
{
    if (EXACT)
        product_f32<NA, NT>(d, A, a_next, am, ak, B, bk, bn, K, na, nt);
    else
        product_tf32<NA, NT>(d, A, a_next, am, ak, B, bk, bn, K, na, nt);
}

template <int NA, int NT> static __device__ __forceinline__ void tiles_clear(float d[NA][NT][4])
{
#pragma unroll
    for (int i = 0; i < NA * NT * 4; i++)
        d[i / (4 * NT)][i / 4 % NT][i % 4] = 0;
}

// Asks for `rows` rows of Dk floats, zeros below and beside them: to [CHUNK][key_row]. All threads.
static __device__ __forceinline__ void keys_ask(float *to, const float *from, int64_t stride,
                                                int64_t rows, int64_t Dk, bool wide)
{
    const int width = padded_keys(Dk), row_floats = key_row(Dk);
    for (int row = threadIdx.x / GPU_WARP; row < CHUNK; row += WARPS) {
        for (int c = 4 * (threadIdx.x % GPU_WARP); c < width; c += 4 * GPU_WARP) {
            const bool good = row < rows && c < Dk;
            const float *at = from + (good ? row * stride + c : 0);
            float *const place = to + row * row_floats + c;
            if (wide) {
                copy_async16(place, at, good);
            } else {
                for (int i = 0; i < 4; i++)
                    place[i] = good && c + i < Dk ? at[i] : 0.0f;
            }
        }
    }
}

#endif
