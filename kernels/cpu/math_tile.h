// kernels/cpu/math_tile.h - products of small float matrices held in cache, over vec.
//
// C[M, N] = diag(scale) C + A B, in register tiles of TILE_ROWS x TILE_VECS vectors: per step of K a
// tile loads a row of B once and one number of each row of A, and does TILE_ROWS * TILE_VECS fused
// multiply-adds, enough to hide their latency and the loads.
#ifndef SIGHT_KERNELS_CPU_MATH_TILE_H
#define SIGHT_KERNELS_CPU_MATH_TILE_H

#include "kernels/cpu/math_vec.h"

#define TILE_ROWS 6
#if defined(__AVX2__) && !defined(__AVX512F__)
#define TILE_VECS 2     // 12 of 16 registers
#define TILE_MAX_VECS 2
#else
#define TILE_VECS 4     // 24 of 32
#define TILE_MAX_VECS 5 // by 5 rows, for what 5 vectors hold and 4 do not
#endif

// A small matrix: element (i, j) at p[i * row + j * column].
typedef struct tile_matrix {
    const float *p;
    int64_t row, column;
} tile_matrix;

// Vector j of V; the last one has `last` elements when last is not 0.
TILE_INLINE vec tile_load(const float *p, const int j, const int V, int64_t last)
{
    return last && j == V - 1 ? vec_load_n(p + j * VEC_N, last) : vec_load(p + j * VEC_N);
}

TILE_INLINE void tile_store(float *p, vec v, const int j, const int V, int64_t last)
{
    if (last && j == V - 1) vec_store_n(p + j * VEC_N, v, last);
    else vec_store(p + j * VEC_N, v);
}

// R rows by V vectors. R, V, and whether scale and last are 0, are constants where this is inlined,
// and the arrays are registers.
TILE_INLINE void tile_registers(const int R, const int V, float *c, int64_t c_row, tile_matrix a,
                                const float *b, int64_t b_row, int64_t K, const float *scale,
                                int64_t last)
{
    vec sum[TILE_ROWS][TILE_MAX_VECS];
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) {
            sum[i][j] = vec_set(0);
            if (scale) sum[i][j] = vec_set(scale[i]) * tile_load(c + i * c_row, j, V, last);
        }
    }
    for (int64_t k = 0; k < K; k++) {
        vec row[TILE_MAX_VECS];
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) row[j] = tile_load(b + k * b_row, j, V, last);
#pragma GCC unroll 8
        for (int i = 0; i < R; i++) {
            const vec x = vec_set(a.p[i * a.row + k * a.column]);
#pragma GCC unroll 8
            for (int j = 0; j < V; j++) sum[i][j] = vec_fma(x, row[j], sum[i][j]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) tile_store(c + i * c_row, sum[i][j], j, V, last);
    }
}

// All M rows of one strip of V vectors, R at a time.
TILE_INLINE void tile_strip(const int R, const int V, float *c, int64_t c_row, tile_matrix a,
                            const float *b, int64_t b_row, int64_t M, int64_t K,
                            const float *scale, int64_t last)
{
    for (; M >= R; M -= R) {
        tile_registers(R, V, c, c_row, a, b, b_row, K, scale, last);
        a.p += R * a.row;
        c += R * c_row;
        if (scale) scale += R;
    }
    switch (M) {
    case 1: tile_registers(1, V, c, c_row, a, b, b_row, K, scale, last); break;
    case 2: tile_registers(2, V, c, c_row, a, b, b_row, K, scale, last); break;
    case 3: tile_registers(3, V, c, c_row, a, b, b_row, K, scale, last); break;
    case 4: tile_registers(4, V, c, c_row, a, b, b_row, K, scale, last); break;
    case 5: tile_registers(5, V, c, c_row, a, b, b_row, K, scale, last); break;
    default: break;
    }
}

// last: elements of the last vector, 0 when it is whole.
#define TILE_STRIP_OF(R, V)                                                                        \
    static void tile_strip_##V(float *c, int64_t c_row, tile_matrix a, const float *b,             \
                               int64_t b_row, int64_t M, int64_t K, const float *scale,            \
                               int64_t last)                                                       \
    {                                                                                              \
        if (!scale && !last) tile_strip(R, V, c, c_row, a, b, b_row, M, K, NULL, 0);               \
        else if (!last) tile_strip(R, V, c, c_row, a, b, b_row, M, K, scale, 0);                   \
        else if (!scale) tile_strip(R, V, c, c_row, a, b, b_row, M, K, NULL, last);                \
        else tile_strip(R, V, c, c_row, a, b, b_row, M, K, scale, last);                           \
    }

TILE_STRIP_OF(TILE_ROWS, 1)
TILE_STRIP_OF(TILE_ROWS, 2)
#if TILE_MAX_VECS == 5
TILE_STRIP_OF(TILE_ROWS, 3)
TILE_STRIP_OF(TILE_ROWS, 4)
TILE_STRIP_OF(5, 5)
#endif

// C = diag(scale) C + A B with scale [M], or C = A B with scale NULL. Rows of B and C are
// contiguous. C may not overlap A or B.
static void tile_product(float *c, int64_t c_row, tile_matrix a, const float *b, int64_t b_row,
                         int64_t M, int64_t N, int64_t K, const float *scale)
{
    for (int64_t j = 0, vecs; j < N; j += vecs * VEC_N) {
        vecs = (N - j + VEC_N - 1) / VEC_N;
        if (vecs > TILE_MAX_VECS) vecs = TILE_VECS;
        const int64_t last = j + vecs * VEC_N > N ? N % VEC_N : 0;
        switch (vecs) {
        case 1: tile_strip_1(c + j, c_row, a, b + j, b_row, M, K, scale, last); break;
        case 2: tile_strip_2(c + j, c_row, a, b + j, b_row, M, K, scale, last); break;
#if TILE_MAX_VECS == 5
        case 3: tile_strip_3(c + j, c_row, a, b + j, b_row, M, K, scale, last); break;
        case 4: tile_strip_4(c + j, c_row, a, b + j, b_row, M, K, scale, last); break;
        default: tile_strip_5(c + j, c_row, a, b + j, b_row, M, K, scale, last); break;
#endif
        }
    }
}

#endif
