// kernels/cpu/attention_simd.h - op_attention and op_attention_spans over vec, for
// attention_<level>.c to include: how the work is cut, and how keys and values come in.
#ifndef SIGHT_KERNELS_CPU_ATTENTION_SIMD_H
#define SIGHT_KERNELS_CPU_ATTENTION_SIMD_H

#include "kernels/cpu/attention_few.h"
#include "kernels/cpu/attention_tile.h"

#define LOG2_E 1.44269504088896340736

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

// ---- causal, over pages ----
//
// A unit is one sequence and KV head. Its rows are (row of the step, query head of the group), the
// head fastest, so all heads of a group share each key that is read. Rows are cut into tiles;
// where a unit has few tiles and many keys, keys are cut into chunks too, whose results are
// put together afterwards. Cuts depend on the unit's shape alone.

#define CAUSAL_ROWS 128       // of a tile
#define MAX_PIECES 32         // of a unit, when its keys are cut
#define MIN_CHUNK_FEW 256     // keys
#define MIN_CHUNK_MANY 1024   // keys

typedef struct causal_cuts {
    int64_t rows, tiles, chunks, chunk_keys;
} causal_cuts;

typedef struct causal_job {
    kernels *k;
    const attention_seq *seqs;
    int64_t H, G, C;
    float scale;
    int64_t first_unit, n_units;
    float *parts; // of the units whose keys are cut: [tiles][chunks][rows of the tile][C + 2]
} causal_job;

// A piece of work.
typedef struct causal_piece {
    const attention_seq *seq;
    causal_cuts cuts;
    int64_t g;
    int64_t row, rows;  // of the unit
    int64_t from, until; // keys
    float *part;         // [rows][C + 2]: sums, largest, sum; NULL when keys are not cut
} causal_piece;

static causal_cuts cuts_of(const attention_seq *seq, int64_t group)
{
    causal_cuts c = {.rows = seq->n * group, .chunks = 1};
    const int64_t keys = seq->past + seq->n;
    c.tiles = ceil_div(c.rows, CAUSAL_ROWS);
    const int64_t shortest = c.rows <= FEW_ROWS ? MIN_CHUNK_FEW : MIN_CHUNK_MANY;
    const int64_t most = smaller(MAX_PIECES / c.tiles, keys / shortest);
    c.chunk_keys = most > 1 ? ceil_div(ceil_div(keys, most), BLOCK_KEYS) * BLOCK_KEYS : keys;
    c.chunks = ceil_div(keys, c.chunk_keys);
    return c;
}

static int64_t part_floats(const causal_cuts *c, int64_t C)
{
    return c->chunks > 1 ? c->rows * c->chunks * (C + 2) : 0;
}

static causal_cuts unit_cuts(const causal_job *j, int64_t unit)
{
    return cuts_of(&j->seqs[unit / j->G], j->H / j->G);
}

// Piece i of the job; the last tiles of a unit, which see most keys, come first.
static causal_piece find_piece(const causal_job *j, int64_t i)
{
    int64_t unit = j->first_unit;
    float *parts = j->parts;
    causal_cuts c = unit_cuts(j, unit);
    while (i >= c.tiles * c.chunks) {
        i -= c.tiles * c.chunks;
        parts += part_floats(&c, j->C);
        c = unit_cuts(j, ++unit);
    }
    const attention_seq *seq = &j->seqs[unit / j->G];
    const int64_t tile = c.tiles - 1 - i / c.chunks, chunk = i % c.chunks;
    causal_piece p = {.seq = seq, .cuts = c, .g = unit % j->G, .row = tile * CAUSAL_ROWS};
    p.rows = smaller(CAUSAL_ROWS, c.rows - p.row);
    p.from = chunk * c.chunk_keys;
    const int64_t seen = seq->past + (p.row + p.rows - 1) / (j->H / j->G) + 1;
    p.until = smaller(p.from + c.chunk_keys, seen);
    if (c.chunks > 1) p.part = parts + (p.row * c.chunks + chunk * p.rows) * (j->C + 2);
    return p;
}

static int64_t unit_row_at(const causal_job *j, const causal_piece *p, int64_t row)
{
    const int64_t group = j->H / j->G;
    return ((row / group) * j->H + p->g * group + row % group) * j->C;
}

