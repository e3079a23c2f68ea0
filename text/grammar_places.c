// Places of a grammar: sets of network nodes that may read the next byte, each with the calls that it is inside of.
//
// Sets and stacks are kept once each and known by number, so the same place is met again and again, and what a
// byte does there is worked out once.
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar_parts.h"

#define MAX_DEPTH 128 // calls inside each other: what is nested deeper may not come

static void out_of_memory(grammar *g)
{
    if (!g->err) g->err = sight_fail(SIGHT_E_MEMORY, "no memory for a grammar's places");
}

static uint32_t mix(uint32_t h, uint32_t x)
{
    h = (h ^ x) * 0x9e3779b1u;
    return h ^ h >> 15;
}

static bool reserve(grammar *g, void **items, int32_t count, int32_t *room, size_t size)
{
    if (count < *room) return true;
    const int32_t more = *room ? 2 * *room : 64;
    void *grown = realloc(*items, (size_t)more * size);
    if (!grown) {
        out_of_memory(g);
        return false;
    }
    *items = grown;
    *room = more;
    return true;
}

// A table of numbers + 1 with room for twice `count`; the caller puts them back.
static bool widen(grammar *g, int32_t **table, int32_t *slots, int32_t count)
{
    if (*slots > 2 * count) return false;
    const int32_t more = *slots ? 2 * *slots : 256;
    int32_t *grown = calloc((size_t)more, sizeof *grown);
    if (!grown) {
        out_of_memory(g);
        return false;
    }
    free(*table);
    *table = grown;
    *slots = more;
    return true;
}

// ---- stacks ----

static uint32_t stack_hash(int32_t node, int32_t parent)
{
    return mix(mix(17, (uint32_t)node), (uint32_t)parent);
}

static void put_stack(grammar *g, int32_t i)
{
    uint32_t at = stack_hash(g->stacks[i].node, g->stacks[i].parent) & (uint32_t)(g->stack_slots - 1);
    while (g->stack_table[at]) at = (at + 1) & (uint32_t)(g->stack_slots - 1);
    g->stack_table[at] = i + 1;
}

// `node` on top of `parent`; -1: too deep, or no memory.
static int32_t push(grammar *g, int32_t node, int32_t parent)
{
    const int32_t depth = g->stacks[parent].depth + 1;
    if (depth > MAX_DEPTH) return -1;
    uint32_t at = stack_hash(node, parent) & (uint32_t)(g->stack_slots - 1);
    for (; g->stack_table[at]; at = (at + 1) & (uint32_t)(g->stack_slots - 1)) {
        const stack_item *s = &g->stacks[g->stack_table[at] - 1];
        if (s->node == node && s->parent == parent) return g->stack_table[at] - 1;
    }
    if (!reserve(g, (void **)&g->stacks, g->n_stacks, &g->stacks_room, sizeof *g->stacks)) return -1;
    const int32_t new = g->n_stacks++;
    g->stacks[new] = (stack_item){node, parent, depth};
    if (widen(g, &g->stack_table, &g->stack_slots, g->n_stacks)) {
        for (int32_t i = 1; i < g->n_stacks; i++) put_stack(g, i);
    } else {
        put_stack(g, new);
    }
    return g->err ? -1 : new;
}

// ---- the closure: what can be reached without reading ----

// Whether (node, stack) is new among what the closure has been through.
static bool is_new(grammar *g, int32_t node, int32_t stack)
{
    uint32_t at = stack_hash(node, stack) & (uint32_t)(g->found_slots - 1);
    for (; g->found_table[at]; at = (at + 1) & (uint32_t)(g->found_slots - 1)) {
        const place_item *w = &g->work[g->found_table[at] - 1];
        if (w->node == node && w->stack == stack) return false;
    }
    g->found_table[at] = g->n_work + 1;
    return true;
}

static void rehash_work(grammar *g)
{
    for (int32_t i = 0; i < g->n_work; i++) {
        uint32_t at = stack_hash(g->work[i].node, g->work[i].stack) & (uint32_t)(g->found_slots - 1);
        while (g->found_table[at]) at = (at + 1) & (uint32_t)(g->found_slots - 1);
        g->found_table[at] = i + 1;
    }
}

static void visit(grammar *g, int32_t node, int32_t stack)
{
    if (g->err || node < 0 || stack < 0) return;
    if (widen(g, &g->found_table, &g->found_slots, g->n_work + 1)) rehash_work(g);
    if (g->err || !is_new(g, node, stack)) return;
    if (!reserve(g, (void **)&g->work, g->n_work, &g->work_room, sizeof *g->work)) return;
    g->work[g->n_work++] = (place_item){node, stack};
}

static void begin_closure(grammar *g)
{
    g->n_work = g->n_found = 0;
    g->found_end = false;
    if (g->found_slots) memset(g->found_table, 0, (size_t)g->found_slots * sizeof *g->found_table);
}

