#include "kernels/cpu/packed.h"

#include <assert.h>
#include <string.h>

#include "kernels/cpu/linear.h"

#define PIECE_BYTES ((size_t)48 << 10) // of codes, in the few form
#define MAX_GROUP 4                    // strips of a piece of the many form
#define PART_TILES 16
#define MAX_FEW 32                     // rows of the few form, at most

// Rows as one product wants them.
typedef struct packed_side {
    packed_x_form form;
    char *rows; // tiles
} packed_side;

typedef struct packed_job {
    kernels *k;
    const packed_kernels *pk;
    float *const *y;
    const float *x;
    const weight *const *w;
    int n_w; // products, 1 for LINEAR_SILU_MUL
    int64_t N, K, blocks;
    int64_t skip; // rows of y before these
    linear_mode mode;
    packed_side side[2]; // of all products; of the gate and of its twin
    int sides;           // of different forms
    int tile;            // rows side by side
    int64_t tiles;
    int64_t size;             // panels of a piece
    int64_t group, row_parts; // many form: strips and cuts of the rows that make a piece
} packed_job;

// The piece of index i when every product is cut into pieces of `size` panels.
typedef struct packed_piece {
    int product;
    int64_t first, n; // panels
} packed_piece;

static int64_t pieces_of(const packed_job *j)
{
    int64_t n = 0;
    for (int i = 0; i < j->n_w; i++) n += (packed_panels(j->w[i]->packed->M) + j->size - 1) / j->size;
    return n;
}

static packed_piece find_piece(const packed_job *j, int64_t index)
{
    int i = 0;
    for (; i + 1 < j->n_w; i++) {
        const int64_t n = (packed_panels(j->w[i]->packed->M) + j->size - 1) / j->size;
        if (index < n) break;
        index -= n;
    }
    const int64_t left = packed_panels(j->w[i]->packed->M) - index * j->size;
    return (packed_piece){i, index * j->size, left < j->size ? left : j->size};
}

// Rows are spread evenly over the tiles.
static int64_t tile_start(const packed_job *j, int64_t t)
{
    return t * j->N / j->tiles;
}

static char *tile_at(const packed_job *j, int side, int64_t t)
{
    const packed_side *s = &j->side[side];
    return s->rows + (size_t)(t * j->blocks) * packed_x_block(j->tile, s->form.steps);
}

static void pack_tiles(void *arg, int64_t begin, int64_t end, int worker)
{
    const packed_job *j = arg;
    for (int64_t t = begin; t < end; t++) {
        const int64_t row = tile_start(j, t), rows = tile_start(j, t + 1) - row;
        for (int s = 0; s < j->sides; s++) {
            j->pk->pack_rows(tile_at(j, s, t), j->x + row * j->K, j->K, (int)rows, j->tile,
                             j->side[s].form);
        }
    }
}

// A few rows are packed faster than another thread wakes.
static void pack_all(packed_job *j)
{
    threads_for(j->k->pool, j->tiles, j->N * j->K < 65536 ? j->tiles : 1, pack_tiles, j);
}

// Rows row .. row + rows - 1 of panel `panel` of a product.
static void finish(const packed_job *j, int product, int64_t panel, int64_t row, int64_t rows,
                   const float *a, const float *b)
{
    const weight *w = j->w[product];
    const int64_t M = w->packed->M, m = panel * PACKED_PANEL;
    const int64_t cols = M - m < PACKED_PANEL ? M - m : PACKED_PANEL;
    const float *bias_b = j->mode == LINEAR_SILU_MUL ? j->w[1]->bias : NULL;
    j->k->ops.linear_kernels->finish(j->y[product] + (j->skip + row) * M + m, M, a, b, PACKED_PANEL,
                                     w->bias ? w->bias + m : NULL, bias_b ? bias_b + m : NULL, rows,
                                     cols, j->mode);
}

