// kernels/cuda/pick.c - op_pick_logits on a GPU: which rows go together, memory, and the way back.
#include "kernels/cuda/pick.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/device.h"
#include "kernels/memory.h"

#define MOST_ROWS 64 // at once
#define MOST_ALLOWED MOST_ROWS // arrays that are kept as bits: as many as rows at once may have
#define MORE_FIRST 32 // candidates beyond k that come back with the first read

// ---- arrays of allowed ids, as bits on the device ----

typedef struct allowed_bits {
    const uint8_t *from; // NULL: a free place
    uint64_t serial;     // of its contents
    int64_t M;
    uint32_t *bits;
    uint64_t used; // when last
} allowed_bits;

typedef struct pick_kept {
    kernels *k;
    allowed_bits allowed[MOST_ALLOWED];
    uint64_t uses;
} pick_kept;

static void forget(void *p)
{
    pick_kept *kept = p;
    for (int i = 0; i < MOST_ALLOWED; i++) kernels_free(kept->k, kept->allowed[i].bits);
    free(kept);
}

static pick_kept *get_kept(kernels *k)
{
    cuda_kept *place = cuda_keep(k, CUDA_KEPT_PICK);
    if (place->p) return place->p;
    pick_kept *kept = calloc(1, sizeof *kept);
    if (!kept) {
        cuda_fail(k, SIGHT_E_MEMORY, "no memory for allowed ids");
        return NULL;
    }
    kept->k = k;
    *place = (cuda_kept){kept, forget};
    return kept;
}

static int64_t bit_words(int64_t M)
{
    return (M + 31) / 32;
}

// Eight bytes of 0 or 1 become the upper byte of a product, the first one its lowest bit. Masks may come anew with
// every token.
static void pack(uint32_t *bits, const uint8_t *allowed, int64_t M)
{
    int64_t i = 0;
    for (; i + 8 <= M; i += 8) {
        uint64_t eight = 0;
        for (int j = 0; j < 8; j++) eight |= (uint64_t)allowed[i + j] << (8 * j);
        bits[i / 32] |= (uint32_t)(eight * 0x0102040810204080u >> 56) << (i % 32);
    }
    for (; i < M; i++) bits[i / 32] |= (uint32_t)allowed[i] << (i % 32);
}

static bool upload(allowed_bits *to, kernels *k, const uint8_t *allowed, uint64_t serial, int64_t M)
{
    const size_t bytes = (size_t)bit_words(M) * sizeof *to->bits;
    uint32_t *bits = calloc(1, bytes);
    void *p = bits ? k->ops.alloc(k, bytes) : NULL;
    if (!p) {
        free(bits);
        cuda_fail(k, SIGHT_E_MEMORY, "no memory for %zu bytes of allowed ids", bytes);
        return false;
    }
    pack(bits, allowed, M);
    kernels_write(k, p, bits, bytes);
    free(bits);
    kernels_free(k, to->bits);
    *to = (allowed_bits){.from = allowed, .serial = serial, .M = M, .bits = p};
    return true;
}

// Bits of the array: those kept since it was met, or new ones in the place that was not used for longest. NULL for
// NULL; and where there is no memory, with an error kept.
static const uint32_t *get_allowed(kernels *k, const uint8_t *allowed, uint64_t serial, int64_t M)
{
    if (!allowed) return NULL;
    pick_kept *kept = get_kept(k);
    if (!kept) return NULL;
    allowed_bits *place = &kept->allowed[0];
    for (int i = 0; i < MOST_ALLOWED; i++) {
        allowed_bits *a = &kept->allowed[i];
        if (a->from == allowed && a->serial == serial && a->M == M) {
            a->used = ++kept->uses;
            return a->bits;
        }
        if (a->used < place->used) place = a;
    }
    if (!upload(place, k, allowed, serial, M)) return NULL;
    place->used = ++kept->uses;
    return place->bits;
}

// ---- rows that want few, together ----

typedef struct picking {
    kernels *k;
    const float *logits[MOST_ROWS];
    output_row *rows[MOST_ROWS];
    int64_t n, M;
    pick_args args;
    size_t zeroed_bytes; // from args.counts on
} picking;

