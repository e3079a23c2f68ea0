#include "daemon/weights.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/prepare.h"

typedef struct teller {
    const weights_options *o;
    int said; // percent; -1: nothing yet
} teller;

static void on_progress(void *arg, int64_t done, int64_t total)
{
    teller *t = arg;
    const int percent = total > 0 ? (int)(100.0 * (double)done / (double)total) : 100;
    if (percent == t->said) return;
    t->said = percent;
    t->o->progress(t->o->progress_arg, percent);
}

sight_err weights_prepare(checkpoint *c, weights_form form, const weights_options *o,
                          const prepare_extra *extras, size_t n_extras, bool *unkept)
{
    char folder[PATH_MAX];
    const char *cache = o->cache;
    const bool nowhere = !cache && prepare_cache_folder(folder, sizeof folder);
    if (!cache) cache = nowhere ? NULL : folder;
    else if (!strcmp(cache, "none")) cache = NULL;
    threads *pool = NULL;
    sight_err err = threads_create(&pool, o->threads);
    if (err) return err;
    teller t = {o, -1};
    const prepare_options po = {.form = form, .cache = cache, .pool = pool,
                                .extras = extras, .n_extras = n_extras, .stop = o->stop,
                                .progress = o->progress ? on_progress : NULL, .progress_arg = &t};
    err = checkpoint_prepare(c, &po);
    threads_destroy(&pool);
    *unkept = nowhere && t.said >= 0;
    return err;
}
