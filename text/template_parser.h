// text/template_parser.h - tokens to tree; the two halves of the parser share this.
//
// Internal to text/template*.
#ifndef SIGHT_TEXT_TEMPLATE_PARSER_H
#define SIGHT_TEXT_TEMPLATE_PARSER_H

#include "text/template_ast.h"
#include "text/template_lexer.h"

typedef struct tname {
    tstr text;
    bool bound;  // something in the template gives it a value
    int called;  // the line of its first call, 0: never
} tname;

typedef struct tparser {
    tarena *arena;
    const ttoken *at;
    const char *what;
    tname *names; // malloced while parsing
    size_t n_names, names_capacity;
    int depth; // of nested expressions and statements
    int loops; // that a break here would leave
} tparser;

#define TPARSER_MAX_DEPTH 150

// A tree with its names, from tokens. SIGHT_E_UNSUPPORTED, SIGHT_E_MEMORY, SIGHT_E_LIMIT.
sight_err template_parse(struct template *out, const ttokens *tokens);

// ---- between the halves ----

// Fails with "what:line: problem" at the current token.
sight_err template_refuse(const tparser *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
sight_err template_node(tparser *p, tnode **out, tnode_kind kind);
// The name's index, added when new.
sight_err template_intern(tparser *p, int *index, tstr text);
sight_err template_enter(tparser *p); // one level deeper, at most TPARSER_MAX_DEPTH
void template_leave(tparser *p);

bool template_at_operator(const tparser *p, const char *op);
bool template_at_name(const tparser *p, const char *name);
bool template_take_operator(tparser *p, const char *op);
bool template_take_name(tparser *p, const char *name);
sight_err template_expect_operator(tparser *p, const char *op);

typedef struct tlist_builder {
    const tnode *first;
    tnode *last;
} tlist_builder;

void template_append(tlist_builder *l, tnode *node);

sight_err template_parse_expression(tparser *p, const tnode **out);
// Also a, b without brackets. no_if: stops before an inline if (the for statement has its own).
sight_err template_parse_tuple(tparser *p, const tnode **out, bool no_if);
// (a, b, c=d) behind a call's or filter's name; the opening bracket is next.
sight_err template_parse_arguments(tparser *p, const tnode **out);
// "| filter(...) | filter" around `inner`; none is fine.
sight_err template_parse_filters(tparser *p, const tnode **out, const tnode *inner);
// The first filter's name is next, without its bar.
sight_err template_parse_filter(tparser *p, const tnode **out, const tnode *inner);

#endif
