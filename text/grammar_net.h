// text/grammar_net.h - a grammar as a recursive transition network over bytes.
//
// Rules are Thompson automata whose nodes may call other rules (Woods, "Transition network grammars", 1970), so that
// what is regular stays cheap and recursion is possible. Parts are built from the inside out and consumed
// by whatever takes them. Errors stick: after the first one every builder gives an empty part, and
// net_status tells it.
//
// Threads: a net that is built is plain data.
#ifndef SIGHT_TEXT_GRAMMAR_NET_H
#define SIGHT_TEXT_GRAMMAR_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define NET_MAX_NODES 131072
#define NET_MANY      INT32_MAX // no bound on a repetition

typedef struct byte_set {
    uint64_t bits[4];
} byte_set;

static inline void byte_set_add(byte_set *s, int from, int to) // both included
{
    for (int b = from; b <= to; b++) s->bits[b / 64] |= UINT64_C(1) << b % 64;
}

static inline bool byte_set_has(const byte_set *s, int b)
{
    return s->bits[b / 64] >> b % 64 & 1;
}

static inline bool byte_set_empty(const byte_set *s)
{
    return !(s->bits[0] | s->bits[1] | s->bits[2] | s->bits[3]);
}

typedef enum net_kind {
    NET_BYTES, // reads a byte of the set, goes on at next
    NET_SPLIT, // at next and at other
    NET_SKIP,  // at next
    NET_CALL,  // at the rule, after its end at next
    NET_END,   // of a rule
} net_kind;

typedef struct net_node {
    uint8_t kind;   // net_kind
    int32_t next;
    int32_t other;  // SPLIT: the other way; CALL: the rule; BYTES: the set
    // BYTES that count characters (net_chars): how many may come from here on; -1: it is none.
    int32_t left;
    bool others; // of those: characters past ASCII come here too
    // What stands for this node when only the next LONGEST characters matter.
    int32_t alike;
} net_node;

typedef struct net {
    net_node *nodes;
    int32_t n_nodes, nodes_room;
    byte_set *sets;
    int32_t n_sets, sets_room;
    int32_t *rules; // first nodes; -1: not set yet
    int32_t n_rules, rules_room;
    int32_t root;   // a rule
    sight_err err;
} net;

// From first to last, a SKIP that leads nowhere yet. Its nodes are those since it was begun.
typedef struct net_part {
    int32_t first, last;
} net_part;

void net_done(net *n); // accepts a zeroed one, which is an empty net
sight_err net_status(const net *n);

// Longer tokens are told apart by nothing that net_chars counts.
#define NET_LONGEST 64

net_part net_nothing(net *n); // the empty text
net_part net_never(net *n);   // no text at all
net_part net_bytes(net *n, const byte_set *set);
net_part net_text(net *n, const char *text, size_t size);
net_part net_then(net *n, net_part a, net_part b);
net_part net_either(net *n, net_part a, net_part b);
net_part net_optional(net *n, net_part a);
// a, between min and max times. a must be what was built last; it is copied.
net_part net_repeat(net *n, net_part a, int32_t from, int32_t min, int32_t max);
int32_t net_mark(const net *n); // for `from`: where a's nodes begin
// min to max characters: those of ASCII in `set`; by rule `others` any past ASCII, by rule `escape` what is written as
// several bytes and counts as one (-1: no such).
typedef struct char_rules {
    int32_t others, escape;
} char_rules;

net_part net_chars(net *n, const byte_set *set, char_rules rules, int32_t min, int32_t max);

int32_t net_rule(net *n); // a new one
void net_define(net *n, int32_t rule, net_part a);
net_part net_call(net *n, int32_t rule);

#endif
