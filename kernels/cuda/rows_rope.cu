// kernels/cuda/rows_rope.cu - rotary angles, and the norm of heads with their rotation.
//
// norm_rope moves 8 bytes per component (x once from memory, once more from the caches; y) for 4 operations, and
// cos and sin once per row, which its heads share in the caches: bound by memory. A head is a warp's.
// rope_angles writes 8 bytes per angle and makes a sine and a cosine of it, with the full reduction
// of large angles: about 100 operations. Its few numbers (N x 32) are bound by the launch.
#include "kernels/cuda/rows.h"
#include "kernels/cuda/rows_head.h"

#define THREADS 256
#define WARPS (THREADS / GPU_WARP)

static __global__ void angles_kernel(rope_angles_args a)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.N * a.half) return;
    const int64_t row = i / a.half, f = i - row * a.half;
    const int32_t axis = a.axis[f];
    const int32_t *positions = axis == 0 ? a.positions[0] : axis == 1 ? a.positions[1] : a.positions[2];
    const float angle = (float)positions[row] * a.inv[f];
    a.cos[i] = cosf(angle) * (float)a.amplitude;
    a.sin[i] = sinf(angle) * (float)a.amplitude;
}

void launch_rope_angles(cudaStream_t stream, const void *args)
{
    const rope_angles_args *a = (const rope_angles_args *)args;
    const dim3 grid((unsigned)((a->N * a->half + THREADS - 1) / THREADS), 1, 1);
    GPU_LAUNCH(angles_kernel, grid, dim3(THREADS, 1, 1), 0, stream, *a);
}

// Threads x are a warp with a head, threads y are heads.
template <bool wide> static __global__ void norm_rope_kernel(norm_rope_args a)
{
    const int64_t head = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const bool is_head = head < a.N * a.H;
    const int64_t n = is_head ? (uint32_t)head / (uint32_t)a.H : 0, h = head - n * a.H, half = a.R / 2;
    const float *x = a.x + n * a.row_stride + h * a.head_stride;
    const float scale = a.w ? head_scale(x, is_head ? a.C : 0, (float)a.eps, wide) : 1.0f;
    if (!is_head) return;
    head_turn(a.y + head * a.C, x, a.w, a.cos + n * half, a.sin + n * half, scale, a.C, a.R, wide);
}

void launch_norm_rope(cudaStream_t stream, const void *args)
{
    const norm_rope_args *a = (const norm_rope_args *)args;
    const bool wide = a->C % 4 == 0 && a->R % 8 == 0 && a->row_stride % 4 == 0 &&
                      a->head_stride % 4 == 0 && rows_aligned(a->x) && rows_aligned(a->y) &&
                      rows_aligned(a->w) && rows_aligned(a->cos) && rows_aligned(a->sin);
    const dim3 grid((unsigned)((a->N * a->H + WARPS - 1) / WARPS), 1, 1);
    const dim3 block(GPU_WARP, WARPS, 1);
    if (wide) GPU_LAUNCH(norm_rope_kernel<true>, grid, block, 0, stream, *a);
    else GPU_LAUNCH(norm_rope_kernel<false>, grid, block, 0, stream, *a);
}
