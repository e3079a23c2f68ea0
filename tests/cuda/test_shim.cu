// The shim itself (tests/cuda_on_cpu): what kernels may do works, and what they may not is told.
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda/gpu.h"
#include "kernels/cuda/mma.h"
#include "shim.h"

extern "C" {
#include <cmocka.h>
}

#define check(e) assert_int_equal(e, cudaSuccess)

static int setup(void **)
{
    shim_mend();
    shim_catch_defects(true);
    shim_take_defect();
    return 0;
}

template <typename T> static T *device_room(int n)
{
    void *p = nullptr;
    check(cudaMalloc(&p, sizeof(T) * (size_t)n));
    return static_cast<T *>(p);
}

template <typename T> static void read_back(T *host, const T *device, int n)
{
    check(cudaMemcpy(host, device, sizeof(T) * (size_t)n, cudaMemcpyDeviceToHost));
}

// ---- what works ----

static __global__ void indexes(int *y)
{
    const int t = (int)(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
    const int b = (int)(blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z));
    y[b * (int)(blockDim.x * blockDim.y * blockDim.z) + t] = b * 1000 + t;
}

static void test_indexes(void **)
{
    const int blocks = 3 * 2 * 2, threads = 5 * 3 * 2;
    int got[blocks * threads], *y = device_room<int>(blocks * threads);
    GPU_LAUNCH(indexes, dim3(3, 2, 2), dim3(5, 3, 2), 0, nullptr, y);
    read_back(got, y, blocks * threads);
    for (int i = 0; i < blocks * threads; i++) assert_int_equal(got[i], i / threads * 1000 + i % threads);
    check(cudaFree(y));
}

// Adds n numbers in a tree over shared memory; static and dynamic.
template <int threads> static __global__ void tree(float *y, const float *x, int n)
{
    __shared__ float fixed[threads];
    GPU_DYNAMIC_SHARED(float, moving);
    const int t = (int)threadIdx.x;
    float sum = 0;
    for (int i = t; i < n; i += threads) sum += x[i];
    fixed[t] = sum;
    __syncthreads();
    for (int d = threads / 2; d > 0; d /= 2) {
        if (t < d) fixed[t] += fixed[t + d];
        __syncthreads();
    }
    moving[t] = fixed[0] + (float)t;
    __syncthreads();
    y[t] = moving[threads - 1 - t];
}

static void test_barriers(void **)
{
    float x[1000], got[256];
    for (int i = 0; i < 1000; i++) x[i] = (float)(i % 7);
    float sum = 0;
    for (int i = 0; i < 1000; i++) sum += x[i];
    float *dx = device_room<float>(1000), *dy = device_room<float>(256);
    check(cudaMemcpy(dx, x, sizeof x, cudaMemcpyHostToDevice));
    for (int round = 0; round < 4; round++) { // in both orders
        GPU_LAUNCH(tree<256>, 2, 256, 256 * sizeof(float), nullptr, dy, dx, 1000);
        read_back(got, dy, 256);
        for (int t = 0; t < 256; t++) assert_float_equal(got[t], sum + (float)(255 - t), 0);
    }
    check(cudaFree(dx));
    check(cudaFree(dy));
}

static __global__ void together(uint32_t *y)
{
    const unsigned lane = threadIdx.x % 32;
    uint32_t *mine = y + 16 * threadIdx.x;
    mine[0] = __shfl_sync(GPU_ALL_LANES, lane * 3, 5);
    mine[1] = __shfl_up_sync(GPU_ALL_LANES, lane, 3);
    mine[2] = __shfl_down_sync(GPU_ALL_LANES, lane, 3);
    mine[3] = __shfl_xor_sync(GPU_ALL_LANES, lane, 9);
    mine[4] = __shfl_sync(GPU_ALL_LANES, lane, 1, 8);
    mine[5] = __ballot_sync(GPU_ALL_LANES, lane % 3 == 0);
    mine[6] = (uint32_t)__any_sync(GPU_ALL_LANES, lane == 31) * 2 + (uint32_t)__all_sync(GPU_ALL_LANES, lane < 31);
    mine[7] = __match_any_sync(GPU_ALL_LANES, lane / 4);
    mine[8] = __reduce_add_sync(GPU_ALL_LANES, lane);
    mine[9] = (uint32_t)__shfl_xor_sync(GPU_ALL_LANES, (long long)lane << 40, 1) +
              (uint32_t)(__shfl_xor_sync(GPU_ALL_LANES, (long long)lane << 40, 1) >> 40);
    mine[10] = (uint32_t)gpu_warp_sum((float)lane) + (uint32_t)gpu_warp_max((float)lane);
    // Halves that do not wait for each other.
    if (lane < 16) mine[11] = __shfl_xor_sync(0xffffu, lane, 1);
    else mine[11] = __shfl_xor_sync(0xffff0000u, lane, 2);
    mine[12] = (uint32_t)__syncthreads_count(threadIdx.x % 5 == 0);
    mine[13] = (uint32_t)(__syncthreads_or(threadIdx.x == 7) * 2 + __syncthreads_and(threadIdx.x != 7));
    __syncwarp();
}

