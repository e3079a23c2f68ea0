// kernels/f8.h - 8-bit floats in E4M3: sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinity, 0x7f is NaN
// (Open Compute Project, OCP 8-bit Floating Point Specification 1.0).
#ifndef SIGHT_KERNELS_F8_H
#define SIGHT_KERNELS_F8_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define F8_MAX 448.0f // the greatest number

static inline float f8_to_f32(uint8_t b)
{
    const int exponent = b >> 3 & 15, mantissa = b & 7;
    float v = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
    if ((b & 0x7f) == 0x7f) v = NAN;
    return b & 0x80 ? -v : v;
}

// To nearest even; what is greater than F8_MAX becomes F8_MAX, NaN stays NaN.
static inline uint8_t f32_to_f8(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    const uint32_t sign = u >> 24 & 0x80u;
    u &= 0x7fffffffu;
    if (u > 0x7f800000u) return (uint8_t)(sign | 0x7fu);
    if (u >= 0x43e00000u) return (uint8_t)(sign | 0x7eu); // F8_MAX
    if (u < 0x3c800000u) return (uint8_t)(sign | (uint32_t)lrintf(fabsf(f) * 512.0f)); // below 2^-6
    u += 0x7ffffu + (u >> 20 & 1u);
    return (uint8_t)(sign | ((u >> 20) - (120u << 3)));
}

#endif
