#include "text/output.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/memory.h"
#include "kernels/output.h"
#include "text/output_parts.h"

// Scanning that did not pay is left alone for 1, 2, 4... steps.
#define LONGEST_REST 64
// What reading a row of the head by itself costs, in rows that stream by.
#define ALONE 2
// What choosing takes, for each row of the head and of x, in bytes that stream by.
#define CHOOSING 32

// ---- the object ----

// NULL: no memory.
static void *block_create(const output_layer *o, size_t bytes)
{
    void *p;
    return kernels_alloc(&p, o->k, bytes, "the output layer") ? NULL : p;
}

static size_t head_row_bytes(const weight *head)
{
    const int64_t K = head->w.shape[1];
    if (!head->packed) return (size_t)K * tensor_type_bytes(head->w.type);
    return packed_bytes(&head->packed->format, OUTPUT_PANEL, K) / OUTPUT_PANEL;
}

// What one look needs, beside marks and ids that all share.
static size_t look_floats(const output_layer *o)
{
    const size_t rows = (size_t)output_rows(o->M), panels = (size_t)output_panels(o->M);
    return 2 * rows + 2 * ((panels + 15) / 16 * 16);
}

static bool create_scratch(output_layer *o)
{
    const size_t x_bytes = output_x_bytes(o->K) * OUTPUT_MAX_ROWS;
    const size_t floats = look_floats(o), rows = (size_t)output_rows(o->M);
    const size_t panels = (rows / OUTPUT_PANEL + 15) / 16 * 16;
    o->numbers = block_create(o, floats * OUTPUT_MAX_ROWS * sizeof(float));
    o->x_block = block_create(o, x_bytes);
    o->marks = calloc(rows, 1);
    o->ids = malloc((rows + 1) * sizeof *o->ids); // collecting writes one further
    o->bytes += (int64_t)(floats * OUTPUT_MAX_ROWS * sizeof(float) + x_bytes + 5 * rows);
    for (size_t i = 0; o->numbers && i < OUTPUT_MAX_ROWS; i++) {
        float *at = o->numbers + i * floats;
        o->looks[i] = (output_look){at, at + rows, at + 2 * rows, at + 2 * rows + panels};
    }
    return o->numbers && o->x_block && o->marks && o->ids && output_exact_create(o);
}

// Behind the planes of a block.
typedef struct block_end {
    uint64_t good; // GOOD, or the head holds weights that planes do not take
} block_end;

#define GOOD 0x73656e616c50u
#define END_BYTES 64

size_t output_block_bytes(const weight *head)
{
    return output_planes_bytes(head->w.shape[0], head->w.shape[1]) + END_BYTES;
}

static block_end *end_of(const void *block, const weight *head)
{
    return (block_end *)((char *)block + output_block_bytes(head) - END_BYTES);
}

void output_make_block(kernels *k, void *to, const weight *head)
{
    output_planes planes;
    output_planes_init(&planes, head->w.shape[0], head->w.shape[1], to);
    end_of(to, head)->good = op_output_make(k, &planes, head) ? GOOD : 0;
}

static sight_err create_planes(output_layer *o, const void *block)
{
    const size_t bytes = output_block_bytes(o->head);
    if (!block) {
        o->block = block_create(o, bytes);
        if (o->block) output_make_block(o->k, o->block, o->head);
        o->bytes += (int64_t)bytes;
        block = o->block;
    }
    if (!block || !create_scratch(o)) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for %.1f MiB of the output layer's planes",
                          (double)bytes / 1048576);
    }
    output_planes_init(&o->planes, o->M, o->K, block);
    o->has_planes = end_of(block, o->head)->good == GOOD;
    return SIGHT_OK;
}

sight_err output_create(output_layer **out, kernels *k, const weight *head,
                        const output_options *options)
{
    output_layer *o = calloc(1, sizeof *o);
    if (!o) return sight_fail(SIGHT_E_MEMORY, "no memory for the output layer");
    o->k = k;
    o->head = head;
    o->M = head->w.shape[0];
    o->K = head->w.shape[1];
    o->row_bytes = head_row_bytes(head);
    o->backoff = 1;
    sight_err err = options->planes ? create_planes(o, options->block) : SIGHT_OK;
    if (err) output_destroy(&o);
    else *out = o;
    return err;
}

void output_destroy(output_layer **p)
{
    output_layer *o = *p;
    if (!o) return;
    kernels_free(o->k, o->block);
    kernels_free(o->k, o->numbers);
    kernels_free(o->k, o->x_block);
    free(o->marks);
    free(o->ids);
    free(o->gathered);
    free(o->products);
    free(o);
    *p = NULL;
}

