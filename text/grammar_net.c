#include "text/grammar_net.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static const net_part no_part = {0, 0};

void net_done(net *n)
{
    free(n->nodes);
    free(n->sets);
    free(n->rules);
    *n = (net){0};
}

sight_err net_status(const net *n)
{
    return n->err;
}

// Room for one more of size bytes; false: n->err says why not.
static bool grow(net *n, void **items, int32_t count, int32_t *room, size_t size)
{
    if (n->err) return false;
    if (count < *room) return true;
    const int32_t more = *room ? 2 * *room : 64;
    void *grown = realloc(*items, (size_t)more * size);
    if (!grown) {
        n->err = sight_fail(SIGHT_E_MEMORY, "no memory for a grammar");
        return false;
    }
    *items = grown;
    *room = more;
    return true;
}

// A node; 0 after an error.
static int32_t add_node(net *n, net_kind kind, int32_t next, int32_t other)
{
    if (n->n_nodes >= NET_MAX_NODES && !n->err) {
        n->err = sight_fail(SIGHT_E_LIMIT, "the grammar needs more than %d states", NET_MAX_NODES);
    }
    if (!grow(n, (void **)&n->nodes, n->n_nodes, &n->nodes_room, sizeof *n->nodes)) return 0;
    n->nodes[n->n_nodes] = (net_node){.kind = (uint8_t)kind, .next = next, .other = other, .left = -1,
                                      .alike = n->n_nodes};
    return n->n_nodes++;
}

static int32_t add_set(net *n, const byte_set *set)
{
    for (int32_t i = n->n_sets - 1; i >= 0 && i > n->n_sets - 16; i--) {
        if (!memcmp(&n->sets[i], set, sizeof *set)) return i;
    }
    if (!grow(n, (void **)&n->sets, n->n_sets, &n->sets_room, sizeof *n->sets)) return 0;
    n->sets[n->n_sets] = *set;
    return n->n_sets++;
}

static void link(net *n, int32_t last, int32_t to)
{
    if (!n->err) n->nodes[last].next = to;
}

int32_t net_mark(const net *n)
{
    return n->n_nodes;
}

// ---- parts ----

net_part net_nothing(net *n)
{
    const int32_t at = add_node(n, NET_SKIP, -1, 0);
    return n->err ? no_part : (net_part){at, at};
}

net_part net_never(net *n)
{
    const byte_set none = {{0}};
    return net_bytes(n, &none);
}

net_part net_bytes(net *n, const byte_set *set)
{
    const int32_t first = add_node(n, NET_BYTES, -1, add_set(n, set));
    const int32_t last = add_node(n, NET_SKIP, -1, 0);
    link(n, first, last);
    return n->err ? no_part : (net_part){first, last};
}

net_part net_text(net *n, const char *text, size_t size)
{
    net_part all = net_nothing(n);
    for (size_t i = 0; i < size; i++) {
        byte_set one = {{0}};
        byte_set_add(&one, (uint8_t)text[i], (uint8_t)text[i]);
        all = net_then(n, all, net_bytes(n, &one));
    }
    return all;
}

net_part net_then(net *n, net_part a, net_part b)
{
    link(n, a.last, b.first);
    return n->err ? no_part : (net_part){a.first, b.last};
}

net_part net_either(net *n, net_part a, net_part b)
{
    const int32_t first = add_node(n, NET_SPLIT, a.first, b.first);
    const int32_t last = add_node(n, NET_SKIP, -1, 0);
    link(n, a.last, last);
    link(n, b.last, last);
    return n->err ? no_part : (net_part){first, last};
}

net_part net_optional(net *n, net_part a)
{
    return net_either(n, a, net_nothing(n));
}

static net_part star(net *n, net_part a)
{
    const int32_t last = add_node(n, NET_SKIP, -1, 0);
    const int32_t first = add_node(n, NET_SPLIT, a.first, last);
    link(n, a.last, first);
    return n->err ? no_part : (net_part){first, last};
}

// The nodes from .. to - 1 once more; a is among them.
static net_part copy(net *n, net_part a, int32_t from, int32_t to)
{
    const int32_t by = n->n_nodes - from;
    for (int32_t i = from; i < to && !n->err; i++) {
        const net_node old = n->nodes[i];
        const int32_t at = add_node(n, (net_kind)old.kind, old.next < 0 ? -1 : old.next + by,
                                    old.kind == NET_SPLIT ? old.other + by : old.other);
        if (n->err) break;
        n->nodes[at].left = old.left;
        n->nodes[at].others = old.others;
        n->nodes[at].alike = old.alike + by;
    }
    return n->err ? no_part : (net_part){a.first + by, a.last + by};
}

