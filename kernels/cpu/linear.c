#include "kernels/cpu/linear.h"

// Outputs of one piece of the dot form: a multiple of what the levels take at once (6, 4, 3).
#define DOT_PIECE 24
#define UNPACKED_PIECE 48 // the same of packed weights: whole panels too
#define F8_ROWS 8         // up to so many, E4M3 weights are multiplied as they are packed, row by row
#define MAX_GROUP 4 // panels of a piece of the tile form
#define PART_TILES 16

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
    const float *units;       // the rows, packed
    int64_t piece;            // dot form: outputs at once
    int64_t tiles;            // tile form: of the rows
    int64_t group, row_parts; // panels and cuts of the rows that make a piece
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
        int64_t row = b * LINEAR_BLOCK, left = j->N - row;
        int64_t rows = left < LINEAR_BLOCK ? left : LINEAR_BLOCK;
        j->lk->lane_rows((float *)j->units + row * size, j->x + row * j->K, j->K, rows);
    }
}

// Outputs first .. first + cols of a product, from the scratch at `room` where they are packed: row-major
// float32 as many rows as the room holds at a time.
static void dot_outputs(const linear_job *j, float *out, const weight *w, linear_piece p, float *room)
{
    if (!w->packed) {
        j->lk->dot(out, j->piece, j->units, weight_rows(w, p.first), w->w.type, j->K, j->N, p.cols);
        return;
    }
    if (j->lk->dot_f8 && j->N <= F8_ROWS && w->packed->format.f8 &&
        w->packed->format.scales != PACKED_TWO_LEVEL) {
        for (int64_t c = 0; c < p.cols; c += PACKED_PANEL) {
            j->lk->dot_f8(out + c, j->piece, j->units, w->packed, (p.first + c) / PACKED_PANEL, j->N);
        }
        return;
    }
    const int64_t most = (int64_t)KERNELS_SCRATCH_FLOATS / 2 / j->K;
    for (int64_t c = 0, n; c < p.cols; c += n) {
        n = p.cols - c < most ? p.cols - c : most;
        j->k->ops.unpack(w->packed, room, p.first + c, n);
        j->lk->dot(out + c, j->piece, j->units, room, TENSOR_F32, j->K, j->N, n);
    }
}

static void dot_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const linear_job *j = arg;
    float *a = kernels_scratch(j->k, worker, KERNELS_SCRATCH_FLOATS);
    float *b = a + j->N * j->piece, *room = a + KERNELS_SCRATCH_FLOATS / 2;
    for (int64_t i = begin; i < end; i++) {
        linear_piece p = find_piece(j, i, j->piece);
        dot_outputs(j, a, j->w[p.product], p, room);
        if (j->mode == LINEAR_SILU_MUL) dot_outputs(j, b, j->w[1], p, room);
        finish(j, p, 0, j->N, a, b, j->piece);
    }
}

static void run_dot(linear_job *j)
{
    float *units = kernels_shared(j->k, (size_t)(j->N * j->J * LINEAR_STEP));
    j->units = units;
    // A few rows are prepared faster than another thread wakes.
    int64_t blocks = (j->N + LINEAR_BLOCK - 1) / LINEAR_BLOCK;
    threads_for(j->k->pool, blocks, j->N * j->K < 65536 ? blocks : 1, lane_blocks, j);
    threads_for(j->k->pool, pieces_of(j, j->piece), 1, dot_pieces, j);
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
        j->lk->pack_rows((float *)j->units + t * size, j->x + row * j->K, j->K, rows);
    }
}

// One panel of the outputs and, for the gated form, its twin.
typedef struct linear_panel {
    linear_piece at;
    float *a, *b; // packed
} linear_panel;

static void pack_outputs(const linear_job *j, float *out, const weight *w, linear_piece p,
                         float *room)
{
    if (w->packed) j->k->ops.unpack(w->packed, room, p.first, p.cols);
    j->lk->pack_weights(out, w->packed ? room : weight_rows(w, p.first),
                        w->packed ? TENSOR_F32 : w->w.type, j->K, p.cols);
}

static void pack_panel(const linear_job *j, const linear_panel *p, float *room)
{
    pack_outputs(j, p->a, j->w[p->at.product], p->at, room);
    if (j->mode == LINEAR_SILU_MUL) pack_outputs(j, p->b, j->w[1], p->at, room);
}