static void test_together(void **)
{
    uint32_t got[64][16], *y = device_room<uint32_t>(64 * 16);
    for (int round = 0; round < 2; round++) {
        GPU_LAUNCH(together, 1, 64, 0, nullptr, y);
        read_back(&got[0][0], y, 64 * 16);
        for (unsigned t = 0; t < 64; t++) {
            const unsigned l = t % 32;
            const unsigned want[] = {15, l < 3 ? l : l - 3, l > 28 ? l : l + 3, l ^ 9, l / 8 * 8 + 1, 0x49249249, 2,
                                     0xfu << l / 4 * 4, 496, l ^ 1, 496 + 31, l < 16 ? l ^ 1 : l ^ 2, 13, 2};
            for (int i = 0; i < 14; i++) assert_int_equal(got[t][i], want[i]);
        }
    }
    assert_null(shim_take_defect());
    check(cudaFree(y));
}

static __global__ void count(int *total, unsigned *most, int *ranks)
{
    ranks[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(total, 1);
    atomicMax(most, blockIdx.x * 1000 + threadIdx.x);
}

static void test_atomics(void **)
{
    int *total = device_room<int>(1), *ranks = device_room<int>(300), n, seen[300] = {0}, rank[300];
    unsigned *most = device_room<unsigned>(1), top;
    check(cudaMemset(total, 0, 4));
    check(cudaMemset(most, 0, 4));
    GPU_LAUNCH(count, 3, 100, 0, nullptr, total, most, ranks);
    read_back(&n, total, 1);
    read_back(&top, most, 1);
    read_back(rank, ranks, 300);
    assert_int_equal(n, 300);
    assert_int_equal(top, 2099);
    for (int i = 0; i < 300; i++) assert_int_equal(seen[rank[i]]++, 0);
    check(cudaFree(total));
    check(cudaFree(most));
    check(cudaFree(ranks));
}

static __global__ void intrinsics(uint32_t *y)
{
    y[0] = (uint32_t)__dp4a(0x01ff7f80, 0x02037f80, 5);
    y[1] = __byte_perm(0x33221100, 0x77665544, 0x7052);
    y[2] = __byte_perm(0x80, 0, 0x9998);
    y[3] = (uint32_t)(__popc(0xf0f0) * 1000 + __clz(1) * 10 + __ffs(8));
    y[4] = __brev(1) + __funnelshift_l(0x80000000u, 1, 1) + __funnelshift_r(0, 1, 31);
    y[5] = (uint32_t)__float2int_rn(2.5f) * 100 + (uint32_t)__float2int_rd(-1.5f) + (uint32_t)__float2int_rz(1.9f);
    y[6] = gpu_f32_to_bf16(1.00390625f) << 16 | gpu_f32_to_bf16(1.01171875f); // ties: to even
    y[7] = __float_as_uint(gpu_f16_to_f32(0x0001) + gpu_f16_to_f32(0xc000) * gpu_bf16_to_f32(0x3f80));
}

static void test_intrinsics(void **)
{
    uint32_t got[8], *y = device_room<uint32_t>(8);
    GPU_LAUNCH(intrinsics, 1, 1, 0, nullptr, y);
    read_back(got, y, 8);
    assert_int_equal(got[0], 1 * 2 - 1 * 3 + 127 * 127 + 128 * 128 + 5);
    assert_int_equal(got[1], 0x77005522);
    assert_int_equal(got[2], 0xff);
    assert_int_equal(got[3], 8 * 1000 + 31 * 10 + 4);
    assert_int_equal(got[4], 0x80000000u + 3 + 2);
    assert_int_equal(got[5], 200 - 2 + 1);
    assert_int_equal(got[6], 0x3f803f82);
    assert_int_equal(got[7], __float_as_uint(5.9604644775390625e-8f - 2));
    check(cudaFree(y));
}

// ---- the tensor cores' twins ----

// One warp: D [16, 8] = A [16, 16] B [16, 8]. The fragments of B come turned from its rows, those of A as they lie.
static __global__ void multiply(float *d, const uint16_t *a, const uint16_t *b)
{
    __shared__ __align__(16) uint16_t sa[16 * 16], sb[16 * 16]; // sb: eight columns, then zeros
    const int lane = (int)threadIdx.x, group = lane / 4, t = lane % 4;
    copy_async16(sa + 8 * lane, a + 8 * lane, true);
    copy_async16(sb + 8 * lane, b + 8 * (lane / 2), lane % 2 == 0);
    copy_async_commit();
    copy_async_wait<0>();
    __syncthreads();
    uint32_t fa[4], fb[4];
    mma_load(fa, sa + 16 * (lane % 16) + lane / 16 * 8);
    mma_load_trans(fb, sb + 16 * (lane % 16) + lane / 16 * 8);
    float sum[4] = {0, 0, 0, 0};
    mma_bf16(sum, fa, fb);
    for (int i = 0; i < 4; i++) d[8 * (group + i / 2 * 8) + 2 * t + i % 2] = sum[i];
}

static void test_products(void **)
{
    uint16_t a[16 * 16], b[16 * 8];
    for (int i = 0; i < 256; i++) a[i] = gpu_f32_to_bf16((float)(i * 7 % 11 - 5));
    for (int i = 0; i < 128; i++) b[i] = gpu_f32_to_bf16((float)(i * 5 % 13 - 6));
    uint16_t *da = device_room<uint16_t>(256), *db = device_room<uint16_t>(128);
    float got[128], *d = device_room<float>(128);
    check(cudaMemcpy(da, a, sizeof a, cudaMemcpyHostToDevice));
    check(cudaMemcpy(db, b, sizeof b, cudaMemcpyHostToDevice));
    GPU_LAUNCH(multiply, 1, 32, 0, nullptr, d, da, db);
    read_back(got, d, 128);
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 8; j++) {
            float want = 0;
            for (int k = 0; k < 16; k++) want += gpu_bf16_to_f32(a[16 * i + k]) * gpu_bf16_to_f32(b[8 * k + j]);
            assert_float_equal(got[8 * i + j], want, 0);
        }
    }
    check(cudaFree(da));
    check(cudaFree(db));
    check(cudaFree(d));
}

