// kernels/tensor.h - a typed view of memory that somebody else owns.
#ifndef SIGHT_KERNELS_TENSOR_H
#define SIGHT_KERNELS_TENSOR_H

#include <stddef.h>
#include <stdint.h>

typedef enum tensor_type {
    TENSOR_F32,
    TENSOR_BF16,
    TENSOR_F16,
    TENSOR_I32,
    TENSOR_I64,
    TENSOR_U8,
    TENSOR_I8
} tensor_type;

#define TENSOR_MAX_DIMS 5

// Row-major, no gaps. data may have any alignment that its type's size divides.
typedef struct tensor_view {
    const void *data;
    tensor_type type;
    int32_t n_dims;
    int64_t shape[TENSOR_MAX_DIMS]; // outermost first
} tensor_view;

// A low-rank addition to a matrix [M, K], as LoRA adapters have them: y += scale (x a^T) b^T, in float32
// beside weights of any form.
typedef struct low_rank {
    tensor_view a; // [r, K]
    tensor_view b; // [M, r]
    float scale;
    const struct low_rank *next; // NULL: the last
} low_rank;

static inline size_t tensor_type_bytes(tensor_type t)
{
    static const uint8_t bytes[] = {4, 2, 2, 4, 8, 1, 1};
    return bytes[t];
}

static inline int64_t tensor_count(const tensor_view *t)
{
    int64_t n = 1;
    for (int32_t i = 0; i < t->n_dims; i++) n *= t->shape[i];
    return n;
}

// bf16 is the upper half of a float; rounding is to nearest even, NaN stays NaN.
static inline float bf16_to_f32(uint16_t b)
{
    union {
        uint32_t u;
        float f;
    } v = {(uint32_t)b << 16};
    return v.f;
}

static inline uint16_t f32_to_bf16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {f};
    if ((v.u & 0x7fffffff) > 0x7f800000) return (uint16_t)(v.u >> 16 | 0x40);
    return (uint16_t)((v.u + 0x7fff + (v.u >> 16 & 1)) >> 16);
}

float f16_to_f32(uint16_t h);

// Element i of any type as float.
float tensor_get_f32(const tensor_view *t, int64_t i);

#endif
