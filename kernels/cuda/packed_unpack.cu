// kernels/cuda/packed_unpack.cu - packed and f16 weights as numbers: for products of more than 8
// rows, which then run as those of bf16 weights do, and rows of a table.
//
// Bound by memory: a weight's bits in, 2 bytes out (4 exact). From 512 rows on the product itself
// takes ten times as long; turning codes into numbers within it would repeat the work for every 128
// rows.
#include "kernels/cuda/packed_dev.h"

#define UNPACK_THREADS 256

// 8 neighbouring inputs from k on (a multiple of 8) of row m; those past K are 0.
static __device__ __forceinline__ void unpack_row(float out[8], const packed_matrix &w, int64_t K,
                                                  int64_t m, int64_t k)
{
    const int64_t panel = m / PANEL;
    const int r = (int)(m % PANEL);
    const uint8_t *codes =
        w.codes + panel * packed_panel_bytes(w) + k / packed_inputs(w.kind) * 64 + 4 * r;
    const uint32_t *u = reinterpret_cast<const uint32_t *>(codes);
    uint32_t table[4];
    float shift;
    const float scale =
        packed_scale(&shift, w, packed_row_of(w, panel, r), (int)k >> w.group_shift);
    if (w.kind == PACKED_KIND_8) {
        packed_numbers<PACKED_KIND_8>(out, u[0], (float)w.offset, table);
        packed_numbers<PACKED_KIND_8>(out + 4, u[16], (float)w.offset, table);
    } else if (w.kind == PACKED_KIND_F8) {
        packed_numbers<PACKED_KIND_F8>(out, u[0], 0, table);
        packed_numbers<PACKED_KIND_F8>(out + 4, u[16], 0, table);
    } else if (w.kind == PACKED_KIND_4) {
        packed_numbers<PACKED_KIND_4>(out, u[0], (float)w.offset, table);
    } else {
        packed_table(table, w);
        packed_numbers<PACKED_KIND_TABLE>(out, u[0], (float)w.offset, table);
    }
    for (int j = 0; j < 8; j++)
        out[j] = k + j < K ? scale * out[j] - shift : 0.0f;
}

// A thread takes 8 inputs of a row; 16 neighbouring threads the rows of a panel, which share lines.
static __global__ void unpack_kernel(unpack_args a)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, eighths = (a.K + 7) / 8;
    const int64_t r = i % PANEL, k = i / PANEL % eighths * 8, panel = i / PANEL / eighths;
    const int64_t row = a.first / PANEL * PANEL + panel * PANEL + r - a.first; // of those wanted
    if (row < 0 || row >= a.n) return;
    float v[8];
    unpack_row(v, a.w, a.K, a.first + row, k);
    if (a.bf16) {
        *reinterpret_cast<uint4 *>(a.bf16 + row * a.stride + k) = linear_round8(v);
        return;
    }
    for (int j = 0; j < 8; j++)
        if (k + j < a.K) a.f32[row * a.stride + k + j] = v[j];
}

extern "C" void launch_packed_unpack(cudaStream_t stream, const void *args)
{
    const unpack_args *a = (const unpack_args *)args;
    const int64_t panels = (a->first + a->n - 1) / PANEL - a->first / PANEL + 1;
    const int64_t threads = panels * PANEL * ((a->K + 7) / 8);
    const dim3 grid((unsigned)((threads + UNPACK_THREADS - 1) / UNPACK_THREADS));
    GPU_LAUNCH(unpack_kernel, grid, dim3(UNPACK_THREADS), 0, stream, *a);
}

static __global__ void packed_embed_kernel(packed_embed_args a)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, eighths = (a.K + 7) / 8;
    if (i >= a.N * eighths) return;
    const int64_t n = i / eighths, k = i % eighths * 8;
    float v[8];
    unpack_row(v, a.w, a.K, a.ids[n], k);
    for (int j = 0; j < 8; j++)
        if (k + j < a.K) a.y[n * a.K + k + j] = v[j];
}

extern "C" void launch_packed_embed(cudaStream_t stream, const void *args)
{
    const packed_embed_args *a = (const packed_embed_args *)args;
    const int64_t threads = a->N * ((a->K + 7) / 8);
    const dim3 grid((unsigned)((threads + UNPACK_THREADS - 1) / UNPACK_THREADS));
    GPU_LAUNCH(packed_embed_kernel, grid, dim3(UNPACK_THREADS), 0, stream, *a);
}

static __global__ void f16_to_bf16_kernel(widen_args a)
{
    const int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * 8;
    if (i >= a.n) return;
    float v[8];
    linear_widen<LINEAR_F16>(v, *reinterpret_cast<const uint4 *>(a.x + i));
    *reinterpret_cast<uint4 *>(a.y + i) = linear_round8(v);
}

extern "C" void launch_f16_to_bf16(cudaStream_t stream, const void *args)
{
    const widen_args *a = (const widen_args *)args;
    const dim3 grid((unsigned)((a->n / 8 + UNPACK_THREADS - 1) / UNPACK_THREADS));
    GPU_LAUNCH(f16_to_bf16_kernel, grid, dim3(UNPACK_THREADS), 0, stream, *a);
}
