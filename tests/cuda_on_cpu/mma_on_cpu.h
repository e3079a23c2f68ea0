// tests/cuda_on_cpu/mma_on_cpu.h - twins of the instructions in kernels/cuda/mma.h, written from what the PTX ISA says
// of their fragments, so that a wrong layout in a kernel gives wrong numbers here too.
#ifndef SIGHT_TESTS_MMA_ON_CPU_H
#define SIGHT_TESTS_MMA_ON_CPU_H

#include "cuda_on_cpu.h"
#include "kernels/f8.h"

#define MMA_HAS_F8 true

struct shim_product {
    float *d;
    const uint32_t *a, *b;
};

static inline float shim_bf16(uint32_t pair, int upper)
{
    return __uint_as_float(upper ? pair & 0xffff0000u : pair << 16);
}

// A [16, K] and B [8, K] by rows, from the fragments of all lanes; then D += A B^T into theirs.
template <int K> static inline void shim_multiply(void **data, const float *a, const float *b)
{
    for (int lane = 0; lane < SHIM_WARP; lane++) {
        float *d = static_cast<shim_product *>(data[lane])->d;
        for (int i = 0; i < 4; i++) {
            const float *x = a + K * (lane / 4 + i / 2 * 8), *y = b + K * (lane % 4 * 2 + i % 2);
            float sum = 0;
            for (int k = 0; k < K; k++) sum += x[k] * y[k];
            d[i] += sum;
        }
    }
}

static inline void shim_mma_bf16_together(void **data, uint32_t)
{
    float a[16 * 16], b[8 * 16];
    for (int lane = 0; lane < SHIM_WARP; lane++) {
        const shim_product *p = static_cast<const shim_product *>(data[lane]);
        const int group = lane / 4, t = lane % 4;
        for (int i = 0; i < 8; i++) { // A: register i / 2, half i % 2
            const int row = group + i / 2 % 2 * 8, column = 2 * t + i % 2 + i / 4 * 8;
            a[16 * row + column] = shim_bf16(p->a[i / 2], i % 2);
        }
        for (int i = 0; i < 4; i++) b[16 * group + 2 * t + i % 2 + i / 2 * 8] = shim_bf16(p->b[i / 2], i % 2);
    }
    shim_multiply<16>(data, a, b);
}

static inline void shim_mma_tf32_together(void **data, uint32_t)
{
    float a[16 * 8], b[8 * 8];
    for (int lane = 0; lane < SHIM_WARP; lane++) {
        const shim_product *p = static_cast<const shim_product *>(data[lane]);
        const int group = lane / 4, t = lane % 4;
        for (int i = 0; i < 4; i++) {
            a[8 * (group + i % 2 * 8) + t + i / 2 * 4] = __uint_as_float(p->a[i] & 0xffffe000u);
        }
        for (int i = 0; i < 2; i++) b[8 * group + t + 4 * i] = __uint_as_float(p->b[i] & 0xffffe000u);
    }
    shim_multiply<8>(data, a, b);
}

static inline void shim_mma_f8_together(void **data, uint32_t)
{
    float a[16 * 32], b[8 * 32];
    for (int lane = 0; lane < SHIM_WARP; lane++) {
        const shim_product *p = static_cast<const shim_product *>(data[lane]);
        const int group = lane / 4, t = lane % 4;
        for (int i = 0; i < 16; i++) { // A: register i / 4, byte i % 4
            const int row = group + i / 4 % 2 * 8, column = 4 * t + i % 4 + i / 8 * 16;
            a[32 * row + column] = f8_to_f32(static_cast<uint8_t>(p->a[i / 4] >> i % 4 * 8));
        }
        for (int i = 0; i < 8; i++) {
            b[32 * group + 4 * t + i % 4 + i / 4 * 16] = f8_to_f32(static_cast<uint8_t>(p->b[i / 4] >> i % 4 * 8));
        }
    }
    shim_multiply<32>(data, a, b);
}

static inline void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], SHIM_PLACE)
{
    shim_product p = {d, a, b};
    shim_meet(shim_mma_bf16_together, 0xffffffffu, &p, "mma_bf16", place);
}

static inline void mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2], SHIM_PLACE)
{
    shim_product p = {d, a, b};
    shim_meet(shim_mma_tf32_together, 0xffffffffu, &p, "mma_tf32", place);
}

static inline void mma_f8(float d[4], const uint32_t a[4], const uint32_t b[2], SHIM_PLACE)
{
    shim_product p = {d, a, b};
    shim_meet(shim_mma_f8_together, 0xffffffffu, &p, "mma_f8", place);
}

struct shim_tiles {
    uint32_t *r;
    const uint16_t *row; // the lane's
    shim_place place;
};

template <bool turned> static inline void shim_load_together(void **data, uint32_t)
{
    const shim_tiles *lanes[SHIM_WARP];
    for (int i = 0; i < SHIM_WARP; i++) {
        lanes[i] = static_cast<const shim_tiles *>(data[i]);
        if (reinterpret_cast<uintptr_t>(lanes[i]->row) % 16) {
            shim_defect(lanes[i]->place.file, lanes[i]->place.line,
                        "mma_load: the address of lane %d is no multiple of 16", i);
        }
    }
    for (int i = 0; i < SHIM_WARP; i++) {
        const int group = i / 4, t = i % 4;
        for (int tile = 0; tile < 4; tile++) {
            uint32_t pair[2];
            for (int j = 0; j < 2; j++) {
                pair[j] = turned ? lanes[8 * tile + 2 * t + j]->row[group] : lanes[8 * tile + group]->row[2 * t + j];
            }
            lanes[i]->r[tile] = pair[1] << 16 | pair[0];
        }
    }
}

static inline void mma_load(uint32_t r[4], const void *shared, SHIM_PLACE)
{
    shim_tiles t = {r, static_cast<const uint16_t *>(shared), place};
    shim_meet(shim_load_together<false>, 0xffffffffu, &t, "mma_load", place);
}

static inline void mma_load_trans(uint32_t r[4], const void *shared, SHIM_PLACE)
{
    shim_tiles t = {r, static_cast<const uint16_t *>(shared), place};
    shim_meet(shim_load_together<true>, 0xffffffffu, &t, "mma_load_trans", place);
}

static inline void copy_async16(void *shared, const void *from, bool good, SHIM_PLACE)
{
    shim_copy_begin(shared, from, good, place);
}

static inline void copy_async_commit(void)
{
    shim_copy_commit();
}

template <int left> static inline void copy_async_wait(void)
{
    shim_copy_wait(left);
}

static inline uint4 load_stream16(const void *from)
{
    return *static_cast<const uint4 *>(from);
}

#endif
