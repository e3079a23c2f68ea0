#include "daemon/engine_ranks.h"

#include "kernels/memory.h"
#include "text/split.h"

sight_err engine_ranks_kernels(kernels **out, const engine_options *o, device_id device, bool first)
{
    // Beside the GPUs of the other ranks nothing runs on the processor.
    const int threads = first || device.kind == DEVICE_CPU ? o->threads : 1;
    kernels_options ko = {.threads = threads, .simd = o->simd, .exact = o->exact, .no_f8 = o->no_f8,
                          .device = device, .device_bytes = o->device_bytes};
    if (device.kind != DEVICE_CPU && !o->device_bytes && o->device_percent) {
        device_info info;
        sight_err err = device_describe(&info, device);
        if (err) return err;
        ko.device_bytes = info.total_bytes / 100 * o->device_percent;
    }
    return kernels_create(out, &ko);
}

sight_err engine_ranks_open(engine_ranks *r, kernels *first, const text_config *c, const engine_options *o)
{
    r->k[0] = first;
    r->n = 1;
    sight_err err = o->n_others ? split_check(c, o->n_others + 1) : SIGHT_OK;
    for (int32_t i = 0; i < o->n_others && !err; i++) {
        err = engine_ranks_kernels(&r->k[i + 1], o, o->others[i], false);
        if (!err) r->n++;
    }
    for (int32_t i = 0; i < r->n; i++) r->budget[i] = kernels_get_room(r->k[i]).left;
    return err;
}

void engine_ranks_close(engine_ranks *r)
{
    for (int32_t i = 1; i < r->n; i++) kernels_destroy(&r->k[i]);
    r->n = 0;
}

int64_t engine_ranks_left(const engine_ranks *r)
{
    int64_t least = kernels_get_room(r->k[0]).left;
    for (int32_t i = 1; i < r->n; i++) {
        const int64_t left = kernels_get_room(r->k[i]).left;
        if (left < least) least = left;
    }
    return least;
}

int64_t engine_ranks_share(const engine_ranks *r, const text_config *c, int64_t bytes)
{
    if (r->n == 1) return bytes;
    const int64_t embedding = (int64_t)c->vocab * c->hidden * 2;
    const int64_t rest = bytes > embedding ? bytes - embedding : 0;
    return rest / r->n + embedding + (c->tied ? embedding / r->n : 0);
}