// First of the keys (part 0) or values (part 1) of tokens from t, and how many lie together.
static const void *kv_run(const causal_job *j, const causal_piece *p, int part, int64_t t,
                          int64_t *n)
{
    const kv_view *kv = &p->seq->kv;
    const int64_t at = t % kv->page_rows;
    const char *page = kv->pages[t / kv->page_rows];
    *n = kv->page_rows - at;
    return page + ((part * j->G + p->g) * kv->page_rows + at) * j->C *
                      (int64_t)tensor_type_bytes(kv->type);
}

TILE_INLINE void load_block(query_tile *t, const causal_job *j, const causal_piece *p,
                            int64_t first, int64_t n_keys, const bool bf16)
{
    const int64_t C = j->C, stride = value_stride(C);
    for (int64_t i = 0, n; i < n_keys; i += n) {
        const void *keys = kv_run(j, p, 0, first + i, &n), *values = kv_run(j, p, 1, first + i, &n);
        n = smaller(n, n_keys - i);
        for (int64_t r = 0; r < n; r++) {
            copy_floats(t->keys + (i + r) * C, row_at(keys, r * C, bf16), bf16, C);
            copy_floats(t->values + (i + r) * stride, row_at(values, r * C, bf16), bf16, C);
        }
    }
}

static void finish_part(const causal_piece *p, int64_t row, const float *out, float largest,
                        float sum, int64_t C)
{
    float *part = p->part + row * (C + 2);
    memcpy(part, out, (size_t)C * sizeof *part);
    part[C] = largest;
    part[C + 1] = sum;
}

static void causal_tile(const causal_job *j, const causal_piece *p, int worker)
{
    const bool bf16 = p->seq->kv.type == TENSOR_BF16;
    const int64_t group = j->H / j->G;
    const float scale = (float)(j->scale * LOG2_E);
    query_tile t;
    tile_place(&t, j->k, worker, CAUSAL_ROWS, j->C);
    tile_start(&t, p->rows);
    for (int64_t i = 0, n; i < p->rows; i += n) {
        const float *q[PANEL_ROWS];
        n = smaller(PANEL_ROWS, p->rows - i);
        for (int64_t r = 0; r < n; r++) q[r] = p->seq->q + unit_row_at(j, p, p->row + i + r);
        tile_set_queries(&t, i, q, n, scale);
    }
    for (int64_t first = p->from; first < p->until; first += BLOCK_KEYS) {
        const int64_t n_keys = smaller(BLOCK_KEYS, p->until - first);
        const int64_t least = p->seq->past + p->row / group; // what the first row sees last
        const bool masked = first + n_keys - 1 > least;
        for (int64_t i = 0; masked && i < tile_panels(p->rows) * PANEL_ROWS; i++) {
            const int64_t row = p->row + smaller(i, p->rows - 1);
            t.limit[i] = (float)(p->seq->past + row / group - first);
        }
        if (bf16) load_block(&t, j, p, first, n_keys, true);
        else load_block(&t, j, p, first, n_keys, false);
        const key_block block = {t.keys, t.values, n_keys};
        tile_attend(&t, &block, masked);
    }
    for (int64_t i = 0; i < p->rows; i++) {
        if (p->part) finish_part(p, i, t.out + i * j->C, t.largest[i], t.sum[i], j->C);
        else tile_finish_row(&t, i, p->seq->out + unit_row_at(j, p, p->row + i));
    }
}

TILE_INLINE void few_walk(few_rows *f, const causal_job *j, const causal_piece *p, const bool bf16)
{
    const int64_t group = j->H / j->G;
    for (int64_t first = p->from, n; first < p->until; first += n) {
        const void *keys = kv_run(j, p, 0, first, &n), *values = kv_run(j, p, 1, first, &n);
        n = smaller(smaller(n, FEW_KEYS), p->until - first);
        int64_t seen[FEW_ROWS];
        for (int64_t i = 0; i < p->rows; i++) seen[i] = p->seq->past + i / group + 1 - first;
        few_attend(f, keys, values, n, seen[0] < n ? seen : NULL, bf16);
    }
}

