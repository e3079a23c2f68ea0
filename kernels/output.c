#include "kernels/output.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/cpu/output.h"
#include "kernels/memory.h"
#include "kernels/profile.h"

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

// Scratch for the rows of a panel, and for the codes of one.
static size_t make_floats(int64_t K)
{
    return (size_t)((OUTPUT_PANEL + 1) * output_width(K));
}

typedef struct make_job {
    kernels *k;
    const output_planes *to;
    const weight *from;
    atomic_bool *odd; // a weight that planes do not take
} make_job;

// Rows first .. first + n - 1 as float32, `width` apart.
static void read_rows(const make_job *j, float *out, int64_t first, int64_t n, int64_t width)
{
    const weight *w = j->from;
    const int64_t K = w->w.shape[1];
    const uint16_t *half = (const uint16_t *)w->w.data + first * K;
    if (w->packed) {
        j->k->ops.unpack(w->packed, out, first, n);
        for (int64_t r = n; width > K && r-- > 0;) {
            memmove(out + r * width, out + r * K, (size_t)K * sizeof *out);
        }
        return;
    }
    for (int64_t r = 0; r < n; r++, out += width, half += K) {
        if (w->w.type == TENSOR_F32) {
            memcpy(out, (const float *)w->w.data + (first + r) * K, (size_t)K * sizeof *out);
        } else if (w->w.type == TENSOR_BF16) {
            for (int64_t i = 0; i < K; i++) out[i] = bf16_to_f32(half[i]);
        } else {
            for (int64_t i = 0; i < K; i++) out[i] = f16_to_f32(half[i]);
        }
    }
}

// Zeros behind each row; false: a number is not finite, or too large.
static bool finish_row(float *row, int64_t K, int64_t width)
{
    int odd = 0;
    memset(row + K, 0, (size_t)(width - K) * sizeof *row);
    for (int64_t i = 0; i < K; i++) odd |= !(row[i] <= LARGEST) | !(row[i] >= -LARGEST);
    return !odd;
}

static void make_panels(void *arg, int64_t begin, int64_t end, int worker)
{
    const make_job *j = arg;
    const int64_t K = j->to->K, width = output_width(K);
    float *rows = kernels_scratch(j->k, worker, make_floats(K));
    uint8_t *room = (uint8_t *)(rows + OUTPUT_PANEL * width);
    for (int64_t m = begin * OUTPUT_PANEL; m < end * OUTPUT_PANEL; m += OUTPUT_PANEL) {
        const int64_t left = j->to->M - m, n = left < OUTPUT_PANEL ? left : OUTPUT_PANEL;
        memset(rows, 0, (size_t)(OUTPUT_PANEL * width) * sizeof *rows);
        read_rows(j, rows, m, n, width);
        for (int64_t r = 0; r < OUTPUT_PANEL; r++) {
            float *row = rows + r * width;
            if (!finish_row(row, K, width)) atomic_store(j->odd, true);
            else j->k->ops.output->make_row(j->to, m + r, row, room);
        }
    }
}

bool op_output_make(kernels *k, const output_planes *to, const weight *head)
{
    assert(head->w.n_dims == 2 && head->w.shape[0] == to->M && head->w.shape[1] == to->K);
    assert(!head->bias && !head->lora && make_floats(to->K) <= KERNELS_SCRATCH_FLOATS);
    atomic_bool odd = false;
    make_job job = {k, to, head, &odd};
    threads_for(k->pool, output_panels(to->M), 16, make_panels, &job);
    return !atomic_load(&odd);
}

// ---- the input ----

typedef struct x_arrays {
    int8_t *q;
    float *scale, *offset, *norm, *error;
    int32_t *start;
} x_arrays;

static size_t x_groups(int64_t K)
{
    return (size_t)(output_groups(K) + 15) / 16 * 16;
}

size_t output_x_bytes(int64_t K)
{
    return x_groups(K) * (OUTPUT_GROUP + 5 * sizeof(float));
}

static x_arrays cut(void *block, int64_t K)
{
    const size_t n = x_groups(K);
    float *at = (float *)(void *)((char *)block + n * OUTPUT_GROUP);
    return (x_arrays){block, at, at + n, at + 2 * n, at + 3 * n, (int32_t *)(void *)(at + 4 * n)};
}

// A norm as float, rounded up.
static float norm_up(double sum_of_squares)
{
    return (float)(sqrt(sum_of_squares) * (1 + 1e-6) + 1e-36);
}