static __global__ void multiply_tf32(float *d, const float *a, const float *b) // [16, 8] = [16, 8] [8, 8]
{
    const int lane = (int)threadIdx.x, group = lane / 4, t = lane % 4;
    uint32_t fa[4], fb[2];
    for (int i = 0; i < 4; i++) fa[i] = __float_as_uint(a[8 * (group + i % 2 * 8) + t + i / 2 * 4]);
    for (int i = 0; i < 2; i++) fb[i] = __float_as_uint(b[8 * (t + 4 * i) + group]);
    float sum[4] = {1, 1, 1, 1};
    mma_tf32(sum, fa, fb);
    for (int i = 0; i < 4; i++) d[8 * (group + i / 2 * 8) + 2 * t + i % 2] = sum[i];
}

static void test_tf32(void **)
{
    float a[128], b[64], got[128], *da = device_room<float>(128), *db = device_room<float>(64);
    float *d = device_room<float>(128);
    for (int i = 0; i < 128; i++) a[i] = (float)(i * 7 % 11 - 5);
    for (int i = 0; i < 64; i++) b[i] = (float)(i * 5 % 13 - 6);
    check(cudaMemcpy(da, a, sizeof a, cudaMemcpyHostToDevice));
    check(cudaMemcpy(db, b, sizeof b, cudaMemcpyHostToDevice));
    GPU_LAUNCH(multiply_tf32, 1, 32, 0, nullptr, d, da, db);
    read_back(got, d, 128);
    for (int i = 0; i < 16; i++) {
        for (int j = 0; j < 8; j++) {
            float want = 1;
            for (int k = 0; k < 8; k++) want += a[8 * i + k] * b[8 * k + j];
            assert_float_equal(got[8 * i + j], want, 0);
        }
    }
    check(cudaFree(da));
    check(cudaFree(db));
    check(cudaFree(d));
}

