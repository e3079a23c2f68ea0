#include "text/cache.h"

#include <assert.h>
#include <stdlib.h>

#include "kernels/memory.h"
#include "text/cache_parts.h"

static int64_t align_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static int64_t blocks_for(int64_t rows)
{
    return (rows + CACHE_PAGE_ROWS - 1) / CACHE_PAGE_ROWS;
}

// ---- the pool ----

// Parts begin on cache lines: 64 bytes, 16 floats.
static void measure(cache_pool *p, const text_config *c)
{
    int64_t full = 0, linear = 0;
    for (int32_t i = 0; i < c->n_layers; i++) {
        if (c->layers[i] == LAYER_FULL) full++;
        else linear++;
    }
    p->kv_layers = (int32_t)full + (p->mtp ? 1 : 0);
    p->page_bytes = align_up(kv_page_bytes(p->kv_type, CACHE_PAGE_ROWS, c->kv_heads, c->head_dim),
                             64);
    p->memory.block_bytes =
        align_up(p->page_bytes * (p->kv_layers ? p->kv_layers : 1), CACHE_MEMORY_ALIGN);

    int64_t channels = (int64_t)2 * c->linear_key_heads * c->linear_key_dim +
                       (int64_t)c->linear_value_heads * c->linear_value_dim;
    int64_t delta = (int64_t)c->linear_value_heads * c->linear_key_dim * c->linear_value_dim;
    p->delta_offset = align_up((c->conv_width - 1) * channels, 16);
    p->layer_state_floats = p->delta_offset + align_up(delta, 16);
    p->linear_layers = (int32_t)linear;
    p->channels = channels;
    p->value_heads = c->linear_value_heads;
    p->memory.states_bytes =
        align_up(linear * p->layer_state_floats * (int64_t)sizeof(float), CACHE_MEMORY_ALIGN);
}

sight_err cache_pool_create(cache_pool **out, const text_config *config,
                            const cache_options *options)
{
    if (options->kv_type != TENSOR_F32 && options->kv_type != TENSOR_BF16 &&
        options->kv_type != TENSOR_I8) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "the cache keeps keys and values in f32, bf16 or int8 only");
    }
    if (options->budget_bytes < 0) {
        return sight_fail(SIGHT_E_ARGUMENT, "the cache's budget is below 0");
    }
    cache_pool *p = calloc(1, sizeof *p);
    if (!p) return sight_fail(SIGHT_E_MEMORY, "no memory for a cache pool");
    p->kv_type = options->kv_type;
    p->mtp = config->mtp_layers > 0 && !options->without_mtp;
    p->memory.budget = options->budget_bytes;
    p->memory.k = options->k && kernels_on_device(options->k) ? options->k : NULL;
    measure(p, config);
    *out = p;
    return SIGHT_OK;
}

void cache_pool_destroy(cache_pool **pp)
{
    cache_pool *p = *pp;
    if (!p) return;
    assert(p->sequences == 0);
    for (int32_t i = 0; i < p->n_peers; i++) cache_pool_destroy(&p->peers[i]);
    cache_memory_done(&p->memory);
    free(p);
    *pp = NULL;
}

int64_t cache_bytes(const cache_pool *p, int64_t n_tokens)
{
    return blocks_for(n_tokens) * p->memory.block_bytes + p->memory.states_bytes;
}

int64_t cache_bytes_used(const cache_pool *p)
{
    return p->memory.used;
}

// ---- sequences ----

// Room in the tables for n blocks; the device's is written when all is known (cache_tables_show).
sight_err cache_tables_grow(sequence *s, int64_t n)
{
    if (n <= s->capacity) return SIGHT_OK;
    const cache_memory *m = &s->pool->memory;
    int64_t capacity = s->capacity ? s->capacity : 8;
    while (capacity < n) capacity *= 2;
    cache_block **blocks = realloc(s->blocks, (size_t)capacity * sizeof *blocks);
    if (blocks) s->blocks = blocks;
    void **data = blocks ? realloc(s->data, (size_t)capacity * sizeof *data) : NULL;
    if (data) s->data = data;
    void *table = data && m->k ? cache_room_create(m, capacity * (int64_t)sizeof *data) : NULL;
    if (!data || (m->k && !table)) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for a sequence's table of pages");
    }
    cache_room_free(m, s->table);
    s->table = table;
    s->in_table = 0;
    s->capacity = capacity;
    return SIGHT_OK;
}

void cache_tables_put(sequence *s, int64_t at, cache_block *b)
{
    s->blocks[at] = b;
    s->data[at] = b->data;
    if (s->in_table > at) s->in_table = at;
}

// Ops on a device read the table there.
void cache_tables_show(sequence *s)
{
    if (!s->table || s->in_table >= s->n_blocks) return;
    const int64_t first = s->in_table;
    cache_write(&s->pool->memory, s->table + first, s->data + first,
                (s->n_blocks - first) * (int64_t)sizeof *s->data);
    s->in_table = s->n_blocks;
}

static void free_tables(sequence *s)
{
    free(s->blocks);
    free(s->data);
    cache_room_free(&s->pool->memory, s->table);
}

sight_err sequence_create(sequence **out, cache_pool *p)
{
    sequence *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory for a sequence");
    void *states;
    bool zeroed;
    sight_err err = cache_states_create(&states, &zeroed, &p->memory);
    if (err) {
        free(s);
        return err;
    }
    if (!zeroed) cache_zero(&p->memory, states, p->memory.states_bytes);
    s->pool = p;
    s->states = states;
    p->sequences++;
    err = cache_peers_create(s);
    if (err) sequence_drop(&s);
    else *out = s;
    return err;
}

