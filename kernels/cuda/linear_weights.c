#include "kernels/cuda/linear_weights.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/state.h"
#include "kernels/memory.h"

#define STAGE_BYTES ((size_t)1 << 20) // rows that are padded go in pieces

// ---- plain matrices ----

// Rows whose ends are padded with zeros, in pieces.
static sight_err write_padded(kernels *k, char *to, const char *from, int64_t rows, size_t row,
                              size_t stride)
{
    const int64_t fit = (int64_t)(STAGE_BYTES / stride), most = fit > 0 ? fit : 1;
    char *stage = calloc((size_t)(most < rows ? most : rows), stride);
    if (!stage) return sight_fail(SIGHT_E_MEMORY, "no memory to lay out weights");
    for (int64_t i = 0; i < rows; i += most) {
        const int64_t n = rows - i < most ? rows - i : most;
        for (int64_t j = 0; j < n; j++)
            memcpy(stage + (size_t)j * stride, from + (size_t)(i + j) * row, row);
        kernels_write(k, to + (size_t)i * stride, stage, (size_t)n * stride);
    }
    free(stage);
    return SIGHT_OK;
}

static sight_err take_matrix(kernels *k, tensor_view *out, const tensor_view *v)
{
    const size_t each = tensor_type_bytes(v->type), row = (size_t)v->shape[1] * each;
    const size_t stride = (size_t)linear_stride(v->type, v->shape[1]) * each;
    void *taken;
    sight_err err = kernels_alloc(&taken, k, (size_t)v->shape[0] * stride, "weights");
    if (err) return err;
    if (row == stride)
        kernels_write(k, taken, v->data, (size_t)v->shape[0] * row);
    else
        err = write_padded(k, taken, v->data, v->shape[0], row, stride);
    if (err) {
        kernels_free(k, taken);
        return err;
    }
    *out = *v;
    out->data = taken;
    return SIGHT_OK;
}

// ---- packed ones ----

// In blocks of 64 bytes from the codes on.
static uint32_t plane_at(const packed *p, const void *plane)
{
    return plane ? (uint32_t)(((const uint8_t *)plane - p->codes) / 64) : 0;
}

static void describe(packed_matrix *out, const packed *p)
{
    const packed_format *f = &p->format;
    static const uint8_t scales[] = {
        [PACKED_FLAT] = PACKED_SCALES_F16,
        [PACKED_FLAT_F32] = PACKED_SCALES_F32,
        [PACKED_TWO_LEVEL] = PACKED_SCALES_BYTES,
    };
    *out = (packed_matrix){
        .codes = p->codes,
        .scales_at = plane_at(p, p->scales),
        .mins_at = plane_at(p, p->mins),
        .super_at = plane_at(p, p->super),
        .super_min_at = plane_at(p, p->super_min),
        .factor = f->factor,
        .M = (int32_t)p->M,
        .kind = f->f8          ? PACKED_KIND_F8
                : f->bits == 8 ? PACKED_KIND_8
                : f->has_table ? PACKED_KIND_TABLE
                               : PACKED_KIND_4,
        .offset = f->f8 ? 0 : f->offset,
        .scales = scales[f->scales],
        .group_shift = f->group == 16   ? 4
                       : f->group == 32 ? 5
                       : f->group == 64 ? 6
                                        : 7,
        .signed_sub = f->signed_sub,
        .has_min = f->has_min,
        .groups = (int32_t)packed_groups(f, p->K),
        .supers = (int32_t)packed_supers(f, p->K),
        // Exact for groups below 2^16, of which KERNELS_MAX_PACKED_INPUTS allows 2^13.
        .super_magic = f->per_super > 1 ? UINT32_MAX / (uint32_t)f->per_super + 1 : 0,
    };
    memcpy(out->table, f->table, sizeof out->table);
}

