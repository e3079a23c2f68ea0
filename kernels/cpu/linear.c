#include "kernels/cpu/linear.h"

// Outputs of one piece of the dot form: a multiple of what the levels take at once (4 and 3).
#define DOT_PIECE 24

typedef struct linear_job {
    kernels *k;
    const linear_kernels *lk;
    float *const *y;
    const float *x;
    const weight *const *w;
    int n_w; // products, 1 for LINEAR_SILU_MUL
    int64_t N, K, J;
    int64_t skip; // rows of y before these
    linear_mode mode;
    const float *packed;      // the rows in units
    int64_t row_parts, tiles; // tile form: the rows are cut too where panels alone are too few
} linear_job;

// The piece of index i when every product is cut into pieces of `size` outputs.
typedef struct linear_piece {
    int product;
    int64_t first, cols;
} linear_piece;

static int64_t pieces_of(const linear_job *j, int64_t size)
{
    int64_t n = 0;
    for (int i = 0; i < j->n_w; i++) n += (j->w[i]->w.shape[0] + size - 1) / size;
    return n;
}

static linear_piece find_piece(const linear_job *j, int64_t index, int64_t size)
{
    int i = 0;
    for (; i + 1 < j->n_w; i++) {
        int64_t n = (j->w[i]->w.shape[0] + size - 1) / size;
        if (index < n) break;
        index -= n;
    }
    int64_t left = j->w[i]->w.shape[0] - index * size;
    return (linear_piece){i, index * size, left < size ? left : size};
}

static const void *weight_rows(const weight *w, int64_t m)
{
    return (const char *)w->w.data + (size_t)(m * w->w.shape[1]) * tensor_type_bytes(w->w.type);
}

static void finish(const linear_job *j, linear_piece p, int64_t row, int64_t rows, const float *a,
                   const float *b, int64_t stride)
{
    int64_t M = j->w[p.product]->w.shape[0];
    const float *bias_a = j->w[p.product]->bias;
    const float *bias_b = j->mode == LINEAR_SILU_MUL ? j->w[1]->bias : NULL;
    j->lk->finish(j->y[p.product] + (j->skip + row) * M + p.first, M, a, b, stride,
                  bias_a ? bias_a + p.first : NULL, bias_b ? bias_b + p.first : NULL, rows, p.cols,
                  j->mode);
}

// ---- dot form ----

static void lane_blocks(void *arg, int64_t begin, int64_t end, int worker)
{
    const linear_job *j = arg;
    int64_t size = j->J * LINEAR_LANES * j->lk->units;
    for (int64_t b = begin; b < end; b++) {
        int64_t row = b * LINEAR_BLOCK, rows = j->N - row < LINEAR_BLOCK ? j->N - row : LINEAR_BLOCK;
        j->lk->lane_rows((float *)j->packed + row * size, j->x + row * j->K, j->K, rows);
    }
}

static void dot_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const linear_job *j = arg;
    float *a = kernels_scratch(j->k, worker, (size_t)(2 * j->N * DOT_PIECE));
    float *b = a + j->N * DOT_PIECE;
    for (int64_t i = begin; i < end; i++) {
        linear_piece p = find_piece(j, i, DOT_PIECE);
        const weight *w = j->w[p.product];
        j->lk->dot(a, DOT_PIECE, j->packed, weight_rows(w, p.first), w->w.type, j->K, j->N, p.cols);
        if (j->mode == LINEAR_SILU_MUL) {
            w = j->w[1];
            j->lk->dot(b, DOT_PIECE, j->packed, weight_rows(w, p.first), w->w.type, j->K, j->N,
                       p.cols);
        }
        finish(j, p, 0, j->N, a, b, DOT_PIECE);
    }
}

static void run_dot(linear_job *j)
{
    float *packed = kernels_shared(j->k, (size_t)(j->N * j->J * LINEAR_STEP));
    j->packed = packed;
    // A few rows are prepared faster than another thread wakes.
    int64_t blocks = (j->N + LINEAR_BLOCK - 1) / LINEAR_BLOCK;
    threads_for(j->k->pool, blocks, j->N * j->K < 65536 ? blocks : 1, lane_blocks, j);
    threads_for(j->k->pool, pieces_of(j, DOT_PIECE), 1, dot_pieces, j);
}

// ---- tile form ----

// Rows are spread evenly over the tiles: two of 8 are faster than 14 and 2.
static int64_t tile_start(const linear_job *j, int64_t t)
{
    return t * j->N / j->tiles;
}

static void pack_tiles(void *arg, int64_t begin, int64_t end, int worker)
{
    const linear_job *j = arg;
    int64_t tile = j->lk->tile, size = j->J * LINEAR_LANES * j->lk->units * tile;
    for (int64_t t = begin; t < end; t++) {
        int64_t row = tile_start(j, t), rows = tile_start(j, t + 1) - row;
        j->lk->pack_rows((float *)j->packed + t * size, j->x + row * j->K, j->K, rows);
    }
}

