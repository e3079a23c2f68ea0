#include "kernels/tensor.h"

#include <math.h>
#include <string.h>

float f16_to_f32(uint16_t h)
{
    int exponent = h >> 10 & 31;
    int mantissa = h & 1023;
    float v;
    if (exponent == 0) v = ldexpf((float)mantissa, -24);
    else if (exponent == 31) v = mantissa ? NAN : INFINITY;
    else v = ldexpf((float)(mantissa | 1024), exponent - 25);
    return h & 0x8000 ? -v : v;
}

float tensor_get_f32(const tensor_view *t, int64_t i)
{
    const unsigned char *p = (const unsigned char *)t->data + (size_t)i * tensor_type_bytes(t->type);
    uint16_t u16;
    int32_t i32;
    int64_t i64;
    float f;
    switch (t->type) {
    case TENSOR_F32: memcpy(&f, p, 4); return f;
    case TENSOR_BF16: memcpy(&u16, p, 2); return bf16_to_f32(u16);
    case TENSOR_F16: memcpy(&u16, p, 2); return f16_to_f32(u16);
    case TENSOR_I32: memcpy(&i32, p, 4); return (float)i32;
    case TENSOR_I64: memcpy(&i64, p, 8); return (float)i64;
    case TENSOR_U8: return (float)*p;
    case TENSOR_I8: return (float)(int8_t)*p;
    }
    return 0;
}
