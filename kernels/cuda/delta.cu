// kernels/cuda/delta.cu - Gated DeltaNet's parts: convolution, gates, the delta rule one token at a
// time, gated norm.
//
// All are bound by memory. What they move and compute:
//   convolution   8 bytes a number, and the weights and tails once; 2 width + 10 operations. A tile
//                 of 32 rows reads width - 1 of the rows before it again, mostly from cache
//   gates         16 bytes a head and row, about 60 operations
//   gated norm    12 bytes a number, about 16 operations
//   steps         the state read and written once, however many tokens there are: 8 value_heads Dk
//                 Dv bytes, and 12 Dk Dv operations per head and token beside (6 are the formula's;
//                 q's product goes with k's over the state before the token, so that one pass of
//                 sums does). 0.8B (16 heads of 128 x 128): 2.1 MB a layer and sequence, 0.5 us at
//                 4.3 TB/s; every load is under way before the first is used
// Steps of few tokens give what one token at a time gives, bit for bit: float32 moves between
// registers and memory unchanged, and a token's arithmetic does not know where the state came from.
#include "kernels/cuda/delta_parts.h"

// ---- convolution ----

#define CONV_THREADS 64
#define CONV_ROWS    32 // of a tile: at least width - 1, so that later tiles read no tail
#define CONV_BATCH   8  // rows asked for at once

typedef struct conv_place {
    conv_rows seq;
    int64_t c, left;     // first of the thread's four channels, channels from there
    int64_t first, last; // rows of the tile
} conv_place;

static __device__ __forceinline__ conv_place conv_find(const conv_args *a, int64_t tile)
{
    conv_place p;
    p.seq = a->seqs[blockIdx.z];
    p.c = 4 * ((int64_t)blockIdx.x * blockDim.x + threadIdx.x);
    p.left = a->channels - p.c;
    p.first = (int64_t)blockIdx.y * tile;
    p.last = p.seq.n < p.first + tile ? p.seq.n : p.first + tile;
    return p;
}

// The rows that come after, left by whoever has read the old ones: the first tile. Row j of the new
// tail is row j + n of the old one followed by x; rising j reads no row that was written.
static __device__ __forceinline__ void conv_leave_tail(const conv_args *a, const conv_place *p)
{
    const int64_t kept = a->width - 1;
    float v[4];
    for (int64_t j = 0; j < kept; j++) {
        const int64_t from = j + p->seq.n;
        rows_load(v,
                  from < kept ? p->seq.tail + from * a->channels + p->c
                              : p->seq.x + (from - kept) * a->x_stride + p->c,
                  p->left, a->wide);
        rows_store(p->seq.tail + j * a->channels + p->c, v, p->left, a->wide);
    }
}

template <int W>
static __device__ __forceinline__ void conv_weights(float w[W][4], const conv_args *a,
                                                    const conv_place *p)
{
    for (int j = 0; j < 4; j++) {
        const float *from = a->w + (p->c + j) * W;
        if (W == 4 && a->wide) {
            const float4 f = *(const float4 *)from;
            w[0][j] = f.x, w[1 % W][j] = f.y, w[2 % W][j] = f.z, w[3 % W][j] = f.w;
            continue;
        }
        for (int i = 0; i < W; i++)
            w[i][j] = j < p->left ? from[i] : 0.0f;
    }
}

// The W - 1 rows before the tile.
template <int W>
static __device__ __forceinline__ void conv_before(float x[W][4], const conv_args *a,
                                                   const conv_place *p)
{
    for (int i = 0; i < W - 1; i++) {
        const int64_t row = p->first - (W - 1) + i;
        rows_load(x[i],
                  row < 0 ? p->seq.tail + (row + W - 1) * a->channels + p->c
                          : p->seq.x + row * a->x_stride + p->c,
                  p->left, a->wide);
    }
}

