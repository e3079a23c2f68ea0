// kernels/cuda/attention.c - attention on a GPU: its entries of the table, and which kernel
// takes what.
//
// Few rows and tiles take heads of 64, 128 or 256 over pages of whole tiles, and are for results
// that need not be exact; the plain form takes all else.
#include "kernels/cuda/attention.h"

#include "kernels/cuda/device.h"
#include "kernels/cuda/heads.h"

#define UNITS_AT_ONCE  64
#define FEW_TOKENS     8   // of a sequence: each row gives the same bits alone and with others
#define TILE_KEYS      64  // of attention_tile.cu
#define TILE_ROWS      128
// Of shared memory, for 128 rows at C 256.
#define WIDE_BYTES     ((TILE_ROWS + 2 * TILE_KEYS) * (256 + 8) * 2)
#define TILE_BLOCKS    256 // fewer than these would leave processors idle: keys are cut
#define TILE_CUT_KEYS  512 // of a part, at least
#define TILE_CUTS      16
#define SCRATCH_FLOATS ((int64_t)16 << 20) // 64 MiB
#define MOST_BLOCKS_Y  65535
#define MOST_ROWS      (INT32_MAX / 2) // that fast kernels count

_Static_assert(ATTENTION_KV_GROUP == KV_GROUP, "one size of groups");
_Static_assert(sizeof(attention_unit) == 56, "no padding");
_Static_assert(sizeof(attention_args) == 15 * 8, "no padding");
_Static_assert(sizeof(kv_write_args) == 9 * 8, "no padding");
_Static_assert(sizeof(kv_write_place) == 5 * 8, "no padding");
_Static_assert(sizeof(heads_args) == 20 * 8, "no padding");
_Static_assert(sizeof(spans_args) == 9 * 8, "no padding");

static bool aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

// ---- writing ----

// Where up to UNITS_AT_ONCE sequences' rows go; *most: of the longest. NULL: failed.
static const kv_write_place *places_of(kernels *kk, int64_t *most, const kv_rows *seqs, int64_t S)
{
    kv_write_place places[UNITS_AT_ONCE];
    *most = 0;
    for (int64_t s = 0; s < S; s++) {
        const kv_rows *r = &seqs[s];
        places[s] = (kv_write_place){r->kv.blocks, r->kv.offset, r->past, r->first, r->n};
        if (r->n > *most) *most = r->n;
    }
    return cuda_args(kk, places, (size_t)S * sizeof *places);
}

static void write_some(kernels *kk, const kv_rows *seqs, int64_t S, const float *k, const float *v,
                       int64_t G, int64_t C)
{
    kv_write_args a = {.k = k, .v = v, .S = S, .G = G, .C = C, .type = seqs[0].kv.type,
                       .page_rows = seqs[0].kv.page_rows};
    a.places = places_of(kk, &a.most, seqs, S);
    if (a.places) cuda_launch(kk, launch_kv_write, &a, sizeof a);
}

static void cuda_kv_write_many(kernels *kk, const kv_rows *seqs, int64_t S, const float *k,
                               const float *v, int64_t G, int64_t C)
{
    for (int64_t s = 0; s < S; s += UNITS_AT_ONCE) {
        write_some(kk, seqs + s, S - s < UNITS_AT_ONCE ? S - s : UNITS_AT_ONCE, k, v, G, C);
    }
}

static void cuda_kv_write(kernels *kk, const kv_view *kv, const float *k, const float *v,
                          int64_t past, int64_t n, int64_t G, int64_t C)
{
    const kv_rows rows = {.kv = *kv, .n = n, .past = past};
    write_some(kk, &rows, 1, k, v, G, C);
}

// Whether every number that heads.cu reads or writes four at a time lies so.
static bool heads_fit(const heads_rows *r)
{
    const void *const all[] = {r->q_out, r->q, r->k, r->v, r->q_norm, r->k_norm, r->cos, r->sin};
    bool good = r->C % 4 == 0 && r->C <= HEADS_MOST_C && r->R % 8 == 0 && r->q_row_stride % 4 == 0 &&
                r->q_head_stride % 4 == 0 &&
                (r->q_out != r->q || (r->q_row_stride == r->H * r->C && r->q_head_stride == r->C));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) good = good && all[i] && aligned(all[i]);
    return good;
}

