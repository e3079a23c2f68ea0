#include "daemon/store/prefix_disk.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/store/prefix_disk_parts.h"
#include "text/cache_save.h"

// A past is written when it has so many tokens more than the one it builds on, or has seen another medium: below
// that reading anew costs less than states do.
#define LEAST_TOKENS 256
#define MOST_SAVES   8 // that wait for their turn

typedef struct save {
    const sequence *seq;
    prefix_link link;
    blob *pages, *states; // being filled; NULL: not begun, or handed over
    int64_t copied;       // blocks of pages, then bytes of states
    bool pages_done;
} save;

struct prefix_disk {
    disk *disk;
    cache_pool *pool;
    uint8_t scope[SIPHASH_BYTES];
    bool *known; // [n_known] whether there may be a past of so many tokens
    int32_t n_known;
    int64_t added; // disk_added when that was looked at
    save saves[MOST_SAVES];
    int32_t n_saves;
    prefix_disk_usage usage;
};

static bool note_length(prefix_disk *p, int32_t n)
{
    if (n >= p->n_known) {
        const int32_t more = n + 1 + n / 2;
        bool *grown = realloc(p->known, (size_t)more * sizeof *grown);
        if (!grown) return false;
        memset(grown + p->n_known, 0, (size_t)(more - p->n_known) * sizeof *grown);
        p->known = grown;
        p->n_known = more;
    }
    p->known[n] = true;
    return true;
}

// What others have put there since: replicas of the same model.
static sight_err look_at_lengths(prefix_disk *p)
{
    int32_t *lengths, n;
    const int64_t added = disk_added(p->disk);
    sight_err err = disk_lengths(p->disk, DISK_PAGES, &lengths, &n);
    if (err) return err;
    for (int32_t i = 0; i < n; i++) note_length(p, lengths[i]);
    free(lengths);
    p->added = added;
    return SIGHT_OK;
}

void prefix_disk_refresh(prefix_disk *p)
{
    if (disk_added(p->disk) != p->added) look_at_lengths(p);
}

sight_err prefix_disk_create(prefix_disk **out, disk *d, cache_pool *pool, const uint8_t *scope)
{
    prefix_disk *p = calloc(1, sizeof *p);
    if (!p) return sight_fail(SIGHT_E_MEMORY, "no memory for a store of prompts");
    p->disk = d;
    p->pool = pool;
    memcpy(p->scope, scope, sizeof p->scope);
    sight_err err = look_at_lengths(p);
    if (err) prefix_disk_destroy(&p);
    else *out = p;
    return err;
}

static void drop_save(prefix_disk *p, int32_t i)
{
    blob_unref(&p->saves[i].pages);
    blob_unref(&p->saves[i].states);
    memmove(p->saves + i, p->saves + i + 1, (size_t)(--p->n_saves - i) * sizeof *p->saves);
}

void prefix_disk_destroy(prefix_disk **pp)
{
    prefix_disk *p = *pp;
    if (!p) return;
    while (p->n_saves) drop_save(p, p->n_saves - 1);
    free(p->known);
    free(p);
    *pp = NULL;
}

void prefix_disk_count(prefix_disk *p, bool hit)
{
    if (hit) p->usage.hits++;
    else p->usage.misses++;
}

prefix_disk_usage prefix_disk_get_usage(const prefix_disk *p)
{
    return p->usage;
}

disk *prefix_disk_of(const prefix_disk *p)
{
    return p->disk;
}

cache_pool *prefix_disk_pool(const prefix_disk *p)
{
    return p->pool;
}

disk_item prefix_disk_item(const prefix_disk *p, disk_kind kind, const prefix_link *link)
{
    disk_item item = {.kind = kind, .from = link->from, .to = link->to};
    memcpy(item.name, link->name, sizeof item.name);
    memcpy(item.scope, p->scope, sizeof item.scope);
    return item;
}

// ---- chains ----

static bool is_saved(const prefix_disk *p, prefix_link *link)
{
    for (int32_t i = 0; i < p->n_saves; i++) {
        if (memcmp(p->saves[i].link.name, link->name, sizeof link->name)) continue;
        link->from = p->saves[i].link.from;
        return true;
    }
    return disk_has(p->disk, DISK_PAGES, link->name, &link->from);
}

// Every past of the prompt whose pages are there, by length.
static int32_t find_links(const prefix_disk *p, prefix_link **out, const prefix_prompt *prompt, int32_t most)
{
    prefix_names names;
    prefix_link *list = NULL;
    int32_t n = 0, capacity = 0;
    prefix_names_init(&names, disk_key(p->disk), p->scope, prompt);
    for (int32_t to = 1; to <= most && to < p->n_known; to++) {
        prefix_link link = {.to = to};
        if (!p->known[to]) continue;
        prefix_names_at(&names, link.name, to);
        if (!is_saved(p, &link)) continue;
        if (n == capacity) {
            capacity = capacity ? 2 * capacity : 16;
            prefix_link *grown = realloc(list, (size_t)capacity * sizeof *grown);
            if (!grown) break;
            list = grown;
        }
        list[n++] = link;
    }
    *out = list;
    return n;
}

// Moves the links that lead to list[last] to the list's front, in order; how many, 0: one of them is missing.
static int32_t line_up(prefix_link *list, int32_t last)
{
    int32_t first = last;
    for (int32_t i = last - 1; i >= 0 && list[first].from > 0; i--) {
        if (list[i].to != list[first].from) continue;
        list[--first] = list[i]; // at or behind i: what lies there is not looked at again
    }
    if (list[first].from > 0) return 0;
    const int32_t n = last - first + 1;
    memmove(list, list + first, (size_t)n * sizeof *list);
    return n;
}