template <int W> static __global__ void conv_kernel(conv_args a)
{
    const conv_place p = conv_find(&a, CONV_ROWS);
    if (p.first >= p.seq.n || p.left <= 0) return;
    float w[W][4], x[W][4], next[CONV_BATCH][4];
    conv_weights<W>(w, &a, &p);
    conv_before<W>(x, &a, &p);
    if (W > 1 && p.first == 0) conv_leave_tail(&a, &p);
    for (int64_t row = p.first; row < p.last; row += CONV_BATCH) {
#pragma unroll
        for (int b = 0; b < CONV_BATCH; b++) {
            if (row + b < p.last)
                rows_load(next[b], p.seq.x + (row + b) * a.x_stride + p.c, p.left, a.wide);
        }
#pragma unroll
        for (int b = 0; b < CONV_BATCH; b++) {
            if (row + b >= p.last) continue;
            float y[4];
            for (int j = 0; j < 4; j++) {
                float sum = 0;
                x[W - 1][j] = next[b][j];
                for (int i = 0; i < W; i++)
                    sum = fmaf(x[i][j], w[i][j], sum);
                y[j] = delta_silu(sum);
                for (int i = 0; i + 1 < W; i++)
                    x[i][j] = x[i + 1][j];
            }
            rows_store(p.seq.y + (row + b) * a.channels + p.c, y, p.left, a.wide);
        }
    }
}

// Any width: rows are read again from cache.
static __global__ void conv_any_kernel(conv_args a, int64_t tile)
{
    const conv_place p = conv_find(&a, tile);
    if (p.first >= p.seq.n || p.left <= 0) return;
    for (int64_t row = p.first; row < p.last; row++) {
        float sum[4] = {0, 0, 0, 0}, x[4], y[4];
        for (int64_t i = 0; i < a.width; i++) {
            const int64_t at = row - (a.width - 1) + i;
            rows_load(x,
                      at < 0 ? p.seq.tail + (at + a.width - 1) * a.channels + p.c
                             : p.seq.x + at * a.x_stride + p.c,
                      p.left, a.wide);
            for (int j = 0; j < 4; j++) {
                if (j < p.left) sum[j] = fmaf(x[j], a.w[(p.c + j) * a.width + i], sum[j]);
            }
        }
        for (int j = 0; j < 4; j++)
            y[j] = delta_silu(sum[j]);
        rows_store(p.seq.y + row * a.channels + p.c, y, p.left, a.wide);
    }
    if (p.first == 0) conv_leave_tail(&a, &p);
}

extern "C" void launch_conv_silu(cudaStream_t stream, const void *args)
{
    const conv_args a = *(const conv_args *)args;
    const int64_t tile = a.width - 1 <= CONV_ROWS ? CONV_ROWS : a.max_n;
    const int64_t fours = (a.channels + 3) / 4;
    const dim3 grid((unsigned)((fours + CONV_THREADS - 1) / CONV_THREADS),
                    (unsigned)((a.max_n + tile - 1) / tile), (unsigned)a.S);
    switch (a.width) {
    case 1:
        GPU_LAUNCH(conv_kernel<1>, grid, CONV_THREADS, 0, stream, a);
        break;
    case 2:
        GPU_LAUNCH(conv_kernel<2>, grid, CONV_THREADS, 0, stream, a);
        break;
    case 3:
        GPU_LAUNCH(conv_kernel<3>, grid, CONV_THREADS, 0, stream, a);
        break;
    case 4:
        GPU_LAUNCH(conv_kernel<4>, grid, CONV_THREADS, 0, stream, a);
        break;
    default:
        GPU_LAUNCH(conv_any_kernel, grid, CONV_THREADS, 0, stream, a, tile);
    }
}

// ---- gates ----

#define GATES_THREADS 128

static __global__ void gates_kernel(gates_args a)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= a.N * a.heads) return;
    const int64_t head = i % a.heads;
    a.g[i] = delta_log_decay(a.a[i], a.A_log[head], a.dt_bias[head]);
    a.beta[i] = delta_beta(a.b[i]);
}