static void causal_few(const causal_job *j, const causal_piece *p, int worker)
{
    const int64_t C = j->C;
    const float scale = (float)(j->scale * LOG2_E);
    float *q = kernels_scratch(j->k, worker, (size_t)(2 * FEW_ROWS * C)), *out = q + FEW_ROWS * C;
    few_rows f;
    few_start(&f, q, out, p->rows, C);
    for (int64_t i = 0; i < p->rows; i++) {
        const float *from = p->seq->q + unit_row_at(j, p, i);
        for (int64_t c = 0; c < C; c++) q[i * C + c] = from[c] * scale;
    }
    if (p->seq->kv.type == TENSOR_BF16) few_walk(&f, j, p, true);
    else few_walk(&f, j, p, false);
    for (int64_t i = 0; i < p->rows; i++) {
        if (p->part) {
            finish_part(p, i, out + i * C, f.largest[i], f.sum[i], C);
            continue;
        }
        float *to = p->seq->out + unit_row_at(j, p, i);
        for (int64_t c = 0; c < C; c++) to[c] = out[i * C + c] / f.sum[i];
    }
}

static void causal_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const causal_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        const causal_piece p = find_piece(j, i);
        if (p.cuts.rows <= FEW_ROWS) causal_few(j, &p, worker);
        else causal_tile(j, &p, worker);
    }
}

// Adds up a row's chunks, each shrunk to the largest score of all.
static void join_row(const causal_job *j, const causal_piece *p, int64_t row)
{
    const int64_t C = j->C, step = p->rows * (C + 2);
    const float *part = p->part + row * (C + 2);
    float *out = p->seq->out + unit_row_at(j, p, p->row + row);
    float largest = LOWEST, sum = 0;
    for (int64_t i = 0; i < p->cuts.chunks; i++) {
        largest = part[i * step + C] > largest ? part[i * step + C] : largest;
    }
    for (int64_t i = 0; i < p->cuts.chunks; i++) {
        sum += part[i * step + C + 1] * exp2f(part[i * step + C] - largest);
    }
    for (int64_t c = 0; c < C; c++) out[c] = 0;
    for (int64_t i = 0; i < p->cuts.chunks; i++) {
        const float share = exp2f(part[i * step + C] - largest) / sum;
        for (int64_t c = 0; c < C; c++) out[c] += part[i * step + c] * share;
    }
}

// Pieces as in causal_pieces; the first chunk of each tile joins the tile.
static void join_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const causal_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        const causal_piece p = find_piece(j, i);
        if (!p.part || p.from > 0) continue;
        for (int64_t row = 0; row < p.rows; row++) join_row(j, &p, row);
    }
}

// As many units at a time as the shared scratch holds the parts of.
static void attention(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G,
                      int64_t C, float scale)
{
    causal_job j = {.k = k, .seqs = seqs, .H = H, .G = G, .C = C, .scale = scale};
    while (j.first_unit < S * G) {
        int64_t pieces = 0, floats = 0;
        for (j.n_units = 0; j.first_unit + j.n_units < S * G; j.n_units++) {
            const causal_cuts c = unit_cuts(&j, j.first_unit + j.n_units);
            const int64_t more = part_floats(&c, C);
            if (j.n_units > 0 && floats + more > (int64_t)KERNELS_SHARED_FLOATS) break;
            floats += more;
            pieces += c.tiles * c.chunks;
        }
        j.parts = kernels_shared(k, (size_t)floats);
        threads_for(k->pool, pieces, 1, causal_pieces, &j);
        if (floats > 0) threads_for(k->pool, pieces, 1, join_pieces, &j);
        j.first_unit += j.n_units;
    }
}

// ---- bidirectional, inside spans ----
//
// A unit is one span and head. Its keys and values are copied together once (in qkv they are
// scattered rows) for as many units as the shared scratch holds; a longer span than it holds
// is copied block by block, by every tile.

#define SPANS_ROWS 256 // of a tile

typedef struct spans_job {
    kernels *k;
    float *out;
    const float *qkv;
    int64_t span, tiles, H, C; // tiles of a unit
    float scale;
    int64_t first_unit;
    float *packed; // [units][unit_floats]: keys [span][C], values; NULL: block by block
    int64_t unit_floats;
} spans_job;

// Row i of the unit's span: its query; its key is D further, its value 2 D.
static const float *span_row(const spans_job *j, int64_t unit, int64_t i)
{
    const int64_t row = unit / j->H * j->span + i;
    return j->qkv + (row * 3 * j->H + unit % j->H) * j->C;
}