static void cut_blocks(sequence *s, int64_t n)
{
    while (s->n_blocks > n) cache_block_unref(&s->pool->memory, s->blocks[--s->n_blocks]);
    if (s->in_table > s->n_blocks) s->in_table = s->n_blocks;
}

void sequence_drop(sequence **ps)
{
    sequence *s = *ps;
    if (!s) return;
    cache_peers_drop(s);
    cut_blocks(s, 0);
    sequence_forbid_rewind(s);
    cache_states_free(&s->pool->memory, s->states);
    s->pool->sequences--;
    free_tables(s);
    free(s);
    *ps = NULL;
}

sight_err sequence_fork(sequence **out, const sequence *s)
{
    sequence *f = calloc(1, sizeof *f);
    if (!f) return sight_fail(SIGHT_E_MEMORY, "no memory for a sequence");
    f->pool = s->pool;
    sight_err err = cache_tables_grow(f, s->n_blocks);
    void *states = NULL;
    bool zeroed;
    if (!err) err = cache_states_create(&states, &zeroed, &s->pool->memory);
    if (err) {
        free_tables(f);
        free(f);
        return err;
    }
    f->states = states;
    if (states) cache_copy(&s->pool->memory, states, s->states, s->pool->memory.states_bytes);
    for (int64_t b = 0; b < s->n_blocks; b++) {
        s->blocks[b]->refs++;
        cache_tables_put(f, b, s->blocks[b]);
    }
    f->n_blocks = s->n_blocks;
    cache_tables_show(f);
    f->length = s->length;
    f->mtp_length = s->mtp_length;
    s->pool->sequences++;
    err = cache_peers_fork(f, s);
    if (err) sequence_drop(&f);
    else *out = f;
    return err;
}

int64_t sequence_length(const sequence *s)
{
    return s->length;
}

// Pages are shared from the first on: what follows one that is not shared is not either.
int64_t sequence_shared_rows(const sequence *a, const sequence *b)
{
    int64_t low = 0, high = a->n_blocks < b->n_blocks ? a->n_blocks : b->n_blocks;
    while (low < high) {
        const int64_t mid = low + (high - low) / 2;
        if (a->blocks[mid] == b->blocks[mid]) low = mid + 1;
        else high = mid;
    }
    return low * CACHE_PAGE_ROWS;
}

int64_t sequence_keep(sequence *s)
{
    int64_t blocks = 0;
    for (int64_t b = 0; b < s->n_blocks; b++) blocks += s->blocks[b]->kept++ == 0;
    return blocks * s->pool->memory.block_bytes + s->pool->memory.states_bytes;
}

int64_t sequence_unkeep(sequence *s)
{
    int64_t blocks = 0;
    for (int64_t b = 0; b < s->n_blocks; b++) blocks += --s->blocks[b]->kept == 0;
    return blocks * s->pool->memory.block_bytes + s->pool->memory.states_bytes;
}

int64_t sequence_mtp_length(const sequence *s)
{
    return s->mtp_length;
}

void sequence_cut_mtp(sequence *s, int64_t length)
{
    assert(length >= 0 && length <= s->mtp_length);
    s->mtp_length = length;
    sequence_trim(s);
    for (int32_t i = 0; i < s->pool->n_peers; i++) sequence_cut_mtp(s->peers[i], length);
}

// ---- for the model ----

// Copy on write.
static sight_err own_block(sequence *s, int64_t at)
{
    cache_block *shared = s->blocks[at], *own;
    if (shared->refs == 1) return SIGHT_OK;
    sight_err err = cache_block_create(&own, &s->pool->memory);
    if (err) return err;
    cache_copy(&s->pool->memory, own->data, shared->data, s->pool->memory.block_bytes);
    cache_block_unref(&s->pool->memory, shared);
    cache_tables_put(s, at, own);
    return SIGHT_OK;
}

sight_err sequence_reserve(sequence *s, int64_t first, int64_t n)
{
    int64_t end = blocks_for(first + n);
    sight_err err = cache_tables_grow(s, end);
    for (int64_t b = first / CACHE_PAGE_ROWS; !err && b < end && b < s->n_blocks; b++) {
        err = own_block(s, b);
    }
    while (!err && s->n_blocks < end) {
        cache_block *b;
        err = cache_block_create(&b, &s->pool->memory);
        if (!err) cache_tables_put(s, s->n_blocks++, b);
    }
    if (err) sequence_trim(s);
    cache_tables_show(s);
    return err;
}

void sequence_trim(sequence *s)
{
    cut_blocks(s, blocks_for(s->length > s->mtp_length ? s->length : s->mtp_length));
}

void sequence_advance(sequence *s, int64_t n)
{
    s->length += n;
    assert(blocks_for(s->length) <= s->n_blocks);
}

void sequence_advance_mtp(sequence *s, int64_t n)
{
    s->mtp_length += n;
    assert(blocks_for(s->mtp_length) <= s->n_blocks);
}

bool sequence_has_mtp(const sequence *s)
{
    return s->pool->mtp;
}

kv_view sequence_kv(const sequence *s, int32_t layer)
{
    assert(layer >= 0 && layer < s->pool->kv_layers);
    return (kv_view){.blocks = s->table ? s->table : s->data,
                     .offset = layer * s->pool->page_bytes,
                     .type = s->pool->kv_type,
                     .page_rows = CACHE_PAGE_ROWS};
}

float *sequence_conv(sequence *s, int32_t layer)
{
    return s->states + layer * s->pool->layer_state_floats;
}

float *sequence_delta(sequence *s, int32_t layer)
{
    return s->states + layer * s->pool->layer_state_floats + s->pool->delta_offset;
}