static void expand(grammar *g, place_item w)
{
    const net_node *n = &g->net.nodes[w.node];
    switch ((net_kind)n->kind) {
    case NET_BYTES:
        if (byte_set_empty(&g->net.sets[n->other])) return;
        if (!reserve(g, (void **)&g->found, g->n_found, &g->found_room, sizeof *g->found)) return;
        g->found[g->n_found++] = w;
        return;
    case NET_SPLIT:
        visit(g, n->next, w.stack);
        visit(g, n->other, w.stack);
        return;
    case NET_SKIP: visit(g, n->next, w.stack); return;
    case NET_CALL: visit(g, g->net.rules[n->other], push(g, n->next, w.stack)); return;
    case NET_END:
        if (w.stack == 0) g->found_end = true;
        else visit(g, g->stacks[w.stack].node, g->stacks[w.stack].parent);
        return;
    }
}

static int by_node_and_stack(const void *a, const void *b)
{
    const place_item *x = a, *y = b;
    if (x->node != y->node) return x->node < y->node ? -1 : 1;
    return x->stack < y->stack ? -1 : x->stack > y->stack;
}

static void finish_closure(grammar *g)
{
    for (int32_t i = 0; i < g->n_work && !g->err; i++) expand(g, g->work[i]);
}

// ---- places ----

static uint32_t items_hash(const place_item *items, int32_t n, bool may_end)
{
    uint32_t h = may_end;
    for (int32_t i = 0; i < n; i++) h = mix(mix(h, (uint32_t)items[i].node), (uint32_t)items[i].stack);
    return h;
}

static void put_place(grammar *g, int32_t i)
{
    const place *p = &g->places[i];
    uint32_t at = items_hash(p->items, p->n, p->may_end) & (uint32_t)(g->place_slots - 1);
    while (g->place_table[at]) at = (at + 1) & (uint32_t)(g->place_slots - 1);
    g->place_table[at] = i + 1;
}

static int32_t find_place(const grammar *g, const place_item *items, int32_t n, bool may_end)
{
    if (g->place_slots == 0) return -1;
    uint32_t at = items_hash(items, n, may_end) & (uint32_t)(g->place_slots - 1);
    for (; g->place_table[at]; at = (at + 1) & (uint32_t)(g->place_slots - 1)) {
        const place *p = &g->places[g->place_table[at] - 1];
        if (p->n == n && p->may_end == may_end &&
            (n == 0 || !memcmp(p->items, items, (size_t)n * sizeof *items))) {
            return g->place_table[at] - 1;
        }
    }
    return -1;
}

static void find_run(place *p, const grammar *g)
{
    for (int32_t i = 0; i < p->n; i++) {
        const net_node *n = &g->net.nodes[p->items[i].node];
        if (n->left <= p->left) continue;
        p->left = n->left;
        p->kinds = (uint16_t)(g->kinds[n->other] | n->others << KIND_OTHERS);
    }
}

static int32_t add_place(grammar *g, const place_item *items, int32_t n, bool may_end)
{
    if (g->n_places >= GRAMMAR_MAX_PLACES) {
        g->err = sight_fail(SIGHT_E_LIMIT, "the answer's form has led to more than %d places",
                            GRAMMAR_MAX_PLACES);
        return GRAMMAR_NOWHERE;
    }
    if (!reserve(g, (void **)&g->places, g->n_places, &g->places_room, sizeof *g->places)) {
        return GRAMMAR_NOWHERE;
    }
    const size_t bytes = (size_t)n * sizeof *items;
    place p = {.n = n, .may_end = may_end, .alike = -1};
    p.items = malloc(bytes + 1);
    p.next = malloc((size_t)g->n_classes * sizeof *p.next);
    if (!p.items || !p.next) {
        free(p.items);
        free(p.next);
        out_of_memory(g);
        return GRAMMAR_NOWHERE;
    }
    if (n) memcpy(p.items, items, bytes);
    find_run(&p, g);
    for (int32_t c = 0; c < g->n_classes; c++) p.next[c] = NEXT_UNKNOWN;
    const int32_t new = g->n_places++;
    g->places[new] = p;
    if (widen(g, &g->place_table, &g->place_slots, g->n_places)) {
        for (int32_t i = 0; i < g->n_places; i++) put_place(g, i);
    } else if (!g->err) {
        put_place(g, new);
    }
    return g->err ? GRAMMAR_NOWHERE : new;
}

// The place of what the closure found.
static int32_t found_place(grammar *g)
{
    if (g->err || (g->n_found == 0 && !g->found_end)) return GRAMMAR_NOWHERE;
    if (g->n_found > 1) qsort(g->found, (size_t)g->n_found, sizeof *g->found, by_node_and_stack);
    const int32_t known = find_place(g, g->found, g->n_found, g->found_end);
    return known >= 0 ? known : add_place(g, g->found, g->n_found, g->found_end);
}

int32_t grammar_read(grammar *g, int32_t at, int byte)
{
    const int32_t class = g->class_of[byte];
    const int32_t known = g->places[at].next[class];
    if (known != NEXT_UNKNOWN) return known;
    begin_closure(g);
    const place p = g->places[at];
    for (int32_t i = 0; i < p.n; i++) {
        const net_node *n = &g->net.nodes[p.items[i].node];
        if (byte_set_has(&g->net.sets[n->other], byte)) visit(g, n->next, p.items[i].stack);
    }
    finish_closure(g);
    const int32_t to = found_place(g);
    if (!g->err) g->places[at].next[class] = to;
    return to;
}