int32_t prefix_disk_chain(const prefix_disk *p, prefix_link **out, const prefix_prompt *prompt, int32_t over,
                          int32_t most, bool states)
{
    prefix_link *list;
    const int32_t n = find_links(p, &list, prompt, most);
    for (int32_t i = n - 1; i >= 0 && list[i].to > over; i--) {
        if (states && !disk_has(p->disk, DISK_STATES, list[i].name, NULL)) continue;
        prefix_link *copy = malloc((size_t)(i + 1) * sizeof *copy);
        if (!copy) break;
        memcpy(copy, list, (size_t)(i + 1) * sizeof *copy);
        const int32_t links = line_up(copy, i);
        if (links) {
            free(list);
            *out = copy;
            return links;
        }
        free(copy);
    }
    free(list);
    return 0;
}

// ---- writing ----

static bool sees_another_medium(const prefix_prompt *q, int32_t from, int32_t to)
{
    for (int32_t i = 0; i < q->n_media; i++) {
        if (q->media[i].end > from && q->media[i].end <= to) return true;
    }
    return false;
}

void prefix_disk_save(prefix_disk *p, const sequence *seq, const prefix_prompt *prompt)
{
    const int32_t n = (int32_t)sequence_length(seq);
    prefix_link link = {.to = n}, *chain;
    prefix_names names;
    if (p->n_saves == MOST_SAVES) return;
    prefix_names_init(&names, disk_key(p->disk), p->scope, prompt);
    prefix_names_at(&names, link.name, n);
    if (is_saved(p, &link)) return;
    prefix_disk_refresh(p);
    const int32_t links = prefix_disk_chain(p, &chain, prompt, 0, n - 1, false);
    if (links) {
        link.from = chain[links - 1].to;
        free(chain);
    }
    if (n - link.from < LEAST_TOKENS && !sees_another_medium(prompt, link.from, n)) return;
    if (!note_length(p, n)) return;
    p->saves[p->n_saves++] = (save){.seq = seq, .link = link};
}

void prefix_disk_let_go(prefix_disk *p, const sequence *seq)
{
    for (int32_t i = p->n_saves - 1; i >= 0; i--) {
        if (p->saves[i].seq == seq) drop_save(p, i);
    }
}

static bool begin_pages(const prefix_disk *p, save *s)
{
    const pages_head h = {.first = s->link.from / CACHE_PAGE_ROWS,
                          .n = (s->link.to + CACHE_PAGE_ROWS - 1) / CACHE_PAGE_ROWS - s->link.from / CACHE_PAGE_ROWS,
                          .block_bytes = cache_block_bytes(p->pool)};
    s->pages = blob_create(sizeof h + (size_t)(h.n * h.block_bytes));
    if (s->pages) memcpy(s->pages->data, &h, sizeof h);
    return s->pages != NULL;
}

// What was copied, in bytes; below 0: it cannot be.
static int64_t copy_pages(const prefix_disk *p, save *s, int64_t bytes)
{
    pages_head h;
    if (!s->pages && !begin_pages(p, s)) return -1;
    memcpy(&h, s->pages->data, sizeof h);
    int64_t n = bytes / h.block_bytes;
    if (n < 1) n = 1;
    if (n > h.n - s->copied) n = h.n - s->copied;
    unsigned char *to = s->pages->data + sizeof h + (size_t)(s->copied * h.block_bytes);
    if (sequence_save_blocks(s->seq, to, h.first + s->copied, n)) return -1;
    s->copied += n;
    if (s->copied < h.n) return n * h.block_bytes;
    const disk_item item = prefix_disk_item(p, DISK_PAGES, &s->link);
    disk_put(p->disk, &item, s->pages);
    blob_unref(&s->pages);
    s->pages_done = true;
    s->copied = 0;
    return n * h.block_bytes;
}

static int64_t copy_states(const prefix_disk *p, save *s, int64_t bytes, bool *done)
{
    const states_head h = {.tokens = s->link.to, .bytes = cache_states_bytes(p->pool)};
    if (!s->states && !(s->states = blob_create(sizeof h + (size_t)h.bytes))) return -1;
    memcpy(s->states->data, &h, sizeof h);
    const int64_t n = bytes < h.bytes - s->copied ? bytes : h.bytes - s->copied;
    if (sequence_save_states(s->seq, s->states->data + sizeof h + s->copied, s->copied, n)) return -1;
    s->copied += n;
    *done = s->copied == h.bytes;
    if (!*done) return n;
    const disk_item item = prefix_disk_item(p, DISK_STATES, &s->link);
    disk_put(p->disk, &item, s->states);
    return n;
}

void prefix_disk_work(prefix_disk *p, int64_t bytes)
{
    const bool all = bytes == 0;
    while (p->n_saves && (all || bytes > 0)) {
        save *s = &p->saves[0];
        bool done = false;
        const int64_t most = all ? PREFIX_SLICE_BYTES : bytes;
        const int64_t copied = s->pages_done ? copy_states(p, s, most, &done) : copy_pages(p, s, most);
        bytes -= copied;
        if (done || copied < 0) drop_save(p, 0);
    }
}

void prefix_disk_forget(prefix_disk *p, const uint8_t name[SIPHASH_BYTES])
{
    disk_forget(p->disk, DISK_STATES, name);
    disk_forget(p->disk, DISK_PAGES, name);
}
