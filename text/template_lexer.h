// text/template_lexer.h - a chat template's source as tokens.
//
// Whitespace is taken off as Jinja does with trim_blocks and lstrip_blocks on, which is how chat
// templates are run. Internal to text/template*.
#ifndef SIGHT_TEXT_TEMPLATE_LEXER_H
#define SIGHT_TEXT_TEMPLATE_LEXER_H

#include "text/template_value.h"

typedef enum ttoken_kind {
    TK_END,
    TK_TEXT,         // outside of tags
    TK_OUTPUT_BEGIN, // {{
    TK_OUTPUT_END,
    TK_BLOCK_BEGIN, // {%
    TK_BLOCK_END,
    TK_NAME,
    TK_STRING, // escapes resolved
    TK_INT,
    TK_FLOAT,
    TK_OPERATOR // text is the operator itself
} ttoken_kind;

typedef struct ttoken {
    ttoken_kind kind;
    int line;
    tstr text;
    int64_t i;
    double f;
} ttoken;

typedef struct ttokens {
    ttoken *items; // ended by TK_END
    size_t n, capacity;
} ttokens;

// source must outlive the tokens. The tokens themselves are malloced (free items); strings are in
// the arena. SIGHT_E_UNSUPPORTED with "what:line: ...", SIGHT_E_LIMIT, SIGHT_E_MEMORY.
sight_err template_lex(ttokens *out, tarena *a, tstr source, const char *what);

#endif
