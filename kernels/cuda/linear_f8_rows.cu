// kernels/cuda/linear_f8_rows.cu - what products in E4M3 are given: rows of x as codes with scales, with
// their norm on the way where there is one, and weight rows as a library takes them.
//
// Bound by memory: rows 5 bytes a number and 4 a group (a norm on its own would be 8 more), weights 2 bytes
// and 8 a group.
#include "kernels/cuda/linear_f8.h"
#include "kernels/cuda/packed_dev.h"
#include "kernels/cuda/rows_vec.h"

#define LAY_THREADS 256
#define F8_TOP      448.0f
// A group whose greatest magnitude is no more than this becomes zeros: 448 over it would not be a float.
#define F8_NOTHING 1e-30f

// Four floats as E4M3, the first one in the lowest byte; to nearest even, past 448 to 448.
static __device__ __forceinline__ uint32_t f8_four(const float v[4])
{
#ifdef SIGHT_CUDA_SHIM
    return (uint32_t)f32_to_f8(v[0]) | (uint32_t)f32_to_f8(v[1]) << 8 | (uint32_t)f32_to_f8(v[2]) << 16 |
           (uint32_t)f32_to_f8(v[3]) << 24;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    uint16_t low, high;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(low) : "f"(v[1]), "f"(v[0]));
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(high) : "f"(v[3]), "f"(v[2]));
    return (uint32_t)low | (uint32_t)high << 16;
#else
    return 0; // chips without such products
#endif
}

// A block is a row; a warp takes a group at a time, a lane four numbers of it.
static __global__ void f8_rows_kernel(f8_rows_args a)
{
    __shared__ float room[GPU_WARP];
    const int64_t row = blockIdx.x, K = row < a.N ? a.K : 0;
    const int64_t first = 4 * (int64_t)threadIdx.x, step = 4 * (int64_t)blockDim.x;
    const float *x = a.x + row * a.K;
    const bool wide = a.K % 4 == 0 && rows_aligned(a.x) && (!a.norm || rows_aligned(a.norm));
    float v[4], w[4], by = 1;
    if (a.norm) {
        float sum = 0;
        for (int64_t k = first; k < K; k += step) {
            rows_load(v, x + k, K - k, wide);
            sum += rows_squares(v, 0, K - k);
        }
        by = 1.0f / sqrtf(rows_sum(sum, room) / (float)a.K + (float)a.eps);
    }
    for (int64_t k = first; k < a.stride; k += step) {
        float greatest = 0;
        for (int i = 0; i < 4; i++) v[i] = 0;
        if (k < K) {
            rows_load(v, x + k, K - k, wide);
            if (a.norm) rows_load(w, a.norm + k, K - k, wide);
            for (int i = 0; i < 4; i++) {
                if (a.norm) v[i] = v[i] * by * w[i];
                greatest = fmaxf(greatest, fabsf(v[i]));
            }
        }
        greatest = gpu_warp_max(greatest);
        const bool some = greatest > F8_NOTHING;
        const float turned = some ? F8_TOP / greatest : 0.0f;
        for (int i = 0; i < 4; i++) v[i] *= turned;
        if (row < a.N) *reinterpret_cast<uint32_t *>(a.codes + row * a.stride + k) = f8_four(v);
        if (threadIdx.x % GPU_WARP == 0) {
            a.scales[k / LINEAR_F8_GROUP * a.places + row] = some ? greatest / F8_TOP : 0.0f;
        }
    }
}

extern "C" void launch_f8_rows(cudaStream_t stream, const void *args)
{
    const f8_rows_args *a = (const f8_rows_args *)args;
    const dim3 grid((unsigned)a->places), block((unsigned)rows_threads(a->K));
    GPU_LAUNCH(f8_rows_kernel, grid, block, 0, stream, *a);
}

// A thread takes 16 inputs of a row; 16 neighbouring ones the rows of a panel, which share lines.
static __global__ void f8_lay_kernel(f8_lay_args a)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, parts = a.stride / 16;
    const int64_t panel = i / PANEL / parts, k = i / PANEL % parts * 16;
    const int64_t n = panel * PANEL + i % PANEL, m = a.first + n;
    if (n >= a.n) return;
    const uint32_t *u = reinterpret_cast<const uint32_t *>(
                            a.w.codes + m / PANEL * packed_panel_bytes(a.w) + k / 4 * 64) + m % PANEL;
    *reinterpret_cast<uint4 *>(a.codes + n * a.stride + k) = make_uint4(u[0], u[16], u[32], u[48]);
    if (k % LINEAR_F8_GROUP) return;
    const int g = (int)(k / LINEAR_F8_GROUP);
    float shift;
    a.scales[g * a.n + n] =
        packed_scale(&shift, a.w, packed_row_of(a.w, m / PANEL, (int)(m % PANEL)), g);
}

extern "C" void launch_f8_lay(cudaStream_t stream, const void *args)
{
    const f8_lay_args *a = (const f8_lay_args *)args;
    const int64_t threads = (a->n + PANEL - 1) / PANEL * PANEL * (a->stride / 16);
    const dim3 grid((unsigned)((threads + LAY_THREADS - 1) / LAY_THREADS));
    GPU_LAUNCH(f8_lay_kernel, grid, dim3(LAY_THREADS), 0, stream, *a);
}

static __global__ void f8_bias_kernel(f8_bias_args a)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.N * a.M) return;
    float *y = a.y + i / a.M * a.y_stride + i % a.M;
    *y = (a.add ? *y : 0.0f) + a.bias[i % a.M];
}

extern "C" void launch_f8_bias(cudaStream_t stream, const void *args)
{
    const f8_bias_args *a = (const f8_bias_args *)args;
    const dim3 grid((unsigned)((a->N * a->M + LAY_THREADS - 1) / LAY_THREADS));
    GPU_LAUNCH(f8_bias_kernel, grid, dim3(LAY_THREADS), 0, stream, *a);
}
