// tests/cuda_on_cpu/cuda_on_cpu.h - CUDA C++ for .cu files that a C++ compiler builds for the processor.
//
// Included by kernels/cuda/gpu.h in SIGHT_CUDA=SHIM builds. What threads do together is in block.h. Arithmetic is
// the processor's: fast intrinsics are exact functions here, and products and sums are not fused unless asked.
#ifndef SIGHT_TESTS_CUDA_ON_CPU_H
#define SIGHT_TESTS_CUDA_ON_CPU_H

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <type_traits>

#include "cuda_runtime_api.h"
#include "block.h"
#include "runtime.h"

#define SHIM_TEXT2(x) #x
#define SHIM_TEXT(x) SHIM_TEXT2(x)
// A section per line: one for variables of templates and others together is refused by the compiler.
#define __shared__ static __attribute__((section("shim_shared_" SHIM_TEXT(__LINE__))))

#define SHIM_PLACE shim_place place = {__builtin_FILE(), __builtin_LINE()}
#define SHIM_INLINE static inline __attribute__((always_inline, unused))

// ---- vectors ----

#define SHIM_VECTORS(type, name, a2, a4) \
    struct name##1 { type x; }; \
    struct __attribute__((aligned(a2))) name##2 { type x, y; }; \
    struct name##3 { type x, y, z; }; \
    struct __attribute__((aligned(a4))) name##4 { type x, y, z, w; }; \
    SHIM_INLINE name##1 make_##name##1(type x) { return {x}; } \
    SHIM_INLINE name##2 make_##name##2(type x, type y) { return {x, y}; } \
    SHIM_INLINE name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; } \
    SHIM_INLINE name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

SHIM_VECTORS(signed char, char, 2, 4)
SHIM_VECTORS(unsigned char, uchar, 2, 4)
SHIM_VECTORS(short, short, 4, 8)
SHIM_VECTORS(unsigned short, ushort, 4, 8)
SHIM_VECTORS(int, int, 8, 16)
SHIM_VECTORS(unsigned, uint, 8, 16)
SHIM_VECTORS(float, float, 8, 16)
SHIM_VECTORS(double, double, 16, 16)
SHIM_VECTORS(long long, longlong, 16, 16)
SHIM_VECTORS(unsigned long long, ulonglong, 16, 16)

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define threadIdx shim_thread_index
#define blockIdx shim_block_index
#define blockDim shim_block_size
#define gridDim shim_grid_size
#define warpSize 32

// ---- launches ----

template <typename... P> struct shim_call {
    void (*kernel)(P...);
    std::tuple<P...> args;

    static void run(const void *call)
    {
        const shim_call *c = static_cast<const shim_call *>(call);
        std::apply(c->kernel, c->args);
    }
};

template <typename... P, typename... A>
static inline void shim_launch_of(const char *name, const char *file, int line, void (*kernel)(P...), dim3 grid,
                                  dim3 block, size_t shared_bytes, cudaStream_t stream, A... args)
{
    static_assert((std::is_trivially_copyable<P>::value && ...), "arguments of kernels are plain data");
    static_assert(sizeof...(P) == sizeof...(A), "as many arguments as the kernel has");
    const shim_call<P...> call = {kernel, std::tuple<P...>(static_cast<P>(args)...)};
    shim_kernel k = {};
    k.name = name;
    k.file = file;
    k.line = line;
    k.address = reinterpret_cast<const void *>(kernel);
    k.run = shim_call<P...>::run;
    k.grid = {grid.x, grid.y, grid.z};
    k.block = {block.x, block.y, block.z};
    k.shared_bytes = shared_bytes;
    shim_launch(&k, &call, sizeof call, stream);
}