int64_t output_bytes(const output_layer *o)
{
    return o->bytes;
}

output_counts output_get_counts(const output_layer *o)
{
    return o->counts;
}

// ---- all logits ----

// As many rows as there are looks share a product, in their memory.
static void run_full(output_layer *o, const float *x, output_row *const *rows, int32_t n)
{
    const size_t bytes = (size_t)o->M * sizeof(float);
    o->counts.full += n;
    for (int32_t i = 0; i < n; i++) rows[i]->n = (int32_t)o->M;
    if (!o->numbers) {
        for (int32_t i = 0; i < n; i++) op_linear(o->k, rows[i]->logits, x + i * o->K, o->head, 1);
        return;
    }
    for (int32_t i = 0, group; i < n; i += group) {
        group = n - i < OUTPUT_MAX_ROWS ? n - i : OUTPUT_MAX_ROWS;
        float *to = group > 1 ? o->numbers : rows[i]->logits;
        op_linear(o->k, to, x + i * o->K, o->head, group);
        for (int32_t j = 0; group > 1 && j < group; j++) {
            memcpy(rows[i + j]->logits, to + j * o->M, bytes);
        }
    }
}

// ---- whether scanning pays ----

static double head_bytes(const output_layer *o)
{
    return (double)o->M * (double)o->row_bytes;
}

// What scanning n rows of x cost since, in bytes that stream by. It depends on weights and inputs
// alone, so a run repeats itself.
static double cost_since(const output_layer *o, const output_counts *before, int32_t n)
{
    const double scan = (double)(o->planes.low - o->planes.high);
    const double longer = (double)n / (double)op_output_scan_rows(o->k);
    const double refined = (double)(o->counts.refined - before->refined);
    const double exact = (double)(o->counts.exact - before->exact);
    return scan * (longer > 1 ? longer : 1) + (double)n * (double)o->M * CHOOSING +
           refined * (double)output_record_bytes(o->K) + exact * ALONE * (double)o->row_bytes;
}

static void remember(output_layer *o, double cost)
{
    if (cost < 0.95 * head_bytes(o)) {
        o->backoff = 1;
        return;
    }
    o->rest = o->backoff;
    o->backoff = o->backoff < LONGEST_REST ? 2 * o->backoff : LONGEST_REST;
}

static bool wants_few(const output_layer *o, const output_row *row)
{
    // What adapters add is not in the planes.
    return o->has_planes && !o->head->lora && row->k > 0 && row->k <= o->M / 64 && row->n_always <= o->M / 16;
}

// Up to OUTPUT_MAX_ROWS rows that want few logits.
static void run_few(output_layer *o, const float *x, output_row *const *rows, int32_t n)
{
    const size_t x_bytes = output_x_bytes(o->K);
    output_x in[OUTPUT_MAX_ROWS];
    bool readable = true;
    for (int32_t i = 0; i < n && readable; i++) {
        readable = op_output_read(o->k, &in[i], (char *)o->x_block + (size_t)i * x_bytes,
                                  x + i * o->K, o->head);
    }
    if (!readable) {
        run_full(o, x, rows, n);
        return;
    }
    const output_counts before = o->counts;
    op_output_scan(o->k, o->looks, &o->planes, in, n);
    output_row *left[OUTPUT_MAX_ROWS]; // whose product all must get: their looks go with it
    int32_t n_left = 0, at[OUTPUT_MAX_ROWS];
    for (int32_t i = 0; i < n; i++) {
        o->counts.scans++;
        if (output_narrow(o, x + i * o->K, &in[i], &o->looks[i], rows[i])) continue;
        at[n_left] = i;
        left[n_left++] = rows[i];
    }
    for (int32_t i = 0; i < n_left; i++) run_full(o, x + at[i] * o->K, &left[i], 1);
    remember(o, cost_since(o, &before, n) + (double)n_left * head_bytes(o));
}

void output_run(output_layer *o, const float *x, output_row *const *rows, int32_t n)
{
    for (int32_t i = 0, end; i < n; i = end) {
        const bool few = wants_few(o, rows[i]);
        for (end = i + 1; end < n && end - i < OUTPUT_MAX_ROWS && wants_few(o, rows[end]) == few;) {
            end++;
        }
        if (!few || o->rest > 0) run_full(o, x + i * o->K, rows + i, end - i);
        else run_few(o, x + i * o->K, rows + i, end - i);
        if (few && o->rest > 0) o->rest--;
    }
}
