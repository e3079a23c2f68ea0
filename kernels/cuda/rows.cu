// kernels/cuda/rows.cu - norms and the ops that take every number once.
//
// All are bound by memory: what they move per number, and the arithmetic beside it, is
//   rms_norm, layer_norm   8 bytes (w and b stay in the caches), 4 and 7 operations. The row is read two or three
//                          times, from device memory once: it stays in the first-level cache
//   add                    12 bytes, 1
//   gelu_*                 8 bytes, about 20
//   sigmoid_mul            12 bytes, about 12
//   add_taps               8 bytes, and a table row of 16 that the caches mostly hold; 8
//   copy_rows              8 bytes, 0
// A thread takes four neighbouring numbers as one access of 16 bytes where rows and strides allow. With 2,048
// threads on a multiprocessor that is 32 KiB in flight per stream read: enough for 4.3 TB/s at 0.7 us.
#include "kernels/cuda/rows.h"
#include "kernels/cuda/rows_vec.h"

#define EACH_THREADS 256
#define SMALL_ROWS 8 // short rows in a block

// ---- norms ----

// Threads x share a row, threads y are rows.
template <bool layer> static __global__ void norm_kernel(norm_args a)
{
    __shared__ float room[2][GPU_WARP];
    const int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    const int64_t D = row < a.N ? a.D : 0; // no row: still at every barrier
    const int64_t first = 4 * (int64_t)threadIdx.x, step = 4 * (int64_t)blockDim.x;
    const float *x = a.x + row * a.D;
    float *y = a.y + row * a.D;
    const bool wide = a.D % 4 == 0 && rows_aligned(a.x) && rows_aligned(a.y) && rows_aligned(a.w) &&
                      (!layer || rows_aligned(a.b));
    float v[4], w[4], b[4], mean = 0, sum = 0;
    if (layer) {
        for (int64_t d = first; d < D; d += step) {
            rows_load(v, x + d, D - d, wide);
            sum += v[0] + v[1] + (v[2] + v[3]);
        }
        mean = rows_sum(sum, room[0]) / (float)a.D;
    }
    sum = 0;
    for (int64_t d = first; d < D; d += step) {
        rows_load(v, x + d, D - d, wide);
        sum += rows_squares(v, mean, D - d);
    }
    const float scale = 1.0f / sqrtf(rows_sum(sum, room[1]) / (float)a.D + (float)a.eps);
    for (int64_t d = first; d < D; d += step) {
        rows_load(v, x + d, D - d, wide);
        rows_load(w, a.w + d, D - d, wide);
        if (layer) rows_load(b, a.b + d, D - d, wide);
        for (int i = 0; i < 4; i++) v[i] = (v[i] - mean) * scale * w[i] + (layer ? b[i] : 0.0f);
        rows_store(y + d, v, D - d, wide);
    }
}

typedef struct norm_shape {
    dim3 grid, block;
} norm_shape;

static norm_shape norm_dims(const norm_args *a)
{
    norm_shape s;
    if (a->D <= ROWS_SMALL) {
        s.block = dim3(GPU_WARP, SMALL_ROWS, 1);
        s.grid = dim3((unsigned)((a->N + SMALL_ROWS - 1) / SMALL_ROWS), 1, 1);
        return s;
    }
    s.block = dim3((unsigned)rows_threads(a->D), 1, 1);
    s.grid = dim3((unsigned)a->N, 1, 1);
    return s;
}

void launch_rms_norm(cudaStream_t stream, const void *args)
{
    const norm_args *a = (const norm_args *)args;
    const norm_shape s = norm_dims(a);
    GPU_LAUNCH(norm_kernel<false>, s.grid, s.block, 0, stream, *a);
}

void launch_layer_norm(cudaStream_t stream, const void *args)
{
    const norm_args *a = (const norm_args *)args;
    const norm_shape s = norm_dims(a);
    GPU_LAUNCH(norm_kernel<true>, s.grid, s.block, 0, stream, *a);
}

// ---- number by number ----

// x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))
static __device__ __forceinline__ float gelu_tanh(float x)
{
    const float u = 0.7978845608f * (x + 0.044715f * x * x * x);
    return 0.5f * x * (1.0f + tanhf(u));
}

static __device__ __forceinline__ float gelu_erf(float x)
{
    return 0.5f * x * (1.0f + erff(x * 0.7071067812f));
}

template <int op> static __global__ void each_kernel(float *y, const float *x, int64_t n, bool wide)
{
    const int64_t i = 4 * ((int64_t)blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= n) return;
    wide = wide && n - i >= 4;
    float v[4], old[4];
    rows_load(v, x + i, n - i, wide);
    if (op == EACH_ADD) rows_load(old, y + i, n - i, wide);
    for (int j = 0; j < 4; j++) {
        if (op == EACH_ADD) v[j] = old[j] + v[j];
        if (op == EACH_GELU_TANH) v[j] = gelu_tanh(v[j]);
        if (op == EACH_GELU_ERF) v[j] = gelu_erf(v[j]);
    }
    rows_store(y + i, v, n - i, wide);
}