// What the full product multiplies the weights with.
typedef enum x_form {
    X_FLOATS,
    X_BF16,  // rounded to that
    X_BYTES, // in int8 by blocks of 32, exactly as here (kernels/cpu/packed.h): nothing is left
} x_form;

static x_form form_of(const kernels *k, const weight *head)
{
    if (head->packed) return head->packed->format.f8 || k->exact ? X_FLOATS : X_BYTES;
    return k->ops.linear_bf16 && head->w.type == TENSOR_BF16 ? X_BF16 : X_FLOATS;
}

// One group in bytes, by the largest magnitude.
static void round_group(const x_arrays *to, int64_t g, const float *x, int64_t n, x_form form)
{
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
    const float scale = most < 0x1p-100f ? 0 : most / 127;
    const float inverse = scale > 0 ? 127 / most : 0;
    double norm = 0, error = 0;
    int32_t sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const int32_t q = (int32_t)nearbyintf(x[i] * inverse);
        const float as = form == X_BF16 ? bf16_to_f32(f32_to_bf16(x[i])) : x[i];
        const double e = (double)as - (double)scale * q;
        norm += (double)q * q;
        error += e * e;
        sum += q;
        to->q[g * OUTPUT_GROUP + i] = (int8_t)q;
    }
    to->scale[g] = scale;
    to->start[g] = -8 * sum;
    to->offset[g] = (float)(-8 * sum);
    to->norm[g] = norm_up(norm * (double)scale * (double)scale);
    to->error[g] = form == X_BYTES ? 0 : norm_up(error);
}

bool op_output_read(kernels *k, output_x *out, void *block, const float *x, const weight *head)
{
    const int64_t K = head->w.shape[1];
    const x_form form = form_of(k, head);
    const x_arrays to = cut(block, K);
    memset(block, 0, output_x_bytes(K));
    for (int64_t i = 0; i < K; i++) {
        if (!(fabsf(x[i]) <= LARGEST)) return false;
    }
    for (int64_t i = 0; i < K; i += OUTPUT_GROUP) {
        round_group(&to, i / OUTPUT_GROUP, x + i, K - i < OUTPUT_GROUP ? K - i : OUTPUT_GROUP, form);
    }
    *out = (output_x){to.q, to.scale, to.start, to.offset, to.norm, to.error, form == X_BYTES};
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

// rows: of the head, for each row of x.
static void note(kernels *k, double start, const char *op, double bytes, double rows, int64_t K)
{
    if (!k->profile) return;
    profile_add(k->profile, op, clock_now_s() - start, bytes + 8 * rows, 2 * rows * (double)K);
}

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
    if (N == 0) return;
    const double start = k->profile ? clock_now_s() : 0;
    look_job job = {k, looks, p, x, N, NULL};
    threads_for(k->pool, output_panels(p->M), SCAN_PIECE, scan_pieces, &job);
    note(k, start, "output scan", (double)(p->low - p->high), (double)(N * p->M), p->K);
}

int64_t op_output_scan_rows(const kernels *k)
{
    return k->ops.output->scan_rows;
}

static void refine_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const look_job *j = arg;
    j->k->ops.output->refine(j->looks, j->p, j->x, j->ids + begin, end - begin);
}

void op_output_refine(kernels *k, const output_look *look, const output_planes *p,
                      const output_x *x, const int32_t *ids, int64_t n)
{
    if (n == 0) return;
    const double start = k->profile ? clock_now_s() : 0;
    look_job job = {k, look, p, x, n, ids};
    threads_for(k->pool, n, REFINE_PIECE, refine_pieces, &job);
    note(k, start, "output refine", (double)(n * output_record_bytes(p->K)), (double)n, p->K);
}

// ---- whether ----

#define LEAST_WEIGHTS ((int64_t)8 << 20)

bool op_output_pays(const kernels *k, const weight *head)
{
    // Heads in 4 bits are as small as a scan; minima would round beyond what the bound allows for.
    const packed *p = head->packed;
    const bool wide = !p || (p->format.bits == 8 && !p->format.has_min);
    return wide && !kernels_on_device(k) && !k->exact && !head->bias && !head->lora &&
           tensor_count(&head->w) >= LEAST_WEIGHTS &&
           make_floats(head->w.shape[1]) <= KERNELS_SCRATCH_FLOATS;
}
