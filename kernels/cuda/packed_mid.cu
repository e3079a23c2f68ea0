// kernels/cuda/packed_mid.cu - products of 9 to 64 rows with packed weights on the tensor cores:
// steps of many sequences.
//
// Must move the codes and scales once. A panel's 16 rows are an operand's; a lane reads its two
// rows' words of a line (eight lanes 32 bytes side by side), turns codes into bf16 in registers,
// scale included, and multiplies as linear_mid.cu does. Turning takes 4 to 6 operations a weight,
// so that 4-bit codes stream at about half of the memory's speed; the instructions of the tensor
// cores, and the rows from the caches, come second.
#include "kernels/cuda/linear_mid.h"
#include "kernels/cuda/packed_dev.h"

#define PM_AHEAD 4 // steps loaded at once

// Words of the lane's 8 inputs of one row: one with 4 bits, else two of neighbouring lines.
template <int kind> struct pm_words {
    static const int count = 8 / packed_line<kind>::inputs;
};

// The lane's 8 inputs from k on of one row as bf16.
template <int kind>
static __device__ __forceinline__ uint4 pm_numbers(const uint32_t *u, const packed_matrix &w,
                                                   const packed_row &row, const uint32_t table[4],
                                                   int64_t k)
{
    const int inputs = packed_line<kind>::inputs;
    float v[8], shift;
    const float scale = packed_scale(&shift, w, row, (int)k >> w.group_shift);
#pragma unroll
    for (int i = 0; i < pm_words<kind>::count; i++)
        packed_numbers<kind>(v + i * inputs, u[i], (float)w.offset, table);
#pragma unroll
    for (int i = 0; i < 8; i++)
        v[i] = scale * v[i] - shift;
    return linear_round8(v);
}

// This warp's steps over a panel of one matrix.
template <int kind, int tiles>
static __device__ __forceinline__ void pm_panel(float (*sum)[4], const packed_matrix &w,
                                                const mid_rows &rows, int64_t panel)
{
    const int words = pm_words<kind>::count;
    const int warp = (int)threadIdx.x / GPU_WARP, group = (int)threadIdx.x % GPU_WARP / 4,
              t = (int)threadIdx.x % 4;
    const uint32_t *codes =
        reinterpret_cast<const uint32_t *>(w.codes + panel * packed_panel_bytes(w)) + group;
    const packed_row row[2] = {packed_row_of(w, panel, group), packed_row_of(w, panel, group + 8)};
    uint32_t table[4] = {};
    if (kind == PACKED_KIND_TABLE) packed_table(table, w);
    for (int64_t s = (int64_t)warp * MID_STEP; s < rows.stride; s += PM_AHEAD * MID_ALL) {
        uint32_t u[PM_AHEAD][2][words];
#pragma unroll
        for (int i = 0; i < PM_AHEAD; i++) {
            const int64_t k = s + (int64_t)i * MID_ALL + 8 * t;
#pragma unroll
            for (int j = 0; j < 2 * words; j++) {
                u[i][j / words][j % words] = 0;
                if (k < rows.stride) {
                    const int64_t line = k / packed_line<kind>::inputs + j % words;
                    u[i][j / words][j % words] = codes[line * 16 + j / words * 8];
                }
            }
        }
#pragma unroll
        for (int i = 0; i < PM_AHEAD; i++) {
            const int64_t first = s + (int64_t)i * MID_ALL, k = first + 8 * t;
            if (first >= rows.stride) break;
            uint4 v[1][2] = {{make_uint4(0, 0, 0, 0), make_uint4(0, 0, 0, 0)}};
#pragma unroll
            for (int r = 0; r < 2 && k < rows.stride; r++) {
                v[0][r] = pm_numbers<kind>(u[i][r], w, row[r], table, k);
            }
            mid_step<tiles, 1>(reinterpret_cast<float(*)[tiles][4]>(sum), v, rows, k);
        }
    }
}

// A block is a panel; with a gated product of gate, and the same of up. a.x is bf16 [N, stride]
// here.
template <int kind, int tiles, bool gated>
static __global__ void __launch_bounds__(MID_THREADS)
    packed_mid_kernel(packed_args a, int64_t stride)
{
    int64_t panel = blockIdx.x;
    const packed_job &job = a.jobs[packed_find(a, &panel, PANEL)];
    const mid_rows rows = {reinterpret_cast<const uint16_t *>(a.x), a.N, stride};
    float sum[1 + gated][tiles][4] = {};
    pm_panel<kind, tiles>(sum[0], job.w, rows, panel);
    if (gated) pm_panel<kind, tiles>(sum[gated], a.jobs[1].w, rows, panel);
    mid_finish<tiles, 1 + gated>(sum, gated, [&](int n, int r, float total, float up) {
        const int64_t m = panel * PANEL + r;
        if (n < a.N && m < job.w.M) packed_end(a, job, n, m, total, up);
    });
}

template <int kind, int tiles> static void pm_rows(cudaStream_t stream, const packed_args *a)
{
    const int64_t stride = (a->K + 7) / 8 * 8;
    const dim3 grid((unsigned)packed_blocks(a, PANEL)), block(MID_THREADS);
    if (a->mode == LINEAR_MODE_SILU_MUL) {
        GPU_LAUNCH((packed_mid_kernel<kind, tiles, true>), grid, block, 0, stream, *a, stride);
    } else {
        GPU_LAUNCH((packed_mid_kernel<kind, tiles, false>), grid, block, 0, stream, *a, stride);
    }
}

template <int kind> static void pm_launch(cudaStream_t stream, const packed_args *a)
{
    if (a->N <= 16)
        pm_rows<kind, 2>(stream, a);
    else if (a->N <= 32)
        pm_rows<kind, 4>(stream, a);
    else
        pm_rows<kind, 8>(stream, a);
}

extern "C" void launch_packed_mid(cudaStream_t stream, const void *args)
{
    const packed_args *a = (const packed_args *)args;
    if (a->kind == PACKED_KIND_8)
        pm_launch<PACKED_KIND_8>(stream, a);
    else if (a->kind == PACKED_KIND_F8)
        pm_launch<PACKED_KIND_F8>(stream, a);
    else if (a->kind == PACKED_KIND_4)
        pm_launch<PACKED_KIND_4>(stream, a);
    else
        pm_launch<PACKED_KIND_TABLE>(stream, a);
}
