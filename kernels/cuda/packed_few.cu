// kernels/cuda/packed_few.cu - products of 1 to 8 rows with packed weights in float32 arithmetic: exact results.
//
// Must move the codes and scales once (4.5 to 8.5 bits a weight) and is bound by that for one row
// in 8 bits; in 4 bits the integer units, which turn codes into floats (1.5 to 2.5 operations a
// weight, 64 a cycle and multiprocessor), come close to it, and from 4 rows on the float32 units
// bound it. Arithmetic is float32 on float32 rows throughout.
//
// A panel of 16 rows is shared by 8 warps, each taking every eighth step of 8 lines (512 bytes);
// four loads of 16 bytes a lane are under way. In a lane a line's products are summed before the
// scale meets them.
//
// The order of sums: in a lane by rising line; over the eight lanes of the same rows by halves;
// over the warps in order. It depends on nothing but K, so neither N nor what else is in the launch
// changes a result. Rows are normed on the way as in linear_few.cu.
#include "kernels/cuda/packed_dev.h"

#define PF_WARPS 8
#define PF_AHEAD 4
#define PF_LINES 8 // of a step

// Adds what 16 bytes of codes (4 rows of line `line`) give with the rows of x.
template <int kind, int rows, bool normed>
static __device__ __forceinline__ void
pf_add(float (&sum)[rows][4], float (&squares)[rows], const uint4 &v, const packed_args &a, const packed_matrix &w,
       const packed_row &row, const uint32_t table[4], int64_t line)
{
    const int inputs = packed_line<kind>::inputs;
    const int64_t k = line * inputs;
    float scale[4], shift[4], number[4][inputs], norm[inputs];
    if (normed) linear_row<inputs>(norm, a.norm, k, a.K, a.wide);
    packed_scales(scale, shift, w, row, (int)k >> w.group_shift);
    const uint32_t u[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < 4; i++)
        packed_numbers<kind>(number[i], u[i], (float)w.offset, table);
#pragma unroll
    for (int n = 0; n < rows; n++) {
        if (n >= a.N) break;
        float x[inputs], all = 0;
        linear_row<inputs>(x, (const float *)a.x + n * a.K, k, a.K, a.wide);
#pragma unroll
        for (int j = 0; j < inputs && normed; j++) {
            squares[n] += x[j] * x[j];
            x[j] *= norm[j];
        }
        if (w.has_min) {
#pragma unroll
            for (int j = 0; j < inputs; j++)
                all += x[j];
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float part = 0;
#pragma unroll
            for (int j = 0; j < inputs; j++)
                part += x[j] * number[i][j];
            sum[n][i] += scale[i] * part;
            if (w.has_min) sum[n][i] -= shift[i] * all;
        }
    }
}

// This warp's part of a panel, into parts[n][row], and that of the rows' squares.
template <int kind, int rows, bool normed>
static __device__ __forceinline__ void pf_panel(float (*parts)[PANEL], float *all_squares,
                                                const packed_args &a, const packed_matrix &w,
                                                int64_t panel, int warp)
{
    const int lane = (int)threadIdx.x % GPU_WARP, r = lane % 4 * 4;
    const int64_t lines = ((int64_t)w.groups << w.group_shift) / packed_line<kind>::inputs;
    const packed_row row = packed_row_of(w, panel, r);
    const uint8_t *codes = w.codes + panel * lines * 64 + r * 4;
    uint32_t table[4] = {};
    if (kind == PACKED_KIND_TABLE) packed_table(table, w);
    float sum[rows][4] = {}, squares[rows] = {};
    for (int64_t line = warp * PF_LINES + lane / 4; line < lines;
         line += PF_AHEAD * PF_WARPS * PF_LINES) {
        uint4 v[PF_AHEAD];
#pragma unroll
        for (int i = 0; i < PF_AHEAD; i++) {
            const int64_t l = line + i * PF_WARPS * PF_LINES;
            v[i] = make_uint4(0, 0, 0, 0);
            if (l < lines) v[i] = load_stream16(codes + l * 64);
        }
#pragma unroll
        for (int i = 0; i < PF_AHEAD; i++) {
            const int64_t l = line + i * PF_WARPS * PF_LINES;
            if (l < lines) pf_add<kind, rows, normed>(sum, squares, v[i], a, w, row, table, l);
        }
    }
#pragma unroll
    for (int n = 0; n < rows; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            for (int d = GPU_WARP / 2; d >= 4; d /= 2)
                sum[n][i] += __shfl_xor_sync(GPU_ALL_LANES, sum[n][i], d);
            if (lane < 4) parts[n][r + i] = sum[n][i];
        }
        for (int d = GPU_WARP / 2; d >= (normed ? 4 : GPU_WARP); d /= 2)
            squares[n] += __shfl_xor_sync(GPU_ALL_LANES, squares[n], d);
        if (normed && lane == 0) all_squares[n] = squares[n];
    }
}

