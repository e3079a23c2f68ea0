#include "text/template_lexer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "text/template_text.h"

typedef struct lexer {
    tarena *arena;
    ttokens *out;
    tstr src;
    size_t at;
    int line;
    bool line_start; // the last tag's end took the line's end with it
    const char *what;
    char open[64]; // brackets not closed yet, so that }} inside of {} does not end a tag
    int n_open;
} lexer;

static sight_err bad(const lexer *l, const char *problem)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s:%d: %s", l->what, l->line, problem);
}

static bool looking_at(const lexer *l, size_t at, const char *text)
{
    size_t n = strlen(text);
    return l->src.n - at >= n && memcmp(l->src.text + at, text, n) == 0;
}

static sight_err add(lexer *l, ttoken token)
{
    ttokens *t = l->out;
    if (t->n == t->capacity) {
        size_t capacity = t->capacity ? t->capacity * 2 : 256;
        ttoken *items = realloc(t->items, capacity * sizeof *items);
        if (!items) return sight_fail(SIGHT_E_MEMORY, "no memory for the tokens of %s", l->what);
        t->items = items;
        t->capacity = capacity;
    }
    token.line = l->line;
    t->items[t->n++] = token;
    return SIGHT_OK;
}

// Moves to position `to`, counting lines.
static void advance(lexer *l, size_t to)
{
    for (; l->at < to; l->at++) l->line += l->src.text[l->at] == '\n';
}

static void skip_space(lexer *l)
{
    tstr rest = { l->src.text + l->at, l->src.n - l->at };
    tstr kept = text_strip_space(rest, true, false);
    advance(l, l->at + (rest.n - kept.n));
}

// The text before a tag. sign is the character after the tag's opening, '-' or '+' or another.
static tstr before_tag(const lexer *l, size_t begin, size_t end, char sign, bool strips_line)
{
    tstr text = { l->src.text + begin, end - begin };
    if (sign == '-') return text_strip_space(text, false, true);
    if (sign == '+' || !strips_line) return text;
    size_t line = text.n;
    while (line > 0 && text.text[line - 1] != '\n') line--;
    if (line == 0 && !l->line_start) return text;
    tstr last = { text.text + line, text.n - line };
    if (text_strip_space(last, true, false).n == 0) text.n = line;
    return text;
}

// After a block's or comment's closing: the newline that follows belongs to the tag.
static void trim_newline(lexer *l)
{
    l->line_start = false;
    if (l->at < l->src.n && l->src.text[l->at] == '\n') {
        advance(l, l->at + 1);
        l->line_start = true;
    }
}

// After "-%}", "-}}" or "-#}".
static void trim_all(lexer *l)
{
    skip_space(l);
    l->line_start = l->at > 0 && l->src.text[l->at - 1] == '\n';
}

