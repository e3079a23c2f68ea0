#include "kernels/cuda/cublaslt.h"

#ifdef SIGHT_CUDA_SHIM

bool cublaslt_product(kernels *k, const cublaslt_call *call)
{
    return false;
}

bool cublaslt_can(kernels *k, const cublaslt_call *call)
{
    return false;
}

bool cublaslt_has_f8(kernels *k)
{
    return false;
}

#else

#include <assert.h>
#include <cublasLt.h> // types alone: nothing is linked
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define WORKSPACE_SLOT  6 // behind those of linear_weights.h
#define WORKSPACE_BYTES ((size_t)32 << 20) // what NVIDIA advises for its newer GPUs
#define MAX_PLANS       128

// Scales of 128 inputs: from 12.9 on (cuBLAS documentation, "Scaling factor layouts"), for Hopper alone. Headers
// before that do not name them.
#define F8_VERSION       120900
#define F8_MAJOR         9
#define DESC_A_SCALES    ((cublasLtMatmulDescAttributes_t)31) // CUBLASLT_MATMUL_DESC_A_SCALE_MODE
#define DESC_B_SCALES    ((cublasLtMatmulDescAttributes_t)32)
#define SCALES_OF_128    ((int32_t)4) // CUBLASLT_MATMUL_MATRIX_SCALE_VEC128_32F

// The library's functions that are used, by name.
#define FUNCTIONS(F)                                                                               \
    F(cublasLtGetVersion)                                                                          \
    F(cublasLtCreate)                                                                              \
    F(cublasLtDestroy)                                                                             \
    F(cublasLtMatmul)                                                                              \
    F(cublasLtMatmulAlgoGetHeuristic)                                                              \
    F(cublasLtMatmulDescCreate)                                                                    \
    F(cublasLtMatmulDescDestroy)                                                                   \
    F(cublasLtMatmulDescSetAttribute)                                                              \
    F(cublasLtMatrixLayoutCreate)                                                                  \
    F(cublasLtMatrixLayoutDestroy)                                                                 \
    F(cublasLtMatmulPreferenceCreate)                                                              \
    F(cublasLtMatmulPreferenceDestroy)                                                             \
    F(cublasLtMatmulPreferenceSetAttribute)

typedef struct library {
    void *so;
#define MEMBER(name) __typeof__(&name) name##_;
    FUNCTIONS(MEMBER)
#undef MEMBER
    cublasLtHandle_t handle;
} library;

// What decides which algorithm is best.
typedef struct shape {
    int64_t M, N, stride, y_stride;
    uint32_t y_alignment, bias_alignment; // bytes; bias: 0 without one
    int32_t add, f8;
} shape;

typedef struct plan {
    shape shape;
    uint64_t last_used; // 0: a free place
    bool possible;
    cublasLtMatmulDesc_t product;
    cublasLtMatrixLayout_t w, x, y;
    cublasLtMatmulAlgo_t algorithm;
} plan;

// Kept with the kernels object.
typedef struct products {
    library lib; // so NULL: this machine has none
    uint64_t uses;
    cublasStatus_t status; // of the last launch
    plan plans[MAX_PLANS];
} products;

// ---- the library ----

static bool find_functions(library *l)
{
#define FIND(name)                                                                                 \
    *(void **)&l->name##_ = dlsym(l->so, #name);                                                   \
    if (!l->name##_) return false;
    FUNCTIONS(FIND)
#undef FIND
    return true;
}

static void open_library(library *l)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"};
    for (size_t i = 0; i < sizeof names / sizeof *names && !l->so; i++)
        l->so = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!l->so) return;
    if (find_functions(l) && l->cublasLtCreate_(&l->handle) == CUBLAS_STATUS_SUCCESS) return;
    dlclose(l->so);
    l->so = NULL;
}

// ---- plans ----

static void drop_plan(const library *l, plan *p)
{
    if (p->product) l->cublasLtMatmulDescDestroy_(p->product);
    if (p->w) l->cublasLtMatrixLayoutDestroy_(p->w);
    if (p->x) l->cublasLtMatrixLayoutDestroy_(p->x);
    if (p->y) l->cublasLtMatrixLayoutDestroy_(p->y);
    *p = (plan){0};
}

