// kernels/cpu/attention_simd.h - op_attention and op_attention_spans over vec, for
// attention_<level>.c to include: how the work is cut, and how keys and values come in. With
// ATTENTION_16 defined, tiles compute in 16-bit whole numbers.
#ifndef SIGHT_KERNELS_CPU_ATTENTION_SIMD_H
#define SIGHT_KERNELS_CPU_ATTENTION_SIMD_H

#include "kernels/cpu/attention_few.h"
#ifdef ATTENTION_16
#include "kernels/cpu/attention_tile16.h"
#else
#include "kernels/cpu/attention_tile.h"
#endif

#define LOG2_E 1.44269504088896340736

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

// out [C] = row i's result.
static void finish_row(const query_tile *t, int64_t i, float *out)
{
    const vec inverse = vec_set(1.0f / t->sum[i]);
    const float *from = tile_out(t, i);
    for (int64_t c = 0; c < t->C; c += VEC_N) {
        vec_put(out + c, vec_get(from + c, t->C - c) * inverse, t->C - c);
    }
}

// ---- causal, over pages ----
//
// A unit is one sequence and KV head. Its rows are (row of the step, query head of the group), the
// head fastest, so all heads of a group share each key that is read. Units of few rows (decoding,
// and drafts being checked) stream the pages; their keys are cut into chunks at fixed places, so
// that a row's result is the same bits whatever rows come with it. Units of many rows are cut into tiles,
// and, where a unit has few tiles and many keys, keys into chunks too. The chunks' results are put
// together afterwards. Cuts depend on the unit's shape alone.

#define CAUSAL_ROWS 128     // of a tile
#define MAX_PIECES 32       // of a unit of many rows, when its keys are cut
#define MIN_CHUNK_MANY 1024 // keys
#define FEW_CHUNK 512       // keys, of chunks that end by FEW_CHUNKED
#define FEW_CHUNKED 16384
#define FEW_LONG_CHUNK 4096 // beyond