int32_t grammar_alike(grammar *g, int32_t at)
{
    if (g->places[at].alike >= 0) return g->places[at].alike;
    const place p = g->places[at];
    g->n_found = 0;
    for (int32_t i = 0; i < p.n; i++) {
        if (!reserve(g, (void **)&g->found, g->n_found, &g->found_room, sizeof *g->found)) return at;
        g->found[g->n_found++] = (place_item){g->net.nodes[p.items[i].node].alike, p.items[i].stack};
    }
    g->found_end = p.may_end;
    const int32_t to = found_place(g);
    if (to < 0) return at;
    g->places[at].alike = to;
    return to;
}

// ---- classes of bytes ----

static void split_classes(grammar *g)
{
    memset(g->class_of, 0, sizeof g->class_of);
    g->n_classes = 1;
    for (int32_t s = 0; s < g->net.n_sets; s++) {
        int16_t to[512];
        memset(to, -1, sizeof to);
        int32_t n = 0;
        for (int b = 0; b < 256; b++) {
            const int old = 2 * g->class_of[b] + byte_set_has(&g->net.sets[s], b);
            if (to[old] < 0) to[old] = (int16_t)n++;
            g->class_of[b] = (uint8_t)to[old];
        }
        g->n_classes = n;
    }
    for (int b = 255; b >= 0; b--) g->byte_of[g->class_of[b]] = (uint8_t)b;
}

static uint16_t kinds_of(const byte_set *s)
{
    uint16_t missing = 1 << KIND_OTHERS | 1 << KIND_ODD;
    for (int b = 0; b < 0x80; b++) {
        if (!byte_set_has(s, b)) missing |= (uint16_t)(1 << grammar_byte_kind(b));
    }
    return (uint16_t)~missing;
}

static bool find_kinds(grammar *g)
{
    g->kinds = malloc(((size_t)g->net.n_sets + 1) * sizeof *g->kinds);
    if (!g->kinds) {
        out_of_memory(g);
        return false;
    }
    for (int32_t i = 0; i < g->net.n_sets; i++) g->kinds[i] = kinds_of(&g->net.sets[i]);
    return true;
}

// ---- the object ----

sight_err grammar_create(grammar **out, grammar_vocabulary *v, net *n)
{
    grammar *g = n->err ? NULL : calloc(1, sizeof *g);
    if (!g) {
        sight_err err = n->err ? n->err : sight_fail(SIGHT_E_MEMORY, "no memory for a grammar");
        net_done(n);
        return err;
    }
    g->vocabulary = v;
    g->net = *n;
    *n = (net){0};
    split_classes(g);
    for (int i = 0; i < GRAMMAR_MASKS; i++) g->masks[i].place = -1;
    if (find_kinds(g) && reserve(g, (void **)&g->stacks, 0, &g->stacks_room, sizeof *g->stacks)) {
        g->stacks[g->n_stacks++] = (stack_item){-1, -1, 0};
        widen(g, &g->stack_table, &g->stack_slots, 1);
    }
    if (!g->err) {
        begin_closure(g);
        visit(g, g->net.rules[g->net.root], 0);
        finish_closure(g);
        if (!g->err && g->n_found == 0 && !g->found_end) {
            g->err = sight_fail(SIGHT_E_ARGUMENT, "no answer has that form");
        }
    }
    if (!g->err) found_place(g);
    sight_err err = g->err;
    if (err) grammar_destroy(&g);
    else *out = g;
    return err;
}

void grammar_destroy(grammar **pg)
{
    grammar *g = *pg;
    if (!g) return;
    for (int32_t i = 0; i < g->n_places; i++) {
        free(g->places[i].items);
        free(g->places[i].next);
    }
    for (int i = 0; i < GRAMMAR_MASKS; i++) free(g->masks[i].allowed);
    free(g->places);
    free(g->place_table);
    free(g->stacks);
    free(g->stack_table);
    free(g->found);
    free(g->found_table);
    free(g->kinds);
    free(g->work);
    net_done(&g->net);
    free(g);
    *pg = NULL;
}

sight_err grammar_status(const grammar *g)
{
    return g->err;
}

bool grammar_may_end(const grammar *g, int32_t at)
{
    return at >= 0 && g->places[at].may_end;
}

bool grammar_must_end(grammar *g, int32_t at)
{
    return at >= 0 && g->places[at].may_end && g->places[at].n == 0;
}

int32_t grammar_next(grammar *g, int32_t at, int32_t id)
{
    if (at < 0 || g->err || id < 0 || id >= tokenizer_size(g->vocabulary->tokens) ||
        tokenizer_is_added(g->vocabulary->tokens, id)) {
        return GRAMMAR_NOWHERE;
    }
    size_t n;
    const char *bytes = tokenizer_bytes(g->vocabulary->tokens, id, &n);
    if (n == 0) return GRAMMAR_NOWHERE;
    for (size_t i = 0; i < n && at >= 0; i++) at = grammar_read(g, at, (uint8_t)bytes[i]);
    return at;
}