extern "C" void launch_delta_gates(cudaStream_t stream, const void *args)
{
    const gates_args a = *(const gates_args *)args;
    const unsigned blocks = (unsigned)((a.N * a.heads + GATES_THREADS - 1) / GATES_THREADS);
    GPU_LAUNCH(gates_kernel, blocks, GATES_THREADS, 0, stream, a);
}

// ---- gated norm ----

#define NORM_WARPS 4

// A warp has a row.
static __global__ void gated_norm_kernel(gated_norm_args a)
{
    const int64_t row = (int64_t)blockIdx.x * NORM_WARPS + threadIdx.x / GPU_WARP;
    if (row >= a.rows) return; // whole warps: none waits
    const float *o = a.o + row * a.C, *z = a.z + row * a.C;
    float *y = a.y + row * a.C;
    const float scale = delta_inverse_rms(o, a.C, (float)a.eps, a.wide);
    for (int64_t d = 4 * (int64_t)(threadIdx.x % GPU_WARP); d < a.C; d += 4 * GPU_WARP) {
        float v[4], gate[4], w[4];
        rows_load(v, o + d, a.C - d, a.wide);
        rows_load(gate, z + d, a.C - d, a.wide);
        rows_load(w, a.w + d, a.C - d, a.wide);
        for (int i = 0; i < 4; i++)
            v[i] = v[i] * scale * w[i] * delta_silu(gate[i]);
        rows_store(y + d, v, a.C - d, a.wide);
    }
}

extern "C" void launch_gated_norm(cudaStream_t stream, const void *args)
{
    const gated_norm_args a = *(const gated_norm_args *)args;
    const unsigned blocks = (unsigned)((a.rows + NORM_WARPS - 1) / NORM_WARPS);
    GPU_LAUNCH(gated_norm_kernel, blocks, NORM_WARPS * GPU_WARP, 0, stream, a);
}

// ---- the delta rule, one token at a time ----

#define STEP_WARPS 4

typedef struct step_place {
    delta_rows seq;
    int64_t head, column;   // first of the lane's four columns
    const float *q, *k, *v; // of the first token
    const float *from;      // the head's state
    float *state;
    float q_scale;
} step_place;

static __device__ __forceinline__ step_place step_find(const delta_step_args *a)
{
    const delta_sizes *s = &a->size;
    const int64_t warp = (int64_t)blockIdx.x * STEP_WARPS + threadIdx.x / GPU_WARP;
    step_place p;
    p.seq = a->seqs[blockIdx.z];
    p.head = blockIdx.y;
    p.column = warp * STEP_COLUMNS + 4 * (threadIdx.x % 2);
    p.q = p.seq.qkv + delta_key_of(s, p.head) * s->Dk;
    p.k = p.q + s->key_heads * s->Dk;
    p.v = p.seq.qkv + 2 * s->key_heads * s->Dk + p.head * s->Dv + p.column;
    p.state = p.seq.state + p.head * s->Dk * s->Dv;
    p.from = p.seq.before ? p.seq.before + p.head * s->Dk * s->Dv : p.state;
    p.q_scale = 1.0f / sqrtf((float)s->Dk);
    return p;
}

template <int R, bool WIDE> static __global__ void steps_kernel(delta_step_args a)
{
    const delta_sizes z = a.size;
    const step_place p = step_find(&a);
    if (p.seq.n > a.most) return; // the whole block
    float s[R][4];
    delta_state_load<R, WIDE>(s, p.from, z.Dk, z.Dv, p.column);
    for (int64_t t = 0; t < p.seq.n; t++) {
        float k[R], q[R], v[4] = {0, 0, 0, 0};
        delta_vector_load<R>(k, p.k + t * z.stride, z.Dk);
        delta_vector_load<R>(q, p.q + t * z.stride, z.Dk);
        if (p.column < z.Dv) rows_load(v, p.v + t * z.stride, z.Dv - p.column, WIDE);
        const int64_t gate = t * z.value_heads + p.head;
        delta_token<R>(s, v, k, q, p.seq.g[gate], p.seq.beta[gate], p.q_scale);
        if (threadIdx.x % GPU_WARP < 2 && p.column < z.Dv) {
            rows_store(p.seq.out + gate * z.Dv + p.column, v, z.Dv - p.column, WIDE);
        }
    }
    delta_state_store<R, WIDE>(p.state, s, z.Dk, z.Dv, p.column);
}