// ---- defects ----

// A launch that must fail, with this in its report.
static void expect_defect(const char *words)
{
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure); // for good
    const char *told = shim_take_defect();
    assert_non_null(told);
    if (!strstr(told, words)) fail_msg("'%s' is not in: %s", words, told);
    assert_non_null(strstr(told, "test_shim.cu:"));
    shim_mend();
    check(cudaDeviceSynchronize());
}

static __global__ void barrier_of_some(int n)
{
    if ((int)threadIdx.x >= n) return;
    __syncthreads();
}

static __global__ void two_barriers(int n)
{
    if ((int)threadIdx.x < n) __syncthreads();
    else
        __syncthreads();
}

static __global__ void barrier_and_shuffle(int *y)
{
    if (threadIdx.x == 3) __syncthreads();
    else y[threadIdx.x] = __shfl_xor_sync(GPU_ALL_LANES, 1, 1);
    __syncthreads();
}

static void test_divergent_barriers(void **)
{
    int *y = device_room<int>(64);
    for (int round = 0; round < 2; round++) {
        GPU_LAUNCH(barrier_of_some, 1, 64, 0, nullptr, 40);
        expect_defect("not all threads reach __syncthreads");
        GPU_LAUNCH(two_barriers, 3, 64, 0, nullptr, 32);
        expect_defect("not all threads reach this __syncthreads");
        GPU_LAUNCH(barrier_and_shuffle, 1, 32, 0, nullptr, y);
        expect_defect("a shuffle with mask ffffffff waits for lane 3, which is in __syncthreads");
    }
    test_barriers(nullptr); // all is well afterwards
    check(cudaFree(y));
}

static __global__ void ended_lane(int *y)
{
    if (threadIdx.x == 9) return;
    y[threadIdx.x] = __shfl_xor_sync(GPU_ALL_LANES, 1, 1);
}

static __global__ void lane_outside(int *y)
{
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xffffu, (int)threadIdx.x, 20);
}

static __global__ void not_in_mask(int *y)
{
    y[threadIdx.x] = __shfl_sync(0xffffu, (int)threadIdx.x, 0);
}

static __global__ void part_of_a_warp(float *y)
{
    y[threadIdx.x] = gpu_warp_sum(1);
}

static void test_missing_lanes(void **)
{
    int *y = device_room<int>(64);
    for (int round = 0; round < 2; round++) {
        GPU_LAUNCH(ended_lane, 1, 32, 0, nullptr, y);
        expect_defect("lane");
        GPU_LAUNCH(lane_outside, 1, 32, 0, nullptr, y);
        expect_defect("takes a number from lane 20");
        GPU_LAUNCH(not_in_mask, 1, 32, 0, nullptr, y);
        expect_defect("lacks the calling lane");
    }
    float *z = device_room<float>(64);
    GPU_LAUNCH(part_of_a_warp, 1, 40, 0, nullptr, z);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorLaunchFailure);
    assert_non_null(strstr(shim_take_defect(), "ended or never were"));
    shim_mend();
    check(cudaFree(y));
    check(cudaFree(z));
}

static __global__ void never_written(float *y, const float *x)
{
    __shared__ float fixed[32];
    GPU_DYNAMIC_SHARED(float, moving);
    if (threadIdx.x < 16) fixed[threadIdx.x] = 1, moving[threadIdx.x] = 2;
    __syncthreads();
    y[threadIdx.x] = fixed[threadIdx.x];
    y[32 + threadIdx.x] = moving[threadIdx.x];
    y[64 + threadIdx.x] = x[threadIdx.x];
}

static void test_never_written(void **)
{
    float got[96], *y = device_room<float>(96), *x = device_room<float>(32);
    for (int round = 0; round < 3; round++) { // what an earlier block wrote is forgotten
        GPU_LAUNCH(never_written, 2, 32, 128, nullptr, y, x);
        read_back(got, y, 96);
        for (int i = 0; i < 96; i++) assert_int_equal(isnan(got[i]), i >= 64 || i % 32 >= 16);
    }
    check(cudaFree(x));
    check(cudaFree(y));
}

