#include "kernels/backend.h"

#if defined(__aarch64__)

void attention_neon_fill(cpu_ops *ops)
{
    (void)ops;
}

#endif