// The rows and behind them their lists, in one copy.
static bool send_rows(picking *p)
{
    size_t ids = 0;
    for (int64_t i = 0; i < p->n; i++) ids += (size_t)p->rows[i]->n_always;
    const size_t head = (size_t)p->n * sizeof(pick_row), bytes = head + ids * sizeof(int32_t);
    pick_row *rows = malloc(bytes);
    if (!rows) {
        cuda_fail(p->k, SIGHT_E_MEMORY, "no memory for %zu bytes of wanted ids", bytes);
        return false;
    }
    int32_t *lists = (int32_t *)((char *)rows + head);
    int64_t at = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const output_row *row = p->rows[i];
        rows[i] = (pick_row){p->logits[i], get_allowed(p->k, row->allowed, row->serial, p->M), at, row->n_always,
                             row->k};
        if (row->n_always) memcpy(lists + at, row->always, (size_t)row->n_always * sizeof *lists);
        at += row->n_always;
    }
    p->args.rows = cuda_failed(p->k) ? NULL : cuda_args(p->k, rows, bytes);
    p->args.always = (const int32_t *)(p->args.rows + p->n);
    free(rows);
    return p->args.rows != NULL;
}

static void *part(uintptr_t base, size_t *at, size_t bytes)
{
    void *p = (void *)(base + *at);
    *at += (bytes + 255) / 256 * 256;
    return p;
}

// Lays everything out from base on; returns its size.
static size_t lay_out(picking *p, uintptr_t base)
{
    pick_args *a = &p->args;
    const size_t n = (size_t)p->n;
    size_t at = 0;
    a->counts = part(base, &at, n * PICK_DIGITS * sizeof *a->counts);
    a->gathered = part(base, &at, n * sizeof *a->gathered);
    p->zeroed_bytes = at;
    a->wanted = part(base, &at, n * (size_t)a->words * sizeof *a->wanted);
    a->borders = part(base, &at, n * (PICK_LEVELS + 1) * sizeof *a->borders);
    a->best = part(base, &at, n * (size_t)pick_tiles(a->M) * sizeof *a->best);
    a->found = part(base, &at, n * (1 + PICK_GATHERED) * sizeof *a->found);
    a->entries = part(base, &at, n * PICK_GATHERED * sizeof *a->entries);
    return at;
}

static bool prepare(picking *p)
{
    pick_args *a = &p->args;
    *a = (pick_args){.N = p->n, .M = p->M, .words = bit_words(p->M)};
    const void *base = cuda_scratch(p->k, 0, lay_out(p, 0));
    if (!base) return false;
    lay_out(p, (uintptr_t)base);
    return send_rows(p);
}

// Brings entries first .. first + n - 1 of all rows. NULL: an error is kept.
static pick_found *bring(picking *p, int64_t first, int64_t n, sight_err *err)
{
    const size_t bytes = (size_t)(n * p->n) * sizeof(pick_found);
    pick_found *found = malloc(bytes);
    if (!found) *err = sight_fail(SIGHT_E_MEMORY, "no memory for %zu bytes of candidates", bytes);
    else *err = kernels_read(p->k, found, p->args.found + first * p->n, bytes);
    if (*err) {
        free(found);
        return NULL;
    }
    return found;
}

static void take(picking *p, const pick_found *found, int64_t first, int64_t n)
{
    for (int64_t i = 0; i < p->n; i++) {
        output_row *row = p->rows[i];
        for (int64_t j = first; j < first + n && j < row->n; j++) {
            row->ids[j] = found[(j - first) * p->n + i].id;
            row->logits[j] = found[(j - first) * p->n + i].logit;
        }
    }
}

