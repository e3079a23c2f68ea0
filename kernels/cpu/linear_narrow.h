// kernels/cpu/linear_narrow.h - products with vectors of VEC = 4 or 8 floats.
//
// Included once by linear_<level>.c after it has defined, for its instructions:
//   VEC, vec, pair_vec {vec even, odd}
//   vec_zero, vec_load, vec_store, vec_set1, vec_add, vec_fma(a, b, sum)
//   vec_prefetch(pointer)
//   vec_transpose(vec v[VEC])
//   vec_pairs(pointer, type): the 2 VEC neighbours at pointer as float32
//   vec_sum(vec v[PARTS]): the tree of linear.h over the 16 lanes
// The 16 lanes of a sum are PARTS vectors; part h takes elements 2 VEC h and on of each step.

#define PARTS (LINEAR_LANES / VEC)
#define TILE 6
#define PANEL 16
#define INLINE static inline __attribute__((always_inline))

INLINE int64_t element_bytes(tensor_type type)
{
    return type == TENSOR_F32 ? 4 : 2;
}

// A step that is not whole, followed by zeros.
typedef struct last_step {
    _Alignas(64) char bytes[LINEAR_STEP * 4];
} last_step;

static void copy_last(last_step *out, const char *p, tensor_type type, int64_t n)
{
    memset(out, 0, sizeof *out);
    memcpy(out->bytes, p, (size_t)(n * element_bytes(type)));
}

INLINE pair_vec load_part(const char *step, tensor_type type, int part)
{
    return vec_pairs(step + part * 2 * VEC * element_bytes(type), type);
}

// ---- dot form ----

static void lane_rows(float *out, const float *x, int64_t K, int64_t rows)
{
    for (int64_t k = 0; k < K; k += LINEAR_STEP) {
        for (int64_t r = 0; r < rows; r++, out += LINEAR_STEP) {
            const char *p = (const char *)(x + r * K + k);
            last_step last;
            if (K - k < LINEAR_STEP) {
                copy_last(&last, p, TENSOR_F32, K - k);
                p = last.bytes;
            }
            for (int h = 0; h < PARTS; h++) {
                pair_vec v = load_part(p, TENSOR_F32, h);
                vec_store(out + h * VEC, v.even);
                vec_store(out + LINEAR_LANES + h * VEC, v.odd);
            }
        }
    }
}

// Adds one step of R rows times W rows of weights.
INLINE void dot_step(vec sum[][4][PARTS], const float *x, const char *const *w, tensor_type type,
                     const int R, const int W)
{
#pragma GCC unroll 4
    for (int h = 0; h < PARTS; h++) {
#pragma GCC unroll 4
        for (int c = 0; c < W; c++) {
            pair_vec v = load_part(w[c], type, h);
#pragma GCC unroll 4
            for (int r = 0; r < R; r++) {
                const float *p = x + r * LINEAR_STEP + h * VEC;
                sum[r][c][h] = vec_fma(vec_load(p), v.even, sum[r][c][h]);
                sum[r][c][h] = vec_fma(vec_load(p + LINEAR_LANES), v.odd, sum[r][c][h]);
            }
        }
    }
}

// R rows times W rows of weights; a step of the rows is x_step floats.
INLINE void dot_block(float *out, int64_t out_stride, const float *x, int64_t x_step,
                      const char *const *w, tensor_type type, int64_t K, const int R, const int W,
                      int64_t cols)
{
    const int64_t bytes = element_bytes(type);
    const int64_t ahead = 4 * K * bytes; // the processor's own reading ahead stops at each page
    vec sum[4][4][PARTS];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int c = 0; c < W; c++) {
#pragma GCC unroll 4
            for (int h = 0; h < PARTS; h++) sum[r][c][h] = vec_zero();
        }
    }
    int64_t k = 0;
    for (; k + LINEAR_STEP <= K; k += LINEAR_STEP, x += x_step) {
        const char *p[4];
#pragma GCC unroll 4
        for (int c = 0; c < W; c++) {
            p[c] = w[c] + k * bytes;
            vec_prefetch(p[c] + ahead);
        }
        dot_step(sum, x, p, type, R, W);
    }
    if (k < K) {
        last_step last[4];
        const char *p[4];
        for (int c = 0; c < W; c++) {
            copy_last(&last[c], w[c] + k * bytes, type, K - k);
            p[c] = last[c].bytes;
        }
        dot_step(sum, x, p, type, R, W);
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int c = 0; c < W; c++) {
            if (c < cols) out[r * out_stride + c] = vec_sum(sum[r][c]);
        }
    }
}

