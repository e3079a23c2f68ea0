#include "text/cache_save.h"

#include <assert.h>

#include "text/cache_parts.h"

int64_t cache_block_bytes(const cache_pool *p)
{
    return p->memory.block_bytes;
}

int64_t cache_states_bytes(const cache_pool *p)
{
    return p->memory.states_bytes;
}

int64_t sequence_blocks(const sequence *s)
{
    return s->n_blocks;
}

sight_err sequence_save_blocks(const sequence *s, void *host, int64_t first, int64_t n)
{
    const cache_memory *m = &s->pool->memory;
    assert(first >= 0 && first + n <= s->n_blocks);
    sight_err err = SIGHT_OK;
    for (int64_t b = 0; b < n && !err; b++) {
        err = cache_read(m, (char *)host + b * m->block_bytes, s->blocks[first + b]->data, m->block_bytes);
    }
    return err;
}

sight_err sequence_save_states(const sequence *s, void *host, int64_t first, int64_t bytes)
{
    assert(first >= 0 && first + bytes <= s->pool->memory.states_bytes);
    if (!bytes) return SIGHT_OK;
    return cache_read(&s->pool->memory, host, (const char *)s->states + first, bytes);
}

sight_err sequence_share_blocks(sequence *s, const sequence *with, int64_t n)
{
    assert(s->n_blocks == 0 && n <= with->n_blocks);
    sight_err err = cache_tables_grow(s, n);
    for (int64_t b = 0; b < n && !err; b++) {
        with->blocks[b]->refs++;
        cache_tables_put(s, s->n_blocks++, with->blocks[b]);
    }
    return err;
}

sight_err sequence_add_block(sequence *s, const void *host)
{
    cache_block *b;
    cache_memory *m = &s->pool->memory;
    sight_err err = cache_tables_grow(s, s->n_blocks + 1);
    if (!err) err = cache_block_create(&b, m);
    if (err) return err;
    cache_write(m, b->data, host, m->block_bytes);
    cache_tables_put(s, s->n_blocks++, b);
    return SIGHT_OK;
}

void sequence_load_states(sequence *s, const void *host, int64_t first, int64_t bytes)
{
    assert(first >= 0 && first + bytes <= s->pool->memory.states_bytes);
    if (bytes) cache_write(&s->pool->memory, (char *)s->states + first, host, bytes);
}

sight_err sequence_restored(sequence *s, int64_t length, int64_t mtp_length)
{
    const int64_t most = length > mtp_length ? length : mtp_length;
    if (length < 0 || mtp_length < 0 || most > INT32_MAX || (mtp_length && !s->pool->mtp) ||
        (most + CACHE_PAGE_ROWS - 1) / CACHE_PAGE_ROWS != s->n_blocks) {
        return sight_fail(SIGHT_E_ARGUMENT, "a past of %lld tokens does not lie in %lld pages",
                          (long long)length, (long long)s->n_blocks);
    }
    s->length = length;
    s->mtp_length = mtp_length;
    cache_tables_show(s);
    return SIGHT_OK;
}

void sequence_take_past(sequence *to, sequence **from)
{
    sequence *f = *from;
    const sequence old = *to;
    assert(old.pool == f->pool && f->rewind.max_rows == 0);
    *to = *f;
    to->rewind = old.rewind;
    to->rewind.marked = false;
    *f = old;
    f->rewind = (cache_rewind){0};
    sequence_drop(from);
}
