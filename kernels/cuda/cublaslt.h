// kernels/cuda/cublaslt.h - large products by NVIDIA's library, where the machine has it.
//
// Looked for at run time, once per kernels object; without it linear_big.cu does the same work. Its
// answers for a shape (which algorithm) are kept. Threads: the kernels object's.
#ifndef SIGHT_KERNELS_CUDA_CUBLASLT_H
#define SIGHT_KERNELS_CUDA_CUBLASLT_H

#include "kernels/cuda/device.h"
#include "kernels/cuda/linear.h"

// y[N, y_stride] (+)= x w^T + bias of one job with bf16 rows and weights, as launch_linear_big has
// it. false: not here, or not this shape; nothing was launched.
bool cublaslt_product(kernels *k, const linear_job *job, const void *x, int64_t N, int64_t stride,
                      bool add);

#endif