// Of a panel, at most.
static size_t scale_floats(const packed_job *j)
{
    return (size_t)((j->blocks + 4) * 2 * PACKED_PANEL); // wide groups may reach past K
}

// ---- few rows ----

// With groups of 16 the last block may have one group only: its codes, with something after them.
static const uint8_t *last_block(const packed_job *j, const packed *p, const uint8_t *codes,
                                 uint8_t *room)
{
    const size_t block = (size_t)PACKED_BLOCK * PACKED_PANEL * p->format.bits / 8;
    const uint8_t *last = codes + (size_t)(j->blocks - 1) * block;
    if (codes + packed_panel_bytes(p) >= last + block) return last;
    memset(room, 0, block);
    memcpy(room, last, block / 2);
    return room;
}

// All rows times one panel, tile by tile: out [N][16].
static void few_outputs(const packed_job *j, float *out, const packed *p, int64_t panel, int side,
                        float *room)
{
    _Alignas(PACKED_LINE) uint8_t last[PACKED_BLOCK * PACKED_PANEL];
    float *shifts = p->format.has_min ? room + scale_floats(j) : NULL;
    const uint8_t *codes = p->codes + (size_t)panel * packed_panel_bytes(p);
    const packed_panel w = {codes, last_block(j, p, codes, last), room, shifts};
    j->pk->scales(room, shifts, p, panel);
    for (int64_t t = 0; t < j->tiles; t++) {
        // A tile's rows that are padding are overwritten by the next tile.
        j->pk->few_product(out + tile_start(j, t) * PACKED_PANEL, &w, &p->format,
                           tile_at(j, side, t), j->blocks, j->tile);
    }
}

static void few_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const packed_job *j = arg;
    float *room = kernels_scratch(j->k, worker, 2 * scale_floats(j));
    _Alignas(PACKED_LINE) float a[(MAX_FEW + PACKED_MAX_TILE) * PACKED_PANEL];
    _Alignas(PACKED_LINE) float b[(MAX_FEW + PACKED_MAX_TILE) * PACKED_PANEL];
    for (int64_t i = begin; i < end; i++) {
        const packed_piece p = find_piece(j, i);
        for (int64_t panel = p.first; panel < p.first + p.n; panel++) {
            few_outputs(j, a, j->w[p.product]->packed, panel, 0, room);
            if (j->mode == LINEAR_SILU_MUL) few_outputs(j, b, j->w[1]->packed, panel, 1, room);
            finish(j, p.product, panel, 0, j->N, a, b);
        }
    }
}

static void plan_few(packed_job *j)
{
    static const int tiles[] = {1, 2, 3, 4, 6, 8};
    j->tiles = (j->N + j->pk->few - 1) / j->pk->few;
    const int64_t rows = (j->N + j->tiles - 1) / j->tiles;
    int i = 0;
    while (tiles[i] < rows) i++;
    j->tile = tiles[i];
}

static void run_few(packed_job *j)
{
    size_t bytes = packed_panel_bytes(j->w[0]->packed);
    if (j->mode == LINEAR_SILU_MUL) bytes += packed_panel_bytes(j->w[1]->packed);
    j->size = bytes < PIECE_BYTES ? (int64_t)(PIECE_BYTES / bytes) : 1;
    pack_all(j);
    threads_for(j->k->pool, pieces_of(j), 1, few_pieces, j);
}

// ---- many rows ----

// Panels side by side, unpacked, and for the gated form their twins.
typedef struct packed_strip {
    int n; // panels, the last strip of a product may have fewer
    packed_panel a[2], b[2];
} packed_strip;

static size_t unpacked_floats(const packed_job *j)
{
    return (size_t)(j->blocks * PACKED_BLOCK * PACKED_PANEL) / sizeof(float);
}

static size_t strip_floats(const packed_job *j)
{
    const size_t one = (unpacked_floats(j) + 2 * scale_floats(j)) * (size_t)j->pk->panels;
    return j->mode == LINEAR_SILU_MUL ? 2 * one : one;
}

