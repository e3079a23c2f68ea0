#include "kernels/cpu/limits.h"

#if defined(__aarch64__)

#include <arm_neon.h>

#define CHAINS 16 // at least latency times ports

static double f32_loop(int64_t rounds, float *sink)
{
    float32x4_t sum[CHAINS], x = vdupq_n_f32(*sink), y = vdupq_n_f32(1e-9f);
    for (int i = 0; i < CHAINS; i++) sum[i] = y;
    for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++) sum[i] = vfmaq_f32(sum[i], x, y);
    }
    for (int i = 0; i < CHAINS; i++) *sink += vaddvq_f32(sum[i]);
    return 2.0 * 4 * CHAINS * (double)rounds;
}

void limits_neon_fill(limit_loops *loops)
{
    loops->f32 = f32_loop;
}

#endif