// Panel of outputs times tiles first .. last - 1 of the rows.
static void panel_product(const linear_job *j, linear_piece p, int64_t first, int64_t last,
                          float *panels)
{
    const linear_kernels *lk = j->lk;
    int64_t step = j->J * LINEAR_LANES * lk->units; // units of a row
    bool two = j->mode == LINEAR_SILU_MUL;
    _Alignas(64) float a[LINEAR_MAX_TILE * LINEAR_MAX_PANEL];
    _Alignas(64) float b[LINEAR_MAX_TILE * LINEAR_MAX_PANEL];
    float *panel_b = panels + step * lk->panel;
    const weight *w = j->w[p.product];
    lk->pack_weights(panels, weight_rows(w, p.first), w->w.type, j->K, p.cols);
    if (two) lk->pack_weights(panel_b, weight_rows(j->w[1], p.first), j->w[1]->w.type, j->K, p.cols);
    for (int64_t t = first; t < last; t++) {
        const float *x = j->packed + t * step * lk->tile;
        int64_t row = tile_start(j, t), rows = tile_start(j, t + 1) - row;
        lk->tile_product(a, x, panels, j->J, rows);
        if (two) lk->tile_product(b, x, panel_b, j->J, rows);
        finish(j, p, row, rows, a, b, lk->panel);
    }
}

static void panel_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const linear_job *j = arg;
    size_t size = (size_t)(j->J * LINEAR_LANES * j->lk->units * j->lk->panel);
    float *panels = kernels_scratch(j->k, worker, j->mode == LINEAR_SILU_MUL ? 2 * size : size);
    for (int64_t i = begin; i < end; i++) {
        int64_t part = i % j->row_parts;
        linear_piece p = find_piece(j, i / j->row_parts, j->lk->panel);
        panel_product(j, p, part * j->tiles / j->row_parts, (part + 1) * j->tiles / j->row_parts,
                      panels);
    }
}

static void run_tiles(linear_job *j)
{
    const linear_kernels *lk = j->lk;
    int64_t panels = pieces_of(j, lk->panel);
    j->tiles = (j->N + lk->tile - 1) / lk->tile;
    j->packed = kernels_shared(
        j->k, (size_t)(j->tiles * lk->tile * j->J * LINEAR_LANES * lk->units));
    // Packing a panel costs as much as a dozen rows: cut rows only where threads would idle.
    j->row_parts = 4 * threads_count(j->k->pool) / panels;
    if (j->row_parts > j->tiles / 8) j->row_parts = j->tiles / 8;
    if (j->row_parts < 1) j->row_parts = 1;
    threads_for(j->k->pool, j->tiles, 1, pack_tiles, j);
    threads_for(j->k->pool, panels * j->row_parts, 1, panel_pieces, j);
}

// ---- both ----

// Rows that fit the shared scratch in either form; 0: not even one tile does.
static int64_t rows_that_fit(const linear_job *j, bool tiles)
{
    int64_t row = j->J * LINEAR_STEP;
    int64_t shared = (int64_t)KERNELS_SHARED_FLOATS / row;
    if (!tiles) {
        int64_t own = (int64_t)KERNELS_SCRATCH_FLOATS / (2 * DOT_PIECE);
        return shared < own ? shared : own;
    }
    if (2 * row * j->lk->panel > (int64_t)KERNELS_SCRATCH_FLOATS) return 0;
    return shared / j->lk->tile * j->lk->tile;
}

// Consecutive products of one kind.
static void run_same(kernels *k, const linear_kernels *lk, float *const *y, const float *x,
                     const weight *const *w, int n_w, int64_t N, linear_mode mode)
{
    linear_job job = {.k = k, .lk = lk, .y = y, .w = w, .mode = mode};
    job.n_w = mode == LINEAR_SILU_MUL ? 1 : n_w;
    job.K = w[0]->w.shape[1];
    job.J = linear_steps(job.K);
    int64_t fit = N > lk->dot_rows ? rows_that_fit(&job, true) : 0;
    bool tiles = fit > 0;
    if (!tiles) fit = rows_that_fit(&job, false);
    for (int64_t row = 0; row < N; row += fit) {
        job.skip = row;
        job.x = x + row * job.K;
        job.N = N - row < fit ? N - row : fit;
        if (tiles && job.N > lk->dot_rows) run_tiles(&job);
        else run_dot(&job);
    }
}

static const linear_kernels *kernels_for(const kernels *k, const weight *w)
{
    if (k->ops.linear_bf16 && w->w.type == TENSOR_BF16) return k->ops.linear_bf16;
    return k->ops.linear_kernels;
}

void linear_run(kernels *k, float *const *y, const float *x, const weight *const *w, int n_w,
                int64_t N, linear_mode mode)
{
    if (mode == LINEAR_SILU_MUL) {
        const linear_kernels *lk = kernels_for(k, w[0]);
        if (lk != kernels_for(k, w[1])) lk = k->ops.linear_kernels;
        run_same(k, lk, y, x, w, n_w, N, mode);
        return;
    }
    for (int i = 0, n; i < n_w; i += n) {
        const linear_kernels *lk = kernels_for(k, w[i]);
        for (n = 1; i + n < n_w && kernels_for(k, w[i + n]) == lk;) n++;
        run_same(k, lk, y + i, x, w + i, n, N, mode);
    }
}