// A block is a panel; with a gated product of gate, and the same of up.
template <int kind, int rows, bool normed>
static __global__ void __launch_bounds__(PF_WARPS *GPU_WARP, rows == 1 ? 3 : 2)
    packed_few_kernel(packed_args a)
{
    __shared__ float parts[2][PF_WARPS][rows][PANEL], squares[PF_WARPS][rows];
    const bool gated = a.mode == LINEAR_MODE_SILU_MUL;
    int64_t panel = blockIdx.x;
    const packed_job &job = a.jobs[packed_find(a, &panel, PANEL)];
    const int warp = (int)threadIdx.x / GPU_WARP;
    pf_panel<kind, rows, normed>(parts[0][warp], squares[warp], a, job.w, panel, warp);
    if (gated) pf_panel<kind, rows, normed>(parts[1][warp], squares[warp], a, a.jobs[1].w, panel, warp);
    __syncthreads();
    const int n = (int)threadIdx.x / PANEL, r = (int)threadIdx.x % PANEL;
    const int64_t m = panel * PANEL + r;
    if (n >= rows || n >= a.N || m >= job.w.M) return;
    float sum = 0, up = 0, square = 0;
    for (int i = 0; i < PF_WARPS; i++) {
        sum += parts[0][i][n][r];
        if (gated) up += parts[1][i][n][r];
        if (normed) square += squares[i][n];
    }
    if (normed) {
        const float scale = linear_norm_scale(square, a.K, a.eps);
        sum *= scale;
        up *= scale;
    }
    packed_end(a, job, n, m, sum, up);
}

template <int kind, bool normed> static void pf_launch(cudaStream_t stream, const packed_args *a)
{
    const dim3 grid((unsigned)packed_blocks(a, PANEL)), block(PF_WARPS * GPU_WARP);
    if (a->N == 1)
        GPU_LAUNCH((packed_few_kernel<kind, 1, normed>), grid, block, 0, stream, *a);
    else if (a->N == 2)
        GPU_LAUNCH((packed_few_kernel<kind, 2, normed>), grid, block, 0, stream, *a);
    else if (a->N <= 4)
        GPU_LAUNCH((packed_few_kernel<kind, 4, normed>), grid, block, 0, stream, *a);
    else
        GPU_LAUNCH((packed_few_kernel<kind, 8, normed>), grid, block, 0, stream, *a);
}

template <bool normed> static void pf_launch_kind(cudaStream_t stream, const packed_args *a)
{
    if (a->kind == PACKED_KIND_8)
        pf_launch<PACKED_KIND_8, normed>(stream, a);
    else if (a->kind == PACKED_KIND_F8)
        pf_launch<PACKED_KIND_F8, normed>(stream, a);
    else if (a->kind == PACKED_KIND_4)
        pf_launch<PACKED_KIND_4, normed>(stream, a);
    else
        pf_launch<PACKED_KIND_TABLE, normed>(stream, a);
}

extern "C" void launch_packed_few(cudaStream_t stream, const void *args)
{
    const packed_args *a = (const packed_args *)args;
    if (a->norm)
        pf_launch_kind<true>(stream, a);
    else
        pf_launch_kind<false>(stream, a);
}
