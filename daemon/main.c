// sightd - answers questions about videos and pictures over a local socket.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/settings/check.h"
#include "daemon/media/confining.h"
#include "daemon/store/disk.h"
#include "daemon/access/endpoints.h"
#include "daemon/models/model_open.h"
#include "daemon/settings/options.h"
#include "daemon/settings/resources.h"
#include "daemon/service.h"

static service_signals signals; // so far

static void on_stop(int number)
{
    signals.stops = signals.stops + 1;
}

// Sent by somebody it means the settings; by the system, that the terminal is gone.
static void on_hangup(int number, siginfo_t *info, void *context)
{
    if (info->si_code > 0) on_stop(number);
    else signals.reloads = signals.reloads + 1;
}

// Codes of the stages before the model: wrong settings, or a socket that cannot be had.
static sight_err of_endpoint(sight_err err)
{
    if (err == SIGHT_E_UNSUPPORTED) return SIGHT_E_ARGUMENT;
    return err == SIGHT_E_NOT_FOUND ? SIGHT_E_IO : err;
}

// What is wrong with them is a wrong setting, whatever it is that is missing.
static sight_err of_settings(sight_err err)
{
    return err && err != SIGHT_E_MEMORY ? SIGHT_E_ARGUMENT : err;
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
    struct sigaction hangup = {.sa_sigaction = on_hangup, .sa_flags = SA_SIGINFO};
    sigaction(SIGHUP, &hangup, NULL);
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

// One model as `models` describes it; of several a list, with those that are loaded on use opened one by one.
static sight_err print_check(models *m, const model_set *set)
{
    model_use use = {0};
    sight_err err = SIGHT_OK;
    json_t *list = json_array();
    for (int i = 0; i < set->n_models && !err && list; i++) {
        err = models_open(m, &use, set->models[i].name);
        json_t *about = err ? NULL : models_describe_one(m, &use);
        if (about) json_array_append_new(list, about);
        models_end(m, &use);
    }
    json_t *routers = models_describe_routers(m);
    char *text = NULL;
    if (!err && set->n_models == 1) text = json_dumps(json_array_get(list, 0), JSON_INDENT(2));
    json_t *all = json_pack("{s:o, s:o}", "models", list, "routers", routers);
    if (!err && !text) text = json_dumps(all, JSON_INDENT(2));
    if (text) puts(text);
    free(text);
    json_decref(all);
    return err;
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
    sight_err err = resources_roots(out, o);
    o->limits.roots = *out;
    return err;
}

// What the daemon has to work with; the first models are open then.
static sight_err open_models(models **out, model_set *set, const options *o)
{
    sight_err err = model_set_make(set, o);
    if (err) return err;
    if (!o->model && !o->sections.n) {
        log_line(LOG_WARNING, "no model is configured: serving the bundled one, which is small and "
                 "knows little; see --model");
    }
    const models_options mo = model_open_options(o->engine.metrics);
    err = models_create(out, set, &mo);
    return err ? err : models_open_first(*out);
}

// A check must not wait for a daemon that runs.
static sight_err open_store(options *o)
{
    if (!o->store || o->check) return SIGHT_OK;
    sight_err err = disk_open(&o->engine.disk, o->store, o->store_bytes);
    if (err) return err;
    const disk_usage u = disk_get_usage(o->engine.disk);
    log_line(LOG_INFO, "store: %d files, %.0f of %.0f MiB, in %s", u.items, (double)u.bytes / (1 << 20),
             (double)u.budget / (1 << 20), o->store);
    return SIGHT_OK;
}

static sight_err open_fetcher(fetcher **out, options *o)
{
    sight_err err = resources_fetcher(out, o);
    o->fetcher = *out;
    if (!err && *out) o->limits.urls = fetcher_rules(*out);
    return err;
}

// Of the stages before the model: a program that is not there is no model that is not.
static sight_err of_decoders(sight_err err)
{
    return err == SIGHT_E_NOT_FOUND || err == SIGHT_E_UNSUPPORTED ? SIGHT_E_IO : err;
}

static sight_err serve(options *o)
{
    fetcher *fetching = NULL;
    roots *below = NULL;
    decoders *children = NULL;
    endpoints at = {0};
    models *all = NULL;
    model_set set = {0};
    sight_err err = metrics_create(&o->engine.metrics);
    if (!err) err = take_endpoints(&at, o);
    if (!err) err = open_roots(&below, o);
    if (!err) err = of_decoders(confining_open(&children, o));
    if (!err) err = open_store(o);
    if (!err) err = open_fetcher(&fetching, o);
    if (!err) err = open_models(&all, &set, o);
    if (!err && o->check) err = print_check(all, &set);
    else if (!err) {
        set_signals(); // until now the default: a load is simply ended
        err = service_run(all, o, &at, &signals);
    }
    models_destroy(&all);
    model_set_done(&set);
    decoders_destroy(&children);
    disk_close(&o->engine.disk);
    fetcher_destroy(&fetching);
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
        else if (o.check_config) err = of_settings(check_settings(&o, stdout));
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