net_part net_repeat(net *n, net_part a, int32_t from, int32_t min, int32_t max)
{
    const int32_t to = n->n_nodes;
    net_part all = net_nothing(n), one = a;
    if (max == 0) return all;
    bool used = false; // the original, which the copies are made of: it goes last
    for (int32_t i = 0; i < min && !n->err; i++) all = net_then(n, all, copy(n, a, from, to));
    if (max == NET_MANY) {
        all = net_then(n, all, star(n, one));
        used = true;
    }
    // The optional ones are inside each other: a (a (a)?)?
    net_part rest = net_nothing(n);
    for (int32_t i = min; i < max && max != NET_MANY && !n->err; i++) {
        one = copy(n, a, from, to);
        rest = net_optional(n, net_then(n, one, rest));
    }
    if (!used) all = net_then(n, all, rest);
    return n->err ? no_part : all;
}

// ---- characters that are counted ----

// A place in a run of characters stands for another one if so many more, and so few, may follow there too,
// as far as a token reaches.
static bool places_alike(int32_t i, int32_t j, int32_t min, int32_t max)
{
    const int32_t need_i = min > i ? min - i : 0, need_j = min > j ? min - j : 0;
    const int32_t room_i = max == NET_MANY ? NET_MANY : max - i;
    const int32_t room_j = max == NET_MANY ? NET_MANY : max - j;
    const bool need = need_i == need_j || (need_i > NET_LONGEST && need_j > NET_LONGEST);
    return need && (room_i == room_j || (room_i > NET_LONGEST && room_j > NET_LONGEST));
}

// The nodes of a place: a character, which leads to `next`, or the end. Returns its first.
static int32_t add_place(net *n, const byte_set *set, char_rules rules, int32_t next, int32_t last,
                         bool may_end, int32_t left)
{
    int32_t at = may_end ? last : -1;
    if (left == 0) return at;
    const int32_t read = add_node(n, NET_BYTES, next, add_set(n, set));
    if (!n->err) {
        n->nodes[read].left = left;
        n->nodes[read].others = rules.others >= 0;
    }
    at = at < 0 ? read : add_node(n, NET_SPLIT, read, at);
    if (rules.others >= 0) at = add_node(n, NET_SPLIT, add_node(n, NET_CALL, next, rules.others), at);
    if (rules.escape >= 0) at = add_node(n, NET_SPLIT, add_node(n, NET_CALL, next, rules.escape), at);
    return at;
}

net_part net_chars(net *n, const byte_set *set, char_rules rules, int32_t min, int32_t max)
{
    assert(min >= 0 && max >= min);
    // Past min a run without an end has one place, which leads to itself.
    const int32_t places = max == NET_MANY ? min + 1 : max + 1;
    const int32_t last = add_node(n, NET_SKIP, -1, 0);
    int32_t next = -1, from = -1, from_next = -1; // of the place after
    for (int32_t i = places - 1; i >= 0 && !n->err; i--) {
        const int32_t begins = n->n_nodes;
        const bool turns = i == places - 1 && max == NET_MANY;
        const int32_t hook = turns ? add_node(n, NET_SKIP, -1, 0) : next;
        const int32_t left = max == NET_MANY ? NET_MANY : max - i;
        const int32_t at = add_place(n, set, rules, hook, last, i >= min, left);
        if (turns) link(n, hook, at);
        const bool alike = from_next >= 0 && n->n_nodes - begins == from_next - from &&
                           places_alike(i, i + 1, min, max);
        for (int32_t k = begins; k < n->n_nodes && alike; k++) {
            n->nodes[k].alike = n->nodes[from + k - begins].alike;
        }
        from = begins;
        from_next = n->n_nodes;
        next = at;
    }
    return n->err ? no_part : (net_part){next, last};
}

// ---- rules ----

int32_t net_rule(net *n)
{
    if (!grow(n, (void **)&n->rules, n->n_rules, &n->rules_room, sizeof *n->rules)) return 0;
    n->rules[n->n_rules] = -1;
    return n->n_rules++;
}

void net_define(net *n, int32_t rule, net_part a)
{
    const int32_t end = add_node(n, NET_END, -1, 0);
    link(n, a.last, end);
    if (!n->err) n->rules[rule] = a.first;
}

net_part net_call(net *n, int32_t rule)
{
    const int32_t first = add_node(n, NET_CALL, -1, rule);
    const int32_t last = add_node(n, NET_SKIP, -1, 0);
    link(n, first, last);
    return n->err ? no_part : (net_part){first, last};
}