// One row times four of weights at once, or up to four rows times one.
INLINE void dot_typed(float *out, int64_t out_stride, const float *x, const char *w,
                      tensor_type type, int64_t K, int64_t rows, int64_t cols)
{
    const int64_t bytes = K * element_bytes(type);
    for (int64_t c = 0; c < cols; c += 4) {
        const char *p[4];
        for (int i = 0; i < 4; i++) p[i] = w + (c + i < cols ? c + i : c) * bytes;
        int64_t width = cols - c < 4 ? cols - c : 4;
        for (int64_t b = 0; b < rows; b += LINEAR_BLOCK) {
            int64_t n = rows - b < LINEAR_BLOCK ? rows - b : LINEAR_BLOCK;
            const float *xb = x + b * linear_steps(K) * LINEAR_STEP;
            for (int64_t r = 0; r < n; r += 4, xb += 4 * LINEAR_STEP) {
                float *o = out + (b + r) * out_stride + c;
                if (n == 1) {
                    dot_block(o, out_stride, xb, LINEAR_STEP, p, type, K, 1, 4, width);
                    continue;
                }
                for (int64_t i = 0; i < width; i++) {
                    int64_t step = n * LINEAR_STEP;
                    switch (n - r) {
                    case 1: dot_block(o + i, out_stride, xb, step, p + i, type, K, 1, 1, 1); break;
                    case 2: dot_block(o + i, out_stride, xb, step, p + i, type, K, 2, 1, 1); break;
                    case 3: dot_block(o + i, out_stride, xb, step, p + i, type, K, 3, 1, 1); break;
                    default: dot_block(o + i, out_stride, xb, step, p + i, type, K, 4, 1, 1);
                    }
                }
            }
        }
    }
}

static void dot(float *out, int64_t out_stride, const float *x, const void *w, tensor_type type,
                int64_t K, int64_t rows, int64_t cols)
{
    switch (type) {
    case TENSOR_BF16: dot_typed(out, out_stride, x, w, TENSOR_BF16, K, rows, cols); break;
    case TENSOR_F16: dot_typed(out, out_stride, x, w, TENSOR_F16, K, rows, cols); break;
    default: dot_typed(out, out_stride, x, w, TENSOR_F32, K, rows, cols); break;
    }
}

// ---- packing ----

// Sixteen lanes of one step of `rows` rows, VEC of them at a time, side by side in `width`.
INLINE void pack(float *out, int64_t width, const char *w, tensor_type type, int64_t K,
                 int64_t rows)
{
    const int64_t bytes = element_bytes(type), lane = linear_steps(K) * 2 * width;
    for (int64_t k = 0; k < K; k += LINEAR_STEP, out += 2 * width) {
        for (int64_t c = 0; c < width; c += VEC) {
            int64_t n = width - c < VEC ? width - c : VEC;
            last_step last[VEC];
            const char *p[VEC];
            for (int i = 0; i < VEC; i++) {
                p[i] = w + ((c + i) * K + k) * bytes;
                if (c + i < rows && K - k >= LINEAR_STEP) continue;
                copy_last(&last[i], p[i], type,
                          c + i >= rows ? 0 : K - k < LINEAR_STEP ? K - k : LINEAR_STEP);
                p[i] = last[i].bytes;
            }
            for (int h = 0; h < PARTS; h++) {
                vec even[VEC], odd[VEC];
#pragma GCC unroll 8
                for (int i = 0; i < VEC; i++) {
                    pair_vec v = load_part(p[i], type, h);
                    even[i] = v.even;
                    odd[i] = v.odd;
                }
                vec_transpose(even);
                vec_transpose(odd);
#pragma GCC unroll 8
                for (int i = 0; i < VEC; i++) {
                    float *to = out + (h * VEC + i) * lane + c;
                    if (n == VEC) {
                        vec_store(to, even[i]);
                        vec_store(to + width, odd[i]);
                    } else {
                        memcpy(to, &even[i], (size_t)n * 4);
                        memcpy(to + width, &odd[i], (size_t)n * 4);
                    }
                }
            }
        }
    }
}

