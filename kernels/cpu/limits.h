// kernels/cpu/limits.h - loops that do nothing but one kind of work, for kernels_measure_limits.
#ifndef SIGHT_KERNELS_CPU_LIMITS_H
#define SIGHT_KERNELS_CPU_LIMITS_H

#include <stddef.h>
#include <stdint.h>

// Runs `rounds` rounds in registers and gives the operations done, a multiply-add counting two.
// sink holds 1 before; its value after keeps the compiler from dropping the work.
typedef double limit_loop(int64_t rounds, float *sink);

typedef struct limit_loops {
    uint64_t (*read)(const void *p, size_t bytes); // bytes a multiple of 4,096, p of 64
    limit_loop *f32, *bf16, *int8;                 // NULL: the processor has none
} limit_loops;

#if defined(__x86_64__)
void limits_avx2_fill(limit_loops *loops);
void limits_avx512_fill(limit_loops *loops);
void limits_avx512bf16_fill(limit_loops *loops);
void limits_avx512vnni_fill(limit_loops *loops);
#endif
#if defined(__aarch64__)
void limits_neon_fill(limit_loops *loops);
#endif

#endif
