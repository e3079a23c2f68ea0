// Sequences of a split model: the first rank's has those of the others with it.
#include <stdlib.h>

#include "text/cache_parts.h"

sight_err cache_pool_create_ranks(cache_pool **out, const text_config *const *configs, kernels *const *k, int32_t n,
                                  const cache_options *options)
{
    cache_pool *p = NULL;
    cache_options o = *options;
    if (n < 1 || n > CACHE_MAX_PEERS + 1) {
        return sight_fail(SIGHT_E_ARGUMENT, "caches on %d devices, 1 to %d are possible", n, CACHE_MAX_PEERS + 1);
    }
    o.k = k[0];
    sight_err err = cache_pool_create(&p, configs[0], &o);
    for (int32_t i = 1; i < n && !err; i++) {
        o.k = k[i];
        err = cache_pool_create(&p->peers[i - 1], configs[i], &o);
        if (!err) p->n_peers = i;
    }
    if (err) cache_pool_destroy(&p);
    else *out = p;
    return err;
}

sequence *sequence_of_rank(sequence *s, int32_t rank)
{
    return rank ? s->peers[rank - 1] : s;
}

static sight_err make(sequence *s, const sequence *of)
{
    const cache_pool *p = s->pool;
    if (p->n_peers == 0) return SIGHT_OK;
    s->peers = calloc((size_t)p->n_peers, sizeof(sequence *));
    sight_err err = s->peers ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for a sequence");
    for (int32_t i = 0; i < p->n_peers && !err; i++) {
        err = of ? sequence_fork(&s->peers[i], of->peers[i]) : sequence_create(&s->peers[i], p->peers[i]);
    }
    return err;
}

sight_err cache_peers_create(sequence *s)
{
    return make(s, NULL);
}

sight_err cache_peers_fork(sequence *s, const sequence *of)
{
    return make(s, of);
}

void cache_peers_drop(sequence *s)
{
    for (int32_t i = 0; s->peers && i < s->pool->n_peers; i++) sequence_drop(&s->peers[i]);
    free(s->peers);
    s->peers = NULL;
}