#define GPU_LAUNCH(kernel, grid, block, shared_bytes, stream, ...) \
    shim_launch_of(#kernel, __FILE__, __LINE__, kernel, grid, block, shared_bytes, stream, ##__VA_ARGS__)
#define GPU_DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(shim_dynamic_shared)
#define GPU_ALLOW_SHARED(kernel, bytes) \
    cudaFuncSetAttribute((const void *)(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes))

// ---- barriers ----

SHIM_INLINE void __syncthreads(SHIM_PLACE) { shim_barrier(0, place); }
SHIM_INLINE int __syncthreads_count(int p, SHIM_PLACE) { return shim_barrier(p, place); }
SHIM_INLINE int __syncthreads_or(int p, SHIM_PLACE) { return shim_barrier(p, place) > 0; }
SHIM_INLINE int __syncthreads_and(int p, SHIM_PLACE)
{
    return shim_barrier(p, place) == (int)(blockDim.x * blockDim.y * blockDim.z);
}
SHIM_INLINE void __threadfence(void) {}
SHIM_INLINE void __threadfence_block(void) {}
SHIM_INLINE void __threadfence_system(void) {}

static inline void shim_nothing_together(void **, uint32_t) {}

SHIM_INLINE void __syncwarp(unsigned mask = 0xffffffffu, SHIM_PLACE)
{
    if (mask == 0xffffffffu) mask = shim_present_lanes();
    shim_meet(shim_nothing_together, mask, nullptr, "__syncwarp", place);
}

// ---- shuffles and votes ----

struct shim_shuffle {
    uint64_t value;
    int from; // lane
    shim_place place;
};

static inline void shim_shuffle_together(void **data, uint32_t mask)
{
    uint64_t given[SHIM_WARP];
    for (int i = 0; i < SHIM_WARP; i++) given[i] = mask >> i & 1 ? static_cast<shim_shuffle *>(data[i])->value : 0;
    for (int i = 0; i < SHIM_WARP; i++) {
        if (!(mask >> i & 1)) continue;
        shim_shuffle *s = static_cast<shim_shuffle *>(data[i]);
        if (!(mask >> s->from & 1)) {
            shim_defect(s->place.file, s->place.line, "lane %d takes a number from lane %d, which is not in mask %08x",
                        i, s->from, mask);
        }
        s->value = given[s->from];
    }
}

template <typename T> static inline T shim_shuffle_from(unsigned mask, T value, int from, shim_place place)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "numbers of up to 8 bytes");
    shim_shuffle s = {0, from, place};
    memcpy(&s.value, &value, sizeof value);
    shim_meet(shim_shuffle_together, mask, &s, "a shuffle", place);
    memcpy(&value, &s.value, sizeof value);
    return value;
}

template <typename T>
static inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, SHIM_PLACE)
{
    const int lane = shim_lane(), first = lane & ~(width - 1);
    return shim_shuffle_from(mask, value, first + (source & (width - 1)), place);
}

template <typename T>
static inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SHIM_PLACE)
{
    const int lane = shim_lane(), first = lane & ~(width - 1), from = lane - (int)delta;
    return shim_shuffle_from(mask, value, from < first ? lane : from, place);
}

template <typename T>
static inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SHIM_PLACE)
{
    const int lane = shim_lane(), last = lane | (width - 1), from = lane + (int)delta;
    return shim_shuffle_from(mask, value, from > last ? lane : from, place);
}

template <typename T>
static inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, SHIM_PLACE)
{
    const int lane = shim_lane(), last = lane | (width - 1), from = lane ^ bits;
    return shim_shuffle_from(mask, value, from > last ? lane : from, place);
}

struct shim_vote {
    uint64_t value, all; // all: what the others gave, folded as the vote wants it
    uint32_t lanes;
};

static inline void shim_ballot_together(void **data, uint32_t mask)
{
    uint32_t yes = 0;
    for (int i = 0; i < SHIM_WARP; i++) {
        if (mask >> i & 1 && static_cast<shim_vote *>(data[i])->value) yes |= 1u << i;
    }
    for (int i = 0; i < SHIM_WARP; i++) {
        if (mask >> i & 1) static_cast<shim_vote *>(data[i])->lanes = yes;
    }
}

static inline void shim_match_together(void **data, uint32_t mask)
{
    for (int i = 0; i < SHIM_WARP; i++) {
        if (!(mask >> i & 1)) continue;
        shim_vote *mine = static_cast<shim_vote *>(data[i]);
        for (int j = 0; j < SHIM_WARP; j++) {
            if (mask >> j & 1 && static_cast<shim_vote *>(data[j])->value == mine->value) mine->lanes |= 1u << j;
        }
    }
}

static inline unsigned shim_vote_of(shim_together *together, unsigned mask, uint64_t value, const char *what,
                                    shim_place place)
{
    shim_vote v = {value, 0, 0};
    shim_meet(together, mask, &v, what, place);
    return v.lanes;
}

SHIM_INLINE unsigned __ballot_sync(unsigned mask, int p, SHIM_PLACE)
{
    return shim_vote_of(shim_ballot_together, mask, p != 0, "__ballot_sync", place);
}
SHIM_INLINE int __any_sync(unsigned mask, int p, SHIM_PLACE)
{
    return shim_vote_of(shim_ballot_together, mask, p != 0, "__any_sync", place) != 0;
}
SHIM_INLINE int __all_sync(unsigned mask, int p, SHIM_PLACE)
{
    return shim_vote_of(shim_ballot_together, mask, p == 0, "__all_sync", place) == 0;
}
template <typename T> static inline unsigned __match_any_sync(unsigned mask, T value, SHIM_PLACE)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return shim_vote_of(shim_match_together, mask, bits, "__match_any_sync", place);
}
SHIM_INLINE unsigned __activemask(void) { return shim_present_lanes(); }

