// kernels/cuda/delta_mixer.cu - a row of each sequence through all of Gated DeltaNet in one kernel:
// convolution, gates, l2 norm, delta rule, gated norm. The parts (delta.cu) give the same bits.
//
// A block has one key head and its value heads, because the tail of a key's channels may have one
// writer. Bound by memory, or for few sequences by the way there and back: the state read and
// written (8 value_heads Dk Dv bytes) is all that counts. 0.8B: 2.1 MB a layer and sequence, 0.5 us
// at 4.3 TB/s; 16 blocks of a lone sequence reach a multiprocessor's 64 bytes a cycle each, 1.2 us.
// The first head's state is asked for before the convolution begins. Beside the parts one by one it
// saves three launches, and qkv, gates and the output on their way through memory.
#include "kernels/cuda/delta_parts.h"

#define MIXER_WARPS(R) ((R) > 8 ? 8 : 16) // what registers allow

// The newest output of a channel's convolution; the tail moves on by a row.
static __device__ __forceinline__ float mixer_convolve(const mixer_args *a, const mixer_rows *seq,
                                                       int64_t channels, int64_t c)
{
    const float *w = a->conv + c * a->width;
    const float x = seq->x[c];
    float *tail = seq->tail + c;
    float sum = 0;
    if (a->width == 4) { // all loads before the first store
        const float x0 = tail[0], x1 = tail[channels], x2 = tail[2 * channels];
        sum = fmaf(x, w[3], fmaf(x2, w[2], fmaf(x1, w[1], fmaf(x0, w[0], 0.0f))));
        tail[0] = x1;
        tail[channels] = x2;
        tail[2 * channels] = x;
        return delta_silu(sum);
    }
    for (int64_t i = 0; i + 1 < a->width; i++) {
        const float old = tail[i * channels];
        sum = fmaf(old, w[i], sum);
        if (i > 0) tail[(i - 1) * channels] = old;
    }
    if (a->width > 1) tail[(a->width - 2) * channels] = x;
    return delta_silu(fmaf(x, w[a->width - 1], sum));
}

static __device__ __forceinline__ int64_t mixer_head(const delta_sizes *z, int64_t key_head,
                                                     int64_t i)
{
    return z->tiled ? key_head + i * z->key_heads : key_head * (z->value_heads / z->key_heads) + i;
}

// q, k [Dk] and the v [Dv] of each of the key head's value heads, side by side in shared memory.
static __device__ __forceinline__ void
mixer_inputs(float *to, const mixer_args *a, const mixer_rows *seq, int64_t key_head, int64_t heads)
{
    const delta_sizes *z = &a->size;
    const int64_t keys = z->key_heads * z->Dk, channels = 2 * keys + z->value_heads * z->Dv;
    for (int64_t i = threadIdx.x; i < 2 * z->Dk + heads * z->Dv; i += blockDim.x) {
        const int64_t value = i - 2 * z->Dk;
        int64_t c = key_head * z->Dk + i; // of q
        if (value >= 0)
            c = 2 * keys + mixer_head(z, key_head, value / z->Dv) * z->Dv + value % z->Dv;
        else if (i >= z->Dk)
            c += keys - z->Dk;
        to[i] = mixer_convolve(a, seq, channels, c);
    }
}

// out [Dv] = rms_norm(o) silu(z). Every warp sums for itself, in the order of the parts.
static __device__ __forceinline__ void mixer_norm(float *out, const float *o, const float *z,
                                                  const mixer_args *a)
{
    const int64_t Dv = a->size.Dv;
    const float scale = delta_inverse_rms(o, Dv, (float)a->eps, false);
    for (int64_t d = threadIdx.x; d < Dv; d += blockDim.x)
        out[d] = o[d] * scale * a->norm[d] * delta_silu(z[d]);
}

extern "C" size_t delta_mixer_shared(int64_t Dk, int64_t Dv, int64_t heads)
{
    return (size_t)(2 * Dk + (heads + 1) * Dv) * sizeof(float);
}

template <int R, bool WIDE>
static __global__ void __launch_bounds__(MIXER_WARPS(R) * GPU_WARP) mixer_kernel(mixer_args a)
{
    GPU_DYNAMIC_SHARED(float, shared);
    const delta_sizes z = a.size;
    const mixer_rows seq = a.seqs[blockIdx.y];
    const int64_t key_head = blockIdx.x, heads = z.value_heads / z.key_heads;
    const int64_t strips = (z.Dv + STEP_COLUMNS - 1) / STEP_COLUMNS, warp = threadIdx.x / GPU_WARP;
    const int64_t lane_column = 4 * (threadIdx.x % 2), strip_state = z.Dk * z.Dv;
    float *q = shared, *k = q + z.Dk, *v = k + z.Dk, *o = v + heads * z.Dv;
    const float q_scale = 1.0f / sqrtf((float)z.Dk);
    float s[R][4];

    delta_state_load<R, WIDE>(s, seq.state + mixer_head(&z, key_head, 0) * strip_state, z.Dk, z.Dv,
                              warp * STEP_COLUMNS + lane_column);
    mixer_inputs(shared, &a, &seq, key_head, heads);
    __syncthreads();
    for (int64_t i = 0; i < heads; i++) {
        const int64_t head = mixer_head(&z, key_head, i);
        const float g = delta_log_decay(seq.a[head], a.A_log[head], a.dt_bias[head]);
        const float beta = delta_beta(seq.b[head]);
        float *state = seq.state + head * strip_state;
        for (int64_t strip = warp; strip < strips; strip += MIXER_WARPS(R)) {
            const int64_t column = strip * STEP_COLUMNS + lane_column;
            float ks[R], qs[R], y[4] = {0, 0, 0, 0};
            if (i > 0 || strip != warp) delta_state_load<R, WIDE>(s, state, z.Dk, z.Dv, column);
            delta_vector_load<R>(ks, k, z.Dk);
            delta_vector_load<R>(qs, q, z.Dk);
            if (column < z.Dv) rows_load(y, v + i * z.Dv + column, z.Dv - column, false);
            delta_token<R>(s, y, ks, qs, g, beta, q_scale);
            if (threadIdx.x % GPU_WARP < 2 && column < z.Dv)
                rows_store(o + column, y, z.Dv - column, false);
            delta_state_store<R, WIDE>(state, s, z.Dk, z.Dv, column);
        }
        __syncthreads();
        mixer_norm(seq.out + head * z.Dv, o, seq.z + head * z.Dv, &a);
        __syncthreads();
    }
}

template <int R> static void launch_mixer(cudaStream_t stream, const mixer_args *a)
{
    const delta_sizes *z = &a->size;
    const dim3 grid((unsigned)z->key_heads, (unsigned)a->S);
    const size_t bytes = delta_mixer_shared(z->Dk, z->Dv, z->value_heads / z->key_heads);
    const auto kernel = a->wide ? mixer_kernel<R, true> : mixer_kernel<R, false>;
    GPU_LAUNCH(kernel, grid, MIXER_WARPS(R) * GPU_WARP, bytes, stream, *a);
}

extern "C" void launch_delta_mixer(cudaStream_t stream, const void *args)
{
    const mixer_args *a = (const mixer_args *)args;
    const int64_t Dk = a->size.Dk;
    if (Dk <= 16)
        launch_mixer<1>(stream, a);
    else if (Dk <= 32)
        launch_mixer<2>(stream, a);
    else if (Dk <= 64)
        launch_mixer<4>(stream, a);
    else if (Dk <= 128)
        launch_mixer<8>(stream, a);
    else
        launch_mixer<16>(stream, a);
}
