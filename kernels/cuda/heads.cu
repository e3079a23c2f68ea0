// kernels/cuda/heads.cu - what lies between the products of a full-attention layer and its attention, in one launch: norm
// and rotation of queries and keys, and keys and values into their pages.
//
// Moves 8 H C bytes of queries, 8 G C read and 2 G C of the pages' type written a row; a few operations a number: at the
// rows of a decoding step it is the launch that counts, and two others with their trip through memory are gone. A warp
// has a head of a row. Turned keys wait in shared memory for their page, since a group that is rounded together lies
// with other lanes than those which turned it.
#include "kernels/cuda/heads.h"

#include "kernels/cuda/kv_page.h"
#include "kernels/cuda/rows_head.h"

#define HEADS_WARPS 4

// Threads x are a warp, threads y heads; blocks y are sequences.
static __global__ void __launch_bounds__(HEADS_WARPS *GPU_WARP) heads_kernel(heads_args a)
{
    __shared__ __align__(16) float room[HEADS_WARPS][HEADS_MOST_C];
    const int64_t of_row = a.H + 2 * a.G, task = (int64_t)blockIdx.x * HEADS_WARPS + threadIdx.y;
    const int64_t i = task / of_row, head = task % of_row;
    const kv_write_place p = a.places[blockIdx.y];
    if (i >= p.n) return; // a whole warp, and no barrier of the block follows
    const int64_t n = p.first + i, g = head < a.H + a.G ? head - a.H : head - a.H - a.G;
    const float *cos = a.cos + n * (a.R / 2), *sin = a.sin + n * (a.R / 2);
    const float *from = a.v + (n * a.G + g) * a.C;
    if (head < a.H) {
        const float *q = a.q + n * a.q_row_stride + head * a.q_head_stride;
        const float scale = head_scale(q, a.C, (float)a.eps, true);
        head_turn(a.q_out + (n * a.H + head) * a.C, q, a.q_norm, cos, sin, scale, a.C, a.R, true);
        return;
    }
    if (head < a.H + a.G) {
        const float *k = a.k + (n * a.G + g) * a.C;
        const float scale = head_scale(k, a.C, (float)a.eps, true);
        head_turn(room[threadIdx.y], k, a.k_norm, cos, sin, scale, a.C, a.R, true);
        __syncwarp();
        from = room[threadIdx.y];
    }
    const int64_t groups = (a.C + ATTENTION_KV_GROUP - 1) / ATTENTION_KV_GROUP;
    for (int64_t group = 0; group < groups; group++) {
        kv_put(p, from + group * ATTENTION_KV_GROUP, p.past + i, head >= a.H + a.G, g, group, a.G, a.C, a.type,
               a.page_rows);
    }
}

extern "C" void launch_heads(cudaStream_t stream, const void *args)
{
    const heads_args *a = (const heads_args *)args;
    const int64_t tasks = a->most * (a->H + 2 * a->G);
    const dim3 grid((unsigned)((tasks + HEADS_WARPS - 1) / HEADS_WARPS), (unsigned)a->S);
    GPU_LAUNCH(heads_kernel, grid, dim3(GPU_WARP, HEADS_WARPS), 0, stream, *a);
}