static void tile_times_panel(const linear_job *j, int64_t t, const linear_panel *p)
{
    const linear_kernels *lk = j->lk;
    _Alignas(64) float a[LINEAR_MAX_TILE * LINEAR_MAX_PANEL];
    _Alignas(64) float b[LINEAR_MAX_TILE * LINEAR_MAX_PANEL];
    const float *x = j->units + t * j->J * LINEAR_LANES * lk->units * lk->tile;
    int64_t row = tile_start(j, t), rows = tile_start(j, t + 1) - row;
    lk->tile_product(a, x, p->a, j->J, rows);
    if (j->mode == LINEAR_SILU_MUL) lk->tile_product(b, x, p->b, j->J, rows);
    finish(j, p->at, row, rows, a, b, lk->panel);
}

static size_t panel_floats(const linear_job *j)
{
    size_t one = (size_t)(j->J * LINEAR_LANES * j->lk->units * j->lk->panel);
    return j->mode == LINEAR_SILU_MUL ? 2 * one : one;
}

// A few panels over part of the rows: each tile is fetched once for all of them.
static void panel_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const linear_job *j = arg;
    const linear_kernels *lk = j->lk;
    size_t size = panel_floats(j);
    float *panel = kernels_scratch(j->k, worker, KERNELS_SCRATCH_FLOATS);
    float *room = panel + (size_t)j->group * size; // of rows on their way from packed ones
    for (int64_t i = begin; i < end; i++) {
        linear_piece piece = find_piece(j, i / j->row_parts, lk->panel * j->group);
        linear_panel panels[MAX_GROUP];
        int n = 0;
        for (int64_t c = 0; c < piece.cols; c += lk->panel, n++) {
            int64_t cols = piece.cols - c < lk->panel ? piece.cols - c : lk->panel;
            float *a = panel + (size_t)n * size;
            panels[n] = (linear_panel){{piece.product, piece.first + c, cols}, a, a + size / 2};
            pack_panel(j, &panels[n], room);
        }
        int64_t part = i % j->row_parts, last = (part + 1) * j->tiles / j->row_parts;
        for (int64_t t = part * j->tiles / j->row_parts; t < last; t++) {
            for (int p = 0; p < n; p++) tile_times_panel(j, t, &panels[p]);
        }
    }
}

// Cuts the outputs into pieces of as many panels as stay in the second cache together, and the rows
// too where that gives threads too little to share. Packing a panel costs as much as a few rows,
// so parts of the rows are long.
static int64_t plan_pieces(linear_job *j)
{
    size_t bytes = panel_floats(j) * sizeof(float);
    int64_t enough = 8 * threads_count(j->k->pool), pieces;
    int64_t parts = j->tiles < 2 * PART_TILES ? 1 : j->tiles / PART_TILES;
    for (j->group = MAX_GROUP;; j->group /= 2) {
        pieces = pieces_of(j, j->group * j->lk->panel);
        bool fits = (size_t)j->group * bytes <= j->k->cache_bytes / 2 &&
                    (size_t)(j->group + 1) * bytes <= KERNELS_SCRATCH_FLOATS * sizeof(float);
        if (j->group == 1 || (fits && pieces * parts >= enough)) break;
    }
    j->row_parts = (enough + pieces - 1) / pieces;
    if (j->row_parts > parts) j->row_parts = parts;
    return pieces * j->row_parts;
}

static void run_tiles(linear_job *j)
{
    const linear_kernels *lk = j->lk;
    j->tiles = (j->N + lk->tile - 1) / lk->tile;
    j->units = kernels_shared(
        j->k, (size_t)(j->tiles * lk->tile * j->J * LINEAR_LANES * lk->units));
    int64_t pieces = plan_pieces(j);
    threads_for(j->k->pool, j->tiles, 1, pack_tiles, j);
    threads_for(j->k->pool, pieces, 1, panel_pieces, j);
}

// ---- both ----

// Rows that fit the shared scratch in either form; 0: not even one tile does.
static int64_t rows_that_fit(const linear_job *j, bool tiles)
{
    int64_t row = j->J * LINEAR_STEP;
    int64_t shared = (int64_t)KERNELS_SHARED_FLOATS / row;
    if (!tiles) {
        int64_t own = (int64_t)KERNELS_SCRATCH_FLOATS / 2 / (2 * j->piece);
        return shared < own ? shared : own;
    }
    if (3 * row * j->lk->panel > (int64_t)KERNELS_SCRATCH_FLOATS) return 0;
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
    job.piece = DOT_PIECE;
    for (int i = 0; i < n_w; i++) job.piece = w[i]->packed ? UNPACKED_PIECE : job.piece;
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
    if (k->ops.linear_bf16 && w->w.type == TENSOR_BF16 && !w->packed) return k->ops.linear_bf16;
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