static bool cuda_heads_write(kernels *kk, const heads_rows *r, const kv_rows *seqs, int64_t S)
{
    if (!heads_fit(r)) return false;
    heads_args a = {.q_out = r->q_out, .q = r->q, .k = r->k, .v = r->v, .q_norm = r->q_norm, .k_norm = r->k_norm,
                    .cos = r->cos, .sin = r->sin, .q_row_stride = r->q_row_stride,
                    .q_head_stride = r->q_head_stride, .H = r->H, .G = r->G, .C = r->C, .R = r->R,
                    .type = seqs[0].kv.type, .page_rows = seqs[0].kv.page_rows, .eps = (double)r->eps};
    for (int64_t s = 0; s < S; s += UNITS_AT_ONCE) {
        a.S = S - s < UNITS_AT_ONCE ? S - s : UNITS_AT_ONCE;
        a.places = places_of(kk, &a.most, seqs + s, a.S);
        if (a.places) cuda_launch(kk, launch_heads, &a, sizeof a);
    }
    return true;
}

// ---- causal ----

typedef enum attention_form { FORM_FEW, FORM_TILE, FORM_PLAIN, FORM_COUNT } attention_form;

// Units of one form that go in one launch.
typedef struct attention_batch {
    kernels *k;
    attention_form form;
    attention_unit units[UNITS_AT_ONCE];
    attention_args a;
    const float *gate; // of the sequence that is being added; NULL: none
    int64_t longest; // tokens of a unit, its rows included
} attention_batch;

static attention_form form_of(const kernels *k, const attention_seq *s, int64_t heads, int64_t C,
                              float scale)
{
    const bool good = !k->exact && (C == 64 || C == 128 || C == 256) && scale > 0 &&
                      s->kv.page_rows % TILE_KEYS == 0 && s->kv.offset % 16 == 0 && aligned(s->q) &&
                      aligned(s->out) && (s->past + s->n) * heads < MOST_ROWS;
    if (!good) return FORM_PLAIN;
    if (s->n > FEW_TOKENS) return FORM_TILE;
    return s->kv.type == TENSOR_F32 ? FORM_PLAIN : FORM_FEW;
}

// Lengths grow with every step and must not make a new graph of each: a power of two, or half more.
static int64_t coarse_chunks(int64_t tokens)
{
    const int64_t chunks = attention_chunk_of(tokens - 1) + 1;
    int64_t bound = 8;
    while (bound < chunks) bound *= 2;
    return chunks <= bound / 4 * 3 ? bound / 4 * 3 : bound;
}

// At C 256 blocks of 128 rows move half the bytes, but do not fit every chip, nor fill it
// for few rows.
static int64_t tile_rows(const attention_batch *b)
{
    const attention_args *a = &b->a;
    const cuda_chip *chip = cuda_get_chip(b->k);
    const int64_t blocks = (a->most_n * (a->H / a->G) + TILE_ROWS - 1) / TILE_ROWS * a->G * a->U;
    const bool wide = chip->shared_bytes >= WIDE_BYTES && blocks >= chip->processors;
    return a->C < 256 || wide ? TILE_ROWS : TILE_ROWS / 2;
}

// Into how many parts the keys of each unit are cut.
static int64_t tile_cuts(const attention_batch *b)
{
    const attention_args *a = &b->a;
    const int64_t rows = a->most_n * (a->H / a->G);
    const int64_t blocks = (rows + a->tile_rows - 1) / a->tile_rows * a->G * a->U;
    int64_t cuts = TILE_BLOCKS / blocks;
    if (cuts > b->longest / TILE_CUT_KEYS) cuts = b->longest / TILE_CUT_KEYS;
    if (cuts > TILE_CUTS) cuts = TILE_CUTS;
    const int64_t room = SCRATCH_FLOATS / (a->U * a->most_n * a->H * a->C);
    if (cuts > room) cuts = room;
    return cuts > 1 ? cuts : 1;
}

static int64_t few_floats(const attention_args *a, int64_t U, int64_t most_n, int64_t chunks)
{
    return U * chunks * a->H * most_n * a->C;
}

static void batch_launch(attention_batch *b)
{
    static cuda_launcher *const launchers[FORM_COUNT] = {
        launch_attention_few, launch_attention_tile, launch_attention_plain};
    attention_args *a = &b->a;
    if (a->U == 0) return;
    a->tile_rows = b->form == FORM_TILE ? tile_rows(b) : 0;
    a->chunks = b->form == FORM_FEW    ? coarse_chunks(b->longest)
                : b->form == FORM_TILE ? tile_cuts(b)
                                       : 1;
    a->units = cuda_args(b->k, b->units, (size_t)a->U * sizeof *b->units);
    bool good = a->units;
    if (b->form == FORM_FEW || a->chunks > 1) {
        const size_t rows = (size_t)(a->U * a->chunks * a->H * a->most_n);
        a->parts = cuda_scratch(b->k, 0, rows * (size_t)a->C * sizeof(float));
        a->sums = cuda_scratch(b->k, 1, rows * 2 * sizeof(float));
        good = good && a->parts && a->sums;
    }
    if (good) cuda_launch(b->k, launchers[b->form], a, sizeof *a);
    a->U = a->most_n = b->longest = 0;
    a->parts = a->sums = NULL;
}

