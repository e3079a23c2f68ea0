// kernels/cuda/linear_f8.h - products of many rows with E4M3 weights and rows in E4M3, on chips whose
// tensor cores multiply such numbers: twice the rate of bf16, half of the bytes.
//
// Rows are rounded here, each 128 neighbouring inputs of a row with a scale of their own (the greatest
// magnitude is 448, E4M3's greatest number): kernels/packed.h's groups. That is what checkpoints with
// "dynamic" activations in groups ask for, and finer than one scale of a row, or a fixed one of the
// tensor, as others do. Weights whose publisher did not round activations (packed_format.f8_rows is
// false) never come here, and neither do exact products.
//
// What that costs. A number's rounding is at most 2^-4 of it, or 2^-10 of its group's scale where it is
// below 2^-6 of that: e(x) = max(2^-4 |x|, 2^-10 scale). So a product is off by at most
// sum |w| e(x); roundings being independent and even, by sqrt(sum (w e(x))^2 / 3) as a rule:
// 2^-4 / sqrt(3) = 3.6 % of one product's size by sqrt(K) of them, not K.
//
// Sums. Hopper's tensor cores, and Ada's, keep about 14 bits of the sums of E4M3 products
// (DeepSeek-AI, DeepSeek-V3 Technical Report, 3.3.2; Zhang et al., SageAttention2): a group's sum is therefore taken out of them after its
// 128 products, four instructions, and added in float32 with both scales.
//
// Own kernel (linear_f8.cu) or cuBLASLt (cublaslt.h), which has codes laid in rows for it first: linear_f8.c says which
// chip takes which. The number of rows of a call chooses (linear_f8_takes), for all of them alike.
//
// Device pointers; structs have no padding.
#ifndef SIGHT_KERNELS_CUDA_LINEAR_F8_H
#define SIGHT_KERNELS_CUDA_LINEAR_F8_H

#include "kernels/cuda/packed.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LINEAR_F8_GROUP 128 // inputs that share a scale

// Rows of x as they are multiplied.
typedef struct f8_rows_args {
    uint8_t *codes;    // [N, stride], zeros past K
    float *scales;     // [stride / 128, places], zeros past N
    const float *x;    // [N, K]
    const float *norm; // [K]: of rms_norm(x, norm, eps), in the bits of launch_rms_norm; NULL: of x
    double eps;        // a float's value
    int64_t N, K;
    int64_t stride; // K to the next multiple of 128
    int64_t places; // N to the next multiple of 4
} f8_rows_args;

typedef struct f8_args {
    packed_args p; // x: codes; norm is not looked at
    const float *scales;
    int64_t stride, places;
} f8_args;

// Weight rows first .. first + n - 1 as cuBLASLt takes them.
typedef struct f8_lay_args {
    packed_matrix w;
    uint8_t *codes; // [n, stride]
    float *scales;  // [stride / 128, n]
    int64_t first, n, stride;
} f8_lay_args;

typedef struct f8_bias_args { // y (+)= bias, of each row
    float *y;                 // [N, y_stride], of which M columns
    const float *bias;        // [M]
    int64_t N, M, y_stride, add;
} f8_bias_args;

void launch_f8_rows(cudaStream_t stream, const void *args);
void launch_linear_f8(cudaStream_t stream, const void *args);
void launch_f8_lay(cudaStream_t stream, const void *args);
void launch_f8_bias(cudaStream_t stream, const void *args);

#ifdef __cplusplus
}
#else

#include "kernels/backend.h"

// Whether products of N rows with w go this way, on this chip and as the object was made.
bool linear_f8_takes(kernels *k, const weight *w, int64_t N);
// The table's linear for weights that linear_f8_takes says yes to; norm NULL: none. Weights may be several
// (PACKED_JOBS at most), gated: two.
void linear_f8(kernels *k, float *const *y, const float *x, const norm_of *norm, const weight *const *w, int n_w,
               int64_t N, linear_mode mode);

#endif

#endif
