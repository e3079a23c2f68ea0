// kernels/cuda/delta_parts.h - what the parts of a Gated DeltaNet layer and their fused form share,
// so that both give the same bits; for .cu files. Multiplications that an addition follows are
// written as fmaf: no compiler has a choice.
#ifndef SIGHT_KERNELS_CUDA_DELTA_PARTS_H
#define SIGHT_KERNELS_CUDA_DELTA_PARTS_H

#include "kernels/cuda/delta.h"
#include "kernels/cuda/rows_vec.h"

static __device__ __forceinline__ float delta_silu(float x)
{
    return x / (1.0f + expf(-x));
}

// g, the log decay: -exp(A_log) softplus(a + dt_bias).
static __device__ __forceinline__ float delta_log_decay(float a, float A_log, float dt_bias)
{
    const float x = a + dt_bias;
    return -expf(A_log) * (x > 20.0f ? x : log1pf(expf(x)));
}

static __device__ __forceinline__ float delta_beta(float b)
{
    return 1.0f / (1.0f + expf(-b));
}

static __device__ __forceinline__ int64_t delta_key_of(const delta_sizes *s, int64_t value_head)
{
    return s->tiled ? value_head % s->key_heads : value_head / (s->value_heads / s->key_heads);
}

// 1 / rms of x [C], by one warp: lane l sums the fours 4 l, 4 l + 128, ...
static __device__ __forceinline__ float delta_inverse_rms(const float *x, int64_t C, float eps,
                                                          bool wide)
{
    float sum = 0, v[4];
    for (int64_t d = 4 * (int64_t)(threadIdx.x % GPU_WARP); d < C; d += 4 * GPU_WARP) {
        rows_load(v, x + d, C - d, wide);
        for (int i = 0; i < 4; i++)
            sum = fmaf(v[i], v[i], sum);
    }
    return 1.0f / sqrtf(gpu_warp_sum(sum) / (float)C + eps);
}

// ---- one token on a piece of a state ----
//
// A warp has 8 columns of a head's state in registers. Lane l has the four columns l % 2 and of the
// Dk rows those with row % 16 = l / 2: s[i] is row 16 i + l / 2. A row's 8 columns are 32 bytes,
// one sector.

#define STEP_COLUMNS 8
#define STEP_ROWS    16

template <int R, bool WIDE>
static __device__ __forceinline__ void delta_state_load(float s[R][4], const float *state,
                                                        int64_t Dk, int64_t Dv, int64_t column)
{
    const int64_t row = threadIdx.x % GPU_WARP / 2;
    const int64_t left = Dv - column; // columns; not positive: none of this lane's
#pragma unroll
    for (int i = 0; i < R; i++) {
        s[i][0] = s[i][1] = s[i][2] = s[i][3] = 0;
        if (row + STEP_ROWS * i < Dk && left > 0) {
            rows_load(s[i], state + (row + STEP_ROWS * i) * Dv + column, left, WIDE);
        }
    }
}

template <int R, bool WIDE>
static __device__ __forceinline__ void delta_state_store(float *state, const float s[R][4],
                                                         int64_t Dk, int64_t Dv, int64_t column)
{
    const int64_t row = threadIdx.x % GPU_WARP / 2;
    const int64_t left = Dv - column;
#pragma unroll
    for (int i = 0; i < R; i++) {
        if (row + STEP_ROWS * i < Dk && left > 0) {
            rows_store(state + (row + STEP_ROWS * i) * Dv + column, s[i], left, WIDE);
        }
    }
}

// Over the 16 lanes that have the same columns.
static __device__ __forceinline__ float delta_sum_rows(float x)
{
    for (int d = GPU_WARP / 2; d > 1; d /= 2)
        x += __shfl_xor_sync(GPU_ALL_LANES, x, d);
    return x;
}

// What a token's q and k give before the state is changed, summed over all rows.
typedef struct delta_sums {
    float kk, qq, kq;       // of raw q and k
    float by_k[4], by_q[4]; // S^T k, S^T q of the lane's columns
} delta_sums;

static __device__ __forceinline__ void delta_sums_add(delta_sums *t, const float s[4], float k,
                                                      float q)
{
    t->kk = fmaf(k, k, t->kk);
    t->qq = fmaf(q, q, t->qq);
    t->kq = fmaf(k, q, t->kq);
    for (int j = 0; j < 4; j++) {
        t->by_k[j] = fmaf(s[j], k, t->by_k[j]);
        t->by_q[j] = fmaf(s[j], q, t->by_q[j]);
    }
}

static __device__ __forceinline__ void delta_sums_close(delta_sums *t)
{
    t->kk = delta_sum_rows(t->kk);
    t->qq = delta_sum_rows(t->qq);
    t->kq = delta_sum_rows(t->kq);
    for (int j = 0; j < 4; j++) {
        t->by_k[j] = delta_sum_rows(t->by_k[j]);
        t->by_q[j] = delta_sum_rows(t->by_q[j]);
    }
}

// Turns v into the output, and gives what raw k adds to the state:
//   d = (v - decay S^T k) beta;  o = decay S^T q + (k . q) d,  which is (decay S + k d^T)^T q
static __device__ __forceinline__ void delta_outcome(float v[4], float add[4], const delta_sums *t,
                                                     float decay, float beta, float q_scale)
{
    const float k_unit = 1.0f / sqrtf(t->kk + DELTA_L2_EPS);
    const float q_unit = q_scale / sqrtf(t->qq + DELTA_L2_EPS);
    const float read = decay * k_unit;
    for (int j = 0; j < 4; j++) {
        add[j] = fmaf(-read, t->by_k[j], v[j]) * beta * k_unit;
        v[j] = fmaf(t->kq, add[j], decay * t->by_q[j]) * q_unit;
    }
}

// k, q: the lane's rows of them, raw. v [4] becomes the output.
template <int R>
static __device__ __forceinline__ void delta_token(float s[R][4], float v[4], const float k[R],
                                                   const float q[R], float g, float beta,
                                                   float q_scale)
{
    const float decay = expf(g);
    delta_sums t = {0, 0, 0, {0, 0, 0, 0}, {0, 0, 0, 0}};
    float add[4];
#pragma unroll
    for (int i = 0; i < R; i++)
        delta_sums_add(&t, s[i], k[i], q[i]);
    delta_sums_close(&t);
    delta_outcome(v, add, &t, decay, beta, q_scale);
#pragma unroll
    for (int i = 0; i < R; i++) {
        for (int j = 0; j < 4; j++)
            s[i][j] = fmaf(add[j], k[i], decay * s[i][j]);
    }
}

// The lane's rows of a raw q or k [Dk].
template <int R>
static __device__ __forceinline__ void delta_vector_load(float y[R], const float *x, int64_t Dk)
{
    const int64_t row = threadIdx.x % GPU_WARP / 2;
#pragma unroll
    for (int i = 0; i < R; i++)
        y[i] = row + STEP_ROWS * i < Dk ? x[row + STEP_ROWS * i] : 0.0f;
}

#endif
