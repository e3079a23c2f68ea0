// One matrix from the form it is stored in to the one that runs, slab by slab: what a slab read is
// given back before the next one, so that never more than a slab stands in memory twice.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint/prepare_parts.h"

#define PIECE_ELEMENTS ((int64_t)1 << 17) // that one thread turns at a time
#define SLAB_ELEMENTS  ((int64_t)1 << 25) // between two looks at the stop flag

typedef struct job {
    const prepare_block *block;
    void *to;             // BLOCK_BF16
    int64_t first;        // row that the slab begins with
    int64_t rows;         // of a piece, a multiple of PACKED_PANEL
    int64_t end;          // of the slab
    atomic_int failed;    // a sight_err; the first one's line is in `line`
    char line[512];
} job;

// A failure in a worker: its line belongs to that thread, so it is carried to the caller.
static void fail_piece(job *j, sight_err err)
{
    int none = SIGHT_OK;
    char line[sizeof j->line];
    strncpy(line, sight_error(), sizeof line - 1);
    line[sizeof line - 1] = 0;
    if (atomic_compare_exchange_strong(&j->failed, &none, (int)err)) memcpy(j->line, line, sizeof line);
}

static sight_err no_memory(const prepare_block *b)
{
    return sight_fail(SIGHT_E_MEMORY, "no memory to prepare tensor '%s'", b->name);
}

// ---- rows ----

static void rows_to_f32(float *to, const tensor_view *v, int64_t first, int64_t n)
{
    switch (v->type) {
    case TENSOR_BF16: {
        const uint16_t *from = (const uint16_t *)v->data + first;
        for (int64_t i = 0; i < n; i++) to[i] = bf16_to_f32(from[i]);
        break;
    }
    case TENSOR_F16: {
        const uint16_t *from = (const uint16_t *)v->data + first;
        for (int64_t i = 0; i < n; i++) to[i] = f16_to_f32(from[i]);
        break;
    }
    default:
        for (int64_t i = 0; i < n; i++) to[i] = tensor_get_f32(v, first + i);
    }
}

// Rows of a stored form, multiplied out: packed as one small matrix, then read.
static sight_err stored_to_f32(float *to, const stored *s, const packed_rows *rows, int64_t n)
{
    void *block = aligned_alloc(PREPARE_ALIGN, (packed_bytes(&s->format, n, s->K) + PREPARE_ALIGN - 1) /
                                                   PREPARE_ALIGN * PREPARE_ALIGN);
    if (!block) return sight_fail(SIGHT_E_MEMORY, "no memory to prepare tensor '%s'", s->name);
    packed p;
    packed_init(&p, &s->format, n, s->K, block);
    packed_put(&p, 0, n, rows);
    for (int64_t i = 0; i < n; i++) packed_get_row(&p, to + i * s->K, i);
    free(block);
    return SIGHT_OK;
}

static sight_err put_packed(const job *j, int64_t first, int64_t n, float *f32)
{
    const prepare_block *b = j->block;
    const stored *s = b->of->stored;
    packed_rows rows;
    if (!packed_rows_alloc(&rows, &b->format, n, b->K)) return no_memory(b);
    sight_err err = SIGHT_OK;
    if (s) {
        err = s->read(s, &rows, first, n);
    } else {
        rows_to_f32(f32, &b->of->view, first * b->K, n * b->K);
        packed_quantise(&rows, &b->format, f32, n, b->K, NULL);
    }
    if (!err) packed_put(&b->packed, first, n, &rows);
    free(rows.codes);
    return err;
}

static sight_err put_bf16(const job *j, int64_t first, int64_t n, float *f32)
{
    const prepare_block *b = j->block;
    const stored *s = b->of->stored;
    sight_err err = SIGHT_OK;
    if (s) {
        packed_rows rows;
        if (!packed_rows_alloc(&rows, &s->format, n, b->K)) return no_memory(b);
        err = s->read(s, &rows, first, n);
        if (!err) err = stored_to_f32(f32, s, &rows, n);
        free(rows.codes);
    } else {
        rows_to_f32(f32, &b->of->view, first * b->K, n * b->K);
    }
    uint16_t *to = (uint16_t *)j->to + first * b->K;
    for (int64_t i = 0; i < n * b->K && !err; i++) to[i] = f32_to_bf16(f32[i]);
    return err;
}

static void run_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    (void)worker;
    job *j = arg;
    const prepare_block *b = j->block;
    float *f32 = malloc((size_t)(j->rows * b->K) * sizeof *f32);
    if (!f32) {
        fail_piece(j, no_memory(b));
        return;
    }
    for (int64_t i = begin; i < end && !atomic_load(&j->failed); i++) {
        const int64_t first = j->first + i * j->rows;
        const int64_t n = first + j->rows < j->end ? j->rows : j->end - first;
        sight_err err = b->kind == BLOCK_PACKED ? put_packed(j, first, n, f32)
                                                : put_bf16(j, first, n, f32);
        if (err) fail_piece(j, err);
    }
    free(f32);
}

// ---- slabs ----

static int64_t in_panels(int64_t rows)
{
    const int64_t n = rows / PACKED_PANEL * PACKED_PANEL;
    return n ? n : PACKED_PANEL;
}

// Whole pages of what was read leave this process; the page cache keeps a file's.
static void give_back(const checkpoint *c, const prepare_block *b, int64_t first, int64_t end)
{
    const tensor_view *v = &b->of->view;
    const bool kept = c->memory && !c->lazy; // made-up numbers exist nowhere else
    if (kept || b->of->stored || !v->data) return;
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    const size_t row = (size_t)b->K * tensor_type_bytes(v->type);
    uintptr_t from = (uintptr_t)v->data + (size_t)first * row;
    uintptr_t to = (uintptr_t)v->data + (size_t)end * row;
    from = (from + page - 1) / page * page;
    to = to / page * page;
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}

sight_err pack_block(checkpoint *c, const prepare_block *b, void *to, const prepare_options *o,
                     int64_t *done, int64_t total)
{
    const int64_t slab = in_panels(SLAB_ELEMENTS / b->K);
    const int64_t stored_bytes = (int64_t)plan_stored_bytes(b->of);
    const int64_t before = *done;
    for (int64_t first = 0; first < b->M; first += slab) {
        job j = {.block = b, .to = to, .first = first, .rows = in_panels(PIECE_ELEMENTS / b->K)};
        j.end = first + slab < b->M ? first + slab : b->M;
        if (o->stop && atomic_load(o->stop)) {
            return sight_fail(SIGHT_E_CANCELLED, "preparing the weights was stopped");
        }
        if (c->lazy) made_up_fill(c, b->of, first * b->K, j.end * b->K, o->pool);
        threads_for(o->pool, (j.end - first + j.rows - 1) / j.rows, 1, run_pieces, &j);
        sight_err err = (sight_err)atomic_load(&j.failed);
        if (err) return sight_fail(err, "%s", j.line);
        give_back(c, b, first, j.end);
        *done = before + (int64_t)((double)stored_bytes * (double)j.end / (double)b->M);
        if (o->progress) o->progress(o->progress_arg, *done, total);
    }
    return SIGHT_OK;
}