typedef struct causal_cuts {
    bool few;
    int64_t rows, tiles, chunks;
    int64_t chunk_keys; // of many rows
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

static int64_t chunk_begin(const causal_cuts *c, int64_t chunk)
{
    if (!c->few) return chunk * c->chunk_keys;
    const int64_t small = FEW_CHUNKED / FEW_CHUNK;
    return chunk <= small ? chunk * FEW_CHUNK : FEW_CHUNKED + (chunk - small) * FEW_LONG_CHUNK;
}

static int64_t few_chunks(int64_t keys)
{
    const int64_t beyond = keys - FEW_CHUNKED;
    if (beyond <= 0) return ceil_div(keys, FEW_CHUNK);
    return FEW_CHUNKED / FEW_CHUNK + ceil_div(beyond, FEW_LONG_CHUNK);
}

static int64_t part_floats(const causal_cuts *c, int64_t C)
{
    return c->chunks > 1 ? c->rows * c->chunks * (C + 2) : 0;
}

static causal_cuts cuts_of(const attention_seq *seq, int64_t group, int64_t C)
{
    const int64_t keys = seq->past + seq->n;
    causal_cuts c = {.few = true, .rows = seq->n * group, .tiles = 1, .chunks = few_chunks(keys)};
    if (seq->n < FEW_TOKENS && c.rows <= FEW_ROWS &&
        part_floats(&c, C) <= (int64_t)KERNELS_SHARED_FLOATS) {
        return c;
    }
    c.few = false;
    c.tiles = ceil_div(c.rows, CAUSAL_ROWS);
    const int64_t most = smaller(MAX_PIECES / c.tiles, keys / MIN_CHUNK_MANY);
    c.chunk_keys = most > 1 ? ceil_div(ceil_div(keys, most), BLOCK_KEYS) * BLOCK_KEYS : keys;
    c.chunks = ceil_div(keys, c.chunk_keys);
    return c;
}

static causal_cuts unit_cuts(const causal_job *j, int64_t unit)
{
    return cuts_of(&j->seqs[unit / j->G], j->H / j->G, j->C);
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
    p.from = chunk_begin(&c, chunk);
    const int64_t seen = seq->past + (p.row + p.rows - 1) / (j->H / j->G) + 1;
    p.until = smaller(chunk_begin(&c, chunk + 1), seen);
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
    const char *page = kv_page(kv, t / kv->page_rows);
    *n = kv->page_rows - at;
    return page + ((part * j->G + p->g) * kv->page_rows + at) * j->C *
                      (int64_t)tensor_type_bytes(kv->type);
}

// The scales of that run; NULL where the type has none.
static const float *kv_run_scales(const causal_job *j, const causal_piece *p, int part, int64_t t)
{
    const kv_view *kv = &p->seq->kv;
    if (kv->type != TENSOR_I8) return NULL;
    const char *page = kv_page(kv, t / kv->page_rows);
    const float *scales = (const float *)(const void *)(page + kv_scales_at(kv->page_rows, j->G,
                                                                            j->C));
    return scales + ((part * j->G + p->g) * kv->page_rows + t % kv->page_rows) * kv_groups(j->C);
}

// Where keys and values first .. first + n - 1 lie.
static void find_rows(stored_rows *rows, const causal_job *j, const causal_piece *p, int64_t first,
                      int64_t n_keys)
{
    const int64_t groups = kv_groups(j->C);
    const int64_t row_bytes = j->C * (int64_t)tensor_type_bytes(p->seq->kv.type);
    rows->type = p->seq->kv.type;
    rows->n = n_keys;
    for (int64_t i = 0, n; i < n_keys; i += n) {
        const char *keys = kv_run(j, p, 0, first + i, &n), *values = kv_run(j, p, 1, first + i, &n);
        const float *key_scales = kv_run_scales(j, p, 0, first + i);
        const float *value_scales = kv_run_scales(j, p, 1, first + i);
        n = smaller(n, n_keys - i);
        for (int64_t r = 0; r < n; r++) {
            rows->keys[i + r] = keys + r * row_bytes;
            rows->values[i + r] = values + r * row_bytes;
            rows->key_scales[i + r] = key_scales ? key_scales + r * groups : NULL;
            rows->value_scales[i + r] = value_scales ? value_scales + r * groups : NULL;
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
    const int64_t group = j->H / j->G;
    const float scale = (float)(j->scale * LOG2_E);
    query_tile t;
    tile_place(&t, j->k, worker, CAUSAL_ROWS, j->C);
    key_block block = block_at(t.block, j->C);
    stored_rows rows;
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
        find_rows(&rows, j, p, first, n_keys);
        block_fill(&block, &rows, j->C);
        tile_attend(&t, &block, masked);
    }
    for (int64_t i = 0; i < p->rows; i++) {
        if (p->part) finish_part(p, i, tile_out(&t, i), t.largest[i], t.sum[i], j->C);
        else finish_row(&t, i, p->seq->out + unit_row_at(j, p, p->row + i));
    }
}

TILE_INLINE void few_walk(few_rows *f, const causal_job *j, const causal_piece *p,
                          const tensor_type type)
{
    const int64_t group = j->H / j->G;
    few_run keys = {.groups = kv_groups(j->C)}, values = keys;
    for (int64_t first = p->from, n; first < p->until; first += n) {
        keys.rows = kv_run(j, p, 0, first, &n);
        values.rows = kv_run(j, p, 1, first, &n);
        keys.scales = kv_run_scales(j, p, 0, first);
        values.scales = kv_run_scales(j, p, 1, first);
        n = smaller(smaller(n, FEW_KEYS), p->until - first);
        keys.n = values.n = n;
        keys.next = values.rows;
        int64_t more;
        values.next = first + n < p->until ? kv_run(j, p, 0, first + n, &more) : values.rows;
        int64_t seen[FEW_ROWS];
        for (int64_t i = 0; i < p->rows; i++) seen[i] = p->seq->past + i / group + 1 - first;
        few_attend(f, &keys, &values, n, seen[0] < n ? seen : NULL, type);
    }
}

static void causal_few(const causal_job *j, const causal_piece *p, int worker)
{
    const int64_t C = j->C;
    const float scale = (float)(j->scale * LOG2_E);
    few_rows f;
    few_start(&f, kernels_scratch(j->k, worker, (size_t)few_floats(p->rows, C)), p->rows, C);
    for (int64_t i = 0; i < p->rows; i++) {
        const float *from = p->seq->q + unit_row_at(j, p, i);
        for (int64_t c = 0; c < C; c++) f.q[i * C + c] = from[c] * scale;
    }
    BY_TYPE(p->seq->kv.type, few_walk, &f, j, p);
    for (int64_t i = 0; i < p->rows; i++) {
        if (p->part) {
            finish_part(p, i, f.out + i * C, f.largest[i], f.sum[i], C);
            continue;
        }
        float *to = p->seq->out + unit_row_at(j, p, i);
        const float inverse = 1 / f.sum[i]; // as join_row
        for (int64_t c = 0; c < C; c++) to[c] = f.out[i * C + c] * inverse;
    }
}

static void causal_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const causal_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        const causal_piece p = find_piece(j, i);
        if (p.cuts.few) causal_few(j, &p, worker);
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
// A unit is one span and head. Its keys and values are brought together once (in qkv they are
// scattered rows) for as many units as the shared scratch holds; a longer span than it holds
// is brought in block by block, by every tile.

#define SPANS_ROWS 256 // of a tile

typedef struct spans_job {
    kernels *k;
    float *out;
    const float *qkv;
    int64_t span, tiles, blocks, H, C; // tiles and blocks of a unit
    float scale;
    int64_t first_unit;
    float *packed; // [units][blocks][block_floats]; NULL: block by block
} spans_job;

// Row i of the unit's span: its query; its key is D further, its value 2 D.
static const float *span_row(const spans_job *j, int64_t unit, int64_t i)
{
    const int64_t row = unit / j->H * j->span + i;
    return j->qkv + (row * 3 * j->H + unit % j->H) * j->C;
}

// Block i of the unit.
static void span_fill(const spans_job *j, key_block *b, int64_t unit, int64_t i)
{
    const int64_t D = j->H * j->C, first = i * BLOCK_KEYS;
    stored_rows rows = {.type = TENSOR_F32, .n = smaller(BLOCK_KEYS, j->span - first)};
    for (int64_t r = 0; r < rows.n; r++) {
        const float *row = span_row(j, unit, first + r);
        rows.keys[r] = row + D;
        rows.values[r] = row + 2 * D;
    }
    block_fill(b, &rows, j->C);
}

static key_block packed_block(const spans_job *j, int64_t unit, int64_t i)
{
    const int64_t at = (unit - j->first_unit) * j->blocks + i;
    key_block b = block_at(j->packed + at * block_floats(j->C), j->C);
    b.n = smaller(BLOCK_KEYS, j->span - i * BLOCK_KEYS);
    return b;
}

// Pieces are (unit of the batch, block).
static void pack_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const spans_job *j = arg;
    for (int64_t p = begin; p < end; p++) {
        const int64_t unit = j->first_unit + p / j->blocks, i = p % j->blocks;
        key_block b = packed_block(j, unit, i);
        span_fill(j, &b, unit, i);
    }
}

static void attend_span(const spans_job *j, query_tile *t, int64_t unit)
{
    for (int64_t i = 0; i < j->blocks; i++) {
        key_block b;
        if (j->packed) {
            b = packed_block(j, unit, i);
        } else {
            b = block_at(t->block, j->C);
            span_fill(j, &b, unit, i);
        }
        tile_attend(t, &b, false);
    }
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
        attend_span(j, &t, unit);
        for (int64_t i = 0; i < t.rows; i++) {
            const int64_t to = unit / j->H * j->span + row + i;
            finish_row(&t, i, j->out + (to * j->H + unit % j->H) * j->C);
        }
    }
}

static void attention_spans(kernels *k, float *out, const float *qkv, int64_t spans, int64_t span,
                            int64_t H, int64_t C, float scale)
{
    spans_job j = {.k = k, .out = out, .qkv = qkv, .span = span, .H = H, .C = C, .scale = scale};
    j.tiles = ceil_div(span, SPANS_ROWS);
    j.blocks = ceil_div(span, BLOCK_KEYS);
    const int64_t unit_floats = j.blocks * block_floats(C);
    const int64_t fit = (int64_t)KERNELS_SHARED_FLOATS / unit_floats, units = spans * H;
    if (fit > 0) j.packed = kernels_shared(k, (size_t)(smaller(fit, units) * unit_floats));
    const int64_t grain = span < 64 ? 64 / span : 1; // tiny spans: several a piece
    for (int64_t n; j.first_unit < units; j.first_unit += n) {
        n = smaller(fit > 0 ? fit : units, units - j.first_unit);
        if (fit > 0) threads_for(k->pool, n * j.blocks, grain, pack_pieces, &j);
        threads_for(k->pool, n * j.tiles, grain, spans_pieces, &j);
    }
}

static void attention_fill(backend_ops *ops)
{
    ops->attention = attention;
    ops->attention_spans = attention_spans;
}

#endif
