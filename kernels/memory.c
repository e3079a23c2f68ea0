#include "kernels/memory.h"

#include <assert.h>
#include <stdlib.h>

#include "kernels/backend.h"
#ifdef SIGHT_CUDA
#include "kernels/cuda/device.h"
#endif

bool kernels_on_device(const kernels *k)
{
    return k->device.kind != DEVICE_CPU;
}

sight_err kernels_status(kernels *k)
{
    return k->ops.status ? k->ops.status(k) : SIGHT_OK;
}

sight_err kernels_alloc(void **out, kernels *k, size_t bytes, const char *what)
{
    void *p = k->ops.alloc(k, bytes);
    if (!p) {
        sight_err lost = kernels_status(k);
        if (lost) return lost;
        return sight_fail(SIGHT_E_MEMORY, "no memory for %.1f MiB of %s", (double)bytes / 1048576, what);
    }
    *out = p;
    return SIGHT_OK;
}

kernels_room kernels_get_room(const kernels *k)
{
#ifdef SIGHT_CUDA
    if (k->cuda) return cuda_get_room(k);
#endif
    return (kernels_room){0, 0};
}

void kernels_free(kernels *k, void *p)
{
    if (p) k->ops.free(k, p);
}

void kernels_write(kernels *k, void *to, const void *host, size_t bytes)
{
    if (bytes) k->ops.write(k, to, host, bytes);
}

sight_err kernels_read(kernels *k, void *host, const void *from, size_t bytes)
{
    return k->ops.read(k, host, from, bytes);
}

const float *kernels_stage(kernels *k, float *room, const float *host, int64_t n)
{
    if (!kernels_on_device(k)) return host;
    kernels_write(k, room, host, (size_t)n * sizeof *room);
    return room;
}

void op_zero(kernels *k, void *p, size_t bytes)
{
    if (bytes) k->ops.zero(k, p, bytes);
}

void op_copy(kernels *k, void *to, const void *from, size_t bytes)
{
    if (bytes) k->ops.copy(k, to, from, bytes);
}

void op_copy_parts(kernels *k, const copy_part *parts, int64_t n)
{
    for (int64_t i = 0; i < n; i++) assert(parts[i].bytes % 4 == 0);
    if (n <= 0) return;
    if (k->ops.copy_parts) {
        k->ops.copy_parts(k, parts, n);
        return;
    }
    for (int64_t i = 0; i < n; i++) op_copy(k, parts[i].to, parts[i].from, parts[i].bytes);
}

void op_copy_rows(kernels *k, float *to, int64_t to_stride, const float *from, int64_t from_stride,
                  int64_t n, int64_t width)
{
    assert(width > 0 && to_stride >= width && from_stride >= width);
    if (n > 0) k->ops.copy_rows(k, to, to_stride, from, from_stride, n, width);
}

// ---- weights ----

sight_err kernels_take_weight(kernels *k, weight *w)
{
    return k->ops.take_weight ? k->ops.take_weight(k, w) : SIGHT_OK;
}

void kernels_drop_weight(kernels *k, weight *w)
{
    if (k && k->ops.drop_weight) k->ops.drop_weight(k, w);
    else free((float *)w->bias);
    *w = (weight){0};
}

sight_err kernels_take_floats(kernels *k, float **p, int64_t n)
{
    if (!kernels_on_device(k)) return SIGHT_OK;
    void *taken;
    sight_err err = kernels_alloc(&taken, k, (size_t)n * sizeof **p, "small weights");
    if (err) return err;
    kernels_write(k, taken, *p, (size_t)n * sizeof **p);
    free(*p);
    *p = taken;
    return SIGHT_OK;
}

void kernels_drop_floats(kernels *k, float **p)
{
    if (k && kernels_on_device(k)) kernels_free(k, *p);
    else free(*p);
    *p = NULL;
}

// ---- steps ----

// Ops that are timed run one by one.
void kernels_step_begin(kernels *k)
{
    if (k->ops.step_begin && !k->profile) k->ops.step_begin(k);
}

sight_err kernels_step_end(kernels *k)
{
    if (k->profile) return kernels_status(k);
    return k->ops.step_end ? k->ops.step_end(k) : SIGHT_OK;
}

void kernels_after(kernels *k, kernels *before)
{
    if (k != before && k->ops.after) k->ops.after(k, before);
}

// ---- the output layer ----

bool op_picks_logits(const kernels *k)
{
    return k->ops.pick_logits != NULL;
}

sight_err op_pick_logits(kernels *k, const float *logits, output_row *const *rows, int64_t N,
                         int64_t M)
{
    assert(op_picks_logits(k) && N > 0 && M > 0);
    return k->ops.pick_logits(k, logits, rows, N, M);
}
