#include "kernels/backend.h"

#if defined(__x86_64__)

void delta_avx512_fill(cpu_ops *ops)
{
    (void)ops;
}

#endif