template <typename T, typename F>
static inline void shim_fold(void **data, uint32_t mask, F fold)
{
    const int first = __builtin_ctz(mask);
    T all = static_cast<T>(static_cast<shim_vote *>(data[first])->value);
    for (int i = first + 1; i < SHIM_WARP; i++) {
        if (mask >> i & 1) all = fold(all, static_cast<T>(static_cast<shim_vote *>(data[i])->value));
    }
    for (int i = 0; i < SHIM_WARP; i++) {
        if (mask >> i & 1) static_cast<shim_vote *>(data[i])->all = static_cast<uint64_t>(all);
    }
}

#define SHIM_REDUCE(name, T, result) \
    static inline void shim_##name##_##T(void **data, uint32_t mask) \
    { \
        shim_fold<T>(data, mask, [](T x, T y) -> T { return result; }); \
    } \
    SHIM_INLINE T __reduce_##name##_sync(unsigned mask, T value, SHIM_PLACE) \
    { \
        shim_vote v = {static_cast<uint64_t>(value), 0, 0}; \
        shim_meet(shim_##name##_##T, mask, &v, "__reduce_" #name "_sync", place); \
        return static_cast<T>(v.all); \
    }

SHIM_REDUCE(add, unsigned, x + y)
SHIM_REDUCE(min, unsigned, x < y ? x : y)
SHIM_REDUCE(max, unsigned, x > y ? x : y)
SHIM_REDUCE(and, unsigned, x & y)
SHIM_REDUCE(or, unsigned, x | y)
SHIM_REDUCE(xor, unsigned, x ^ y)
SHIM_REDUCE(add, int, static_cast<int>(static_cast<unsigned>(x) + static_cast<unsigned>(y)))
SHIM_REDUCE(min, int, x < y ? x : y)
SHIM_REDUCE(max, int, x > y ? x : y)

// ---- atomics: what they replace ----

template <typename T, typename F> static inline T shim_atomic(T *p, F change)
{
    T seen = *p;
    *p = change(seen);
    return seen;
}

#define SHIM_ATOMIC(name, T, result) \
    SHIM_INLINE T name(T *p, T v) { return shim_atomic(p, [v](T x) -> T { return result; }); }
#define SHIM_ATOMICS(T) \
    SHIM_ATOMIC(atomicMax, T, x > v ? x : v) \
    SHIM_ATOMIC(atomicMin, T, x < v ? x : v) \
    SHIM_ATOMIC(atomicAnd, T, x & v) \
    SHIM_ATOMIC(atomicOr, T, x | v) \
    SHIM_ATOMIC(atomicXor, T, x ^ v) \
    SHIM_ATOMIC(atomicExch, T, (void(x), v)) \
    SHIM_INLINE T atomicCAS(T *p, T compare, T v) \
    { \
        return shim_atomic(p, [compare, v](T x) -> T { return x == compare ? v : x; }); \
    }

SHIM_ATOMICS(int)
SHIM_ATOMICS(unsigned)
SHIM_ATOMICS(long long)
SHIM_ATOMICS(unsigned long long)
SHIM_ATOMIC(atomicAdd, int, static_cast<int>(static_cast<unsigned>(x) + static_cast<unsigned>(v)))
SHIM_ATOMIC(atomicAdd, unsigned, x + v)
SHIM_ATOMIC(atomicAdd, unsigned long long, x + v)
SHIM_ATOMIC(atomicAdd, float, x + v)
SHIM_ATOMIC(atomicAdd, double, x + v)
SHIM_ATOMIC(atomicSub, int, static_cast<int>(static_cast<unsigned>(x) - static_cast<unsigned>(v)))
SHIM_ATOMIC(atomicSub, unsigned, x - v)
SHIM_ATOMIC(atomicExch, float, (void(x), v))
SHIM_ATOMIC(atomicInc, unsigned, x >= v ? 0 : x + 1)

// ---- loads and stores with hints ----

template <typename T> static inline T __ldg(const T *p) { return *p; }
template <typename T> static inline T __ldca(const T *p) { return *p; }
template <typename T> static inline T __ldcs(const T *p) { return *p; }
template <typename T> static inline T __ldcg(const T *p) { return *p; }
template <typename T> static inline T __ldlu(const T *p) { return *p; }
template <typename T> static inline T __ldcv(const T *p) { return *p; }
template <typename T> static inline void __stcs(T *p, T v) { *p = v; }
template <typename T> static inline void __stcg(T *p, T v) { *p = v; }
template <typename T> static inline void __stwb(T *p, T v) { *p = v; }

// ---- bits ----

template <typename To, typename From> static inline To shim_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "of one size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

SHIM_INLINE unsigned __float_as_uint(float x) { return shim_bits<unsigned>(x); }
SHIM_INLINE int __float_as_int(float x) { return shim_bits<int>(x); }
SHIM_INLINE float __uint_as_float(unsigned x) { return shim_bits<float>(x); }
SHIM_INLINE float __int_as_float(int x) { return shim_bits<float>(x); }
SHIM_INLINE long long __double_as_longlong(double x) { return shim_bits<long long>(x); }
SHIM_INLINE double __longlong_as_double(long long x) { return shim_bits<double>(x); }
SHIM_INLINE int __popc(unsigned x) { return __builtin_popcount(x); }
SHIM_INLINE int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
SHIM_INLINE int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
SHIM_INLINE int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
SHIM_INLINE int __ffs(int x) { return __builtin_ffs(x); }
SHIM_INLINE int __ffsll(long long x) { return __builtin_ffsll(x); }
SHIM_INLINE unsigned __brev(unsigned x)
{
    unsigned y = 0;
    for (int i = 0; i < 32; i++) y |= (x >> i & 1) << (31 - i);
    return y;
}
SHIM_INLINE unsigned __byte_perm(unsigned x, unsigned y, unsigned s)
{
    const uint64_t both = (uint64_t)y << 32 | x;
    unsigned out = 0;
    for (int i = 0; i < 4; i++) {
        const unsigned pick = s >> 4 * i & 0xf;
        unsigned byte = (unsigned)(both >> 8 * (pick & 7)) & 0xff;
        if (pick & 8) byte = byte & 0x80 ? 0xff : 0; // its sign, repeated
        out |= byte << 8 * i;
    }
    return out;
}
SHIM_INLINE unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n)
{
    return (unsigned)(((uint64_t)hi << 32 | lo) << (n & 31) >> 32);
}
SHIM_INLINE unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n)
{
    return (unsigned)(((uint64_t)hi << 32 | lo) >> (n & 31));
}
SHIM_INLINE int __dp4a(int x, int y, int sum)
{
    int64_t s = sum;
    for (int i = 0; i < 4; i++) s += (int)(int8_t)((unsigned)x >> 8 * i) * (int8_t)((unsigned)y >> 8 * i);
    return (int)(uint32_t)s;
}
SHIM_INLINE unsigned __dp4a(unsigned x, unsigned y, unsigned sum)
{
    for (int i = 0; i < 4; i++) sum += (x >> 8 * i & 0xff) * (y >> 8 * i & 0xff);
    return sum;
}
SHIM_INLINE int __mulhi(int x, int y) { return (int)((int64_t)x * y >> 32); }
SHIM_INLINE unsigned __umulhi(unsigned x, unsigned y) { return (unsigned)((uint64_t)x * y >> 32); }
SHIM_INLINE int __mul24(int x, int y) { return x * y; }
SHIM_INLINE unsigned __vabsdiffu4(unsigned x, unsigned y)
{
    unsigned out = 0;
    for (int i = 0; i < 32; i += 8) {
        const int d = (int)(x >> i & 0xff) - (int)(y >> i & 0xff);
        out |= (unsigned)(d < 0 ? -d : d) << i;
    }
    return out;
}
#define SHIM_BYTEWISE(name, result) \
    SHIM_INLINE unsigned name(unsigned x, unsigned y) \
    { \
        unsigned out = 0; \
        for (int i = 0; i < 32; i += 8) { \
            const unsigned p = x >> i & 0xff, q = y >> i & 0xff; \
            out |= ((result) & 0xff) << i; \
        } \
        return out; \
    }
