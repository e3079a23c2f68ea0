#include "daemon/settings/check.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/access/endpoints.h"
#include "daemon/models/model_set.h"
#include "daemon/settings/resources.h"
#include "daemon/watch/scrape.h"

static sight_err check_endpoints(const options *o, FILE *to)
{
    endpoints at = {0};
    sight_err err = gate_check(&o->gate);
    if (!err) err = endpoints_choose(&at, &o->endpoints, o->gate.keys != NULL);
    for (size_t i = 0; i < at.n && !err; i++) fprintf(to, "endpoint: %s\n", at.at[i]);
    if (!err && o->gate.keys) fprintf(to, "keys: %s\n", o->gate.keys);
    endpoints_release(&at);
    return err;
}

static sight_err check_media(const options *o, FILE *to)
{
    roots *below = NULL;
    fetcher *fetching = NULL;
    sight_err err = resources_roots(&below, o);
    if (!err) err = resources_fetcher(&fetching, o);
    if (!err && !o->limits.allow_paths) fprintf(to, "media by path: no\n");
    else if (!err && o->media_roots.n == 0) fprintf(to, "media by path: by the daemon's own user only\n");
    for (size_t i = 0; i < o->media_roots.n && !err && o->limits.allow_paths; i++) {
        fprintf(to, "media by path: below %s\n", o->media_roots.items[i]);
    }
    if (!err) fprintf(to, "media by URL: %s\n", o->urls ? "from" : "no");
    for (size_t i = 0; i < o->url_hosts.n && !err && o->urls; i++) fprintf(to, "    %s\n", o->url_hosts.items[i]);
    fetcher_destroy(&fetching);
    roots_destroy(&below);
    return err;
}

static sight_err check_model(const model_spec *m, FILE *to)
{
    char *dir = NULL, *name = NULL;
    sight_err err = engine_find_model(&dir, &name, m->model);
    if (!err) fprintf(to, "model: %s, %s, loaded %s\n", m->name, dir, m->at_start ? "at the start" : "on use");
    free(dir);
    free(name);
    return err;
}

static sight_err check_models(const options *o, FILE *to)
{
    model_set set = {0};
    sight_err err = model_set_make(&set, o);
    for (int i = 0; i < set.n_models && !err; i++) err = check_model(&set.models[i], to);
    for (int i = 0; i < set.n_routers && !err; i++) fprintf(to, "router: %s\n", set.routers[i].name);
    if (!err) fprintf(to, "requests that name none go to: %s\n", set.first);
    model_set_done(&set);
    return err;
}

sight_err check_settings(const options *o, FILE *to)
{
    sight_err err = check_endpoints(o, to);
    if (!err) err = check_media(o, to);
    if (!err) err = check_models(o, to);
    if (err) return err;
    fprintf(to, "queue: %d requests, %d worked on at once\n", o->queue.max_jobs, o->queue.max_running);
    fprintf(to, "metrics: %s%s\n", o->metrics ? o->metrics : "none",
            o->metrics && !scrape_is_local(o->metrics) ? ", to whoever reaches it" : "");
    fprintf(to, "log: %s, as %s\n", o->log ? o->log : "info", o->log_format ? o->log_format : "text");
    return SIGHT_OK;
}
