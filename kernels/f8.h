// kernels/f8.h - 8-bit floats in E4M3: sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinity, 0x7f is NaN
// (Open Compute Project, OCP 8-bit Floating Point Specification 1.0).
#ifndef SIGHT_KERNELS_F8_H
#define SIGHT_KERNELS_F8_H

#include <math.h>
#include <stdint.h>

static inline float f8_to_f32(uint8_t b)
{
    const int exponent = b >> 3 & 15, mantissa = b & 7;
    float v = exponent ? ldexpf((float)(8 + mantissa), exponent - 10) : ldexpf((float)mantissa, -9);
    if ((b & 0x7f) == 0x7f) v = NAN;
    return b & 0x80 ? -v : v;
}

#endif