static sight_err take_packed(kernels *k, const packed **out, const packed *p)
{
    const char *why;
    if (!packed_format_check(&p->format, &why)) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "packed weights on a GPU: %s is not one that it has a product for", why);
    }
    const size_t bytes = packed_bytes(&p->format, p->M, p->K);
    if (p->M > INT32_MAX || bytes / 64 > UINT32_MAX) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "packed weights on a GPU: %lld rows of %lld inputs are too many",
                          (long long)p->M, (long long)p->K);
    }
    taken_packed *t = malloc(sizeof *t);
    if (!t) return sight_fail(SIGHT_E_MEMORY, "no memory to note weights");
    sight_err err = kernels_alloc(&t->block, k, bytes, "packed weights");
    if (err) {
        free(t);
        return err;
    }
    kernels_write(k, t->block, p->codes, bytes);
    packed_init(&t->p, &p->format, p->M, p->K, t->block);
    describe(&t->matrix, &t->p);
    *out = &t->p;
    return SIGHT_OK;
}

static void drop_packed(kernels *k, const packed *p)
{
    taken_packed *t = (taken_packed *)(void *)p;
    kernels_free(k, t->block);
    free(t);
}

// ---- low-rank additions ----

static void drop_ranks(kernels *k, const low_rank *l)
{
    while (l) {
        low_rank *next = (low_rank *)l->next;
        kernels_free(k, (void *)l->a.data);
        kernels_free(k, (void *)l->b.data);
        free((low_rank *)l);
        l = next;
    }
}

static sight_err take_rank(kernels *k, low_rank *out, const low_rank *l)
{
    out->scale = l->scale;
    sight_err err = take_matrix(k, &out->a, &l->a);
    return err ? err : take_matrix(k, &out->b, &l->b);
}

static sight_err take_ranks(kernels *k, const low_rank **out, const low_rank *l)
{
    const low_rank *first = NULL, **end = &first;
    for (; l; l = l->next) {
        low_rank *one = calloc(1, sizeof *one);
        sight_err err = SIGHT_E_MEMORY;
        if (one) {
            *end = one;
            end = &one->next;
            err = take_rank(k, one, l);
        } else {
            sight_fail(err, "no memory to note an adapter");
        }
        if (err) {
            drop_ranks(k, first);
            return err;
        }
    }
    *out = first;
    return SIGHT_OK;
}

// ---- both ----

// Weights that were not taken (a load that ended early) point into mappings and to what was
// malloced.
static bool on_device(const kernels *k, const void *p)
{
    const cuda_heap *heap = k->cuda->heap;
    const uintptr_t at = (uintptr_t)p, base = (uintptr_t)heap->base;
    return at >= base && at < base + heap->bytes;
}

static sight_err take_bias(kernels *k, const float **out, const float *bias, int64_t n)
{
    void *taken;
    sight_err err = kernels_alloc(&taken, k, (size_t)n * sizeof *bias, "small weights");
    if (err) return err;
    kernels_write(k, taken, bias, (size_t)n * sizeof *bias);
    *out = taken;
    return SIGHT_OK;
}

// Frees what stands in a weight whose parts are all on the device, or NULL.
static void drop_parts(kernels *k, weight *w)
{
    if (w->packed)
        drop_packed(k, w->packed);
    else
        kernels_free(k, (void *)w->w.data);
    kernels_free(k, (float *)w->bias);
    drop_ranks(k, w->lora);
}

sight_err linear_take_weight(kernels *k, weight *w)
{
    weight taken = {.w = w->w};
    taken.w.data = NULL;
    sight_err err =
        w->packed ? take_packed(k, &taken.packed, w->packed) : take_matrix(k, &taken.w, &w->w);
    if (!err && w->bias) err = take_bias(k, &taken.bias, w->bias, w->w.shape[0]);
    if (!err && w->lora) err = take_ranks(k, &taken.lora, w->lora);
    if (err) {
        drop_parts(k, &taken);
        return err;
    }
    free((float *)w->bias);
    *w = taken;
    return SIGHT_OK;
}

void linear_drop_weight(kernels *k, weight *w)
{
    if (on_device(k, w->packed ? (const void *)w->packed->codes : w->w.data))
        drop_parts(k, w);
    else
        free((float *)w->bias);
}
