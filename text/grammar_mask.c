// Which tokens may come at a place: a walk down the trie of tokens, along with the bytes that lead on.
//
// Where text may go on freely (in a JSON string) nearly all tokens may come. They are found without the trie, by the kinds of
// their bytes and how many characters they have, and the walk leaves out branches that hold nothing else.
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar_parts.h"

typedef struct walk {
    grammar *g;
    const grammar_vocabulary *v;
    const place *from;
    uint8_t *allowed;
} walk;

// Tokens that stay within the run of characters which goes on at a place.
static void allow_run(const walk *w)
{
    const uint16_t others = (uint16_t)~w->from->kinds;
    const int32_t left = w->from->left < 254 ? w->from->left : 254;
    for (int32_t id = 0; id < w->v->size; id++) {
        w->allowed[id] = (uint8_t)((w->v->kinds[id] & others) == 0 && w->v->characters[id] <= left);
    }
}

static void allow(const walk *w, int32_t from, int32_t n)
{
    for (int32_t i = 0; i < n; i++) w->allowed[w->v->order[from + i]] = 1;
}

static bool fits(const trie_node *node, int32_t before, const place *p)
{
    return node->longest < 254 && before + node->longest <= p->left && (node->kinds & ~p->kinds) == 0;
}

// The branch below node `at`, whose bytes have led to a place. characters: that its bytes began, of the run that
// allow_run knows; -1: they have left it.
static void descend(const walk *w, int32_t at, int32_t where, int32_t characters)
{
    const trie_node *node = &w->v->nodes[at];
    const place *p = &w->g->places[where];
    if (at && characters >= 0 && fits(node, characters, w->from)) return;
    if (at && fits(node, 0, p)) {
        allow(w, node->tokens, node->n_tokens);
        return;
    }
    allow(w, node->tokens, node->n_here);
    for (int32_t child = at + 1; child < node->skip && !w->g->err;) {
        const uint8_t byte = w->v->nodes[child].byte;
        const int32_t to = grammar_read(w->g, where, byte);
        const bool stays = characters >= 0 && w->from->kinds >> grammar_byte_kind(byte) & 1;
        const bool begins = byte < 0x80 || byte >= 0xc0;
        if (to >= 0) descend(w, child, to, stays && (at || begins) ? characters + begins : -1);
        child = w->v->nodes[child].skip;
    }
}

// The mask that has not been used for longest.
static kept_mask *oldest(grammar *g)
{
    kept_mask *m = &g->masks[0];
    for (int i = 1; i < GRAMMAR_MASKS; i++) {
        if (g->masks[i].used < m->used) m = &g->masks[i];
    }
    return m;
}

const uint8_t *grammar_mask(grammar *g, int32_t where, uint64_t *serial)
{
    if (where < 0 || g->err) return NULL;
    where = grammar_alike(g, where);
    g->clock++;
    for (int i = 0; i < GRAMMAR_MASKS; i++) {
        if (g->masks[i].place != where) continue;
        g->masks[i].used = g->clock;
        *serial = g->masks[i].serial;
        return g->masks[i].allowed;
    }
    const size_t size = (size_t)g->vocabulary->size;
    kept_mask *m = oldest(g);
    if (!m->allowed) m->allowed = malloc(size + 1);
    if (!m->allowed) {
        g->err = sight_fail(SIGHT_E_MEMORY, "no memory for a mask over %zu tokens", size);
        return NULL;
    }
    m->place = -1;
    const place from = g->places[where]; // places move while the walk finds more
    const walk w = {g, g->vocabulary, &from, m->allowed};
    if (from.left > 0) allow_run(&w);
    else memset(m->allowed, 0, size);
    descend(&w, 0, where, from.left > 0 ? 0 : -1);
    if (g->err) return NULL;
    for (int32_t i = 0; from.may_end && i < w.v->n_ends; i++) m->allowed[w.v->ends[i]] = 1;
    m->place = where;
    m->used = g->clock;
    *serial = m->serial = atomic_fetch_add(&g->vocabulary->masks, 1) + 1;
    return m->allowed;
}
