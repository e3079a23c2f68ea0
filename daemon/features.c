#include "daemon/features.h"

#include "kernels/memory.h"

void features_init(features *f, kernels *k, const vision_config *v, int64_t first)
{
    *f = (features){.k = k, .width = v->out_hidden, .levels = v->n_deepstack, .first = first};
}

// Where row `skipped` of each level lies.
static void place(features *f)
{
    const int64_t level = f->capacity * f->width;
    f->rows = f->memory + f->skipped * f->width;
    for (int32_t i = 0; i < f->levels; i++) f->deepstack[i] = f->rows + (i + 1) * level;
}

static void copy_level(features *f, float *to, const float *from)
{
    op_copy(f->k, to, from, (size_t)(f->n * f->width) * sizeof *to);
}

// What is held goes to the front of memory of another capacity.
static void move_to(features *f, float *memory, int64_t capacity)
{
    copy_level(f, memory, f->rows);
    for (int32_t i = 0; i < f->levels; i++) {
        copy_level(f, memory + (i + 1) * capacity * f->width, f->deepstack[i]);
    }
}

static sight_err grow(features *f, int64_t capacity)
{
    float *memory = NULL;
    const size_t bytes = (size_t)(capacity * f->width * (1 + f->levels)) * sizeof *memory;
    sight_err err = kernels_alloc((void **)&memory, f->k, bytes, "features");
    if (err) return err;
    if (f->n) move_to(f, memory, capacity);
    kernels_free(f->k, f->memory);
    f->memory = memory;
    f->capacity = capacity;
    f->skipped = 0;
    place(f);
    return SIGHT_OK;
}

// Makes room behind what is held where dropped rows left some, without a copy onto itself.
static void close_up(features *f)
{
    if (f->skipped < f->n) return;
    if (f->n) move_to(f, f->memory, f->capacity);
    f->skipped = 0;
    place(f);
}

sight_err features_reserve(features *f, float **rows, float **deepstack, int64_t n)
{
    if (f->skipped + f->n + n > f->capacity) close_up(f);
    if (f->skipped + f->n + n > f->capacity) {
        sight_err err = grow(f, f->n + n);
        if (err) return err;
    }
    *rows = f->rows + f->n * f->width;
    for (int32_t i = 0; i < f->levels; i++) deepstack[i] = f->deepstack[i] + f->n * f->width;
    return SIGHT_OK;
}

void features_added(features *f, int64_t n)
{
    f->n += n;
}

void features_drop_before(features *f, int64_t row)
{
    int64_t by = row - f->first;
    if (by <= 0) return;
    if (by > f->n) by = f->n;
    f->n -= by;
    f->first += by;
    f->skipped = f->n ? f->skipped + by : 0;
    if (f->memory) place(f);
}

void features_done(features *f)
{
    if (f->memory) kernels_free(f->k, f->memory);
    *f = (features){0};
}
