// kernels/cuda/kv_page.h - how components of a token get into their page; for attention_plain.cu and heads.cu.
#ifndef SIGHT_KERNELS_CUDA_KV_PAGE_H
#define SIGHT_KERNELS_CUDA_KV_PAGE_H

#include "kernels/cuda/attention.h"
#include "kernels/cuda/gpu.h"

// As group_to_i8 (kernels/cpu/rows_split.h), bit for bit: a warp's 64 components, two a lane.
static __device__ __forceinline__ void write_i8(int8_t *to, float *scale, const float *from, int64_t n,
                                uint32_t lane)
{
    float x[2];
    uint32_t largest = 0;
    for (uint32_t i = 0; i < 2; i++) {
        const int64_t c = lane + i * GPU_WARP;
        x[i] = c < n ? from[c] : 0.0f;
        const uint32_t size = __float_as_uint(x[i]) & 0x7fffffffu;
        largest = size > largest ? size : largest;
    }
    for (int d = GPU_WARP / 2; d > 0; d /= 2) {
        const uint32_t other = __shfl_xor_sync(GPU_ALL_LANES, largest, d);
        largest = other > largest ? other : largest;
    }
    const float most = __uint_as_float(largest);
    const bool some = most >= 1e-30f && largest < 0x7f800000u;
    const float inverse = some ? 127.0f / most : 0.0f;
    for (uint32_t i = 0; i < 2; i++) {
        const int64_t c = lane + i * GPU_WARP;
        if (c < n) to[c] = some ? (int8_t)rintf(x[i] * inverse) : (int8_t)0;
    }
    if (lane == 0) *scale = some ? most / 127.0f : 0.0f;
}

// The group of components from c0 on of a token's key (part 0) or value (1) of head g: from, its first. A whole warp.
static __device__ __forceinline__ void kv_put(const kv_write_place &p, const float *from, int64_t token, int64_t part,
                                              int64_t g, int64_t group, int64_t G, int64_t C, int64_t type,
                                              int64_t page_rows)
{
    const int64_t groups = (C + ATTENTION_KV_GROUP - 1) / ATTENTION_KV_GROUP, c0 = group * ATTENTION_KV_GROUP;
    const uint32_t lane = threadIdx.x % GPU_WARP;
    const int64_t n = C - c0 < ATTENTION_KV_GROUP ? C - c0 : ATTENTION_KV_GROUP;
    char *page = (char *)p.blocks[token / page_rows] + p.offset;
    const int64_t row = (part * G + g) * page_rows + token % page_rows;
    if (type == TENSOR_I8) {
        float *scales = (float *)(page + (2 * G * page_rows * C + 63) / 64 * 64);
        write_i8((int8_t *)page + row * C + c0, scales + row * groups + group, from, n, lane);
        return;
    }
    for (int64_t c = lane; c < n; c += GPU_WARP) {
        const int64_t at = row * C + c0 + c;
        if (type == TENSOR_BF16) ((uint16_t *)page)[at] = gpu_f32_to_bf16(from[c]);
        else ((float *)page)[at] = from[c];
    }
}

#endif