static sight_err lex_comment(lexer *l)
{
    size_t end = l->at;
    while (end < l->src.n && !looking_at(l, end, "#}")) end++;
    if (end == l->src.n) return bad(l, "a comment is not closed");
    char sign = end > l->at ? l->src.text[end - 1] : ' ';
    advance(l, end + 2);
    if (sign == '-') trim_all(l);
    else if (sign == '+') l->line_start = false;
    else trim_newline(l);
    return SIGHT_OK;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

// \xHH, \uXXXX, \UXXXXXXXX: `digits` of them from p on. Returns false when they are not there.
static bool hex_escape(buf *b, const char *p, const char *end, int digits)
{
    unsigned c = 0;
    if (end - p < digits) return false;
    for (int i = 0; i < digits; i++) {
        int d = hex_digit(p[i]);
        if (d < 0 || c > 0xffffff) return false;
        c = c * 16 + (unsigned)d;
    }
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
    buf_add_utf8(b, c);
    return true;
}

// One escape at p, behind its backslash; returns how many bytes it took, 0 when it is malformed.
static size_t unescape(buf *b, const char *p, const char *end)
{
    static const char from[] = "ntrabfv\\'\"", to[] = "\n\t\r\a\b\f\v\\'\"";
    const char *simple = memchr(from, *p, sizeof from - 1);
    if (simple) {
        buf_putc(b, to[simple - from]);
        return 1;
    }
    if (*p == '\n') return 1; // a continued line
    if (*p >= '0' && *p <= '7') {
        unsigned c = 0;
        size_t n = 0;
        for (; n < 3 && p + n < end && p[n] >= '0' && p[n] <= '7'; n++)
            c = c * 8 + (unsigned)(p[n] - '0');
        buf_add_utf8(b, c);
        return n;
    }
    int digits = *p == 'x' ? 2 : *p == 'u' ? 4 : *p == 'U' ? 8 : 0;
    if (digits) return hex_escape(b, p + 1, end, digits) ? (size_t)digits + 1 : 0;
    if (*p == 'N') return 0; // names of characters
    buf_putc(b, '\\');       // not an escape: both stay, as in Python
    buf_putc(b, *p);
    return 1;
}

static sight_err keep_string(lexer *l, buf *b)
{
    char *text = tarena_alloc(l->arena, b->size + 1);
    if (!text || buf_failed(b)) {
        buf_done(b);
        return tarena_failure(l->arena, 1);
    }
    memcpy(text, buf_text(b), b->size);
    tstr s = { text, b->size };
    buf_done(b);
    return add(l, (ttoken){ .kind = TK_STRING, .text = s });
}

static sight_err lex_string(lexer *l)
{
    const char *p = l->src.text + l->at + 1, *end = l->src.text + l->src.n;
    char quote = p[-1];
    buf b;
    buf_init(&b);
    while (p < end && *p != quote) {
        if (*p != '\\') {
            buf_putc(&b, *p++);
            continue;
        }
        size_t n = ++p < end ? unescape(&b, p, end) : 0;
        if (!n) {
            buf_done(&b);
            return bad(l, "a string has an escape that cannot be read");
        }
        p += n;
    }
    if (p >= end) {
        buf_done(&b);
        return bad(l, "a string is not closed");
    }
    sight_err err = keep_string(l, &b);
    if (!err) advance(l, (size_t)(p + 1 - l->src.text));
    return err;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_name_start(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

// The digits of a number without their underscores; returns how long it is in the source.
static size_t number_text(const lexer *l, char *text, size_t size, bool *is_float)
{
    const char *p = l->src.text + l->at;
    size_t left = l->src.n - l->at, i = 0, n = 0;
    bool index = l->at > 0 && p[-1] == '.'; // x.1.0 takes an item of an item
    *is_float = false;
    for (; i < left && n + 1 < size; i++) {
        char next = i + 1 < left ? p[i + 1] : ' ';
        if (p[i] == '_' && is_digit(next)) continue;
        bool point = p[i] == '.' && !*is_float && !index && is_digit(next);
        bool signed_next = (next == '+' || next == '-') && i + 2 < left && is_digit(p[i + 2]);
        bool exponent = (p[i] == 'e' || p[i] == 'E') && !index && (is_digit(next) || signed_next);
        bool sign = (p[i] == '+' || p[i] == '-') && i > 0 && (p[i - 1] == 'e' || p[i - 1] == 'E');
        if (!is_digit(p[i]) && !point && !exponent && !sign) break;
        *is_float |= point || exponent;
        text[n++] = p[i];
    }
    text[n] = '\0';
    return i;
}

static sight_err lex_number(lexer *l)
{
    char text[64];
    bool is_float;
    size_t n = number_text(l, text, sizeof text, &is_float);
    ttoken t = { .kind = is_float ? TK_FLOAT : TK_INT };
    char *end;
    errno = 0;
    if (is_float) t.f = strtod(text, &end);
    else t.i = strtoll(text, &end, 10);
    bool zeros = !is_float && text[0] == '0' && t.i != 0; // Python has no 012
    if (*end || (errno && !is_float) || zeros || n >= sizeof text - 1)
        return bad(l, "a number that cannot be read");
    if (n < l->src.n - l->at && is_name_start(l->src.text[l->at + n]))
        return bad(l, "a number that cannot be read");
    TRY(add(l, t));
    advance(l, l->at + n);
    return SIGHT_OK;
}

static sight_err lex_operator(lexer *l)
{
    static const char *const operators[] = { "**", "//", "==", "!=", "<=", ">=", "+", "-", "*",
                                             "/",  "%",  "~",  "<",  ">",  "=",  ".", ",", ":",
                                             "|",  "(",  ")",  "[",  "]",  "{",  "}" };
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        const char *op = operators[i];
        if (!looking_at(l, l->at, op)) continue;
        if (strchr("([{", *op)) {
            if (l->n_open == (int)sizeof l->open) return bad(l, "brackets nest too deep");
            l->open[l->n_open++] = *op == '(' ? ')' : *op == '[' ? ']' : '}';
        } else if (strchr(")]}", *op)) {
            if (!l->n_open || l->open[l->n_open - 1] != *op)
                return bad(l, "a bracket closes that was not opened");
            l->n_open--;
        }
        TRY(add(l, (ttoken){ .kind = TK_OPERATOR, .text = { op, strlen(op) } }));
        advance(l, l->at + strlen(op));
        return SIGHT_OK;
    }
    return bad(l, "a character that no expression has");
}

static sight_err lex_name(lexer *l)
{
    size_t end = l->at;
    while (end < l->src.n && (is_name_start(l->src.text[end]) || is_digit(l->src.text[end]))) end++;
    TRY(add(l, (ttoken){ .kind = TK_NAME, .text = { l->src.text + l->at, end - l->at } }));
    l->at = end;
    return SIGHT_OK;
}

// Whether the tag ends here; *sign is the '-' or '+' before its closing, or ' '.
static bool at_close(const lexer *l, const char *close, bool plus_allowed, char *sign)
{
    *sign = ' ';
    if (l->n_open || l->at >= l->src.n) return false;
    if (looking_at(l, l->at, close)) return true;
    *sign = l->src.text[l->at];
    return (*sign == '-' || (*sign == '+' && plus_allowed)) && looking_at(l, l->at + 1, close);
}

// The inside of {{ }} or {% %}, to its end.
static sight_err lex_tag(lexer *l, bool block)
{
    const char *close = block ? "%}" : "}}";
    l->n_open = 0;
    for (;;) {
        char sign;
        skip_space(l);
        if (l->at >= l->src.n) return bad(l, block ? "{% is not closed" : "{{ is not closed");
        if (at_close(l, close, block, &sign)) {
            TRY(add(l, (ttoken){ .kind = block ? TK_BLOCK_END : TK_OUTPUT_END }));
            advance(l, l->at + 2 + (sign != ' '));
            if (sign == '-') trim_all(l);
            else if (sign == '+' || !block) l->line_start = false;
            else trim_newline(l);
            return SIGHT_OK;
        }
        char c = l->src.text[l->at];
        if (c == '"' || c == '\'') TRY(lex_string(l));
        else if (is_digit(c)) TRY(lex_number(l));
        else if (is_name_start(c)) TRY(lex_name(l));
        else TRY(lex_operator(l));
    }
}

// Where the next tag opens, or the end.
static size_t next_tag(const lexer *l)
{
    for (size_t i = l->at; i + 1 < l->src.n; i++) {
        char c = l->src.text[i + 1];
        if (l->src.text[i] == '{' && (c == '{' || c == '%' || c == '#')) return i;
    }
    return l->src.n;
}

static sight_err add_text(lexer *l, tstr text)
{
    return text.n ? add(l, (ttoken){ .kind = TK_TEXT, .text = text }) : SIGHT_OK;
}

static sight_err lex_next(lexer *l)
{
    size_t tag = next_tag(l);
    bool found = tag < l->src.n;
    char kind = found ? l->src.text[tag + 1] : ' ';
    char sign = tag + 2 < l->src.n ? l->src.text[tag + 2] : ' ';
    tstr text = { l->src.text + l->at, tag - l->at };
    if (found) text = before_tag(l, l->at, tag, sign, kind != '{');
    TRY(add_text(l, text));
    advance(l, tag);
    if (!found) return SIGHT_OK;
    advance(l, tag + 2 + (sign == '-' || sign == '+'));
    if (kind == '#') return lex_comment(l);
    TRY(add(l, (ttoken){ .kind = kind == '%' ? TK_BLOCK_BEGIN : TK_OUTPUT_BEGIN }));
    return lex_tag(l, kind == '%');
}

sight_err template_lex(ttokens *out, tarena *a, tstr source, const char *what)
{
    lexer l = {.arena = a, .out = out, .src = source, .line = 1, .line_start = true, .what = what};
    while (l.at < l.src.n) TRY(lex_next(&l));
    return add(&l, (ttoken){ .kind = TK_END });
}
