#include "kernels/backend.h"

#if defined(__x86_64__)

void linear_avx512bf16_fill(cpu_ops *ops)
{
    (void)ops;
}

#endif
