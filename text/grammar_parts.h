// text/grammar_parts.h - what the files of grammar share.
#ifndef SIGHT_TEXT_GRAMMAR_PARTS_H
#define SIGHT_TEXT_GRAMMAR_PARTS_H

#include "text/grammar.h"
#include "text/grammar_net.h"

// ---- the vocabulary as a trie (grammar_vocabulary.c) ----

// Bytes are of some kinds, so that a branch's bytes fit a word: digits, letters, what JSON marks with, ...
int grammar_byte_kind(int byte);

#define KIND_OTHERS 0  // bytes past ASCII
#define KIND_ODD    15 // of no byte: the token is not characters of UTF-8, the last of which may be cut off

typedef struct trie_node {
    int32_t skip;      // the node after its branch
    int32_t tokens;    // into order: those of the branch, the ones that end here first
    int32_t n_tokens;  // of the branch
    int32_t n_here;    // that end here
    uint16_t kinds;    // of the bytes below
    uint8_t byte;
    uint8_t longest;   // characters below, at most; 255: that many or more
} trie_node;

struct grammar_vocabulary {
    const tokenizer *tokens;
    int32_t size;    // ids of the model
    int32_t *ends, n_ends;
    _Atomic uint64_t masks; // made so far, by grammars of any thread
    uint16_t *kinds; // [size] of a token's bytes; all where these do not say enough
    uint8_t *characters; // [size] that a token begins; 255: that many or more
    int32_t *order;  // ids of tokens with text, by their bytes
    trie_node *nodes; // depth first; nodes[0] is the root
    int32_t n_nodes;
};

// ---- places (grammar_places.c) ----

typedef struct place_item {
    int32_t node;  // NET_BYTES
    int32_t stack; // 0: nothing is called
} place_item;

typedef struct place {
    place_item *items; // sorted
    int32_t n;
    bool may_end;
    uint16_t kinds;    // of bytes that are all read in the run of characters that goes on here
    int32_t left;      // how many characters that run may still have; 0: there is none
    int32_t alike;     // the place whose mask is the same; -1: not known yet
    int32_t *next;     // [classes]; NEXT_UNKNOWN: not known yet
} place;

#define NEXT_UNKNOWN (-2)

typedef struct stack_item {
    int32_t node, parent, depth;
} stack_item;

typedef struct kept_mask {
    int32_t place;
    int64_t used;
    uint64_t serial;
    uint8_t *allowed;
} kept_mask;

struct grammar {
    grammar_vocabulary *vocabulary;
    net net;
    uint16_t *kinds;       // [net.n_sets] of bytes that a set has all of
    uint8_t class_of[256]; // bytes that no set tells apart
    uint8_t byte_of[256];  // one of each class
    int32_t n_classes;
    place *places;
    int32_t n_places, places_room;
    int32_t *place_table; // hash -> place + 1
    int32_t place_slots;
    stack_item *stacks;
    int32_t n_stacks, stacks_room;
    int32_t *stack_table;
    int32_t stack_slots;
    place_item *found; // of the closure under way
    int32_t n_found, found_room;
    int32_t *found_table;
    int32_t found_slots;
    place_item *work;
    int32_t n_work, work_room;
    bool found_end;
    kept_mask masks[GRAMMAR_MASKS];
    int64_t clock;
    sight_err err;
};

// Takes over the net. place 0 is the beginning of its root.
sight_err grammar_create(grammar **out, grammar_vocabulary *v, net *n);
// Where a byte leads; GRAMMAR_NOWHERE.
int32_t grammar_read(grammar *g, int32_t place, int byte);
// The place that stands for it where only a token matters.
int32_t grammar_alike(grammar *g, int32_t place);

// ---- what JSON and regular expressions are made of ----

typedef enum text_coding {
    CODING_PLAIN, // the text itself
    CODING_JSON,  // what stands between the quotes of a JSON string
} text_coding;

// Rules that every JSON grammar needs, made when first asked for.
typedef struct form_rules {
    int32_t escape;  // of a character in a string; -1: not made yet, as what follows
    int32_t others;  // a character past ASCII
    int32_t string, value, object, array, number, integer;
} form_rules;

form_rules form_rules_none(void);
net_part form_space(net *n);  // nothing, a blank, or a new line and its indentation
net_part form_string(net *n, form_rules *r, int32_t min, int32_t max); // with its quotes
net_part form_number(net *n);
net_part form_integer(net *n);
// Whole numbers from low to high (INT64_MIN, INT64_MAX: no bound).
net_part form_integer_between(net *n, int64_t low, int64_t high);
// Numbers between whole bounds, which may be out themselves; no exponents.
net_part form_number_between(net *n, int64_t low, int64_t high, bool low_open, bool high_open);
net_part form_value(net *n, form_rules *r);
net_part form_object(net *n, form_rules *r);
// begin inner end, with white space inside.
net_part form_bracketed(net *n, const char *begin, net_part inner, const char *end);
net_part form_comma(net *n);
net_part form_member(net *n, net_part name, net_part value);
// min to max items by rule, with commas between; form_more: with one before each.
net_part form_items(net *n, int32_t rule, int32_t min, int32_t max);
net_part form_more(net *n, int32_t rule, int32_t min, int32_t max);
// Exactly that value, compact. SIGHT_E_MEMORY sticks in n.
net_part form_literal(net *n, const json_t *value);
byte_set form_ascii(void); // characters that stand for themselves in a string
// Rules for the rest of what may stand in a string: written as it is, and as escapes.
char_rules form_characters(net *n, form_rules *r);
int32_t form_others(net *n, form_rules *r); // a character past ASCII

// The texts that match (ECMA-262's syntax; anchors at the ends only): whole, or, `searched`, that have a part that does.
sight_err regex_build(net *n, form_rules *r, net_part *out, const char *regex, bool searched, text_coding coding,
                      const char *what);

#endif
