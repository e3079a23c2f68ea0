// kernels/cuda/delta_walk.cu - the gated delta rule for many tokens: the second of two kernels,
// which takes a state from chunk to chunk. Formulas, operations and bytes: delta_prepare.cu.
#include "kernels/cuda/delta_tiles.h"

#define COLUMNS    DELTA_CHUNK_COLUMNS
#define COLUMN_ROW (COLUMNS + 8) // floats of a row of columns in shared memory: rows 8 banks apart

// Where the parts of shared memory lie, in floats. With `ahead` queries and P have room of their
// own, so that they come while keys and T are worked on, and the other way round; else they take
// turns in one.
typedef struct walk_place {
    int keys, t, queries, p, state, x, u, floats;
} walk_place;

static __host__ __device__ __forceinline__ walk_place walk_find(int64_t Dk, bool ahead)
{
    const int half = CHUNK * key_row(Dk) + CHUNK * TRIANGLE_ROW;
    walk_place w;
    w.keys = 0;
    w.t = CHUNK * key_row(Dk);
    w.queries = ahead ? half : 0;
    w.p = w.queries + w.t;
    w.state = ahead ? 2 * half : half;
    w.x = w.state + padded_keys(Dk) * COLUMN_ROW;
    w.u = w.x + CHUNK * COLUMN_ROW;
    w.floats = w.u + CHUNK * COLUMN_ROW;
    return w;
}

extern "C" size_t delta_walk_shared(int64_t Dk, int64_t ahead)
{
    return (size_t)walk_find(Dk, ahead != 0).floats * sizeof(float);
}

// The rows of T or P that were written.
static __device__ __forceinline__ void triangle_ask(float *to, const float *from)
{
    const int column = 4 * (threadIdx.x % BLOCK);
    for (int row = threadIdx.x / BLOCK; row < CHUNK; row += THREADS / BLOCK) {
        if (column < (row / BLOCK + 1) * BLOCK) {
            copy_async16(to + row * TRIANGLE_ROW + column, from + row * CHUNK + column, true);
        }
    }
}

// One sequence, one value head and its columns from `column` on.
typedef struct walk {
    delta_rows seq;
    delta_sizes size;
    const float *queries; // raw, of the first row
    const float *room;    // of the first chunk; the next is `room_next` floats on
    int64_t room_next, head, column;
    bool wide;
} walk;

static __device__ __forceinline__ int64_t walk_rows(const walk *w, int64_t chunk)
{
    const int64_t left = w->seq.n - chunk * CHUNK;
    return left < CHUNK ? left : CHUNK;
}

// Keys and T, or queries and P, of a chunk. Asks for nothing after the last chunk.
static __device__ __forceinline__ void walk_ask(float *keys, float *triangle, const walk *w,
                                                int64_t chunk, bool of_queries)
{
    const int64_t rows = walk_rows(w, chunk);
    if (rows <= 0) return;
    const float *from = w->queries + chunk * CHUNK * w->size.stride;
    if (!of_queries) from += w->size.key_heads * w->size.Dk;
    keys_ask(keys, from, w->size.stride, rows, w->size.Dk, w->wide);
    triangle_ask(triangle, w->room + chunk * w->room_next + (of_queries ? DELTA_TRIANGLE : 0));
    copy_async_commit();
}

static __device__ __forceinline__ void walk_wait(void)
{
    copy_async_wait<0>();
    __syncthreads();
}

// Places of a lane's numbers in the tile n of rows from `row`: row, column of number e; within 32
// columns.
static __device__ __forceinline__ int tile_row(int row, int e)
{
    return row + threadIdx.x % GPU_WARP / 4 + 8 * (e / 2);
}

static __device__ __forceinline__ int tile_column(int n, int e)
{
    return 8 * n + 2 * (threadIdx.x % 4) + e % 2;
}

#define NT (COLUMNS / 8)

// The warp's rows of a chunk's v, zeros outside.
static __device__ __forceinline__ void walk_values(float v[NT][4], const walk *w, int64_t chunk,
                                                   int row)
{
    const int64_t rows = walk_rows(w, chunk), columns = w->size.Dv - w->column;
    const float *from = w->seq.qkv + chunk * CHUNK * w->size.stride +
                        2 * w->size.key_heads * w->size.Dk + w->head * w->size.Dv + w->column;
#pragma unroll
    for (int i = 0; i < NT * 4; i++) {
        const int r = tile_row(row, i % 4), c = tile_column(i / 4, i % 4);
        v[i / 4][i % 4] = r < rows && c < columns ? from[r * w->size.stride + c] : 0.0f;
    }
}

static __device__ __forceinline__ void walk_store_out(const float o[NT][4], const walk *w,
                                                      int64_t chunk, int row)
{
    const int64_t rows = walk_rows(w, chunk), columns = w->size.Dv - w->column;
    const int64_t stride = w->size.value_heads * w->size.Dv;
    float *to = w->seq.out + chunk * CHUNK * stride + w->head * w->size.Dv + w->column;
#pragma unroll
    for (int i = 0; i < NT * 4; i++) {
        const int r = tile_row(row, i % 4), c = tile_column(i / 4, i % 4);
        if (r < rows && c < columns) to[r * stride + c] = o[i / 4][i % 4];
    }
}