// Codes of a byte that need no centring are used where they lie.
static bool is_unpacked(const packed_job *j, const packed *p)
{
    return p->format.bits == 8 && j->pk->centre(&p->format) == 0 &&
           packed_panel_bytes(p) >= (size_t)(j->blocks * PACKED_BLOCK * PACKED_PANEL);
}

static packed_panel load_panel(const packed_job *j, const packed *p, int64_t panel, float *room)
{
    float *scales = room + unpacked_floats(j);
    float *shifts = p->format.has_min ? scales + scale_floats(j) : NULL;
    packed_panel out = {p->codes + (size_t)panel * packed_panel_bytes(p), NULL, scales,
                        shifts};
    if (!is_unpacked(j, p)) {
        j->pk->unpack((uint8_t *)room, p, panel);
        out.codes = (uint8_t *)room;
    }
    j->pk->scales(scales, shifts, p, panel);
    return out;
}

static void load_strip(const packed_job *j, packed_strip *s, const packed_piece *p, int64_t first,
                       float *room)
{
    const size_t one = unpacked_floats(j) + 2 * scale_floats(j);
    const int64_t left = p->first + p->n - first;
    s->n = left < j->pk->panels ? (int)left : j->pk->panels;
    for (int i = 0; i < s->n; i++, room += one) {
        s->a[i] = load_panel(j, j->w[p->product]->packed, first + i, room);
        if (j->mode != LINEAR_SILU_MUL) continue;
        room += one;
        s->b[i] = load_panel(j, j->w[1]->packed, first + i, room);
    }
    if (s->n == 2) return;
    s->a[1] = s->a[0];
    s->b[1] = s->b[0];
}

static void tile_times_strip(const packed_job *j, int product, int64_t first, int64_t t,
                             const packed_strip *s)
{
    _Alignas(PACKED_LINE) float a[2 * PACKED_MAX_TILE * PACKED_PANEL];
    _Alignas(PACKED_LINE) float b[2 * PACKED_MAX_TILE * PACKED_PANEL];
    const int64_t row = tile_start(j, t), rows = tile_start(j, t + 1) - row;
    j->pk->many_product(a, s->a, tile_at(j, 0, t), j->blocks, j->side[0].form.steps);
    if (j->mode == LINEAR_SILU_MUL) {
        j->pk->many_product(b, s->b, tile_at(j, 1, t), j->blocks, j->side[1].form.steps);
    }
    for (int i = 0; i < s->n; i++) {
        const int at = i * j->tile * PACKED_PANEL;
        finish(j, product, first + i, row, rows, a + at, b + at);
    }
}

// A few strips over part of the rows: each tile is fetched once for all of them.
static void many_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const packed_job *j = arg;
    const int wide = j->pk->panels;
    const size_t size = strip_floats(j);
    float *room = kernels_scratch(j->k, worker, (size_t)j->group * size);
    for (int64_t i = begin; i < end; i++) {
        const packed_piece p = find_piece(j, i / j->row_parts);
        packed_strip strips[MAX_GROUP];
        int n = 0;
        for (int64_t c = 0; c < p.n; c += wide, n++) {
            load_strip(j, &strips[n], &p, p.first + c, room + (size_t)n * size);
        }
        const int64_t part = i % j->row_parts, last = (part + 1) * j->tiles / j->row_parts;
        for (int64_t t = part * j->tiles / j->row_parts; t < last; t++) {
            for (int s = 0; s < n; s++) {
                tile_times_strip(j, p.product, p.first + s * wide, t, &strips[s]);
            }
        }
    }
}