void launch_each(cudaStream_t stream, const void *args)
{
    const each_args *a = (const each_args *)args;
    const int64_t numbers = 4 * EACH_THREADS;
    const dim3 grid((unsigned)((a->n + numbers - 1) / numbers), 1, 1), block(EACH_THREADS, 1, 1);
    const bool wide = rows_aligned(a->x) && rows_aligned(a->y);
    if (a->op == EACH_ADD) {
        GPU_LAUNCH(each_kernel<EACH_ADD>, grid, block, 0, stream, a->y, a->x, a->n, wide);
    } else if (a->op == EACH_GELU_TANH) {
        GPU_LAUNCH(each_kernel<EACH_GELU_TANH>, grid, block, 0, stream, a->y, a->x, a->n, wide);
    } else {
        GPU_LAUNCH(each_kernel<EACH_GELU_ERF>, grid, block, 0, stream, a->y, a->x, a->n, wide);
    }
}

// ---- rows in strides: block x is the row, block y a piece of it ----

static dim3 piece_grid(int64_t rows, int64_t width)
{
    const int64_t numbers = 4 * EACH_THREADS;
    return dim3((unsigned)rows, (unsigned)((width + numbers - 1) / numbers), 1);
}

static __device__ __forceinline__ int64_t piece_at(void)
{
    return 4 * ((int64_t)blockIdx.y * blockDim.x + threadIdx.x);
}

// wide: C is a multiple of 4, so that four neighbours have one head.
static __global__ void sigmoid_mul_kernel(sigmoid_mul_args a, bool wide)
{
    const int64_t row = blockIdx.x, width = a.H * a.C, i = piece_at();
    if (i >= width) return;
    float *y = a.y + row * width + i;
    const float *gate = a.gate + row * a.row_stride;
    float v[4], g[4];
    rows_load(v, y, width - i, wide);
    if (wide) {
        const uint32_t head = (uint32_t)i / (uint32_t)a.C;
        rows_load(g, gate + head * a.head_stride + (i - head * a.C), 4, true);
    }
    for (int j = 0; j < 4 && !wide; j++) {
        const int64_t at = i + j < width ? i + j : i, head = (uint32_t)at / (uint32_t)a.C;
        g[j] = gate[head * a.head_stride + (at - head * a.C)];
    }
    for (int j = 0; j < 4; j++) v[j] *= gpu_sigmoid(g[j]);
    rows_store(y, v, width - i, wide);
}

void launch_sigmoid_mul(cudaStream_t stream, const void *args)
{
    const sigmoid_mul_args *a = (const sigmoid_mul_args *)args;
    const bool wide = a->C % 4 == 0 && a->row_stride % 4 == 0 && a->head_stride % 4 == 0 &&
                      rows_aligned(a->y) && rows_aligned(a->gate);
    GPU_LAUNCH(sigmoid_mul_kernel, piece_grid(a->N, a->H * a->C), dim3(EACH_THREADS, 1, 1), 0,
               stream, *a, wide);
}

static __global__ void add_taps_kernel(add_taps_args a, bool wide)
{
    const int64_t row = blockIdx.x, d = piece_at(), left = a.D - d;
    if (d >= a.D) return;
    float v[4], taps[4][4], w[4];
    for (int t = 0; t < 4; t++) {
        w[t] = a.weights[4 * row + t];
        rows_load(taps[t], a.table + a.rows[4 * row + t] * a.D + d, left, wide);
    }
    float *x = a.x + row * a.D + d;
    rows_load(v, x, left, wide);
    for (int i = 0; i < 4; i++) {
        v[i] += taps[0][i] * w[0] + taps[1][i] * w[1] + taps[2][i] * w[2] + taps[3][i] * w[3];
    }
    rows_store(x, v, left, wide);
}

void launch_add_taps(cudaStream_t stream, const void *args)
{
    const add_taps_args *a = (const add_taps_args *)args;
    const bool wide = a->D % 4 == 0 && rows_aligned(a->x) && rows_aligned(a->table);
    GPU_LAUNCH(add_taps_kernel, piece_grid(a->N, a->D), dim3(EACH_THREADS, 1, 1), 0, stream, *a,
               wide);
}

static __global__ void copy_rows_kernel(copy_rows_args a, bool wide)
{
    const int64_t row = blockIdx.x, d = piece_at(), left = a.width - d;
    if (d >= a.width) return;
    float v[4];
    rows_load(v, a.from + row * a.from_stride + d, left, wide);
    rows_store(a.to + row * a.to_stride + d, v, left, wide);
}

void launch_copy_rows(cudaStream_t stream, const void *args)
{
    const copy_rows_args *a = (const copy_rows_args *)args;
    const bool wide = a->width % 4 == 0 && a->to_stride % 4 == 0 && a->from_stride % 4 == 0 &&
                      rows_aligned(a->to) && rows_aligned(a->from);
    GPU_LAUNCH(copy_rows_kernel, piece_grid(a->n, a->width), dim3(EACH_THREADS, 1, 1), 0, stream,
               *a, wide);
}