// The state's rows of a warp: tiles of 16 rows, `WARPS` tiles apart.
template <int MT>
static __device__ __forceinline__ void state_load(float s[MT][NT][4], const walk *w)
{
    const float *state = w->seq.before ? w->seq.before : w->seq.state;
    state += w->head * w->size.Dk * w->size.Dv + w->column;
#pragma unroll
    for (int i = 0; i < MT * NT * 4; i++) {
        const int n = i / 4 % NT, e = i % 4;
        const int r = tile_row(BLOCK * (threadIdx.x / GPU_WARP + WARPS * (i / (4 * NT))), e);
        const int c = tile_column(n, e);
        const bool good = r < w->size.Dk && c < w->size.Dv - w->column;
        s[i / (4 * NT)][n][e] = good ? state[r * w->size.Dv + c] : 0.0f;
    }
}

template <int MT>
static __device__ __forceinline__ void state_store(const float s[MT][NT][4], const walk *w)
{
    float *state = w->seq.state + w->head * w->size.Dk * w->size.Dv + w->column;
#pragma unroll
    for (int i = 0; i < MT * NT * 4; i++) {
        const int n = i / 4 % NT, e = i % 4;
        const int r = tile_row(BLOCK * (threadIdx.x / GPU_WARP + WARPS * (i / (4 * NT))), e);
        const int c = tile_column(n, e);
        if (r < w->size.Dk && c < w->size.Dv - w->column)
            state[r * w->size.Dv + c] = s[i / (4 * NT)][n][e];
    }
}

// For the products of the next chunk: [padded_keys][COLUMN_ROW], of `tiles` tiles.
template <int MT>
static __device__ __forceinline__ void state_share(float *shared, const float s[MT][NT][4],
                                                   int tiles)
{
#pragma unroll
    for (int i = 0; i < MT * NT * 2; i++) {
        const int a = i / (2 * NT), n = i / 2 % NT, e = i % 2 * 2;
        const int tile = threadIdx.x / GPU_WARP + WARPS * a;
        if (tile < tiles) {
            *(float2 *)(shared + tile_row(BLOCK * tile, e) * COLUMN_ROW + tile_column(n, e)) =
                make_float2(s[a][n][e], s[a][n][e + 1]);
        }
    }
}

static __device__ __forceinline__ void columns_share(float *shared, const float d[NT][4], int row,
                                                     const float scale[2])
{
#pragma unroll
    for (int i = 0; i < NT * 2; i++) {
        const int n = i / 2, e = i % 2 * 2;
        *(float2 *)(shared + tile_row(row, e) * COLUMN_ROW + tile_column(n, e)) =
            make_float2(d[n][e] * scale[i % 2], d[n][e + 1] * scale[i % 2]);
    }
}

// A lane's two rows of a chunk's factors.
static __device__ __forceinline__ void walk_factors(float f[2], const float *factors, int row)
{
    f[0] = factors[tile_row(row, 0)];
    f[1] = factors[tile_row(row, 2)];
}

// With the chunk's keys and T: U into u, and its rows on their way into the state into x; then the
// state after the chunk in registers. Barriers: x and u must be free at the start, keys and T are
// at the end.
template <bool EXACT, int MT>
static __device__ __forceinline__ void walk_keys(float s[MT][NT][4], float *shared,
                                                 const walk_place *at, const walk *w, int64_t chunk)
{
    const int warp = threadIdx.x / GPU_WARP, row = BLOCK * warp;
    const int width = padded_keys(w->size.Dk), row_floats = key_row(w->size.Dk);
    const float *factors = w->room + chunk * w->room_next + 2 * DELTA_TRIANGLE;
    const float *keys = shared + at->keys;
    float v[NT][4], d[1][NT][4], f[2];
    const float ones[2] = {1, 1};

    walk_values(v, w, chunk, row);
    walk_factors(f, factors, row);
    tiles_clear<1, NT>(d);
    product<EXACT, 1, NT>(d, keys + row * row_floats, 0, row_floats, 1, shared + at->state,
                          COLUMN_ROW, 1, width, 1, NT);
#pragma unroll
    for (int i = 0; i < NT * 4; i++)
        v[i / 4][i % 4] = fmaf(-f[i % 4 / 2], d[0][i / 4][i % 4], v[i / 4][i % 4]);
    columns_share(shared + at->x, v, row, ones);
    __syncthreads();

    tiles_clear<1, NT>(d);
    product<EXACT, 1, NT>(d, shared + at->t + row * TRIANGLE_ROW, 0, TRIANGLE_ROW, 1,
                          shared + at->x, COLUMN_ROW, 1, row + BLOCK, 1, NT);
    walk_factors(f, factors + 2 * CHUNK, row);
    __syncthreads();
    columns_share(shared + at->u, d[0], row, ones);
    columns_share(shared + at->x, d[0], row, f);
    __syncthreads();

    const float keep = factors[3 * CHUNK];
#pragma unroll
    for (int i = 0; i < MT * NT * 4; i++)
        s[i / (4 * NT)][i / 4 % NT][i % 4] *= keep;
    const int tiles = width / BLOCK;
    product<EXACT, MT, NT>(s, keys + BLOCK * warp, WARPS * BLOCK, 1, row_floats, shared + at->x,
                           COLUMN_ROW, 1, CHUNK,
                           tiles > warp ? (tiles - warp + WARPS - 1) / WARPS : 0, NT);
}