// Rows first .. first + n - 1 of s.
static void batch_add(attention_batch *b, const attention_seq *s, int64_t first, int64_t n)
{
    attention_args *a = &b->a;
    const int64_t past = s->past + first, at = first * a->H * a->C;
    const int64_t longest = past + n > b->longest ? past + n : b->longest;
    const int64_t most_n = n > a->most_n ? n : a->most_n;
    const bool full = a->U == UNITS_AT_ONCE || a->type != (int64_t)s->kv.type ||
                      a->page_rows != s->kv.page_rows ||
                      (b->form == FORM_FEW &&
                       few_floats(a, a->U + 1, most_n, coarse_chunks(longest)) > SCRATCH_FLOATS);
    if (full) batch_launch(b);
    b->units[a->U++] =
        (attention_unit){s->q + at, s->out + at, s->kv.blocks, s->kv.offset, n, past,
                         b->gate ? b->gate + first * a->gate_row : NULL};
    a->type = s->kv.type;
    a->page_rows = s->kv.page_rows;
    if (past + n > b->longest) b->longest = past + n;
    if (n > a->most_n) a->most_n = n;
}

// Few rows whose sums do not fit the scratch at once are cut: each is its own.
static void batch_add_seq(attention_batch *b, const attention_seq *s)
{
    int64_t n = s->n;
    if (b->form == FORM_FEW) {
        const int64_t one = few_floats(&b->a, 1, 1, coarse_chunks(s->past + s->n));
        while (n > 1 && n * one > SCRATCH_FLOATS) n = (n + 1) / 2;
    }
    for (int64_t i = 0; i < s->n; i += n) batch_add(b, s, i, s->n - i < n ? s->n - i : n);
}

static void cuda_attention(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G,
                           int64_t C, float scale)
{
    attention_batch b = {.k = k, .a = {.H = H, .G = G, .C = C, .scale = (double)scale}};
    for (int form = 0; form < FORM_COUNT; form++) {
        b.form = (attention_form)form;
        for (int64_t s = 0; s < S; s++) {
            if (form_of(k, &seqs[s], H / G, C, scale) == b.form) batch_add_seq(&b, &seqs[s]);
        }
        batch_launch(&b);
    }
}

// Where all of them are few rows: what adds up the chunks has the gate too.
static bool cuda_attention_gated(kernels *k, const attention_seq *seqs, int64_t S, int64_t H, int64_t G, int64_t C,
                                 float scale, const gated_attention *gated)
{
    attention_batch b = {.k = k, .form = FORM_FEW,
                         .a = {.H = H, .G = G, .C = C, .scale = (double)scale, .gate_row = gated->row_stride,
                               .gate_head = gated->head_stride}};
    bool good = gated->row_stride % 4 == 0 && gated->head_stride % 4 == 0;
    for (int64_t s = 0; s < S && good; s++) {
        good = aligned(gated->gates[s]) && form_of(k, &seqs[s], H / G, C, scale) == FORM_FEW;
    }
    for (int64_t s = 0; s < S && good; s++) {
        b.gate = gated->gates[s];
        batch_add_seq(&b, &seqs[s]);
    }
    if (good) batch_launch(&b);
    return good;
}

// ---- inside spans ----

static void cuda_attention_spans(kernels *k, float *out, const float *qkv, int64_t spans,
                                 int64_t span, int64_t H, int64_t C, float scale)
{
    spans_args a = {.out = out, .qkv = qkv, .span = span, .H = H, .C = C, .scale = (double)scale};
    const bool tiles = !k->exact && C % 4 == 0 && C <= 128 && scale > 0 && span < MOST_ROWS &&
                       aligned(qkv) && aligned(out);
    const int64_t pair_bytes = 2 * span * spans_padded(C) * (int64_t)sizeof *a.packed;
    int64_t most = MOST_BLOCKS_Y;
    if (tiles && most > SCRATCH_FLOATS * 4 / pair_bytes) most = SCRATCH_FLOATS * 4 / pair_bytes;
    if (most < 1) most = 1;
    for (; a.first < spans * H; a.first += a.pairs) {
        a.pairs = spans * H - a.first < most ? spans * H - a.first : most;
        if (tiles) {
            a.packed = cuda_scratch(k, 0, (size_t)(a.pairs * pair_bytes));
            if (!a.packed) return;
        }
        cuda_launch(k, tiles ? launch_spans_tile : launch_spans_plain, &a, sizeof a);
    }
}

void attention_cuda_fill(backend_ops *ops)
{
    ops->kv_write = cuda_kv_write;
    ops->kv_write_many = cuda_kv_write_many;
    ops->attention = cuda_attention;
    ops->attention_spans = cuda_attention_spans;
    ops->heads_write = cuda_heads_write;
    ops->attention_gated = cuda_attention_gated;
}