SHIM_BYTEWISE(__vadd4, p + q)
SHIM_BYTEWISE(__vsub4, p - q)
SHIM_BYTEWISE(__vcmpeq4, p == q ? 0xffu : 0u)

// ---- arithmetic ----

// Names that the C library has declared for itself.
#define __expf(x) expf(x)
#define __exp10f(x) exp10f(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __sincosf(x, s, c) sincosf(x, s, c)
#define __tanhf(x) tanhf(x)
#define __powf(x, y) powf(x, y)
SHIM_INLINE float __fdividef(float x, float y) { return x / y; }
SHIM_INLINE float __frcp_rn(float x) { return 1.0f / x; }
SHIM_INLINE float __fdiv_rn(float x, float y) { return x / y; }
SHIM_INLINE float __fsqrt_rn(float x) { return sqrtf(x); }
SHIM_INLINE float __frsqrt_rn(float x) { return (float)(1.0 / sqrt((double)x)); }
SHIM_INLINE float __fadd_rn(float x, float y) { return x + y; }
SHIM_INLINE float __fsub_rn(float x, float y) { return x - y; }
SHIM_INLINE float __fmul_rn(float x, float y) { return x * y; }
SHIM_INLINE float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
SHIM_INLINE double __dadd_rn(double x, double y) { return x + y; }
SHIM_INLINE double __dmul_rn(double x, double y) { return x * y; }
SHIM_INLINE double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
SHIM_INLINE float __saturatef(float x) { return x > 0.0f ? x < 1.0f ? x : 1.0f : 0.0f; }
SHIM_INLINE float rsqrtf(float x) { return 1.0f / sqrtf(x); }
SHIM_INLINE double rsqrt(double x) { return 1.0 / sqrt(x); }
SHIM_INLINE float fdividef(float x, float y) { return x / y; }
SHIM_INLINE float __int2float_rn(int x) { return (float)x; }
SHIM_INLINE float __uint2float_rn(unsigned x) { return (float)x; }
SHIM_INLINE float __ll2float_rn(long long x) { return (float)x; }
SHIM_INLINE double __int2double_rn(int x) { return x; }
SHIM_INLINE float __double2float_rn(double x) { return (float)x; }
// Outside of the type's range: its end, as the instructions do; NaN gives 0.
SHIM_INLINE int shim_to_int(double x)
{
    return x != x ? 0 : x <= INT_MIN ? INT_MIN : x >= INT_MAX ? INT_MAX : (int)x;
}
SHIM_INLINE unsigned shim_to_uint(double x) { return !(x > 0) ? 0u : x >= UINT_MAX ? UINT_MAX : (unsigned)x; }
SHIM_INLINE int __float2int_rn(float x) { return shim_to_int(rint((double)x)); }
SHIM_INLINE int __float2int_rd(float x) { return shim_to_int(floor((double)x)); }
SHIM_INLINE int __float2int_ru(float x) { return shim_to_int(ceil((double)x)); }
SHIM_INLINE int __float2int_rz(float x) { return shim_to_int(trunc((double)x)); }
SHIM_INLINE unsigned __float2uint_rn(float x) { return shim_to_uint(rint((double)x)); }
SHIM_INLINE unsigned __float2uint_rz(float x) { return shim_to_uint(trunc((double)x)); }
SHIM_INLINE unsigned __float2uint_rd(float x) { return shim_to_uint(floor((double)x)); }
SHIM_INLINE long long clock64(void) { return 0; }