static __global__ void waits(float *y, const float *x, int how)
{
    GPU_DYNAMIC_SHARED(float, s);
    copy_async16(s, x, true);
    copy_async_commit();
    copy_async16(s + 4, x + 4, true);
    copy_async_commit();
    if (how == 1) copy_async_wait<1>();
    if (how == 2) copy_async_wait<0>();
    for (int i = 0; i < 8; i++) y[i] = s[i];
    copy_async_wait<0>();
}

static void test_missing_wait(void **)
{
    float x[8] = {0, 1, 2, 3, 4, 5, 6, 7}, got[8], *dx = device_room<float>(8), *y = device_room<float>(8);
    check(cudaMemcpy(dx, x, sizeof x, cudaMemcpyHostToDevice));
    for (int how = 0; how < 3; how++) {
        GPU_LAUNCH(waits, 1, 1, 32, nullptr, y, dx, how);
        read_back(got, y, 8);
        for (int i = 0; i < 8; i++) assert_int_equal(isnan(got[i]), i >= 4 * how);
    }
    check(cudaFree(dx));
    check(cudaFree(y));
}

// A barrier that lacks: right in one order of threads only.
static __global__ void race(int *y)
{
    __shared__ int s[64];
    s[threadIdx.x] = (int)threadIdx.x;
    y[threadIdx.x] = s[(threadIdx.x + 1) % 64];
}

static void test_missing_barrier(void **)
{
    int *y = device_room<int>(64), got[64], wrong = 0;
    GPU_LAUNCH(race, 1, 64, 0, nullptr, y);
    read_back(got, y, 64);
    for (int i = 0; i < 64; i++) wrong += got[i] != (i + 1) % 64;
    assert_true(wrong > 0);
    check(cudaFree(y));
}

// ---- what ends a program: run in a child ----

static __global__ void writes_shared(int at)
{
    GPU_DYNAMIC_SHARED(char, s);
    s[at] = 1;
}

static __global__ void writes(char *p, int at)
{
    p[at] = 1;
}

static __global__ void misaligned(float4 *y, const char *x)
{
    *y = *reinterpret_cast<const float4 *>(x + 4);
}

typedef void deed(void);

