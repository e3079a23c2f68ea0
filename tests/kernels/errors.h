// tests/kernels/errors.h - how far results are off what double gives.
#ifndef TESTS_KERNELS_ERRORS_H
#define TESTS_KERNELS_ERRORS_H

#include <math.h>

#include "kernels/tensor.h"

static inline double bf16_of(double x)
{
    return bf16_to_f32(f32_to_bf16((float)x));
}

// Root of the mean square, and the largest error; a NaN makes it infinite.
typedef struct error_size {
    double rms, largest;
} error_size;

static inline error_size error_of(const double *x, const double *reference, int64_t n)
{
    error_size e = {0};
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs(x[i] - reference[i]);
        e.rms += d * d / (double)n;
        if (!(d <= e.largest)) e.largest = isnan(d) ? (double)INFINITY : d;
    }
    e.rms = sqrt(e.rms);
    return e;
}

#endif
