// text/template_ast.h - a compiled template: a tree of nodes that never changes.
//
// Internal to text/template*.
#ifndef SIGHT_TEXT_TEMPLATE_AST_H
#define SIGHT_TEXT_TEMPLATE_AST_H

#include "text/template_value.h"

typedef enum tnode_kind {
    // statements; lists are linked by next
    N_TEXT,       // text
    N_OUTPUT,     // a: the expression
    N_IF,         // a: condition, body, other: an elif's N_IF, or statements when has_else
    N_FOR,        // a: what is gone through, b: target, c: filter or NULL, body, other
    N_SET,        // a: target, b: value
    N_SET_BLOCK,  // a: target, b: filters around E_BODY or NULL, body
    N_MACRO,      // name, list: parameters, body
    N_CALL_BLOCK, // a: the E_CALL, b: an N_MACRO that is its caller()
    N_WITH,       // list: N_SETs, body; a scope of its own
    N_FILTER,     // b: filters around E_BODY, body
    N_BREAK,
    N_CONTINUE,
    // targets
    N_NAME_TARGET, // name
    N_TUPLE_TARGET, // list
    N_FIELD_TARGET, // name of the namespace, text: the field
    N_PARAMETER,    // name, a: default or NULL
    // expressions
    E_VALUE,   // value
    E_BODY,    // the text that a block set or filter block has rendered
    E_NAME,    // name
    E_LIST,    // list
    E_TUPLE,   // list
    E_DICT,    // list: E_PAIRs
    E_PAIR,    // a: key, b: value
    E_NOT,     // a
    E_NEGATE,  // a
    E_PLUS,    // a
    E_AND,     // a, b
    E_OR,      // a, b
    E_BINARY,  // a, op, b
    E_COMPARE, // a, list: E_OPERANDs
    E_OPERAND, // op, a
    E_CONCAT,  // list
    E_IF,      // a: condition, b, c or NULL
    E_FILTER,  // a, filter, list: arguments
    E_TEST,    // a, test, list: arguments, negated
    E_FIELD,   // a, text: a.text
    E_ITEM,    // a, b: a[b]
    E_SLICE,   // a, list: exactly three, absent ones E_VALUE none
    E_CALL,    // a, list: arguments
    E_ARGUMENT // a, text: the keyword or empty
} tnode_kind;

typedef enum toperator {
    OP_ADD,
    OP_SUBTRACT,
    OP_MULTIPLY,
    OP_DIVIDE,
    OP_FLOOR_DIVIDE,
    OP_MODULO,
    OP_POWER,
    OP_EQUAL,
    OP_NOT_EQUAL,
    OP_LESS,
    OP_LESS_EQUAL,
    OP_GREATER,
    OP_GREATER_EQUAL,
    OP_IN,
    OP_NOT_IN
} toperator;

typedef struct tnode tnode;

struct tnode {
    uint8_t kind; // tnode_kind
    uint8_t op;   // toperator
    bool negated, has_else;
    int line;
    int name; // index into the template's names
    tstr text;
    tvalue value;
    const tnode *a, *b, *c;
    const tnode *list, *body, *other;
    const tnode *next;
    union {
        const struct tfilter *filter;
        const struct ttest *test;
    };
};

struct template {
    tarena arena; // everything below, and the source
    char *what;
    const tnode *body;
    const tstr *names;
    size_t n_names;
};

#endif
