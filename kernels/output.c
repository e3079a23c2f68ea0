#include "kernels/output.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "kernels/cpu/output.h"

// Beyond this, weights and inputs are left to the full product: no sum of theirs can overflow below.
#define LARGEST 1e12f

static size_t aligned(size_t n)
{
    return (n + 63) / 64 * 64;
}

// ---- layout ----

typedef struct layout {
    size_t high, scale, unit, slack, low; // bytes of each plane
} layout;

static layout layout_of(int64_t M, int64_t K)
{
    const size_t rows = (size_t)output_rows(M);
    return (layout){
        .high = rows * (size_t)output_width(K) / 2,
        .scale = aligned(rows * (size_t)output_groups(K)),
        .unit = aligned(rows * sizeof(float)),
        .slack = aligned(rows * sizeof(uint32_t)),
        .low = rows * (size_t)output_record_bytes(K),
    };
}

size_t output_planes_bytes(int64_t M, int64_t K)
{
    const layout l = layout_of(M, K);
    return l.high + l.scale + l.unit + l.slack + l.low;
}

void output_planes_init(output_planes *out, int64_t M, int64_t K, const void *block)
{
    const layout l = layout_of(M, K);
    const uint8_t *at = block;
    out->M = M;
    out->K = K;
    out->high = at;
    out->scale = (const int8_t *)(at += l.high);
    out->unit = (const float *)(const void *)(at += l.scale);
    out->slack = (const uint32_t *)(const void *)(at += l.unit);
    out->low = at + l.slack;
}

// ---- making the planes ----

typedef struct make_job {
    kernels *k;
    const output_planes *to;
    const weight *from;
    atomic_bool *odd; // a weight that planes do not take
} make_job;

// Row m as float32, followed by zeros up to the width; false: not finite, or too large.
static bool read_row(float *out, const weight *w, int64_t m, int64_t width)
{
    const int64_t K = w->w.shape[1];
    memset(out, 0, (size_t)width * sizeof *out);
    if (m >= w->w.shape[0]) return true;
    if (w->packed) {
        packed_get_row(w->packed, out, m);
    } else {
        const char *row = (const char *)w->w.data +
                          (size_t)(m * K) * tensor_type_bytes(w->w.type);
        if (w->w.type == TENSOR_F32) memcpy(out, row, (size_t)K * sizeof *out);
        const uint16_t *half = (const uint16_t *)(const void *)row;
        for (int64_t i = 0; w->w.type == TENSOR_BF16 && i < K; i++) out[i] = bf16_to_f32(half[i]);
        for (int64_t i = 0; w->w.type == TENSOR_F16 && i < K; i++) out[i] = f16_to_f32(half[i]);
    }
    int odd = 0;
    for (int64_t i = 0; i < K; i++) odd |= !(out[i] <= LARGEST) | !(out[i] >= -LARGEST);
    return !odd;
}

static void make_panels(void *arg, int64_t begin, int64_t end, int worker)
{
    const make_job *j = arg;
    const int64_t width = output_width(j->to->K);
    float *row = kernels_scratch(j->k, worker, (size_t)(2 * width));
    for (int64_t m = begin * OUTPUT_PANEL; m < end * OUTPUT_PANEL; m++) {
        if (!read_row(row, j->from, m, width)) {
            atomic_store(j->odd, true);
            return;
        }
        j->k->ops.output->make_row(j->to, m, row, (uint8_t *)(row + width));
    }
}

bool op_output_make(kernels *k, const output_planes *to, const weight *head)
{
    assert(head->w.n_dims == 2 && head->w.shape[0] == to->M && head->w.shape[1] == to->K);
    assert(!head->bias && 2 * output_width(to->K) <= (int64_t)KERNELS_SCRATCH_FLOATS);
    atomic_bool odd = false;
    make_job job = {k, to, head, &odd};
    threads_for(k->pool, output_panels(to->M), 16, make_panels, &job);
    return !atomic_load(&odd);
}

// ---- the input ----

typedef struct x_arrays {
    int8_t *q;
    float *scale, *offset, *norm, *error;
} x_arrays;

static size_t x_groups(int64_t K)
{
    return (size_t)(output_groups(K) + 15) / 16 * 16;
}

size_t output_x_bytes(int64_t K)
{
    return x_groups(K) * (OUTPUT_GROUP + 4 * sizeof(float));
}