static bool set_product(const library *l, cublasLtMatmulDesc_t d,
                        cublasLtMatmulDescAttributes_t what, const void *value, size_t bytes)
{
    return l->cublasLtMatmulDescSetAttribute_(d, what, value, bytes) == CUBLAS_STATUS_SUCCESS;
}

static bool set_preference(const library *l, cublasLtMatmulPreference_t p,
                           cublasLtMatmulPreferenceAttributes_t what, const void *value,
                           size_t bytes)
{
    return l->cublasLtMatmulPreferenceSetAttribute_(p, what, value, bytes) == CUBLAS_STATUS_SUCCESS;
}

static bool set_scales(const library *l, const plan *p, const float *w, const float *x)
{
    return set_product(l, p->product, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, &w, sizeof w) &&
           set_product(l, p->product, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, &x, sizeof x);
}

// Sums that leave the tensor cores now and then (no "fast accumulation") are the default.
static bool describe_f8(const library *l, const plan *p, const cublaslt_call *call)
{
    const int32_t scales = SCALES_OF_128;
    return set_product(l, p->product, DESC_A_SCALES, &scales, sizeof scales) &&
           set_product(l, p->product, DESC_B_SCALES, &scales, sizeof scales) &&
           set_scales(l, p, call->w_scales, call->x_scales);
}

// The library's matrices are column-major: y turned [M, N] = (w turned) turned, x turned.
static bool describe(const library *l, plan *p, const cublaslt_call *call)
{
    const shape *s = &p->shape;
    const cublasOperation_t turned = CUBLAS_OP_T;
    const cublasLtEpilogue_t bias = CUBLASLT_EPILOGUE_BIAS;
    const cudaDataType_t type = s->f8 ? CUDA_R_8F_E4M3 : CUDA_R_16BF;
    return l->cublasLtMatmulDescCreate_(&p->product, CUBLAS_COMPUTE_32F, CUDA_R_32F) ==
               CUBLAS_STATUS_SUCCESS &&
           set_product(l, p->product, CUBLASLT_MATMUL_DESC_TRANSA, &turned, sizeof turned) &&
           (!s->bias_alignment ||
            set_product(l, p->product, CUBLASLT_MATMUL_DESC_EPILOGUE, &bias, sizeof bias)) &&
           (!s->f8 || describe_f8(l, p, call)) &&
           l->cublasLtMatrixLayoutCreate_(&p->w, type, (uint64_t)s->stride, (uint64_t)s->M,
                                          s->stride) == CUBLAS_STATUS_SUCCESS &&
           l->cublasLtMatrixLayoutCreate_(&p->x, type, (uint64_t)s->stride, (uint64_t)s->N,
                                          s->stride) == CUBLAS_STATUS_SUCCESS &&
           l->cublasLtMatrixLayoutCreate_(&p->y, CUDA_R_32F, (uint64_t)s->M, (uint64_t)s->N,
                                          s->y_stride) == CUBLAS_STATUS_SUCCESS;
}

static bool choose(const library *l, plan *p)
{
    cublasLtMatmulPreference_t wish = NULL;
    if (l->cublasLtMatmulPreferenceCreate_(&wish) != CUBLAS_STATUS_SUCCESS) return false;
    const uint64_t workspace = WORKSPACE_BYTES;
    const uint32_t y = p->shape.y_alignment;
    cublasLtMatmulHeuristicResult_t best;
    int found = 0;
    const bool good =
        set_preference(l, wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
                       sizeof workspace) &&
        set_preference(l, wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &y, sizeof y) &&
        set_preference(l, wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &y, sizeof y) &&
        l->cublasLtMatmulAlgoGetHeuristic_(l->handle, p->product, p->w, p->x, p->y, p->y, wish, 1,
                                           &best, &found) == CUBLAS_STATUS_SUCCESS;
    l->cublasLtMatmulPreferenceDestroy_(wish);
    if (!good || found < 1 || best.state != CUBLAS_STATUS_SUCCESS) return false;
    p->algorithm = best.algo;
    return true;
}

// The plan of that shape, made if need be in place of the one not used for longest. A place's
// address stays.
static plan *plan_for(products *all, const shape *s, const cublaslt_call *call)
{
    plan *oldest = &all->plans[0];
    for (int i = 0; i < MAX_PLANS; i++) {
        plan *p = &all->plans[i];
        if (p->last_used && memcmp(&p->shape, s, sizeof *s) == 0) {
            p->last_used = ++all->uses;
            return p;
        }
        if (p->last_used < oldest->last_used) oldest = p;
    }
    drop_plan(&all->lib, oldest);
    oldest->shape = *s;
    oldest->last_used = ++all->uses;
    oldest->possible = describe(&all->lib, oldest, call) && choose(&all->lib, oldest);
    return oldest;
}