// As linear.c cuts its work: strips that stay in the second cache together, and the rows too where
// that gives threads too little to share.
static int64_t plan_pieces(packed_job *j)
{
    const size_t bytes = strip_floats(j) * sizeof(float);
    const int64_t enough = 8 * threads_count(j->k->pool);
    const int64_t parts = j->tiles < 2 * PART_TILES ? 1 : j->tiles / PART_TILES;
    int64_t pieces;
    for (j->group = MAX_GROUP;; j->group /= 2) {
        j->size = j->group * j->pk->panels;
        pieces = pieces_of(j);
        const bool fits = (size_t)j->group * bytes <= j->k->cache_bytes / 2 &&
                          (size_t)j->group * bytes <= KERNELS_SCRATCH_FLOATS * sizeof(float);
        if (j->group == 1 || (fits && pieces * parts >= enough)) break;
    }
    j->row_parts = (enough + pieces - 1) / pieces;
    if (j->row_parts > parts) j->row_parts = parts;
    return pieces * j->row_parts;
}

static void plan_many(packed_job *j)
{
    j->tile = j->pk->tile;
    j->tiles = (j->N + j->tile - 1) / j->tile;
}

static void run_many(packed_job *j)
{
    const int64_t pieces = plan_pieces(j);
    pack_all(j);
    threads_for(j->k->pool, pieces, 1, many_pieces, j);
}

// ---- both ----

// Rows that fit half the shared scratch.
static int64_t rows_that_fit(const packed_job *j, int tile)
{
    const size_t bytes = (size_t)j->blocks * packed_x_block(tile, 2);
    return (int64_t)(KERNELS_SHARED_FLOATS / 2 * sizeof(float) / bytes) * tile;
}

// Products that want the same of the rows, or a gate and its twin.
static void run_same(packed_job *j, float *const *y, const float *x, const weight *const *w, int n_w,
                     int64_t N)
{
    j->y = y;
    j->w = w;
    j->n_w = j->mode == LINEAR_SILU_MUL ? 1 : n_w;
    const bool many = N > j->pk->few_rows && strip_floats(j) <= KERNELS_SCRATCH_FLOATS;
    int64_t fit = rows_that_fit(j, many ? j->pk->tile : j->pk->few);
    if (!many && fit > j->pk->few_rows) fit = j->pk->few_rows;
    assert(fit > 0 && j->pk->few_rows <= MAX_FEW);
    for (int64_t row = 0; row < N; row += fit) {
        j->skip = row;
        j->x = x + row * j->K;
        j->N = N - row < fit ? N - row : fit;
        const bool few = !many || j->N <= j->pk->few_rows;
        (few ? plan_few : plan_many)(j);
        (few ? run_few : run_many)(j);
    }
}

static packed_x_form x_form(const packed_kernels *pk, const weight *w)
{
    const packed_format *f = &w->packed->format;
    return (packed_x_form){packed_steps(f), pk->centre(f) - f->offset};
}

static bool same_form(packed_x_form a, packed_x_form b)
{
    return a.steps == b.steps && a.bias == b.bias;
}

void packed_run(kernels *k, float *const *y, const float *x, const weight *const *w, int n_w,
                int64_t N, linear_mode mode)
{
    packed_job job = {.k = k, .pk = k->ops.packed_kernels, .K = w[0]->packed->K, .mode = mode};
    float *shared = kernels_shared(k, KERNELS_SHARED_FLOATS);
    job.blocks = packed_blocks(job.K);
    for (int i = 0, n; i < n_w; i += n) {
        job.side[0] = job.side[1] = (packed_side){x_form(job.pk, w[i]), (char *)shared};
        job.sides = 1;
        if (mode == LINEAR_SILU_MUL && !same_form(x_form(job.pk, w[1]), job.side[0].form)) {
            job.side[1] = (packed_side){x_form(job.pk, w[1]),
                                        (char *)(shared + KERNELS_SHARED_FLOATS / 2)};
            job.sides = 2;
        }
        for (n = 1; i + n < n_w; n++) {
            if (mode == LINEAR_SILU_MUL) continue;
            if (!same_form(x_form(job.pk, w[i + n]), job.side[0].form)) break;
        }
        run_same(&job, y + i, x, w + i, n, N);
    }
}