static x_arrays cut(void *block, int64_t K)
{
    const size_t n = x_groups(K);
    float *at = (float *)(void *)((char *)block + n * OUTPUT_GROUP);
    return (x_arrays){block, at, at + n, at + 2 * n, at + 3 * n};
}

// A norm as float, rounded up.
static float norm_up(double sum_of_squares)
{
    return (float)(sqrt(sum_of_squares) * (1 + 1e-6) + 1e-36);
}

// One group: bytes of `as` (what the full product multiplies with), by the largest magnitude.
static void round_group(const x_arrays *to, int64_t g, const float *as, int64_t n)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(as[i]));
    const float scale = most > 1e-30f ? most / 127 : 0;
    const float inverse = scale > 0 ? 1 / scale : 0;
    double norm = 0, error = 0;
    int32_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const int32_t q = (int32_t)lrintf(as[i] * inverse);
        const double e = (double)as[i] - (double)scale * q;
        norm += (double)q * q;
        error += e * e;
        sum += q;
        to->q[g * OUTPUT_GROUP + i] = (int8_t)q;
    }
    to->scale[g] = scale;
    to->offset[g] = (float)(-8 * sum);
    to->norm[g] = norm_up(norm * (double)scale * (double)scale);
    to->error[g] = norm_up(error);
}

bool op_output_read(kernels *k, output_x *out, void *block, const float *x, const weight *head)
{
    const int64_t K = head->w.shape[1];
    const bool rounds = k->ops.linear_bf16 && !head->packed && head->w.type == TENSOR_BF16;
    const x_arrays to = cut(block, K);
    memset(block, 0, output_x_bytes(K));
    for (int64_t i = 0; i < K; i++) {
        if (!(fabsf(x[i]) <= LARGEST)) return false;
    }
    for (int64_t i = 0; i < K; i += OUTPUT_GROUP) {
        const int64_t n = K - i < OUTPUT_GROUP ? K - i : OUTPUT_GROUP;
        float as[OUTPUT_GROUP];
        for (int64_t j = 0; j < n; j++) {
            as[j] = rounds ? bf16_to_f32(f32_to_bf16(x[i + j])) : x[i + j];
        }
        round_group(&to, i / OUTPUT_GROUP, as, n);
    }
    *out = (output_x){to.q, to.scale, to.offset, to.norm, to.error};
    return true;
}

// ---- both looks ----

#define SCAN_PIECE 16   // panels
#define REFINE_PIECE 64 // rows

typedef struct look_job {
    kernels *k;
    const output_look *looks;
    const output_planes *p;
    const output_x *x;
    int64_t n;
    const int32_t *ids;
} look_job;

static void scan_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const look_job *j = arg;
    for (int64_t panel = begin; panel < end; panel++) {
        j->k->ops.output->scan(j->looks, j->p, panel, j->x, j->n);
    }
}

void op_output_scan(kernels *k, const output_look *looks, const output_planes *p, const output_x *x,
                    int64_t N)
{
    assert(N >= 0 && N <= OUTPUT_MAX_ROWS);
    look_job job = {k, looks, p, x, N, NULL};
    if (N > 0) threads_for(k->pool, output_panels(p->M), SCAN_PIECE, scan_pieces, &job);
}

static void refine_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const look_job *j = arg;
    j->k->ops.output->refine(j->looks, j->p, j->x, j->ids + begin, end - begin);
}

void op_output_refine(kernels *k, const output_look *look, const output_planes *p,
                      const output_x *x, const int32_t *ids, int64_t n)
{
    look_job job = {k, look, p, x, n, ids};
    if (n > 0) threads_for(k->pool, n, REFINE_PIECE, refine_pieces, &job);
}

// ---- whether ----

#define LEAST_WEIGHTS ((int64_t)8 << 20)

bool op_output_pays(const kernels *k, const weight *head)
{
    // Heads in 4 bits are as small as a scan; minima would round beyond what the bound allows for.
    const packed *p = head->packed;
    const bool wide = !p || (p->format.bits == 8 && !p->format.has_min);
    return wide && !k->exact && !head->bias && tensor_count(&head->w) >= LEAST_WEIGHTS &&
           2 * output_width(head->w.shape[1]) <= (int64_t)KERNELS_SCRATCH_FLOATS;
}