// With the chunk's queries and P: the output, from the state before the chunk.
template <bool EXACT>
static __device__ __forceinline__ void walk_queries(const float *shared, const walk_place *at,
                                                    const walk *w, int64_t chunk)
{
    const int row = BLOCK * (threadIdx.x / GPU_WARP);
    const int width = padded_keys(w->size.Dk), row_floats = key_row(w->size.Dk);
    float d[1][NT][4], f[2];
    walk_factors(f, w->room + chunk * w->room_next + 2 * DELTA_TRIANGLE + CHUNK, row);
    tiles_clear<1, NT>(d);
    product<EXACT, 1, NT>(d, shared + at->queries + row * row_floats, 0, row_floats, 1,
                          shared + at->state, COLUMN_ROW, 1, width, 1, NT);
#pragma unroll
    for (int i = 0; i < NT * 4; i++)
        d[0][i / 4][i % 4] *= f[i % 4 / 2];
    product<EXACT, 1, NT>(d, shared + at->p + row * TRIANGLE_ROW, 0, TRIANGLE_ROW, 1,
                          shared + at->u, COLUMN_ROW, 1, row + BLOCK, 1, NT);
    walk_store_out(d[0], w, chunk, row);
}

static __device__ __forceinline__ walk walk_open(const delta_chunk_args *a)
{
    walk w;
    w.size = a->size;
    w.seq = a->seqs[blockIdx.z];
    w.head = blockIdx.y;
    w.column = (int64_t)blockIdx.x * COLUMNS;
    w.queries = w.seq.qkv + delta_key_of(&w.size, w.head) * w.size.Dk;
    w.room_next = w.size.value_heads * DELTA_CHUNK_FLOATS;
    w.room = a->room + blockIdx.z * a->chunks * w.room_next + w.head * DELTA_CHUNK_FLOATS;
    w.wide = a->wide;
    return w;
}

// A block has 32 columns (x) of a value head (y) of a sequence (z). MT: tiles of the state a warp
// has.
template <bool EXACT, int MT>
static __global__ void __launch_bounds__(THREADS, 2) walk_kernel(delta_chunk_args a)
{
    GPU_DYNAMIC_SHARED(float, shared);
    const walk w = walk_open(&a);
    const walk_place at = walk_find(w.size.Dk, a.ahead);
    const int tiles = padded_keys(w.size.Dk) / BLOCK;
    float s[MT][NT][4];
    walk_ask(shared + at.keys, shared + at.t, &w, 0, false);
    state_load<MT>(s, &w);
    state_share<MT>(shared + at.state, s, tiles);
    for (int64_t chunk = 0; chunk * CHUNK < w.seq.n; chunk++) {
        walk_wait();
        if (a.ahead) walk_ask(shared + at.queries, shared + at.p, &w, chunk, true);
        walk_keys<EXACT, MT>(s, shared, &at, &w, chunk);
        if (!a.ahead) {
            __syncthreads();
            walk_ask(shared + at.queries, shared + at.p, &w, chunk, true);
        }
        walk_wait();
        if (a.ahead) walk_ask(shared + at.keys, shared + at.t, &w, chunk + 1, false);
        walk_queries<EXACT>(shared, &at, &w, chunk);
        __syncthreads();
        if (!a.ahead) walk_ask(shared + at.keys, shared + at.t, &w, chunk + 1, false);
        state_share<MT>(shared + at.state, s, tiles);
    }
    state_store<MT>(s, &w);
}

// ---- launching ----

template <bool EXACT, int MT>
static void launch_walk(cudaStream_t stream, const delta_chunk_args *a)
{
    const dim3 grid((unsigned)((a->size.Dv + COLUMNS - 1) / COLUMNS), (unsigned)a->size.value_heads,
                    (unsigned)a->S);
    const size_t bytes = delta_walk_shared(a->size.Dk, a->ahead);
    const auto kernel = walk_kernel<EXACT, MT>;
    GPU_ALLOW_SHARED(kernel, bytes);
    GPU_LAUNCH(kernel, grid, THREADS, bytes, stream, *a);
}

template <bool EXACT> static void launch_columns(cudaStream_t stream, const delta_chunk_args *a)
{
    if (a->size.Dk <= 64)
        launch_walk<EXACT, 1>(stream, a);
    else if (a->size.Dk <= 128)
        launch_walk<EXACT, 2>(stream, a);
    else
        launch_walk<EXACT, 4>(stream, a);
}

extern "C" void launch_delta_walk(cudaStream_t stream, const void *args)
{
    const delta_chunk_args *a = (const delta_chunk_args *)args;
    if (a->exact)
        launch_columns<true>(stream, a);
    else
        launch_columns<false>(stream, a);
}
