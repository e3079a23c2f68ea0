// kernels/cpu/attention_rows.h - keys and values as they are stored, brought into vectors.
//
// The type is a constant where these are inlined.
#ifndef SIGHT_KERNELS_CPU_ATTENTION_ROWS_H
#define SIGHT_KERNELS_CPU_ATTENTION_ROWS_H

#include "kernels/backend.h"
#include "kernels/cpu/math_vec.h"

#define BLOCK_KEYS 128 // keys and values of a block stay in the second-level cache
#define LOWEST (-1e30f) // "no score yet": finite, so that differences are not NaN

// Rows of one block: where each begins, and of bytes the scales of its groups.
typedef struct stored_rows {
    tensor_type type;
    int64_t n;
    const void *keys[BLOCK_KEYS], *values[BLOCK_KEYS];
    const float *key_scales[BLOCK_KEYS], *value_scales[BLOCK_KEYS];
} stored_rows;

// Components c .. c + VEC_N - 1 of a row, zeros from the n-th of them on. Groups of scales are whole
// vectors.
TILE_INLINE vec stored_get(const void *row, const float *scales, int64_t c, int64_t n,
                           const tensor_type type)
{
    if (type == TENSOR_BF16) {
        const uint16_t *p = (const uint16_t *)row + c;
        return n >= VEC_N ? vec_bf16(p) : vec_bf16_n(p, n);
    }
    if (type == TENSOR_I8) {
        const int8_t *p = (const int8_t *)row + c;
        return (n >= VEC_N ? vec_i8(p) : vec_i8_n(p, n)) * vec_set(scales[c / KV_GROUP]);
    }
    return vec_get((const float *)row + c, n);
}

// do_it(..., type) with the type as a constant.
#define BY_TYPE(type, do_it, ...)                                                                  \
    do {                                                                                           \
        if ((type) == TENSOR_BF16) do_it(__VA_ARGS__, TENSOR_BF16);                                \
        else if ((type) == TENSOR_I8) do_it(__VA_ARGS__, TENSOR_I8);                               \
        else do_it(__VA_ARGS__, TENSOR_F32);                                                       \
    } while (0)

#endif
