#include "daemon/models/model_open.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/prepare.h"
#include "daemon/machine.h"
#include "daemon/watch/measure.h"
#include "daemon/watch/notify.h"
#include "kernels/memory.h"

// What is left to a GPU's driver and libraries where several models divide what is free of its memory; kernels/cuda/device.c
// does so for one.
#define DEVICE_RESERVE_BYTES ((int64_t)512 << 20)
#define DEVICE_RESERVE_PART  64

static bool is_auto(const char *word)
{
    return !word || !strcmp(word, "auto");
}

// ---- what is said ----

static void tell_memory(const engine *e, bool chosen)
{
    const engine_memory m = engine_get_memory(e);
    const double mib = 1 << 20;
    const char *file = checkpoint_prepared_file(engine_checkpoint(e));
    log_line(LOG_INFO, "weights: %s, %.0f MiB%s%s%s", engine_weights(e), (double)m.weights / mib,
             chosen ? " (chosen by free memory)" : "", file ? ", prepared in " : "",
             file ? file : "");
    log_line(LOG_INFO, "memory: weights %.0f MiB, workspace %.0f, a context of %lld tokens %.0f (%.1f "
             "KiB a token, states %.0f), the largest picture %.0f; %.0f MiB are allowed",
             (double)m.weights / mib, (double)m.text_workspace / mib,
             (long long)engine_context(e), (double)m.cache / mib, (double)m.per_token / 1024,
             (double)m.states / mib, (double)m.vision / mib, (double)m.budget / mib);
}

// What the first of several replicas has said is not said again.
static void tell_warnings(const engine *e, const engine *first)
{
    for (int i = 0; engine_warning(e, i); i++) {
        bool said = false;
        for (int k = 0; first && engine_warning(first, k); k++) said |= !strcmp(engine_warning(e, i), engine_warning(first, k));
        if (!said) log_line(LOG_WARNING, "%s", engine_warning(e, i));
    }
}

// A build without CUDA is silent about GPUs, unless one was asked for.
static void tell_device(engine *e, const char *word)
{
    device_info info;
    const device_id id = kernels_device(engine_kernels(e));
    const bool chosen = is_auto(word);
    if (id.kind == DEVICE_CPU) {
        if (chosen && device_built_with_cuda() && device_without_gpu()) {
            log_line(LOG_INFO, "device: cpu (%s)", device_without_gpu());
        }
        return;
    }
    const engine_memory m = engine_get_memory(e);
    for (int32_t i = 0; i < m.devices; i++) {
        const device_id one = engine_device(e, i);
        if (device_describe(&info, one)) continue;
        log_line(LOG_INFO, "device: cuda:%d, %s, compute capability %d.%d; %.0f of its %.0f MiB are taken, %.0f of "
                 "them for scratch and arguments", one.index, info.name, info.major, info.minor,
                 (double)(m.budget + m.spare) / (1 << 20), (double)info.total_bytes / (1 << 20),
                 (double)m.spare / (1 << 20));
    }
    if (m.devices > 1) {
        log_line(LOG_INFO, "the model is split over %d devices: each has a part of its weights and caches, and what "
                 "follows is the fullest one's", m.devices);
    }
}

// The first start with a form takes a while. systemd is told that it goes on, and so is a person's
// `sight` that reads these lines (clients/cli/connect.c).
typedef struct teller {
    const model_opening *how;
    double said; // when the last line was written
} teller;

static void tell_preparing(void *arg, int percent)
{
    teller *t = arg;
    t->how->progress(t->how->progress_arg, percent);
    const double now = clock_now_s();
    if (now - t->said < 1 && percent < 100) return;
    t->said = now;
    notify_send("EXTEND_TIMEOUT_USEC=60000000");
    log_line(LOG_INFO, "preparing weights: %d %%", percent);
}

// ---- opening ----

static sight_err open_on(engine **out, engine_options *e, const device_list *on, int64_t bytes)
{
    const bool cpu = on->at[0].kind == DEVICE_CPU;
    e->device = on->at[0];
    e->n_others = on->n - 1;
    memcpy(e->others, on->at + 1, (size_t)e->n_others * sizeof *e->others);
    e->memory_bytes = cpu ? bytes : 0;
    e->device_bytes = cpu ? 0 : bytes;
    return engine_open(out, e);
}

// Replicas on the CPU have a part of its processors each, unless it is said how many; what is computed does not depend on it.
static void divide_threads(engine_options *e, const model_opening *how)
{
    if (e->threads || how->on->at[0].kind != DEVICE_CPU) return;
    e->threads = machine_processors() / how->replicas;
    if (e->threads < 1) e->threads = 1;
}

static sight_err open_model(void *arg, engine **out, const model_opening *how)
{
    engine_options e = how->spec->engine;
    teller t = {.how = how};
    e.index = how->index;
    e.first = how->first;
    e.replica = how->replica;
    if (how->replicas > 1) divide_threads(&e, how);
    e.weights.progress = tell_preparing;
    e.weights.progress_arg = &t;
    e.weights.stop = how->stop;
    sight_err err = open_on(out, &e, how->on, how->bytes);
    const bool other = how->last && is_auto(how->spec->device) && how->on->at[0].kind != DEVICE_CPU;
    if (other && (err == SIGHT_E_MEMORY || err == SIGHT_E_UNSUPPORTED || err == SIGHT_E_INTERNAL)) {
        log_line(LOG_WARNING, "the GPU is not used: %s", sight_error());
        err = open_on(out, &e, &(device_list){.n = 1}, 0);
        *how->elsewhere = !err;
    }
    if (err) return err;
    if (how->first) engine_agree(how->first, *out);
    if (how->replicas > 1) log_line(LOG_INFO, "replica %d of %d:", how->replica, how->replicas);
    tell_warnings(*out, how->first);
    tell_device(*out, how->spec->device);
    tell_memory(*out, e.weights.form == WEIGHTS_AUTO);
    measure_engine(*out); // nobody else has it yet
    return SIGHT_OK;
}

static void close_model(void *arg, engine **e)
{
    measure_closing(*e);
    engine_close(e);
}

static json_t *describe_model(void *arg, const engine *e)
{
    return engine_describe(e);
}

static sight_err find_devices(void *arg, device_sets *out, const char *word)
{
    return device_parse_sets(out, is_auto(word) ? "auto" : word, "device");
}

static sight_err find_memory(void *arg, int64_t *all, int64_t *left, device_id device)
{
    if (device.kind == DEVICE_CPU) {
        *all = *left = machine_memory_bytes();
        return SIGHT_OK;
    }
    device_info info;
    sight_err err = device_describe(&info, device);
    if (err) return err;
    const int64_t reserve = DEVICE_RESERVE_BYTES + info.total_bytes / DEVICE_RESERVE_PART;
    *all = info.total_bytes;
    *left = info.free_bytes > reserve ? info.free_bytes - reserve : 0;
    return SIGHT_OK;
}

static double now_s(void *arg)
{
    return clock_now_s();
}

models_options model_open_options(metrics *m)
{
    return (models_options){.ops = {.open = open_model, .close = close_model, .describe = describe_model,
                                    .devices = find_devices, .memory = find_memory, .now_s = now_s},
                            .metrics = m, .retry_s = MODEL_RETRY_S};
}
