// Taking back rows of a sequence's last step: its states before that step are kept in a second set,
// and what its rows put into each linear-attention layer, so that the rows that stay can be run
// through these layers again. Rows of keys and values are just forgotten.
#include <assert.h>

#include "text/cache_parts.h"

sight_err sequence_allow_rewind(sequence *s, int32_t max_rows)
{
    cache_rewind *r = &s->rewind;
    const cache_pool *p = s->pool;
    assert(max_rows > 0);
    if (r->max_rows >= max_rows) return SIGHT_OK;
    const int64_t floats = p->linear_layers * max_rows * (p->channels + 2 * p->value_heads);
    float *records = cache_room_create(&p->memory, floats * (int64_t)sizeof *records);
    if (!records) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for %d rows that can be taken back", max_rows);
    }
    void *other = r->other;
    bool zeroed;
    sight_err err = SIGHT_OK;
    if (r->max_rows == 0) err = cache_states_create(&other, &zeroed, &s->pool->memory);
    if (err) {
        cache_room_free(&p->memory, records);
        return err;
    }
    cache_room_free(&p->memory, r->records);
    *r = (cache_rewind){.max_rows = max_rows, .other = other, .records = records};
    for (int32_t i = 0; i < p->n_peers && !err; i++) err = sequence_allow_rewind(s->peers[i], max_rows);
    if (err) sequence_forbid_rewind(s);
    return err;
}

void sequence_forbid_rewind(sequence *s)
{
    for (int32_t i = 0; i < s->pool->n_peers && s->peers; i++) {
        if (s->peers[i]) sequence_forbid_rewind(s->peers[i]);
    }
    if (s->rewind.max_rows == 0) return;
    cache_states_free(&s->pool->memory, s->rewind.other);
    cache_room_free(&s->pool->memory, s->rewind.records);
    s->rewind = (cache_rewind){0};
}

int32_t sequence_rewind_rows(const sequence *s)
{
    return s->rewind.max_rows;
}

static void swap_states(sequence *s)
{
    float *states = s->states;
    s->states = s->rewind.other;
    s->rewind.other = states;
}

void sequence_mark(sequence *s, bool rewindable)
{
    s->rewind.marked = rewindable;
    if (!rewindable) return;
    assert(s->rewind.max_rows > 0);
    s->rewind.length = s->length;
    swap_states(s);
}

bool sequence_marked(const sequence *s)
{
    return s->rewind.marked;
}

int64_t sequence_mark_length(const sequence *s)
{
    return s->rewind.length;
}

void sequence_return(sequence *s)
{
    assert(s->rewind.marked);
    swap_states(s);
    s->length = s->rewind.length;
    s->rewind.marked = false;
}

const float *sequence_conv_before(const sequence *s, int32_t layer)
{
    assert(s->rewind.marked);
    return s->rewind.other + layer * s->pool->layer_state_floats;
}

const float *sequence_delta_before(const sequence *s, int32_t layer)
{
    return sequence_conv_before(s, layer) + s->pool->delta_offset;
}

layer_record sequence_record(sequence *s, int32_t layer)
{
    const cache_pool *p = s->pool;
    const int64_t n = s->rewind.max_rows;
    float *at = s->rewind.records + layer * n * (p->channels + 2 * p->value_heads);
    float *g = at + n * p->channels;
    return (layer_record){.x = at, .g = g, .beta = g + n * p->value_heads};
}
