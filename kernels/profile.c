#include "kernels/profile.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/backend.h"

void kernels_set_profile(kernels *k, profile *p)
{
    k->profile = p;
}

static profile_row *row_of(profile *p, const char *op)
{
    for (int i = 0; i < p->n; i++) {
        if (!strcmp(p->rows[i].op, op)) return &p->rows[i];
    }
    if (p->n < PROFILE_MAX_ROWS) p->rows[p->n++] = (profile_row){.op = op};
    return &p->rows[p->n - 1];
}

void profile_add(profile *p, const char *op, double seconds, double bytes, double operations)
{
    profile_row *r = row_of(p, op);
    r->calls++;
    r->seconds += seconds;
    r->bytes += bytes;
    r->operations += operations;
}

static int by_time(const void *a, const void *b)
{
    const double x = ((const profile_row *)a)->seconds, y = ((const profile_row *)b)->seconds;
    return (x < y) - (x > y);
}

void profile_sort(profile *p)
{
    qsort(p->rows, (size_t)p->n, sizeof p->rows[0], by_time);
}

const char *profile_product_name(const weight *w)
{
    if (w->packed) {
        const packed_format *f = &w->packed->format;
        return f->f8 ? "products fp8" : f->bits == 4 ? "products 4 bit" : "products 8 bit";
    }
    switch (w->w.type) {
    case TENSOR_BF16: return "products bf16";
    case TENSOR_F16: return "products f16";
    default: return "products f32";
    }
}

double profile_weight_bytes(const weight *w)
{
    if (w->packed) return (double)packed_bytes(&w->packed->format, w->packed->M, w->packed->K);
    return (double)tensor_count(&w->w) * (double)tensor_type_bytes(w->w.type);
}
