#include "kernels/backend.h"

#if defined(__aarch64__)

void linear_neon_fill(cpu_ops *ops)
{
    (void)ops;
}

#endif
