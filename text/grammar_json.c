// What JSON texts are made of (RFC 8259), as parts of a grammar.
//
// White space is bounded: a model that has nothing to say must not go on with it for ever. So are digits, at what a
// double holds.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/grammar_parts.h"

#define INDENT_MOST 24 // of a line
#define DIGITS_MOST 17 // what a double tells apart

form_rules form_rules_none(void)
{
    return (form_rules){-1, -1, -1, -1, -1, -1, -1, -1};
}

static byte_set one_of(const char *bytes)
{
    byte_set s = {{0}};
    for (; *bytes; bytes++) byte_set_add(&s, (uint8_t)*bytes, (uint8_t)*bytes);
    return s;
}

static net_part either_byte(net *n, const char *bytes)
{
    const byte_set s = one_of(bytes);
    return net_bytes(n, &s);
}

net_part form_space(net *n)
{
    const int32_t from = net_mark(n);
    const net_part blank = either_byte(n, " \t");
    const net_part indent = net_repeat(n, blank, from, 0, INDENT_MOST);
    const net_part line = net_then(n, net_text(n, "\n", 1), indent);
    return net_optional(n, net_either(n, line, net_text(n, " ", 1)));
}

static net_part blank_or_none(net *n)
{
    return net_optional(n, net_text(n, " ", 1));
}

// ---- strings ----

byte_set form_ascii(void)
{
    byte_set s = {{0}};
    byte_set_add(&s, 0x20, 0x7e);
    s.bits['"' / 64] &= ~(UINT64_C(1) << '"' % 64);
    s.bits['\\' / 64] &= ~(UINT64_C(1) << '\\' % 64);
    return s;
}

static net_part bytes_between(net *n, int from, int to)
{
    byte_set s = {{0}};
    byte_set_add(&s, from, to);
    return net_bytes(n, &s);
}

// A lead byte, a second byte of its own, and `more` bytes of any.
static net_part sequence(net *n, int lead, int last_lead, int second, int last_second, int more)
{
    net_part all = bytes_between(n, lead, last_lead);
    all = net_then(n, all, bytes_between(n, second, last_second));
    for (int i = 0; i < more; i++) all = net_then(n, all, bytes_between(n, 0x80, 0xbf));
    return all;
}

// The Unicode standard, table 3-7: well-formed UTF-8.
int32_t form_others(net *n, form_rules *r)
{
    if (r->others >= 0) return r->others;
    r->others = net_rule(n);
    net_part all = sequence(n, 0xc2, 0xdf, 0x80, 0xbf, 0);
    all = net_either(n, all, sequence(n, 0xe0, 0xe0, 0xa0, 0xbf, 1));
    all = net_either(n, all, sequence(n, 0xe1, 0xec, 0x80, 0xbf, 1));
    all = net_either(n, all, sequence(n, 0xed, 0xed, 0x80, 0x9f, 1));
    all = net_either(n, all, sequence(n, 0xee, 0xef, 0x80, 0xbf, 1));
    all = net_either(n, all, sequence(n, 0xf0, 0xf0, 0x90, 0xbf, 2));
    all = net_either(n, all, sequence(n, 0xf1, 0xf3, 0x80, 0xbf, 2));
    net_define(n, r->others, net_either(n, all, sequence(n, 0xf4, 0xf4, 0x80, 0x8f, 2)));
    return r->others;
}

static net_part hex(net *n, int digits)
{
    net_part all = net_nothing(n);
    for (int i = 0; i < digits; i++) all = net_then(n, all, either_byte(n, "0123456789abcdefABCDEF"));
    return all;
}

// \n and the like, \uXXXX, and a surrogate pair; no lone surrogate.
static net_part escape_body(net *n)
{
    const net_part plain = net_then(n, net_text(n, "\\", 1), either_byte(n, "\"\\/bfnrt"));
    const net_part low = net_then(n, net_text(n, "\\u", 2),
                                  net_then(n, either_byte(n, "0123456789abcefABCEF"), hex(n, 3)));
    const net_part early = net_then(n, net_text(n, "\\u", 2),
                                    net_then(n, either_byte(n, "dD"),
                                             net_then(n, either_byte(n, "01234567"), hex(n, 2))));
    net_part pair = net_then(n, net_text(n, "\\u", 2), either_byte(n, "dD"));
    pair = net_then(n, net_then(n, pair, either_byte(n, "89abAB")), hex(n, 2));
    pair = net_then(n, net_then(n, pair, net_text(n, "\\u", 2)), either_byte(n, "dD"));
    pair = net_then(n, net_then(n, pair, either_byte(n, "cdefCDEF")), hex(n, 2));
    return net_either(n, net_either(n, plain, low), net_either(n, early, pair));
}

