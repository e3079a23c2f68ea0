#include "text/cache_save.h"

#include <assert.h>

#include "text/cache_parts.h"

// With ranks: theirs one after another, block by block and in the states.
int64_t cache_block_bytes(const cache_pool *p)
{
    return p->memory.block_bytes * (1 + p->n_peers);
}

int64_t cache_states_bytes(const cache_pool *p)
{
    return p->memory.states_bytes * (1 + p->n_peers);
}

static const sequence *of_rank(const sequence *s, int64_t rank)
{
    return rank ? s->peers[rank - 1] : s;
}

int64_t sequence_blocks(const sequence *s)
{
    return s->n_blocks;
}

sight_err sequence_save_blocks(const sequence *s, void *host, int64_t first, int64_t n)
{
    const int64_t bytes = s->pool->memory.block_bytes, ranks = 1 + s->pool->n_peers;
    assert(first >= 0 && first + n <= s->n_blocks);
    sight_err err = SIGHT_OK;
    for (int64_t i = 0; i < n * ranks && !err; i++) {
        const sequence *of = of_rank(s, i % ranks);
        err = cache_read(&of->pool->memory, (char *)host + i * bytes, of->blocks[first + i / ranks]->data, bytes);
    }
    return err;
}

// How many of the states' bytes from `at` to `end` are of the rank whose those at `at` are.
static int64_t part_of_rank(int64_t at, int64_t end, int64_t own)
{
    const int64_t left = own - at % own;
    return end - at < left ? end - at : left;
}

sight_err sequence_save_states(const sequence *s, void *host, int64_t first, int64_t bytes)
{
    assert(first >= 0 && first + bytes <= cache_states_bytes(s->pool));
    const int64_t own = s->pool->memory.states_bytes;
    sight_err err = SIGHT_OK;
    for (int64_t at = first, n; at < first + bytes && !err; at += n) {
        const sequence *of = of_rank(s, at / own);
        n = part_of_rank(at, first + bytes, own);
        err = cache_read(&of->pool->memory, (char *)host + (at - first), (const char *)of->states + at % own, n);
    }
    return err;
}

sight_err sequence_share_blocks(sequence *s, const sequence *with, int64_t n)
{
    assert(s->n_blocks == 0 && n <= with->n_blocks);
    sight_err err = cache_tables_grow(s, n);
    for (int64_t b = 0; b < n && !err; b++) {
        with->blocks[b]->refs++;
        cache_tables_put(s, s->n_blocks++, with->blocks[b]);
    }
    for (int32_t i = 0; i < s->pool->n_peers && !err; i++) {
        err = sequence_share_blocks(s->peers[i], with->peers[i], n);
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
    for (int32_t i = 0; i < s->pool->n_peers && !err; i++) {
        err = sequence_add_block(s->peers[i], (const char *)host + (i + 1) * m->block_bytes);
    }
    return err;
}

void sequence_load_states(sequence *s, const void *host, int64_t first, int64_t bytes)
{
    assert(first >= 0 && first + bytes <= cache_states_bytes(s->pool));
    const int64_t own = s->pool->memory.states_bytes;
    for (int64_t at = first, n; at < first + bytes; at += n) {
        const sequence *of = of_rank(s, at / own);
        n = part_of_rank(at, first + bytes, own);
        cache_write(&of->pool->memory, (char *)of->states + at % own, (const char *)host + (at - first), n);
    }
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
    sight_err err = SIGHT_OK;
    for (int32_t i = 0; i < s->pool->n_peers && !err; i++) err = sequence_restored(s->peers[i], length, mtp_length);
    return err;
}

void sequence_take_past(sequence *to, sequence **from)
{
    sequence *f = *from;
    const sequence old = *to;
    assert(old.pool == f->pool && f->rewind.max_rows == 0);
    for (int32_t i = 0; i < old.pool->n_peers; i++) sequence_take_past(old.peers[i], &f->peers[i]);
    sequence **left = f->peers; // all NULL
    *to = *f;
    to->rewind = old.rewind;
    to->rewind.marked = false;
    to->peers = old.peers;
    *f = old;
    f->rewind = (cache_rewind){0};
    f->peers = left;
    sequence_drop(from);
}
