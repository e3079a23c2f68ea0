// kernels/cuda/cublaslt.h - large products by NVIDIA's library, where the machine has it.
//
// Looked for at run time, once per kernels object; without it linear_big.cu does the same work. Its
// answers for a shape (which algorithm) are kept. Threads: the kernels object's.
#ifndef SIGHT_KERNELS_CUDA_CUBLASLT_H
#define SIGHT_KERNELS_CUDA_CUBLASLT_H

#include "kernels/cuda/device.h"
#include "kernels/cuda/linear.h"

// One job's product, as launch_linear_big has it; with scales as launch_linear_f8 has it.
typedef struct cublaslt_call {
    const linear_job *job;
    const void *x; // [N, stride], as the weights: bf16, or E4M3
    int64_t N, stride;
    bool add;
    // E4M3: [stride / 128, M] and [stride / 128, N]; M and N are multiples of 4, and there is no bias. NULL: bf16.
    const float *w_scales, *x_scales;
} cublaslt_call;

// y[N, y_stride] (+)= x w^T + bias. false: not here, or not this shape; nothing was launched.
bool cublaslt_product(kernels *k, const cublaslt_call *call);
// Whether that has an algorithm; nothing is launched.
bool cublaslt_can(kernels *k, const cublaslt_call *call);
// Whether the library multiplies E4M3 with a scale for every 128 inputs, on this chip.
bool cublaslt_has_f8(kernels *k);

#endif