static int32_t escape_rule(net *n, form_rules *r)
{
    if (r->escape < 0) {
        r->escape = net_rule(n);
        net_define(n, r->escape, escape_body(n));
    }
    return r->escape;
}

char_rules form_characters(net *n, form_rules *r)
{
    return (char_rules){form_others(n, r), escape_rule(n, r)};
}

net_part form_string(net *n, form_rules *r, int32_t min, int32_t max)
{
    const byte_set ascii = form_ascii();
    const char_rules rules = form_characters(n, r);
    const net_part text = net_chars(n, &ascii, rules, min, max);
    return net_then(n, net_text(n, "\"", 1), net_then(n, text, net_text(n, "\"", 1)));
}

static net_part string(net *n, form_rules *r)
{
    if (r->string < 0) {
        r->string = net_rule(n);
        net_define(n, r->string, form_string(n, r, 0, NET_MANY));
    }
    return net_call(n, r->string);
}

// ---- numbers ----

static net_part digits(net *n, int32_t min, int32_t max)
{
    const int32_t from = net_mark(n);
    const net_part digit = either_byte(n, "0123456789");
    return net_repeat(n, digit, from, min, max);
}

static net_part whole(net *n)
{
    const net_part large = net_then(n, either_byte(n, "123456789"), digits(n, 0, DIGITS_MOST - 1));
    return net_either(n, net_text(n, "0", 1), large);
}

static net_part sign(net *n)
{
    return net_optional(n, net_text(n, "-", 1));
}

net_part form_integer(net *n)
{
    const net_part s = sign(n);
    return net_then(n, s, whole(n));
}

net_part form_number(net *n)
{
    const net_part number = form_integer(n);
    const net_part fraction = net_then(n, net_text(n, ".", 1), digits(n, 1, DIGITS_MOST));
    const net_part exponent = net_then(n, either_byte(n, "eE"),
                                       net_then(n, net_optional(n, either_byte(n, "+-")), digits(n, 1, 2)));
    return net_then(n, number, net_then(n, net_optional(n, fraction), net_optional(n, exponent)));
}

// ---- whole numbers in a range ----

// Digits low to high of the same length, at `at` and after.
static net_part same_length(net *n, const char *low, const char *high)
{
    const size_t left = strlen(low);
    if (left == 0) return net_nothing(n);
    if (low[0] == high[0]) return net_then(n, net_text(n, low, 1), same_length(n, low + 1, high + 1));
    char nines[24], zeros[24];
    memset(nines, '9', left - 1);
    memset(zeros, '0', left - 1);
    nines[left - 1] = zeros[left - 1] = 0;
    net_part all = net_then(n, net_text(n, low, 1), same_length(n, low + 1, nines));
    all = net_either(n, all, net_then(n, net_text(n, high, 1), same_length(n, zeros, high + 1)));
    if (low[0] + 1 >= high[0]) return all;
    byte_set between = {{0}};
    byte_set_add(&between, low[0] + 1, high[0] - 1);
    return net_either(n, all, net_then(n, net_bytes(n, &between),
                                       digits(n, (int32_t)left - 1, (int32_t)left - 1)));
}

// low <= high, both 0 or more.
static net_part between(net *n, uint64_t low, uint64_t high)
{
    net_part all = net_never(n);
    for (uint64_t from = low;;) {
        char a[24], b[24];
        uint64_t last = 9; // of from's length
        while (last < from) last = last > UINT64_MAX / 10 - 1 ? UINT64_MAX : last * 10 + 9;
        if (last > high) last = high;
        snprintf(a, sizeof a, "%" PRIu64, from);
        snprintf(b, sizeof b, "%" PRIu64, last);
        all = net_either(n, all, same_length(n, a, b));
        if (last == high) return all;
        from = last + 1;
    }
}

// Distance from 0, also of INT64_MIN.
static uint64_t size_of(int64_t x)
{
    return x < 0 ? (uint64_t)-(x + 1) + 1 : (uint64_t)x;
}

net_part form_integer_between(net *n, int64_t low, int64_t high)
{
    if (low > high) return net_never(n);
    net_part all = net_never(n);
    if (high >= 0) all = net_either(n, all, between(n, low > 0 ? (uint64_t)low : 0, (uint64_t)high));
    if (low < 0) {
        const uint64_t least = high < 0 ? size_of(high) : 1;
        const net_part minus = net_text(n, "-", 1);
        all = net_either(n, all, net_then(n, minus, between(n, least, size_of(low))));
    }
    return all;
}

// ---- numbers in a range ----

static net_part zero_digits(net *n)
{
    const int32_t from = net_mark(n);
    const net_part zero = net_text(n, "0", 1);
    return net_repeat(n, zero, from, 1, DIGITS_MOST);
}