// Keys and values first .. first + n - 1 of the unit.
static void pack_keys(const spans_job *j, int64_t unit, int64_t first, int64_t n, float *keys,
                      float *values)
{
    const int64_t D = j->H * j->C, stride = value_stride(j->C);
    for (int64_t i = 0; i < n; i++) {
        const float *from = span_row(j, unit, first + i) + D;
        copy_floats(keys + i * j->C, from, false, j->C);
        copy_floats(values + i * stride, from + D, false, j->C);
    }
}

// Pieces are (unit of the batch, block).
static void pack_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const spans_job *j = arg;
    const int64_t blocks = ceil_div(j->span, BLOCK_KEYS);
    for (int64_t i = begin; i < end; i++) {
        const int64_t unit = i / blocks, first = i % blocks * BLOCK_KEYS;
        float *keys = j->packed + unit * j->unit_floats, *values = keys + j->span * j->C;
        pack_keys(j, j->first_unit + unit, first, smaller(BLOCK_KEYS, j->span - first),
                  keys + first * j->C, values + first * value_stride(j->C));
    }
}

static key_block span_block(const spans_job *j, const query_tile *t, int64_t unit, int64_t first)
{
    const int64_t n = smaller(BLOCK_KEYS, j->span - first);
    if (j->packed) {
        const float *keys = j->packed + (unit - j->first_unit) * j->unit_floats;
        const float *values = keys + j->span * j->C;
        return (key_block){keys + first * j->C, values + first * value_stride(j->C), n};
    }
    pack_keys(j, unit, first, n, t->keys, t->values);
    return (key_block){t->keys, t->values, n};
}

// Pieces are (unit of the batch, tile).
static void spans_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const spans_job *j = arg;
    query_tile t;
    tile_place(&t, j->k, worker, SPANS_ROWS, j->C);
    for (int64_t p = begin; p < end; p++) {
        const int64_t unit = j->first_unit + p / j->tiles, row = p % j->tiles * SPANS_ROWS;
        tile_start(&t, smaller(SPANS_ROWS, j->span - row));
        for (int64_t i = 0, n; i < t.rows; i += n) {
            const float *q[PANEL_ROWS];
            n = smaller(PANEL_ROWS, t.rows - i);
            for (int64_t r = 0; r < n; r++) q[r] = span_row(j, unit, row + i + r);
            tile_set_queries(&t, i, q, n, (float)(j->scale * LOG2_E));
        }
        for (int64_t key = 0; key < j->span; key += BLOCK_KEYS) {
            const key_block b = span_block(j, &t, unit, key);
            tile_attend(&t, &b, false);
        }
        for (int64_t i = 0; i < t.rows; i++) {
            const int64_t to = unit / j->H * j->span + row + i;
            tile_finish_row(&t, i, j->out + (to * j->H + unit % j->H) * j->C);
        }
    }
}

static void attention_spans(kernels *k, float *out, const float *qkv, int64_t spans, int64_t span,
                            int64_t H, int64_t C, float scale)
{
    spans_job j = {.k = k, .out = out, .qkv = qkv, .span = span, .H = H, .C = C, .scale = scale};
    j.tiles = ceil_div(span, SPANS_ROWS);
    j.unit_floats = span * (C + value_stride(C));
    const int64_t fit = (int64_t)KERNELS_SHARED_FLOATS / j.unit_floats, units = spans * H;
    if (fit > 0) j.packed = kernels_shared(k, (size_t)(smaller(fit, units) * j.unit_floats));
    const int64_t grain = span < 64 ? 64 / span : 1; // tiny spans: several a piece
    for (int64_t n; j.first_unit < units; j.first_unit += n) {
        n = smaller(fit > 0 ? fit : units, units - j.first_unit);
        if (fit > 0) {
            threads_for(k->pool, n * ceil_div(span, BLOCK_KEYS), grain, pack_pieces, &j);
        }
        threads_for(k->pool, n * j.tiles, grain, spans_pieces, &j);
    }
}

static void attention_fill(cpu_ops *ops)
{
    ops->attention = attention;
    ops->attention_spans = attention_spans;
}

#endif