#define SHIM_MIN_MAX(R, X, Y) \
    SHIM_INLINE R min(X x, Y y) { return (R)x < (R)y ? (R)x : (R)y; } \
    SHIM_INLINE R max(X x, Y y) { return (R)x > (R)y ? (R)x : (R)y; }

SHIM_MIN_MAX(int, int, int)
SHIM_MIN_MAX(unsigned, unsigned, unsigned)
SHIM_MIN_MAX(unsigned, int, unsigned)
SHIM_MIN_MAX(unsigned, unsigned, int)
SHIM_MIN_MAX(long, long, long)
SHIM_MIN_MAX(unsigned long, unsigned long, unsigned long)
SHIM_MIN_MAX(unsigned long, long, unsigned long)
SHIM_MIN_MAX(unsigned long, unsigned long, long)
SHIM_MIN_MAX(long long, long long, long long)
SHIM_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
SHIM_MIN_MAX(unsigned long long, long long, unsigned long long)
SHIM_MIN_MAX(unsigned long long, unsigned long long, long long)
SHIM_INLINE float min(float x, float y) { return fminf(x, y); }
SHIM_INLINE float max(float x, float y) { return fmaxf(x, y); }
SHIM_INLINE double min(double x, double y) { return fmin(x, y); }
SHIM_INLINE double max(double x, double y) { return fmax(x, y); }
SHIM_INLINE double min(float x, double y) { return fmin((double)x, y); }
SHIM_INLINE double max(float x, double y) { return fmax((double)x, y); }
SHIM_INLINE double min(double x, float y) { return fmin(x, (double)y); }
SHIM_INLINE double max(double x, float y) { return fmax(x, (double)y); }

#endif
