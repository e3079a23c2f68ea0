// kernels/cuda/pick.cu - the k greatest logits of rows of a quarter million.
//
// A row of 248,320 is 1 MB, which the product before has just left in the second-level cache. Counting reads it
// once and gathering once (with an eighth of a byte of `allowed` per id each time), so a row costs two
// passes over the cache, some microseconds of launches, and a copy of k entries of 8 bytes: all of it bound
// by latency, not by bytes. The greatest alone takes one pass.
// Counts and places are had by atomics on integers; what they leave open, the order of entries, ends in a sort.
#include "kernels/cuda/gpu.h"
#include "kernels/cuda/pick.h"

#define THREADS (PICK_TILE / 4)
#define WARPS (THREADS / GPU_WARP)
#define FINISH_THREADS 1024
#define BEST_THREADS 128

// ---- keys ----

static __device__ __forceinline__ uint32_t key_of(float logit)
{
    uint32_t bits = __float_as_uint(logit);
    if ((bits & 0x7f800000u) == 0x7f800000u) return 0;
    if (bits == 0x80000000u) bits = 0;
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

static __device__ __forceinline__ uint32_t four_bits(const uint32_t *bits, int64_t i)
{
    return bits[i / 32] >> (i % 32) & 15;
}

// The thread's four ids begin here.
static __device__ __forceinline__ int64_t first_id(void)
{
    return (int64_t)blockIdx.x * PICK_TILE + 4 * (int64_t)threadIdx.x;
}

// keys of ids i .. i + 3, 0 past the end. Returns a bit for each that is wanted anyway.
static __device__ uint32_t load_keys(uint32_t key[4], const pick_args *a, const pick_row *row, int64_t i)
{
    float v[4] = {0, 0, 0, 0};
    const int64_t left = a->M - i;
    for (int j = 0; j < 4; j++) key[j] = 0;
    if (left <= 0) return 0;
    if (left >= 4 && ((uintptr_t)(row->logits + i) & 15) == 0) {
        const float4 f = *(const float4 *)(row->logits + i);
        v[0] = f.x, v[1] = f.y, v[2] = f.z, v[3] = f.w;
    } else {
        for (int j = 0; j < 4; j++)
            if (j < left) v[j] = row->logits[i + j];
    }
    const uint32_t inside = left >= 4 ? 15 : (1u << left) - 1;
    const uint32_t allowed = row->allowed ? four_bits(row->allowed, i) : 15;
    const uint32_t wanted = row->n_always > 0 ? four_bits(a->wanted + blockIdx.y * a->words, i) : 0;
    const uint32_t counts = inside & allowed & ~wanted;
    for (int j = 0; j < 4; j++)
        if (counts >> j & 1) key[j] = key_of(v[j]);
    return wanted & inside;
}

static __device__ __forceinline__ int shift_of(int64_t level)
{
    return level == 0 ? 21 : level == 1 ? 10 : 0;
}

static __device__ __forceinline__ uint32_t digit_mask(int64_t level)
{
    return level == 2 ? 1023 : 2047;
}

// ---- lists to bits: a block per row ----

static __global__ void want_kernel(pick_args a)
{
    const pick_row row = a.rows[blockIdx.x];
    uint32_t *bits = a.wanted + blockIdx.x * a.words;
    for (int64_t i = threadIdx.x; i < a.words && row.n_always > 0; i += blockDim.x) bits[i] = 0;
    __syncthreads();
    for (int32_t i = (int32_t)threadIdx.x; i < row.n_always; i += (int32_t)blockDim.x) {
        const int32_t id = a.always[row.always + i];
        atomicOr(&bits[id / 32], 1u << (id % 32));
    }
}

void launch_pick_want(cudaStream_t stream, const void *args)
{
    const pick_args *a = (const pick_args *)args;
    GPU_LAUNCH(want_kernel, dim3((unsigned)a->N, 1, 1), dim3(FINISH_THREADS, 1, 1), 0, stream, *a);
}

// ---- counting: blocks x are tiles, blocks y rows ----

static __global__ void count_kernel(pick_args a)
{
    __shared__ uint32_t counts[PICK_DIGITS];
    for (int i = (int)threadIdx.x; i < PICK_DIGITS; i += THREADS) counts[i] = 0;
    __syncthreads();
    const pick_row row = a.rows[blockIdx.y];
    const uint32_t fixed = a.level == 0 ? 0 : 0xffffffffu << shift_of(a.level - 1);
    const uint32_t found = a.level == 0 ? 0 : a.borders[a.level * a.N + blockIdx.y].key;
    uint32_t key[4];
    load_keys(key, &a, &row, first_id());
    for (int j = 0; j < 4; j++) {
        if (key[j] == 0 || (key[j] & fixed) != found) continue;
        atomicAdd(&counts[key[j] >> shift_of(a.level) & digit_mask(a.level)], 1u);
    }
    __syncthreads();
    uint32_t *all = a.counts + (int64_t)blockIdx.y * PICK_DIGITS;
    for (int i = (int)threadIdx.x; i < PICK_DIGITS; i += THREADS)
        if (counts[i] > 0) atomicAdd(&all[i], counts[i]);
}

static dim3 tile_grid(const pick_args *a)
{
    return dim3((unsigned)pick_tiles(a->M), (unsigned)a->N, 1);
}

void launch_pick_count(cudaStream_t stream, const void *args)
{
    const pick_args *a = (const pick_args *)args;
    GPU_LAUNCH(count_kernel, tile_grid(a), dim3(THREADS, 1, 1), 0, stream, *a);
}

// ---- gathering ----

// The sum of v over the threads before this one and itself. room [WARPS].
static __device__ uint32_t running_sum(uint32_t v, uint32_t *room)
{
    const uint32_t lane = threadIdx.x % GPU_WARP, warp = threadIdx.x / GPU_WARP;
    for (int d = 1; d < GPU_WARP; d *= 2) {
        const uint32_t before = __shfl_up_sync(GPU_ALL_LANES, v, d);
        if (lane >= (uint32_t)d) v += before;
    }
    if (lane == GPU_WARP - 1) room[warp] = v;
    __syncthreads();
    for (uint32_t w = 0; w < warp; w++) v += room[w];
    return v;
}

// The digit at which counts from the top reach what is left of k. Every block finds it for itself, which is
// cheaper than a launch that finds it once. Fewer than k in all: key 1, which all candidates reach.
static __device__ pick_border find_border(const pick_args *a, const pick_row *row)
{
    __shared__ uint32_t room[WARPS];
    __shared__ pick_border border;
    pick_border last = {0, (uint32_t)row->k};
    if (a->level > 0) last = a->borders[a->level * a->N + blockIdx.y];
    const uint32_t top = PICK_DIGITS - 1 - 4 * threadIdx.x; // this thread's digits: top .. top - 3
    const uint32_t *counts = a->counts + (int64_t)blockIdx.y * PICK_DIGITS;
    uint32_t count[4], sum = 0;
    for (int j = 0; j < 4; j++) sum += count[j] = counts[top - j];
    if (threadIdx.x == 0) border = {1, 0};
    uint32_t before = running_sum(sum, room) - sum; // its barrier stands between these writes and those below
    for (int j = 0; j < 4; j++) {
        if (before < last.left && before + count[j] >= last.left) {
            border.key = last.key | (top - j) << shift_of(a->level);
            border.left = last.left - before;
        }
        before += count[j];
    }
    __syncthreads();
    return border;
}

static __global__ void gather_kernel(pick_args a)
{
    const pick_row row = a.rows[blockIdx.y];
    const pick_border border = find_border(&a, &row);
    if (blockIdx.x == 0 && threadIdx.x == 0) a.borders[(a.level + 1) * a.N + blockIdx.y] = border;
    uint32_t key[4], n = 0;
    const int64_t first = first_id();
    const uint32_t wanted = load_keys(key, &a, &row, first);
    for (int j = 0; j < 4; j++) {
        if (wanted >> j & 1) key[j] = 0xffffffffu;
        n += key[j] >= border.key;
    }
    if (n == 0) return;
    uint32_t at = atomicAdd(&a.gathered[blockIdx.y], n);
    uint64_t *entries = a.entries + (int64_t)blockIdx.y * PICK_GATHERED;
    for (int j = 0; j < 4; j++) {
        if (key[j] < border.key) continue;
        if (at < PICK_GATHERED) entries[at] = (uint64_t)key[j] << 32 | (uint32_t)(first + j);
        at++;
    }
}

void launch_pick_gather(cudaStream_t stream, const void *args)
{
    const pick_args *a = (const pick_args *)args;
    GPU_LAUNCH(gather_kernel, tile_grid(a), dim3(THREADS, 1, 1), 0, stream, *a);
}

// ---- finishing: a block per row ----

// The least power of two from n on, at least 2.
static __device__ __forceinline__ uint32_t power_from(uint32_t n)
{
    uint32_t p = 2;
    while (p < n) p *= 2;
    return p;
}

// Bitonic (Batcher 1968), n a power of two.
static __device__ void sort(uint64_t *v, uint32_t n, bool falling)
{
    for (uint32_t size = 2; size <= n; size *= 2) {
        for (uint32_t stride = size / 2; stride > 0; stride /= 2) {
            __syncthreads();
            for (uint32_t i = threadIdx.x; i < n / 2; i += blockDim.x) {
                const uint32_t low = 2 * i - (i & (stride - 1)), high = low + stride;
                const bool rises = ((low & size) == 0) != falling;
                const uint64_t p = v[low], q = v[high];
                if ((p > q) == rises) {
                    v[low] = q;
                    v[high] = p;
                }
            }
        }
    }
    __syncthreads();
}

// How many of v[n], falling, have a key of at least `key`.
static __device__ uint32_t reaching(const uint64_t *v, uint32_t n, uint32_t key)
{
    uint32_t low = 0;
    while (low < n) {
        const uint32_t mid = low + (n - low) / 2;
        if ((uint32_t)(v[mid] >> 32) >= key) low = mid + 1;
        else n = mid;
    }
    return low;
}

// Sorts the row's n entries by key and takes the k greatest and their equals. Returns how many, PICK_OVER:
// too many are equal.
static __device__ int32_t take_greatest(uint64_t *v, uint32_t n, const pick_row *row)
{
    const uint32_t k = (uint32_t)(row->n_always + row->k); // those wanted anyway come first
    sort(v, power_from(n), true);
    const uint32_t key = k <= n ? (uint32_t)(v[k - 1] >> 32) : 1;
    const uint32_t taken = reaching(v, n, key);
    if (k <= n && taken - reaching(v, n, key + 1) > PICK_MAX_EQUAL) return PICK_OVER;
    return (int32_t)taken;
}

static __global__ void finish_kernel(pick_args a)
{
    GPU_DYNAMIC_SHARED(uint64_t, v);
    const pick_row row = a.rows[blockIdx.x];
    const uint32_t n = a.gathered[blockIdx.x];
    const uint64_t *entries = a.entries + (int64_t)blockIdx.x * PICK_GATHERED;
    const bool fits = n <= PICK_GATHERED;
    int32_t taken = PICK_OVER;
    if (fits) { // all of the block, or none
        const uint32_t room = power_from(n);
        for (uint32_t i = threadIdx.x; i < room; i += blockDim.x) v[i] = i < n ? entries[i] : 0;
        taken = take_greatest(v, n, &row);
        __syncthreads();
    }
    pick_found *found = a.found + blockIdx.x;
    if (threadIdx.x == 0) *found = {taken, 0.0f};
    if (taken <= 0) return; // all of the block
    const uint32_t room = power_from((uint32_t)taken);
    for (uint32_t i = threadIdx.x; i < room; i += blockDim.x) {
        v[i] = i < (uint32_t)taken ? v[i] & 0xffffffffu : 0xffffffffu; // ids alone
    }
    sort(v, room, false);
    for (uint32_t i = threadIdx.x; i < (uint32_t)taken; i += blockDim.x) {
        const int32_t id = (int32_t)v[i];
        found[(1 + i) * a.N] = {id, row.logits[id]};
    }
}

void launch_pick_finish(cudaStream_t stream, const void *args)
{
    const pick_args *a = (const pick_args *)args;
    const size_t bytes = PICK_GATHERED * sizeof(uint64_t);
    GPU_ALLOW_SHARED(finish_kernel, bytes);
    GPU_LAUNCH(finish_kernel, dim3((unsigned)a->N, 1, 1), dim3(FINISH_THREADS, 1, 1), bytes, stream, *a);
}

// ---- the greatest alone ----

static __device__ __forceinline__ uint32_t warp_max(uint32_t v)
{
    for (int d = GPU_WARP / 2; d > 0; d /= 2) {
        const uint32_t other = __shfl_xor_sync(GPU_ALL_LANES, v, d);
        v = other > v ? other : v;
    }
    return v;
}

static __device__ __forceinline__ uint32_t warp_count(uint32_t v)
{
    for (int d = GPU_WARP / 2; d > 0; d /= 2) v += __shfl_xor_sync(GPU_ALL_LANES, v, d);
    return v;
}

// The best of the block's threads, in every thread; ids within 32 bits. room [3][32].
static __device__ pick_best block_best(uint32_t key, uint32_t n, uint32_t id, uint32_t *room)
{
    const uint32_t lane = threadIdx.x % GPU_WARP, warp = threadIdx.x / GPU_WARP;
    const uint32_t warps = blockDim.x / GPU_WARP;
    uint32_t top = warp_max(key);
    if (lane == 0) room[warp] = top;
    __syncthreads();
    top = warp_max(lane < warps ? room[lane] : 0);
    const bool mine = key == top;
    const uint32_t count = warp_count(mine ? n : 0), last = warp_max(mine ? ~id : 0);
    if (lane == 0) room[GPU_WARP + warp] = count, room[2 * GPU_WARP + warp] = last;
    __syncthreads();
    const uint32_t all = warp_count(lane < warps ? room[GPU_WARP + lane] : 0);
    const uint32_t first = ~warp_max(lane < warps ? room[2 * GPU_WARP + lane] : 0);
    return {top, all, (int64_t)first};
}

static __global__ void best_kernel(pick_args a)
{
    __shared__ uint32_t room[3 * GPU_WARP];
    const pick_row row = a.rows[blockIdx.y];
    const int64_t first = first_id();
    uint32_t key[4], top = 0, n = 0, id = 0;
    load_keys(key, &a, &row, first);
    for (int j = 3; j >= 0; j--) {
        if (key[j] < top) continue;
        n = key[j] > top ? 1 : n + 1;
        top = key[j];
        id = (uint32_t)(first + j);
    }
    const pick_best best = block_best(top, n, id, room);
    if (threadIdx.x == 0) a.best[(int64_t)blockIdx.y * gridDim.x + blockIdx.x] = best;
}

void launch_pick_best(cudaStream_t stream, const void *args)
{
    const pick_args *a = (const pick_args *)args;
    GPU_LAUNCH(best_kernel, tile_grid(a), dim3(THREADS, 1, 1), 0, stream, *a);
}

static __global__ void best_finish_kernel(pick_args a, int64_t tiles)
{
    __shared__ uint32_t room[3 * GPU_WARP];
    const pick_best *best = a.best + (int64_t)blockIdx.x * tiles;
    uint32_t top = 0, n = 0, id = 0;
    for (int64_t t = threadIdx.x; t < tiles; t += blockDim.x) { // of equals the first tile's id stays
        const pick_best b = best[t];
        if (b.key < top) continue;
        if (b.key > top || n == 0) id = (uint32_t)b.id;
        n = b.key > top ? b.n : n + b.n;
        top = b.key;
    }
    const pick_best b = block_best(top, n, id, room);
    if (threadIdx.x != 0) return;
    const int32_t taken = b.key == 0 ? 0 : b.n == 1 ? 1 : PICK_OVER;
    a.found[blockIdx.x] = {taken, 0.0f};
    if (taken == 1) a.found[a.N + blockIdx.x] = {(int32_t)b.id, a.rows[blockIdx.x].logits[b.id]};
}

void launch_pick_best_finish(cudaStream_t stream, const void *args)
{
    const pick_args *a = (const pick_args *)args;
    GPU_LAUNCH(best_finish_kernel, dim3((unsigned)a->N, 1, 1), dim3(BEST_THREADS, 1, 1), 0, stream, *a,
               pick_tiles(a->M));
}
