// Regular expressions, in ECMA-262's syntax without look-around, back references, lazy quantifiers' meaning and flags.
//
// A text is read character by character. Within a JSON string a character may need an escape: the class then has the
// escapes that form_literal would write, and no others. Classes of characters past ASCII are exact where they are given by
// characters and ranges, and take any such character where a class is complemented.
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "text/grammar_parts.h"

#define MOST_REPEATS 4096
#define MOST_DEPTH   64
#define MOST_RANGES  64
#define LAST_CHARACTER 0x10ffff

typedef struct range {
    uint32_t from, to;
} range;

// A class of characters: ASCII by bits, ranges past it.
typedef struct char_class {
    byte_set ascii;
    range ranges[MOST_RANGES]; // past ASCII
    int n;
    bool others; // all characters past ASCII
} char_class;

typedef struct regex {
    net *n;
    form_rules *rules;
    text_coding coding;
    const char *what, *text, *at;
    int depth;
    bool open_start, open_end; // of the alternative under way: it need not begin, or end, where the text does
    sight_err err;
} regex;

static net_part fail(regex *r, sight_err code, const char *why)
{
    if (!r->err) {
        r->err = sight_fail(code, "%s, at character %d: %s", r->what, (int)(r->at - r->text) + 1, why);
    }
    return net_never(r->n);
}

// ---- characters ----

static uint32_t take_character(regex *r)
{
    const uint8_t *s = (const uint8_t *)r->at;
    int more = s[0] < 0x80 ? 0 : s[0] < 0xe0 ? 1 : s[0] < 0xf0 ? 2 : 3;
    uint32_t c = more == 0 ? s[0] : s[0] & (0x3f >> more);
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80) { // not UTF-8: jansson lets none through
            fail(r, SIGHT_E_ARGUMENT, "the pattern is not UTF-8");
            return 0;
        }
        c = c << 6 | (s[i] & 0x3f);
    }
    r->at += more + 1;
    return c;
}

static void add_range(regex *r, char_class *c, uint32_t from, uint32_t to)
{
    if (from < 0x80) byte_set_add(&c->ascii, (int)from, (int)(to < 0x7f ? to : 0x7f));
    if (to < 0x80) return;
    if (c->n == MOST_RANGES) {
        fail(r, SIGHT_E_LIMIT, "a class of more than 64 ranges past ASCII");
        return;
    }
    c->ranges[c->n++] = (range){from < 0x80 ? 0x80 : from, to};
}

static void complement(regex *r, char_class *c)
{
    if (c->n > 0 && !c->others) {
        fail(r, SIGHT_E_UNSUPPORTED, "a complemented class with characters past ASCII");
    }
    for (int i = 0; i < 4; i++) c->ascii.bits[i] = ~c->ascii.bits[i];
    c->ascii.bits[2] = c->ascii.bits[3] = 0;
    c->others = !c->others;
}

static void add_class(regex *r, char_class *to, const char_class *c)
{
    for (int i = 0; i < 4; i++) to->ascii.bits[i] |= c->ascii.bits[i];
    to->others |= c->others;
    for (int i = 0; i < c->n; i++) add_range(r, to, c->ranges[i].from, c->ranges[i].to);
}

// \d \w \s and their complements. false: none of these.
static bool named_class(regex *r, char_class *out, char letter)
{
    *out = (char_class){0};
    switch (tolower((unsigned char)letter)) {
    case 'd': add_range(r, out, '0', '9'); break;
    case 'w':
        add_range(r, out, '0', '9');
        add_range(r, out, 'a', 'z');
        add_range(r, out, 'A', 'Z');
        add_range(r, out, '_', '_');
        break;
    case 's':
        add_range(r, out, '\t', '\r');
        add_range(r, out, ' ', ' ');
        break;
    default: return false;
    }
    if (isupper((unsigned char)letter)) complement(r, out);
    return true;
}

static uint32_t take_hex(regex *r, int digits)
{
    uint32_t x = 0;
    for (int i = 0; i < digits; i++, r->at++) {
        const char c = *r->at;
        if (!isxdigit((unsigned char)c)) {
            fail(r, SIGHT_E_ARGUMENT, "hexadecimal digits are missing");
            return 0;
        }
        x = x * 16 + (uint32_t)(isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10);
    }
    return x;
}

// What stands behind a backslash, of one character.
static uint32_t take_escaped(regex *r)
{
    const char c = *r->at;
    if (c && strchr("^$\\.*+?()[]{}|/-\"'#&~%,:;<>=!@`_ ", c)) return take_character(r);
    r->at += c != 0;
    switch (c) {
    case 'n': return '\n';
    case 'r': return '\r';
    case 't': return '\t';
    case 'f': return '\f';
    case 'v': return '\v';
    case '0': return 0;
    case 'x': return take_hex(r, 2);
    case 'u': return take_hex(r, 4);
    case 0: fail(r, SIGHT_E_ARGUMENT, "it ends with a backslash"); return 0;
    default: r->at--; fail(r, SIGHT_E_UNSUPPORTED, "this escape is not known here"); return 0;
    }
}

