// kernels/cuda/mma.h - the tensor cores' products, asynchronous copies and cache hints, one function each; the
// shim has emulated twins (tests/cuda_on_cpu/mma_on_cpu.h) of the same names and semantics.
//
// All are warp-wide: every lane calls. Fragment layouts as in the PTX ISA, "Matrix fragments for mma.m16n8k16":
// lane l has group = l / 4 and t = l % 4;
//   A (16 x 16, row): a[0] = rows group, columns 2t, 2t+1; a[1] = row group + 8; a[2] = columns + 8; a[3] both
//   B (16 x 8, column): b[0] = rows (k) 2t, 2t+1 of column group; b[1] = rows + 8
//   C, D (16 x 8): d[0], d[1] = row group, columns 2t, 2t+1; d[2], d[3] = row group + 8
#ifndef SIGHT_KERNELS_CUDA_MMA_H
#define SIGHT_KERNELS_CUDA_MMA_H

#include "kernels/cuda/gpu.h"

#ifdef SIGHT_CUDA_SHIM
#include "mma_on_cpu.h"
#else

// d += a b, bf16 pairs in uint32 (lower index in the lower half), float32 sums.
static __device__ __forceinline__ void mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// m16n8k8, tf32: a[0] row group column t, a[1] row + 8, a[2] column t + 4, a[3] both; b[0] row t column group, b[1] row
// t + 4. Operands are float32 bits, of which the upper 19 count.
static __device__ __forceinline__ void mma_tf32(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// m16n8k32, E4M3, four numbers in a uint32 (lowest index in the lowest byte): a[0] row group, columns 4t .. 4t + 3; a[1]
// row group + 8; a[2] columns + 16; a[3] both; b[0] rows (k) 4t .. 4t + 3 of column group, b[1] rows + 16. So mma_load
// gives a's fragments here too: a tile's row is 16 bytes. Chips before sm_89 have none, and of sm_100's nothing uses it
// (MMA_HAS_F8): kernels leave their work out there, and the host does not launch them.
#if defined(__CUDA_ARCH__) && (__CUDA_ARCH__ < 890 || __CUDA_ARCH__ / 100 == 10)
#define MMA_HAS_F8 false
#else
#define MMA_HAS_F8 true
#endif

static __device__ __forceinline__ void mma_f8(float d[4], const uint32_t a[4], const uint32_t b[2])
{
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 890
    asm volatile("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Four 8 x 8 tiles of 16-bit numbers from shared memory: lane l gives the address of row l % 8 of tile l / 8
// (16 bytes, aligned); r[i] is the lane's pair of tile i: row group, columns 2t, 2t+1. trans: of the tile turned.
static __device__ __forceinline__ void mma_load(uint32_t r[4], const void *shared)
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}

static __device__ __forceinline__ void mma_load_trans(uint32_t r[4], const void *shared)
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}

// 16 bytes from device to shared memory, both aligned; with good false the 16 bytes become 0 and nothing is read.
static __device__ __forceinline__ void copy_async16(void *shared, const void *from, bool good)
{
    const uint32_t at = (uint32_t)__cvta_generic_to_shared(shared);
    const int bytes = good ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(bytes));
}

static __device__ __forceinline__ void copy_async_commit(void)
{
    asm volatile("cp.async.commit_group;");
}

// Until at most `left` of this thread's committed groups are under way. A block's barrier must follow before
// others' copies are read.
template <int left> static __device__ __forceinline__ void copy_async_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(left));
}

// 16 bytes that no other block will read (weights that stream by once).
static __device__ __forceinline__ uint4 load_stream16(const void *from)
{
    uint4 v;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(from));
    return v;
}

#endif

#endif
