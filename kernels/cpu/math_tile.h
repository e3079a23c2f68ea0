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
#define TILE_VECS 2 // 12 of 16 registers
#else
#define TILE_VECS 4 // 24 of 32
#endif
#define TILE_COLUMNS (TILE_VECS * VEC_N)

#define TILE_INLINE static inline __attribute__((always_inline))

// A small matrix: element (i, j) at p[i * row + j * column].
typedef struct tile_matrix {
    const float *p;
    int64_t row, column;
} tile_matrix;

// R rows by V vectors, the last of which has `last` elements. R and V are constants where this is
// inlined, and the arrays are registers.
TILE_INLINE void tile_registers(const int R, const int V, float *c, int64_t c_row, tile_matrix a,
                                const float *b, int64_t b_row, int64_t K, const float *scale,
                                int64_t last)
{
    vec sum[TILE_ROWS][TILE_VECS];
#pragma GCC unroll 8
    for (int i = 0; i < R; i++) {
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) {
            if (!scale) {
                sum[i][j] = vec_set(0);
                continue;
            }
            const float *from = c + i * c_row + j * VEC_N;
            sum[i][j] = vec_set(scale[i]) * (j == V - 1 ? vec_get(from, last) : vec_load(from));
        }
    }
    for (int64_t k = 0; k < K; k++) {
        vec row[TILE_VECS];
#pragma GCC unroll 8
        for (int j = 0; j < V; j++) {
            const float *from = b + k * b_row + j * VEC_N;
            row[j] = j == V - 1 ? vec_get(from, last) : vec_load(from);
        }
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
        for (int j = 0; j < V; j++) {
            vec_put(c + i * c_row + j * VEC_N, sum[i][j], j == V - 1 ? last : VEC_N);
        }
    }
}

// All M rows of one strip of V vectors.
TILE_INLINE void tile_strip(const int V, float *c, int64_t c_row, tile_matrix a, const float *b,
                            int64_t b_row, int64_t M, int64_t K, const float *scale, int64_t last)
{
    int64_t i = 0;
    for (; i + TILE_ROWS <= M; i += TILE_ROWS) {
        const tile_matrix rows = {a.p + i * a.row, a.row, a.column};
        tile_registers(TILE_ROWS, V, c + i * c_row, c_row, rows, b, b_row, K,
                       scale ? scale + i : NULL, last);
    }
    const tile_matrix rows = {a.p + i * a.row, a.row, a.column};
    c += i * c_row;
    if (scale) scale += i;
    switch (M - i) {
    case 1: tile_registers(1, V, c, c_row, rows, b, b_row, K, scale, last); break;
    case 2: tile_registers(2, V, c, c_row, rows, b, b_row, K, scale, last); break;
    case 3: tile_registers(3, V, c, c_row, rows, b, b_row, K, scale, last); break;
    case 4: tile_registers(4, V, c, c_row, rows, b, b_row, K, scale, last); break;
    case 5: tile_registers(5, V, c, c_row, rows, b, b_row, K, scale, last); break;
    default: break;
    }
}

// A strip of whole vectors, or one that ends in a part of a vector.
#define TILE_STRIP_OF(V)                                                                           \
    static void tile_strip_##V(float *c, int64_t c_row, tile_matrix a, const float *b,             \
                               int64_t b_row, int64_t M, int64_t K, const float *scale,            \
                               int64_t last)                                                       \
    {                                                                                              \
        if (last == VEC_N && !scale) tile_strip(V, c, c_row, a, b, b_row, M, K, NULL, VEC_N);      \
        else if (last == VEC_N) tile_strip(V, c, c_row, a, b, b_row, M, K, scale, VEC_N);          \
        else tile_strip(V, c, c_row, a, b, b_row, M, K, scale, last);                              \
    }

TILE_STRIP_OF(1)
TILE_STRIP_OF(2)
#if TILE_VECS == 4
TILE_STRIP_OF(3)
TILE_STRIP_OF(4)
#endif

// C = diag(scale) C + A B with scale [M], or C = A B with scale NULL. Rows of B and C are
// contiguous. C may not overlap A or B.
static void tile_product(float *c, int64_t c_row, tile_matrix a, const float *b, int64_t b_row,
                         int64_t M, int64_t N, int64_t K, const float *scale)
{
    for (int64_t j = 0; j < N; j += TILE_COLUMNS) {
        const int64_t n = N - j < TILE_COLUMNS ? N - j : TILE_COLUMNS;
        const int64_t vecs = (n + VEC_N - 1) / VEC_N, last = n - (vecs - 1) * VEC_N;
        switch (vecs) {
        case 1: tile_strip_1(c + j, c_row, a, b + j, b_row, M, K, scale, last); break;
        case 2: tile_strip_2(c + j, c_row, a, b + j, b_row, M, K, scale, last); break;
#if TILE_VECS == 4
        case 3: tile_strip_3(c + j, c_row, a, b + j, b_row, M, K, scale, last); break;
        default: tile_strip_4(c + j, c_row, a, b + j, b_row, M, K, scale, last); break;
#endif
        }
    }
}

#endif