// ---- a class as a part ----

// Bytes of UTF-8 for characters from .. to of one length, the lead byte first.
static net_part utf8_same(net *n, const uint8_t *a, const uint8_t *b, int left)
{
    byte_set s = {{0}};
    if (left == 1) {
        byte_set_add(&s, a[0], b[0]);
        return net_bytes(n, &s);
    }
    if (a[0] == b[0]) {
        byte_set_add(&s, a[0], a[0]);
        const net_part head = net_bytes(n, &s);
        return net_then(n, head, utf8_same(n, a + 1, b + 1, left - 1));
    }
    static const uint8_t low[3] = {0x80, 0x80, 0x80}, high[3] = {0xbf, 0xbf, 0xbf};
    byte_set_add(&s, a[0], a[0]);
    net_part head = net_bytes(n, &s);
    net_part all = net_then(n, head, utf8_same(n, a + 1, high, left - 1));
    s = (byte_set){{0}};
    byte_set_add(&s, b[0], b[0]);
    head = net_bytes(n, &s);
    all = net_either(n, all, net_then(n, head, utf8_same(n, low, b + 1, left - 1)));
    if (a[0] + 1 >= b[0]) return all;
    s = (byte_set){{0}};
    byte_set_add(&s, a[0] + 1, b[0] - 1);
    head = net_bytes(n, &s);
    return net_either(n, all, net_then(n, head, utf8_same(n, low, high, left - 1)));
}

static int utf8_put(uint8_t *to, uint32_t c)
{
    const int n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const uint8_t lead[5] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (int i = n - 1; i > 0; i--, c >>= 6) to[i] = (uint8_t)(0x80 | (c & 0x3f));
    to[0] = (uint8_t)(lead[n] | c);
    return n;
}

static net_part utf8_range(net *n, range c)
{
    static const uint32_t ends[] = {0x7f, 0x7ff, 0xffff, LAST_CHARACTER};
    net_part all = net_never(n);
    for (int i = 0; i < 4 && c.from <= c.to; i++) {
        if (c.from > ends[i]) continue;
        uint8_t a[4], b[4];
        const int length = utf8_put(a, c.from);
        utf8_put(b, c.to < ends[i] ? c.to : ends[i]);
        all = net_either(n, all, utf8_same(n, a, b, length));
        c.from = ends[i] + 1;
    }
    return all;
}

// The escape that JSON writes for an ASCII character that cannot stand for itself.
static net_part json_escaped(net *n, int c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    char text[8];
    const char *known = c ? strchr(from, c) : NULL;
    if (known) snprintf(text, sizeof text, "\\%c", to[known - from]);
    else snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
    return net_text(n, text, strlen(text));
}

static net_part class_part(regex *r, const char_class *c)
{
    net *n = r->n;
    byte_set plain = c->ascii;
    const byte_set itself = form_ascii();
    net_part all = net_never(n);
    for (int b = 0; b < 0x80 && r->coding == CODING_JSON; b++) {
        if (!byte_set_has(&plain, b) || byte_set_has(&itself, b)) continue;
        plain.bits[b / 64] &= ~(UINT64_C(1) << b % 64);
        if (b != 0x7f) all = net_either(n, all, json_escaped(n, b));
    }
    if (!byte_set_empty(&plain)) all = net_either(n, all, net_bytes(n, &plain));
    if (c->others) return net_either(n, all, net_call(n, form_others(n, r->rules)));
    for (int i = 0; i < c->n; i++) all = net_either(n, all, utf8_range(n, c->ranges[i]));
    return all;
}

// ---- syntax ----

// A character of a class in brackets.
static uint32_t take_member(regex *r)
{
    if (*r->at != '\\') return take_character(r);
    r->at++;
    if (*r->at != 'b') return take_escaped(r);
    r->at++;
    return '\b';
}

static char_class take_brackets(regex *r)
{
    char_class c = {0};
    const bool turned = *r->at == '^';
    r->at += turned;
    while (*r->at && *r->at != ']' && !r->err) { // [] is empty, [^] is all, in ECMA-262
        char_class named;
        if (*r->at == '\\' && named_class(r, &named, r->at[1])) {
            add_class(r, &c, &named);
            r->at += 2;
            continue;
        }
        const uint32_t from = take_member(r);
        uint32_t to = from;
        if (r->at[0] == '-' && r->at[1] && r->at[1] != ']') {
            r->at++;
            to = take_member(r);
        }
        if (to < from) fail(r, SIGHT_E_ARGUMENT, "a range that ends before it begins");
        else add_range(r, &c, from, to);
    }
    if (*r->at != ']') fail(r, SIGHT_E_ARGUMENT, "a class without its ]");
    else r->at++;
    if (turned) complement(r, &c);
    return c;
}

static net_part take_either(regex *r);