static void close_products(void *p)
{
    products *all = p;
    for (int i = 0; i < MAX_PLANS && all->lib.so; i++)
        drop_plan(&all->lib, &all->plans[i]);
    if (all->lib.so) {
        all->lib.cublasLtDestroy_(all->lib.handle);
        dlclose(all->lib.so);
    }
    free(all);
}

static products *products_of(kernels *k)
{
    cuda_kept *kept = cuda_keep(k, CUDA_KEPT_LINEAR);
    if (kept->p) return kept->p;
    products *all = calloc(1, sizeof *all);
    if (!all) return NULL;
    open_library(&all->lib);
    *kept = (cuda_kept){all, close_products};
    return all;
}

// ---- launching ----

typedef struct product_args {
    products *all;
    float *y;
    const void *w, *x;
    const float *bias;
    const float *w_scales, *x_scales;
    void *workspace;
    const plan *plan;
} product_args;

static_assert(sizeof(product_args) <= CUDA_MAX_ARGS, "fits");

static void launch_product(cudaStream_t stream, const void *args)
{
    const product_args *a = args;
    const library *l = &a->all->lib;
    const float one = 1, beta = a->plan->shape.add ? 1 : 0;
    cublasStatus_t status = CUBLAS_STATUS_SUCCESS;
    if (a->bias && !set_product(l, a->plan->product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &a->bias,
                                sizeof a->bias)) {
        status = CUBLAS_STATUS_INVALID_VALUE;
    }
    if (a->plan->shape.f8 && !set_scales(l, a->plan, a->w_scales, a->x_scales)) {
        status = CUBLAS_STATUS_INVALID_VALUE;
    }
    if (status == CUBLAS_STATUS_SUCCESS) {
        status = l->cublasLtMatmul_(l->handle, a->plan->product, &one, a->w, a->plan->w, a->x,
                                    a->plan->x, &beta, a->y, a->plan->y, a->y, a->plan->y,
                                    &a->plan->algorithm, a->workspace, WORKSPACE_BYTES, stream);
    }
    a->all->status = status;
}

static uint32_t alignment_of(const void *p)
{
    const uintptr_t at = (uintptr_t)p | 256;
    return (uint32_t)(at & ~(at - 1));
}

// NULL: none.
static plan *plan_of(kernels *k, products *all, const cublaslt_call *call)
{
    const linear_job *job = call->job;
    // In a step plans would have to outlive it.
    if (!all || !all->lib.so || cuda_in_step(k)) return NULL;
    const shape s = {
        .M = job->M,
        .N = call->N,
        .stride = call->stride,
        .y_stride = job->y_stride,
        .y_alignment = alignment_of(job->y),
        .bias_alignment = job->bias ? alignment_of(job->bias) : 0,
        .add = call->add,
        .f8 = call->w_scales != NULL,
    };
    plan *p = plan_for(all, &s, call);
    return p->possible ? p : NULL;
}

bool cublaslt_can(kernels *k, const cublaslt_call *call)
{
    return plan_of(k, products_of(k), call) != NULL;
}

bool cublaslt_has_f8(kernels *k)
{
    const products *all = products_of(k);
    return cuda_get_chip(k)->major == F8_MAJOR && all && all->lib.so && !cuda_in_step(k) &&
           all->lib.cublasLtGetVersion_() >= F8_VERSION;
}

bool cublaslt_product(kernels *k, const cublaslt_call *call)
{
    products *all = products_of(k);
    plan *p = plan_of(k, all, call);
    void *workspace = p ? cuda_scratch(k, WORKSPACE_SLOT, WORKSPACE_BYTES) : NULL;
    if (!workspace) return false;
    const linear_job *job = call->job;
    const product_args a = {all,   job->y, job->w, call->x, job->bias, call->w_scales, call->x_scales,
                            workspace, p};
    all->status = CUBLAS_STATUS_SUCCESS;
    cuda_launch(k, launch_product, &a, sizeof a); // runs at once: no step is under way
    p->possible = all->status == CUBLAS_STATUS_SUCCESS;
    return p->possible;
}

#endif
