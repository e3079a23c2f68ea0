#include "daemon/settings/resources.h"

sight_err resources_roots(roots **out, const options *o)
{
    const option_list *given = &o->media_roots;
    return roots_create(out, (const char *const *)given->items, given->n, "media-root");
}

sight_err resources_fetcher(fetcher **out, const options *o)
{
    if (!o->urls) return SIGHT_OK;
    fetcher_options fo = {.hosts = (const char *const *)o->url_hosts.items, .n_hosts = o->url_hosts.n, .rules = o->url,
                          .threads = o->url_fetches, .max_bytes = o->queue.max_bytes, .metrics = o->engine.metrics};
    const int64_t most = o->limits.max_media_bytes;
    fo.rules.ca_file = o->url_ca;
    if (!fo.rules.max_bytes || fo.rules.max_bytes > most) fo.rules.max_bytes = most;
    sight_err err = fetcher_create(out, &fo);
    if (err == SIGHT_E_UNSUPPORTED) return sight_fail(SIGHT_E_ARGUMENT, "%s", sight_error()); // a setting, not the model
    return err;
}
