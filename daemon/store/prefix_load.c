#include <stdlib.h>
#include <string.h>

#include "daemon/store/prefix_disk_parts.h"
#include "text/cache_save.h"

_Static_assert(sizeof(pages_head) == 64 && sizeof(states_head) == 64, "what follows a head begins on a cache line");

// Reading one payload must not take more memory than this.
#define MOST_BYTES ((int64_t)4 << 30)

struct prefix_load {
    prefix_disk *from;
    prefix_link *links; // [n]
    int32_t n, at;      // the link whose pages come next; n: the states do
    disk_load *asked;   // NULL: nothing yet
    blob *payload;      // that came
    int64_t placed;     // blocks of it, or bytes of states
    sequence *seq;
};

// ---- payloads ----

bool prefix_pages_read(prefix_pages *out, const void *payload, size_t size, int32_t from, int32_t to)
{
    pages_head h;
    if (size < sizeof h || from < 0 || to <= from) return false;
    memcpy(&h, payload, sizeof h);
    const int64_t first = from / CACHE_PAGE_ROWS, end = ((int64_t)to + CACHE_PAGE_ROWS - 1) / CACHE_PAGE_ROWS;
    const int64_t rest = (int64_t)(size - sizeof h);
    if (h.first != first || h.n != end - first || h.block_bytes < 1) return false;
    if (h.block_bytes > rest || rest % h.n || rest / h.n != h.block_bytes) return false;
    *out = (prefix_pages){first, h.n, h.block_bytes, (const unsigned char *)payload + sizeof h};
    return true;
}

bool prefix_states_read(prefix_states *out, const void *payload, size_t size, int32_t to)
{
    states_head h;
    if (size < sizeof h) return false;
    memcpy(&h, payload, sizeof h);
    if (h.tokens != to || h.bytes < 0 || (uint64_t)h.bytes != size - sizeof h) return false;
    *out = (prefix_states){h.bytes, (const unsigned char *)payload + sizeof h};
    return true;
}

// ---- bringing back ----

prefix_load *prefix_load_begin(prefix_disk *p, const prefix_prompt *prompt, int32_t longer_than)
{
    prefix_link *links;
    prefix_disk_refresh(p);
    const int32_t n = prefix_disk_chain(p, &links, prompt, longer_than, prompt->n - 1, true);
    prefix_disk_count(p, n > 0);
    if (!n) return NULL;
    prefix_load *l = calloc(1, sizeof *l);
    if (!l || sequence_create(&l->seq, prefix_disk_pool(p))) {
        free(links);
        free(l);
        return NULL;
    }
    l->from = p;
    l->links = links;
    l->n = n;
    return l;
}

int32_t prefix_load_tokens(const prefix_load *l)
{
    return l->links[l->n - 1].to;
}

static bool ask(prefix_load *l)
{
    const bool pages = l->at < l->n;
    const disk_item item = prefix_disk_item(l->from, pages ? DISK_PAGES : DISK_STATES, &l->links[pages ? l->at : l->n - 1]);
    l->asked = disk_load_begin(prefix_disk_of(l->from), &item, MOST_BYTES);
    l->placed = 0;
    return l->asked != NULL;
}

// Some blocks of a link's pages. The last one, when it is not full, comes again with the next link.
static bool place_pages(prefix_load *l)
{
    prefix_pages p;
    const prefix_link *link = &l->links[l->at];
    if (!prefix_pages_read(&p, l->payload->data, l->payload->size, link->from, link->to) ||
        p.block_bytes != cache_block_bytes(prefix_disk_pool(l->from))) {
        prefix_disk_forget(l->from, link->name);
        return false;
    }
    const int64_t n = l->at + 1 < l->n ? link->to / CACHE_PAGE_ROWS - p.first : p.n;
    int64_t slice = PREFIX_SLICE_BYTES / p.block_bytes + 1;
    bool good = true;
    for (; good && slice > 0 && l->placed < n; slice--, l->placed++) {
        good = !sequence_add_block(l->seq, p.data + l->placed * p.block_bytes);
    }
    if (good && l->placed == n) {
        blob_unref(&l->payload);
        l->at++;
    }
    return good;
}

static bool place_states(prefix_load *l, bool *over)
{
    prefix_states s;
    const int32_t to = prefix_load_tokens(l);
    if (!prefix_states_read(&s, l->payload->data, l->payload->size, to) ||
        s.bytes != cache_states_bytes(prefix_disk_pool(l->from))) {
        prefix_disk_forget(l->from, l->links[l->n - 1].name);
        return false;
    }
    const int64_t left = s.bytes - l->placed, n = left < PREFIX_SLICE_BYTES ? left : PREFIX_SLICE_BYTES;
    sequence_load_states(l->seq, s.data + l->placed, l->placed, n);
    l->placed += n;
    *over = l->placed == s.bytes;
    return !*over || !sequence_restored(l->seq, to, 0);
}

static bool step(prefix_load *l, bool *over, bool *waits, int wait_ms)
{
    if (l->payload) return l->at < l->n ? place_pages(l) : place_states(l, over);
    if (!l->asked && !ask(l)) return false;
    *waits = !disk_load_poll(l->asked, wait_ms, &l->payload);
    if (*waits) return true;
    disk_load_end(&l->asked);
    return l->payload != NULL;
}

bool prefix_load_step(prefix_load *l, sequence **out, bool *waits, int wait_ms)
{
    bool over = false;
    *waits = false;
    const bool good = step(l, &over, waits, wait_ms);
    if (good && !over) return false;
    *out = good ? l->seq : NULL;
    if (good) l->seq = NULL;
    return true;
}

void prefix_load_end(prefix_load **pl)
{
    prefix_load *l = *pl;
    if (!l) return;
    disk_load_end(&l->asked);
    blob_unref(&l->payload);
    sequence_drop(&l->seq);
    free(l->links);
    free(l);
    *pl = NULL;
}
