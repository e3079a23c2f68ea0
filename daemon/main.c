// sightd - answers questions about videos and pictures over a local socket.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "checkpoint/prepare.h"
#include "daemon/endpoints.h"
#include "daemon/engine.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "daemon/service.h"
#include "kernels/device.h"

static volatile sig_atomic_t stops; // SIGTERM and SIGINT so far

static void on_stop(int number)
{
    stops = stops + 1;
}

// Codes of the stages before the model: wrong settings, or a socket that cannot be had.
static sight_err of_endpoint(sight_err err)
{
    if (err == SIGHT_E_UNSUPPORTED) return SIGHT_E_ARGUMENT;
    return err == SIGHT_E_NOT_FOUND ? SIGHT_E_IO : err;
}

static int exit_code(sight_err err)
{
    switch (err) {
    case SIGHT_OK: return 0;
    case SIGHT_E_ARGUMENT: return 2;
    case SIGHT_E_MODEL:
    case SIGHT_E_NOT_FOUND:
    case SIGHT_E_UNSUPPORTED: return 4;
    case SIGHT_E_BUSY: return 5;
    case SIGHT_E_MEMORY:
    case SIGHT_E_LIMIT: return 6;
    default: return 1;
    }
}

static void set_signals(void)
{
    struct sigaction action = {.sa_handler = on_stop}; // no SA_RESTART: it ends the server's wait
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void set_log(const options *o)
{
    options_apply_log(o);
    if (getenv("JOURNAL_STREAM")) log_set_journal(1);
}

// Waiting requests keep their files open.
static void allow_open_files(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r)) return;
    const rlim_t want = 65536;
    r.rlim_cur = r.rlim_max == RLIM_INFINITY || r.rlim_max > want ? want : r.rlim_max;
    setrlimit(RLIMIT_NOFILE, &r);
}

// The first start with a form takes a while. systemd is told that it goes on, and so is a person's
// `sight` that reads these lines (clients/cli/connect.c).
static void tell_preparing(void *arg, int percent)
{
    double *said = arg; // when the last line was written
    const double now = clock_now_s();
    if (now - *said < 1 && percent < 100) return;
    *said = now;
    notify_send("EXTEND_TIMEOUT_USEC=60000000");
    log_line(LOG_INFO, "preparing weights: %d %%", percent);
}

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

// A build without CUDA is silent about GPUs, unless one was asked for.
static void tell_device(engine *e, const options *o)
{
    device_info info;
    const device_id id = kernels_device(engine_kernels(e));
    const bool chosen = !o->device || !strcmp(o->device, "auto");
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

// With auto a GPU that is too small, or that fails at once, is no reason not to serve.
static sight_err open_engine(engine **out, options *o)
{
    const bool chosen = !o->device || !strcmp(o->device, "auto");
    sight_err err = engine_options_device(&o->engine, chosen ? "auto" : o->device, "device");
    if (!err) err = engine_open(out, &o->engine);
    if (!err || !chosen || o->engine.device.kind == DEVICE_CPU) return err;
    if (err != SIGHT_E_MEMORY && err != SIGHT_E_UNSUPPORTED && err != SIGHT_E_INTERNAL) return err;
    log_line(LOG_WARNING, "the GPU is not used: %s", sight_error());
    o->engine.device = (device_id){DEVICE_CPU, 0};
    return engine_open(out, &o->engine);
}

static sight_err open_model(engine **out, options *o)
{
    char *bundled = NULL;
    o->engine.model = o->model;
    o->engine.mmproj = o->mmproj;
    o->engine.picture_pixels = o->limits.max_pixels;
    if (!o->model) {
        sight_err err = options_bundled_model(&bundled);
        if (err) return err;
        o->engine.model = bundled;
        log_line(LOG_WARNING, "no model is configured: serving the bundled one, which is small and "
                 "knows little; see --model");
    }
    double said = 0;
    o->engine.weights.progress = tell_preparing;
    o->engine.weights.progress_arg = &said;
    sight_err err = open_engine(out, o);
    free(bundled);
    for (int i = 0; !err && engine_warning(*out, i); i++) {
        log_line(LOG_WARNING, "%s", engine_warning(*out, i));
    }
    if (!err) tell_device(*out, o);
    if (!err) tell_memory(*out, o->engine.weights.form == WEIGHTS_AUTO);
    return err;
}

static void print_check(const engine *e)
{
    json_t *about = engine_describe(e);
    char *text = about ? json_dumps(about, JSON_INDENT(2)) : NULL;
    if (text) puts(text);
    free(text);
    json_decref(about);
}

// Before the model is loaded: what is wrong with the sockets is told at once, and a second daemon learns that there is a first.
static sight_err take_endpoints(endpoints *at, const options *o)
{
    sight_err err = gate_check(&o->gate);
    if (err == SIGHT_E_NOT_FOUND || err == SIGHT_E_PERMISSION) err = SIGHT_E_ARGUMENT; // of the keys
    if (!err) err = endpoints_choose(at, &o->endpoints, o->gate.keys != NULL);
    if (!err && !o->check) err = endpoints_lock(at, gate_open_to(&o->gate));
    return of_endpoint(err);
}

// Without a folder named: see ticket_set_who.
static sight_err open_roots(roots **out, options *o)
{
    const option_list *given = &o->media_roots;
    sight_err err = roots_create(out, (const char *const *)given->items, given->n, "media-root");
    o->limits.roots = *out;
    return err;
}

static sight_err serve(options *o)
{
    roots *below = NULL;
    endpoints at = {0};
    engine *model = NULL;
    sight_err err = metrics_create(&o->engine.metrics);
    if (!err) err = take_endpoints(&at, o);
    if (!err) err = open_roots(&below, o);
    if (!err) err = open_model(&model, o);
    if (!err && o->check) print_check(model);
    else if (!err) {
        set_signals(); // until now the default: a load is simply ended
        err = service_run(model, o, &at, &stops);
    }
    engine_close(&model);
    roots_destroy(&below);
    metrics_destroy(&o->engine.metrics);
    endpoints_release(&at);
    return err;
}

int main(int argc, char **argv)
{
    options o;
    sight_err err = options_read(&o, argc, argv);
    if (!err) {
        set_log(&o);
        if (o.help) options_print_help(stdout);
        else if (o.version) printf("sightd %s\n", SIGHT_VERSION);
        else if (o.print_config) options_print_config(&o, stdout);
        else {
            allow_open_files();
            err = serve(&o);
        }
    }
    if (err) log_line(LOG_ERROR, "%s", sight_error());
    options_done(&o);
    return exit_code(err);
}
