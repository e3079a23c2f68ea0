#include "daemon/features.h"

#include <stdlib.h>
#include <string.h>

void features_init(features *f, const vision_config *v, int64_t first)
{
    *f = (features){.width = v->out_hidden, .levels = v->n_deepstack, .first = first};
}

static sight_err grow(float **rows, const features *f, int64_t capacity)
{
    float *grown = realloc(*rows, (size_t)(capacity * f->width) * sizeof *grown);
    if (!grown) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for %lld rows of features",
                          (long long)capacity);
    }
    *rows = grown;
    return SIGHT_OK;
}

sight_err features_reserve(features *f, float **rows, float **deepstack, int64_t n)
{
    if (f->n + n > f->capacity) {
        sight_err err = grow(&f->rows, f, f->n + n);
        for (int32_t i = 0; i < f->levels && !err; i++) err = grow(&f->deepstack[i], f, f->n + n);
        if (err) return err;
        f->capacity = f->n + n;
    }
    *rows = f->rows + f->n * f->width;
    for (int32_t i = 0; i < f->levels; i++) deepstack[i] = f->deepstack[i] + f->n * f->width;
    return SIGHT_OK;
}

void features_added(features *f, int64_t n)
{
    f->n += n;
}

static void shift(float *rows, const features *f, int64_t by)
{
    memmove(rows, rows + by * f->width, (size_t)((f->n - by) * f->width) * sizeof *rows);
}

void features_drop_before(features *f, int64_t row)
{
    int64_t by = row - f->first;
    if (by <= 0) return;
    if (by > f->n) by = f->n;
    if (by) {
        shift(f->rows, f, by);
        for (int32_t i = 0; i < f->levels; i++) shift(f->deepstack[i], f, by);
    }
    f->n -= by;
    f->first += by;
}

void features_done(features *f)
{
    free(f->rows);
    for (int32_t i = 0; i < CONFIG_MAX_DEEPSTACK; i++) free(f->deepstack[i]);
    *f = (features){0};
}
