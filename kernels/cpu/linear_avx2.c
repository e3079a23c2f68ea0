#include "kernels/backend.h"

#if defined(__x86_64__)

void linear_avx2_fill(cpu_ops *ops)
{
    (void)ops;
}

#endif