// Heads too wide for registers: the state passes by twice a token. Lanes read what they wrote
// themselves.
template <bool WIDE> static __global__ void steps_any_kernel(delta_step_args a)
{
    const delta_sizes z = a.size;
    const step_place p = step_find(&a);
    if (p.seq.n > a.most) return;
    const int64_t row0 = threadIdx.x % GPU_WARP / 2, left = z.Dv - p.column;
    const int64_t rows = left > 0 ? z.Dk : 0; // lanes without columns go along
    for (int64_t t = 0; t < p.seq.n; t++) {
        const float *from = t > 0 ? p.state : p.from;
        const float *k = p.k + t * z.stride, *q = p.q + t * z.stride;
        const int64_t gate = t * z.value_heads + p.head;
        const float decay = expf(p.seq.g[gate]);
        delta_sums sums = {0, 0, 0, {0, 0, 0, 0}, {0, 0, 0, 0}};
        float s[4], v[4] = {0, 0, 0, 0}, add[4];
        for (int64_t r = row0; r < rows; r += STEP_ROWS) {
            rows_load(s, from + r * z.Dv + p.column, left, WIDE);
            delta_sums_add(&sums, s, k[r], q[r]);
        }
        delta_sums_close(&sums);
        if (left > 0) rows_load(v, p.v + t * z.stride, left, WIDE);
        delta_outcome(v, add, &sums, decay, p.seq.beta[gate], p.q_scale);
        for (int64_t r = row0; r < rows; r += STEP_ROWS) {
            rows_load(s, from + r * z.Dv + p.column, left, WIDE);
            for (int j = 0; j < 4; j++)
                s[j] = fmaf(add[j], k[r], decay * s[j]);
            rows_store(p.state + r * z.Dv + p.column, s, left, WIDE);
        }
        if (row0 == 0 && left > 0) rows_store(p.seq.out + gate * z.Dv + p.column, v, left, WIDE);
    }
}

template <bool WIDE> static void launch_steps(cudaStream_t stream, const delta_step_args *a)
{
    const int64_t columns = STEP_COLUMNS * STEP_WARPS;
    const dim3 grid((unsigned)((a->size.Dv + columns - 1) / columns), (unsigned)a->size.value_heads,
                    (unsigned)a->S);
    const unsigned block = STEP_WARPS * GPU_WARP;
    const int64_t Dk = a->size.Dk;
    if (Dk <= 16) {
        const auto kernel = steps_kernel<1, WIDE>;
        GPU_LAUNCH(kernel, grid, block, 0, stream, *a);
    } else if (Dk <= 32) {
        const auto kernel = steps_kernel<2, WIDE>;
        GPU_LAUNCH(kernel, grid, block, 0, stream, *a);
    } else if (Dk <= 64) {
        const auto kernel = steps_kernel<4, WIDE>;
        GPU_LAUNCH(kernel, grid, block, 0, stream, *a);
    } else if (Dk <= 128) {
        const auto kernel = steps_kernel<8, WIDE>;
        GPU_LAUNCH(kernel, grid, block, 0, stream, *a);
    } else if (Dk <= 256) {
        const auto kernel = steps_kernel<16, WIDE>;
        GPU_LAUNCH(kernel, grid, block, 0, stream, *a);
    } else {
        GPU_LAUNCH(steps_any_kernel<WIDE>, grid, block, 0, stream, *a);
    }
}

extern "C" void launch_delta_steps(cudaStream_t stream, const void *args)
{
    const delta_step_args *a = (const delta_step_args *)args;
    if (a->wide)
        launch_steps<true>(stream, a);
    else
        launch_steps<false>(stream, a);
}