static bool survives(deed *what)
{
    fflush(nullptr);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(0);
        for (int signal_number = 1; signal_number < 32; signal_number++) signal(signal_number, SIG_DFL); // cmocka's
        what();
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void run_shared(int at, size_t bytes)
{
    GPU_LAUNCH(writes_shared, 1, 1, bytes, nullptr, at);
    cudaDeviceSynchronize();
}

static void in_shared(void) { run_shared(99, 100); }
static void behind_shared_page(void) { run_shared(4096, 4096); }
static void before_shared(void) { run_shared(-5000, 4096); }
static void behind_shared(void) { run_shared(100, 100); }
static void behind_device(void)
{
    GPU_LAUNCH(writes, 1, 1, 0, nullptr, device_room<char>(256), 256);
    cudaDeviceSynchronize();
}
static void just_behind_device(void)
{
    GPU_LAUNCH(writes, 1, 1, 0, nullptr, device_room<char>(250), 250);
    cudaDeviceSynchronize();
}
static void followed_by_host(void) { *(volatile char *)device_room<char>(10) = 1; }
static void at_odd_address(void)
{
    GPU_LAUNCH(misaligned, 1, 1, 0, nullptr, device_room<float4>(1), device_room<char>(64));
    cudaDeviceSynchronize();
}
static void uncaught(void)
{
    shim_catch_defects(false);
    GPU_LAUNCH(barrier_of_some, 1, 64, 0, nullptr, 40);
    cudaDeviceSynchronize();
}

static void test_overruns(void **)
{
    assert_true(survives(in_shared));
    assert_false(survives(behind_shared_page));
    assert_false(survives(before_shared));
    assert_false(survives(behind_device));
    assert_false(survives(followed_by_host));
    assert_false(survives(uncaught));
#if defined(__SANITIZE_ADDRESS__) // which knows bytes, not pages, and comes with what knows alignment
    assert_false(survives(behind_shared));
    assert_false(survives(just_behind_device));
    assert_false(survives(at_odd_address));
#else
    (void)behind_shared, (void)just_behind_device, (void)at_odd_address;
#endif
}

// ---- launches that no GPU takes ----

static void test_limits(void **)
{
    int *y = device_room<int>(4096);
    GPU_LAUNCH(indexes, 1, 1025, 0, nullptr, y);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    GPU_LAUNCH(indexes, 1, dim3(32, 32, 2), 0, nullptr, y);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    GPU_LAUNCH(indexes, 0, 32, 0, nullptr, y);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    GPU_LAUNCH(indexes, dim3(1, 65536), 32, 0, nullptr, y);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    GPU_LAUNCH(writes_shared, 1, 1, (48 << 10) + 1, nullptr, 0);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    assert_int_equal(GPU_ALLOW_SHARED(writes_shared, (163 << 10) + 1), cudaErrorInvalidValue);
    check(GPU_ALLOW_SHARED(writes_shared, 163 << 10));
    cudaGetLastError();
    GPU_LAUNCH(writes_shared, 1, 1, 163 << 10, nullptr, (163 << 10) - 1);
    check(cudaDeviceSynchronize());
    check(cudaGetLastError());
    check(cudaFree(y));
}

// ---- streams, copies, graphs ----

static __global__ void add_one(int *p)
{
    atomicAdd(p, 1);
}

static void test_work_waits(void **)
{
    cudaStream_t s;
    int *p = device_room<int>(1), *pinned, plain = 5;
    check(cudaMallocHost((void **)&pinned, sizeof *pinned));
    check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    *pinned = 1;
    check(cudaMemcpyAsync(p, pinned, 4, cudaMemcpyHostToDevice, s));
    *pinned = 100; // too early: the copy takes it
    GPU_LAUNCH(add_one, 1, 32, 0, s, p);
    check(cudaMemcpyAsync(&plain, p, 4, cudaMemcpyDeviceToHost, s)); // not pinned: waits
    assert_int_equal(plain, 132);
    plain = 7;
    check(cudaMemcpyAsync(p, &plain, 4, cudaMemcpyHostToDevice, s));
    plain = 8; // not pinned: was read
    check(cudaMemcpyAsync(pinned, p, 4, cudaMemcpyDeviceToHost, s));
    assert_int_not_equal(*pinned, 7); // not there yet
    check(cudaStreamSynchronize(s));
    assert_int_equal(*pinned, 7);
    check(cudaStreamDestroy(s));
    check(cudaFreeHost(pinned));
    check(cudaFree(p));
}

static void test_events(void **)
{
    cudaStream_t s, t;
    cudaEvent_t before, after;
    int *p = device_room<int>(1), got;
    float ms = -1;
    check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    check(cudaStreamCreateWithFlags(&t, cudaStreamNonBlocking));
    check(cudaEventCreate(&before));
    check(cudaEventCreate(&after));
    check(cudaMemsetAsync(p, 0, 4, s));
    check(cudaEventRecord(before, s));
    GPU_LAUNCH(add_one, 1, 10, 0, s, p);
    check(cudaEventRecord(after, s));
    assert_int_equal(cudaEventQuery(after), cudaErrorNotReady);
    check(cudaStreamWaitEvent(t, after, 0));
    check(cudaMemcpyAsync(&got, p, 4, cudaMemcpyDeviceToHost, t));
    assert_int_equal(got, 10);
    check(cudaEventElapsedTime(&ms, before, after));
    assert_true(ms >= 0);
    check(cudaEventDestroy(before));
    check(cudaEventDestroy(after));
    check(cudaStreamDestroy(s));
    check(cudaStreamDestroy(t));
    check(cudaFree(p));
}

static void test_graphs(void **)
{
    cudaStream_t s;
    cudaGraph_t graph;
    cudaGraphExec_t run;
    int *p = device_room<int>(1), got;
    check(cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    check(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    check(cudaMemsetAsync(p, 0, 4, s));
    for (int i = 0; i < 3; i++) GPU_LAUNCH(add_one, 1, 10, 0, s, p);
    check(cudaStreamEndCapture(s, &graph));
    check(cudaGraphInstantiate(&run, graph, 0));
    check(cudaGraphDestroy(graph));
    check(cudaMemsetAsync(p, 0, 4, s));
    check(cudaMemcpyAsync(&got, p, 4, cudaMemcpyDeviceToHost, s));
    assert_int_equal(got, 0); // recorded, not run
    const long long before = shim_get_counts().graph_launches;
    for (int i = 0; i < 2; i++) {
        check(cudaGraphLaunch(run, s));
        GPU_LAUNCH(add_one, 1, 1, 0, s, p);
        check(cudaMemcpyAsync(&got, p, 4, cudaMemcpyDeviceToHost, s));
        assert_int_equal(got, 31);
    }
    assert_int_equal(shim_get_counts().graph_launches - before, 2);
    check(cudaGraphExecDestroy(run));
    check(cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(cudaStreamSynchronize(s), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    cudaGetLastError();
    check(cudaStreamDestroy(s));
    check(cudaFree(p));
}

static void test_copies_are_checked(void **)
{
    char *p = device_room<char>(100), host[200];
    assert_int_equal(cudaMemcpy(p, host, 101, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(p + 50, host, 51, cudaMemcpyHostToDevice), cudaErrorInvalidValue);
    assert_int_equal(cudaMemcpy(host, p, 10, cudaMemcpyHostToDevice), cudaErrorInvalidMemcpyDirection);
    assert_int_equal(cudaMemset(host, 0, 10), cudaErrorInvalidValue);
    assert_int_equal(cudaFree(p + 1), cudaErrorInvalidValue);
    cudaGetLastError();
    check(cudaFree(p));
    assert_int_equal(cudaFree(p), cudaErrorInvalidValue);
    cudaGetLastError();
}

// ---- faults ----

static void test_faults(void **)
{
    int *p = device_room<int>(1);
    shim_fail_after(1, cudaErrorIllegalAddress);
    check(cudaMemset(p, 0, 4));
    assert_int_equal(cudaMemset(p, 0, 4), cudaErrorIllegalAddress);
    assert_int_equal(cudaDeviceSynchronize(), cudaErrorIllegalAddress); // for good
    assert_string_equal(cudaGetErrorString(cudaPeekAtLastError()), "an illegal memory access was encountered");
    shim_mend();
    check(cudaDeviceSynchronize());
    shim_fail_after(0, cudaErrorMemoryAllocation);
    assert_int_equal(cudaMemset(p, 0, 4), cudaErrorMemoryAllocation);
    check(cudaMemset(p, 0, 4)); // once
    shim_fail_malloc_after(1);
    void *more = nullptr, *most = nullptr;
    check(cudaMalloc(&more, 10));
    assert_int_equal(cudaMalloc(&most, 10), cudaErrorMemoryAllocation);
    check(cudaFree(more));
    shim_mend();
    size_t room, total;
    check(cudaMemGetInfo(&room, &total));
    assert_int_equal(cudaMalloc(&more, room + 1), cudaErrorMemoryAllocation);
    cudaGetLastError();
    check(cudaFree(p));
    assert_int_equal(shim_used_memory(0), 0);
}

static void test_devices(void **)
{
    int n, *p;
    shim_set_devices(2);
    check(cudaGetDeviceCount(&n));
    assert_int_equal(n, 2);
    assert_int_equal(cudaSetDevice(2), cudaErrorInvalidDevice);
    cudaGetLastError();
    check(cudaSetDevice(1));
    p = device_room<int>(100);
    assert_int_equal(shim_used_memory(1), 400);
    check(cudaFree(p));
    check(cudaSetDevice(0));
    shim_set_devices(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_indexes, setup),
        cmocka_unit_test_setup(test_barriers, setup),
        cmocka_unit_test_setup(test_together, setup),
        cmocka_unit_test_setup(test_atomics, setup),
        cmocka_unit_test_setup(test_intrinsics, setup),
        cmocka_unit_test_setup(test_products, setup),
        cmocka_unit_test_setup(test_tf32, setup),
        cmocka_unit_test_setup(test_divergent_barriers, setup),
        cmocka_unit_test_setup(test_missing_lanes, setup),
        cmocka_unit_test_setup(test_never_written, setup),
        cmocka_unit_test_setup(test_missing_wait, setup),
        cmocka_unit_test_setup(test_missing_barrier, setup),
        cmocka_unit_test_setup(test_overruns, setup),
        cmocka_unit_test_setup(test_limits, setup),
        cmocka_unit_test_setup(test_work_waits, setup),
        cmocka_unit_test_setup(test_events, setup),
        cmocka_unit_test_setup(test_graphs, setup),
        cmocka_unit_test_setup(test_copies_are_checked, setup),
        cmocka_unit_test_setup(test_faults, setup),
        cmocka_unit_test_setup(test_devices, setup),
    };
    return cmocka_run_group_tests(tests, nullptr, nullptr);
}