// Waits. Fills the rows that have a result and drops them; those that have none stay.
static sight_err read_found(picking *p, int64_t most)
{
    int64_t first = 1, longest = 0, left = 0;
    for (int64_t i = 0; i < p->n; i++) {
        const output_row *row = p->rows[i];
        if (row->k + row->n_always > first) first = row->k + row->n_always;
    }
    first = first + MORE_FIRST < most ? first + MORE_FIRST : most;
    sight_err err;
    pick_found *found = bring(p, 0, 1 + first, &err);
    if (!found) return err;
    for (int64_t i = 0; i < p->n; i++) {
        p->rows[i]->n = found[i].id; // PICK_OVER too, for a moment
        if (found[i].id > longest) longest = found[i].id;
    }
    take(p, found + p->n, 0, first);
    free(found);
    if (longest > first) {
        found = bring(p, 1 + first, longest - first, &err);
        if (!found) return err;
        take(p, found, first, longest - first);
        free(found);
    }
    for (int64_t i = 0; i < p->n; i++) {
        if (p->rows[i]->n != PICK_OVER) continue;
        p->rows[left] = p->rows[i];
        p->logits[left++] = p->logits[i];
    }
    p->n = left;
    return SIGHT_OK;
}

static bool wants_others(const picking *p)
{
    for (int64_t i = 0; i < p->n; i++)
        if (p->rows[i]->n_always > 0) return true;
    return false;
}

static bool only_greatest(const picking *p)
{
    for (int64_t i = 0; i < p->n; i++)
        if (p->rows[i]->k != 1) return false;
    return !wants_others(p);
}

static sight_err pick_greatest(picking *p)
{
    if (!prepare(p)) return kernels_status(p->k);
    cuda_launch(p->k, launch_pick_best, &p->args, sizeof p->args);
    cuda_launch(p->k, launch_pick_best_finish, &p->args, sizeof p->args);
    return read_found(p, 1);
}

// Levels 0 .. last, without waiting between them; only the last one gathers for good.
static sight_err pick_levels(picking *p, int64_t last)
{
    if (!prepare(p)) return kernels_status(p->k);
    pick_args *a = &p->args;
    if (wants_others(p)) cuda_launch(p->k, launch_pick_want, a, sizeof *a);
    for (a->level = 0; a->level <= last; a->level++) {
        op_zero(p->k, a->counts, p->zeroed_bytes);
        cuda_launch(p->k, launch_pick_count, a, sizeof *a);
        cuda_launch(p->k, launch_pick_gather, a, sizeof *a);
    }
    cuda_launch(p->k, launch_pick_finish, a, sizeof *a);
    return read_found(p, PICK_GATHERED);
}

static sight_err read_all(kernels *k, const float *logits, output_row *row, int64_t M)
{
    row->n = (int32_t)M;
    return kernels_read(k, row->logits, logits, (size_t)M * sizeof *logits);
}

static sight_err pick_some(picking *p)
{
    sight_err err = SIGHT_OK;
    if (p->n > 0 && only_greatest(p)) err = pick_greatest(p);
    for (int64_t last = 0; !err && p->n > 0 && last < PICK_LEVELS; last++) err = pick_levels(p, last);
    for (int64_t i = 0; !err && i < p->n; i++) err = read_all(p->k, p->logits[i], p->rows[i], p->M);
    return err;
}

static bool wants_few(const output_row *row, int64_t M)
{
    return row->k > 0 && row->k <= PICK_MAX_K && row->n_always <= PICK_MAX_ALWAYS &&
           row->k + row->n_always < M;
}

static sight_err cuda_pick_logits(kernels *k, const float *logits, output_row *const *rows, int64_t N,
                                  int64_t M)
{
    picking p = {.k = k, .M = M};
    sight_err err = SIGHT_OK;
    for (int64_t i = 0; !err && i < N; i++) {
        if (wants_few(rows[i], M)) {
            p.rows[p.n] = rows[i];
            p.logits[p.n++] = logits + i * M;
        }
        if (p.n < MOST_ROWS && i + 1 < N) continue;
        err = pick_some(&p);
        p.n = 0;
    }
    for (int64_t i = 0; !err && i < N; i++) {
        if (!wants_few(rows[i], M)) err = read_all(k, logits + i * M, rows[i], M);
    }
    return err;
}

void pick_cuda_fill(backend_ops *ops)
{
    ops->pick_logits = cuda_pick_logits;
}