static void pack_rows(float *out, const float *x, int64_t K, int64_t rows)
{
    pack(out, TILE, (const char *)x, TENSOR_F32, K, rows);
}

static void pack_weights(float *out, const void *w, tensor_type type, int64_t K, int64_t cols)
{
    switch (type) {
    case TENSOR_BF16: pack(out, PANEL, w, TENSOR_BF16, K, cols); break;
    case TENSOR_F16: pack(out, PANEL, w, TENSOR_F16, K, cols); break;
    default: pack(out, PANEL, w, TENSOR_F32, K, cols); break;
    }
}

// ---- tile form ----

// R rows times 16 outputs. stack holds the sums that wait for their partner in the tree.
INLINE void tile_rows(float *out, const float *x, const float *w, int64_t J, const int R)
{
    _Alignas(64) float stack[5][TILE * PANEL];
    int top = 0;
    for (int i = 0; i < LINEAR_LANES; i++) {
        int p = (i & 1) << 3 | (i & 2) << 1 | (i & 4) >> 1 | (i & 8) >> 3; // partners in turn
        const float *xp = x + p * J * 2 * TILE, *wp = w + p * J * 2 * PANEL;
        vec sum[TILE][PARTS];
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
            for (int c = 0; c < PARTS; c++) sum[r][c] = vec_zero();
        }
        for (int64_t s = 0; s < 2 * J; s++, xp += TILE, wp += PANEL) {
            vec v[PARTS];
#pragma GCC unroll 4
            for (int c = 0; c < PARTS; c++) v[c] = vec_load(wp + c * VEC);
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) {
                vec b = vec_set1(xp[r]);
#pragma GCC unroll 4
                for (int c = 0; c < PARTS; c++) sum[r][c] = vec_fma(b, v[c], sum[r][c]);
            }
        }
        for (int bit = i; bit & 1; bit >>= 1) {
            const float *partner = stack[--top];
#pragma GCC unroll 6
            for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
                for (int c = 0; c < PARTS; c++) {
                    sum[r][c] = vec_add(vec_load(partner + r * PANEL + c * VEC), sum[r][c]);
                }
            }
        }
        float *place = i + 1 < LINEAR_LANES ? stack[top++] : out;
#pragma GCC unroll 6
        for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
            for (int c = 0; c < PARTS; c++) vec_store(place + r * PANEL + c * VEC, sum[r][c]);
        }
    }
}

static void tile_product(float *out, const float *x, const float *w, int64_t J, int64_t rows)
{
    if (rows <= 2) tile_rows(out, x, w, J, 2);
    else if (rows <= 4) tile_rows(out, x, w, J, 4);
    else tile_rows(out, x, w, J, TILE);
}

static const linear_kernels narrow_kernels = {
    .tile = TILE,
    .panel = PANEL,
    .units = 2,
    .dot_rows = 12,
    .lane_rows = lane_rows,
    .dot = dot,
    .pack_rows = pack_rows,
    .pack_weights = pack_weights,
    .tile_product = tile_product,
    .finish = linear_finish,
};