// A fraction that is not 0.
static net_part some_fraction(net *n)
{
    const int32_t from = net_mark(n);
    const net_part zero = net_text(n, "0", 1);
    const net_part zeros = net_repeat(n, zero, from, 0, DIGITS_MOST);
    const net_part rest = net_then(n, either_byte(n, "123456789"), digits(n, 0, DIGITS_MOST));
    return net_then(n, net_text(n, ".", 1), net_then(n, zeros, rest));
}

// A size (no sign) from low to high, whole bounds that may be out themselves, with a fraction.
static net_part size_between(net *n, uint64_t low, uint64_t high, bool low_open, bool high_open)
{
    net_part all = net_never(n);
    const net_part zeros = net_then(n, net_text(n, ".", 1), zero_digits(n));
    if (low < high) { // any fraction behind low .. high - 1, but for low itself
        const net_part fraction = net_then(n, net_text(n, ".", 1), digits(n, 1, DIGITS_MOST));
        const uint64_t from = low_open ? low + 1 : low;
        if (from < high) all = net_then(n, between(n, from, high - 1), net_optional(n, fraction));
        if (low_open) all = net_either(n, all, net_then(n, between(n, low, low), some_fraction(n)));
    }
    if (high_open || (low == high && low_open)) return all;
    return net_either(n, all, net_then(n, between(n, high, high), net_optional(n, zeros)));
}

net_part form_number_between(net *n, int64_t low, int64_t high, bool low_open, bool high_open)
{
    net_part all = net_never(n);
    if (high >= 0) {
        const bool from_zero = low < 0;
        all = size_between(n, from_zero ? 0 : (uint64_t)low, (uint64_t)high, !from_zero && low_open, high_open);
    }
    if (low >= 0) return all;
    const net_part minus = net_text(n, "-", 1);
    const net_part size = size_between(n, high > 0 ? 0 : size_of(high), size_of(low), high <= 0 && (high == 0 || high_open), low_open);
    return net_either(n, all, net_then(n, minus, size));
}

// ---- values ----

static net_part word(net *n, const char *text)
{
    return net_text(n, text, strlen(text));
}

net_part form_bracketed(net *n, const char *begin, net_part inner, const char *end)
{
    const net_part open = net_then(n, word(n, begin), form_space(n));
    const net_part close = net_then(n, form_space(n), word(n, end));
    return net_then(n, open, net_then(n, inner, close));
}

net_part form_comma(net *n)
{
    return net_then(n, word(n, ","), form_space(n));
}

net_part form_member(net *n, net_part name, net_part value)
{
    const net_part colon = net_then(n, word(n, ":"), blank_or_none(n));
    return net_then(n, name, net_then(n, colon, value));
}

net_part form_more(net *n, int32_t rule, int32_t min, int32_t max)
{
    const int32_t from = net_mark(n);
    const net_part comma = form_comma(n);
    const net_part next = net_then(n, comma, net_call(n, rule));
    return net_repeat(n, next, from, min, max);
}

net_part form_items(net *n, int32_t rule, int32_t min, int32_t max)
{
    if (max == 0) return net_nothing(n);
    const net_part first = net_call(n, rule);
    const net_part more = form_more(n, rule, min > 0 ? min - 1 : 0, max == NET_MANY ? max : max - 1);
    const net_part all = net_then(n, first, more);
    return min > 0 ? all : net_optional(n, all);
}

static void make_value(net *n, form_rules *r)
{
    if (r->value >= 0) return;
    r->value = net_rule(n);
    r->object = net_rule(n);
    r->array = net_rule(n);
    const int32_t member = net_rule(n);
    net_define(n, member, form_member(n, string(n, r), net_call(n, r->value)));
    net_define(n, r->object, form_bracketed(n, "{", form_items(n, member, 0, NET_MANY), "}"));
    net_define(n, r->array, form_bracketed(n, "[", form_items(n, r->value, 0, NET_MANY), "]"));
    net_part all = net_either(n, word(n, "true"), word(n, "false"));
    all = net_either(n, all, word(n, "null"));
    all = net_either(n, all, form_number(n));
    all = net_either(n, all, string(n, r));
    all = net_either(n, all, net_call(n, r->object));
    net_define(n, r->value, net_either(n, all, net_call(n, r->array)));
}

net_part form_value(net *n, form_rules *r)
{
    make_value(n, r);
    return net_call(n, r->value);
}

net_part form_object(net *n, form_rules *r)
{
    make_value(n, r);
    return net_call(n, r->object);
}

net_part form_literal(net *n, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text) {
        if (!n->err) n->err = sight_fail(SIGHT_E_MEMORY, "no memory for a grammar");
        return net_never(n);
    }
    const net_part part = net_text(n, text, strlen(text));
    free(text);
    return part;
}
