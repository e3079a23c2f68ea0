#include "daemon/store/prefix_names.h"

#include <string.h>

void prefix_names_init(prefix_names *s, const uint8_t key[SIPHASH_KEY_BYTES],
                       const uint8_t scope[SIPHASH_BYTES], const prefix_prompt *p)
{
    const char *who = identity_name(p->who);
    *s = (prefix_names){.prompt = p};
    siphash_init(&s->so_far, key);
    siphash_add(&s->so_far, scope, SIPHASH_BYTES);
    siphash_add(&s->so_far, who, strlen(who) + 1);
}

static void add_ids(prefix_names *s, int32_t to)
{
    siphash_add(&s->so_far, s->prompt->ids + s->at, (size_t)(to - s->at) * sizeof *s->prompt->ids);
    s->at = to;
}

// No id is below 0, so that one says that a medium begins.
static void add_medium(prefix_names *s, const prefix_medium *m)
{
    const int32_t place[] = {-1, m->first, m->end};
    siphash_add(&s->so_far, place, sizeof place);
    siphash_add(&s->so_far, m->hash, sizeof m->hash);
}

void prefix_names_at(prefix_names *s, uint8_t out[SIPHASH_BYTES], int32_t n)
{
    const prefix_prompt *p = s->prompt;
    for (; s->medium < p->n_media && p->media[s->medium].first < n; s->medium++) {
        const prefix_medium *m = &p->media[s->medium];
        if (m->first > s->at) add_ids(s, m->first);
        add_medium(s, m);
    }
    if (n > s->at) add_ids(s, n);
    siphash end = s->so_far;
    siphash_finish(&end, out);
}