static net_part take_group(regex *r)
{
    if (r->at[0] == '?') {
        if (r->at[1] != ':') return fail(r, SIGHT_E_UNSUPPORTED, "groups that look around or have names");
        r->at += 2;
    }
    if (++r->depth > MOST_DEPTH) return fail(r, SIGHT_E_LIMIT, "more than 64 groups inside each other");
    const net_part inner = take_either(r);
    r->depth--;
    if (*r->at != ')') return fail(r, SIGHT_E_ARGUMENT, "a group without its )");
    r->at++;
    return inner;
}

static net_part take_atom(regex *r)
{
    char_class c = {0};
    const char sign = *r->at;
    if (sign == '(') {
        r->at++;
        return take_group(r);
    }
    if (sign == '[') {
        r->at++;
        c = take_brackets(r);
    } else if (sign == '.') {
        r->at++;
        add_range(r, &c, '\n', '\n');
        add_range(r, &c, '\r', '\r');
        complement(r, &c);
    } else if (sign == '\\') {
        r->at++;
        if (strchr("bBpPk123456789", *r->at) && *r->at) {
            return fail(r, SIGHT_E_UNSUPPORTED, "word borders, properties and back references");
        }
        if (named_class(r, &c, *r->at)) {
            r->at++;
        } else {
            const uint32_t one = take_escaped(r);
            add_range(r, &c, one, one);
        }
    } else if (strchr("*+?{", sign)) {
        return fail(r, SIGHT_E_ARGUMENT, "a quantifier with nothing before it");
    } else if (sign == '^' || sign == '$') {
        return fail(r, SIGHT_E_UNSUPPORTED, "^ and $ elsewhere than at the ends");
    } else {
        const uint32_t one = take_character(r);
        add_range(r, &c, one, one);
    }
    return class_part(r, &c);
}

static int32_t take_count(regex *r)
{
    int64_t x = 0;
    if (!isdigit((unsigned char)*r->at)) fail(r, SIGHT_E_ARGUMENT, "a count without a number");
    while (isdigit((unsigned char)*r->at)) {
        x = x * 10 + (*r->at++ - '0');
        if (x > MOST_REPEATS) {
            fail(r, SIGHT_E_LIMIT, "more than 4,096 repetitions");
            return 0;
        }
    }
    return (int32_t)x;
}

// The quantifier behind an atom; false: there is none.
static bool take_quantifier(regex *r, int32_t *min, int32_t *max)
{
    const char sign = *r->at;
    *min = sign == '+';
    *max = sign == '?' ? 1 : NET_MANY;
    if (!sign || !strchr("*+?{", sign)) return false;
    r->at++;
    if (sign == '{') {
        *min = *max = take_count(r);
        if (*r->at == ',') {
            r->at++;
            *max = *r->at == '}' ? NET_MANY : take_count(r);
        }
        if (*r->at != '}') fail(r, SIGHT_E_ARGUMENT, "a count without its }");
        else r->at++;
        if (*max < *min) fail(r, SIGHT_E_ARGUMENT, "a count whose most is below its least");
    }
    if (*r->at == '?') r->at++; // lazy: the same texts
    return !r->err;
}

static net_part take_sequence(regex *r)
{
    net_part all = net_nothing(r->n);
    while (*r->at && *r->at != '|' && *r->at != ')' && !r->err) {
        const bool ends = r->depth == 0 && *r->at == '$' && (!r->at[1] || r->at[1] == '|');
        if (ends) {
            r->at++;
            r->open_end = false;
            break;
        }
        const int32_t from = net_mark(r->n);
        net_part one = take_atom(r);
        int32_t min, max;
        if (take_quantifier(r, &min, &max)) one = net_repeat(r->n, one, from, min, max);
        all = net_then(r->n, all, one);
    }
    return all;
}

// Any text, for what a searched pattern leaves open.
static net_part anything(regex *r)
{
    byte_set set = form_ascii();
    char_rules rules = form_characters(r->n, r->rules);
    if (r->coding == CODING_PLAIN) {
        byte_set_add(&set, 0, 0x7f);
        rules.escape = -1;
    }
    return net_chars(r->n, &set, rules, 0, NET_MANY);
}

static net_part take_alternative(regex *r, bool searched)
{
    if (r->depth > 0) return take_sequence(r);
    const bool begins = *r->at == '^';
    r->at += begins;
    r->open_end = searched;
    net_part one = take_sequence(r);
    if (searched && !begins) one = net_then(r->n, anything(r), one);
    if (searched && r->open_end) one = net_then(r->n, one, anything(r));
    return one;
}

static net_part take_either(regex *r)
{
    const bool searched = r->open_start && r->depth == 0;
    net_part all = take_alternative(r, searched);
    while (*r->at == '|' && !r->err) {
        r->at++;
        all = net_either(r->n, all, take_alternative(r, searched));
    }
    return all;
}

sight_err regex_build(net *n, form_rules *rules, net_part *out, const char *text, bool searched,
                      text_coding coding, const char *what)
{
    regex r = {.n = n, .rules = rules, .coding = coding, .what = what, .text = text, .at = text,
               .open_start = searched};
    *out = take_either(&r);
    if (!r.err && *r.at) fail(&r, SIGHT_E_ARGUMENT, "a ) without its (");
    return r.err ? r.err : net_status(n);
}
