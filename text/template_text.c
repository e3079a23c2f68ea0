#include "text/template_text.h"

#include <string.h>
#include <utf8proc.h>

int32_t text_char(tstr s, size_t *n)
{
    utf8proc_int32_t c;
    utf8proc_ssize_t k = utf8proc_iterate((const utf8proc_uint8_t *)s.text,
                                          (utf8proc_ssize_t)s.n, &c);
    if (k <= 0) {
        *n = 1;
        return (unsigned char)s.text[0];
    }
    *n = (size_t)k;
    return c;
}

size_t text_last(tstr s)
{
    for (size_t back = 1; back <= 4 && back <= s.n; back++) {
        if (((unsigned char)s.text[s.n - back] & 0xc0) == 0x80) continue;
        size_t n;
        text_char((tstr){ s.text + s.n - back, back }, &n);
        return n == back ? back : 1;
    }
    return 1;
}

size_t text_length(tstr s)
{
    size_t count = 0, n;
    for (size_t at = 0; at < s.n; at += n, count++) {
        text_char((tstr){ s.text + at, s.n - at }, &n);
    }
    return count;
}

size_t text_offset(tstr s, size_t i)
{
    size_t at = 0, n;
    for (; at < s.n && i > 0; at += n, i--) text_char((tstr){ s.text + at, s.n - at }, &n);
    return at;
}

bool text_is_space(int32_t c)
{
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

tstr text_strip_space(tstr s, bool left, bool right)
{
    size_t n;
    while (left && s.n > 0 && text_is_space(text_char(s, &n))) {
        s.text += n;
        s.n -= n;
    }
    while (right && s.n > 0) {
        n = text_last(s);
        if (!text_is_space(text_char((tstr){ s.text + s.n - n, n }, &(size_t){ 0 }))) break;
        s.n -= n;
    }
    return s;
}

// Whether the character of n bytes at p is one of chars.
static bool one_of(const char *p, size_t n, tstr chars)
{
    size_t k;
    for (size_t at = 0; at < chars.n; at += k) {
        text_char((tstr){ chars.text + at, chars.n - at }, &k);
        if (k == n && memcmp(chars.text + at, p, n) == 0) return true;
    }
    return false;
}

tstr text_strip(tstr s, tstr chars, bool left, bool right)
{
    size_t n;
    while (left && s.n > 0) {
        text_char(s, &n);
        if (!one_of(s.text, n, chars)) break;
        s.text += n;
        s.n -= n;
    }
    while (right && s.n > 0) {
        n = text_last(s);
        if (!one_of(s.text + s.n - n, n, chars)) break;
        s.n -= n;
    }
    return s;
}

ptrdiff_t text_find(tstr s, tstr needle, bool from_right)
{
    if (needle.n > s.n) return -1;
    if (needle.n == 0) return from_right ? (ptrdiff_t)s.n : 0;
    size_t last = s.n - needle.n;
    for (size_t at = 0; !from_right && at <= last; at++) {
        const char *p = memchr(s.text + at, needle.text[0], last - at + 1);
        if (!p) return -1;
        at = (size_t)(p - s.text);
        if (memcmp(p, needle.text, needle.n) == 0) return (ptrdiff_t)at;
    }
    for (size_t at = last + 1; from_right && at-- > 0;) {
        if (memcmp(s.text + at, needle.text, needle.n) == 0) return (ptrdiff_t)at;
    }
    return -1;
}

bool text_starts(tstr s, tstr prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.text, prefix.text, prefix.n) == 0);
}

bool text_ends(tstr s, tstr suffix)
{
    return s.n >= suffix.n &&
           (suffix.n == 0 || memcmp(s.text + s.n - suffix.n, suffix.text, suffix.n) == 0);
}

static bool is_cased(int32_t c)
{
    return utf8proc_toupper(c) != c || utf8proc_tolower(c) != c;
}

static void add_upper(buf *out, int32_t c, bool title)
{
    if (c == 0xdf) buf_puts(out, title ? "Ss" : "SS");
    else buf_add_utf8(out, (unsigned)(title ? utf8proc_totitle(c) : utf8proc_toupper(c)));
}

void text_add_case(buf *out, tstr s, text_case to)
{
    size_t n;
    bool in_word = false;
    for (size_t at = 0; at < s.n; at += n) {
        int32_t c = text_char((tstr){ s.text + at, s.n - at }, &n);
        bool first = to == TEXT_CAPITALIZE ? at == 0 : !in_word;
        bool upper = to == TEXT_UPPER || (to == TEXT_SWAP && text_is_lower(c)) ||
                     ((to == TEXT_CAPITALIZE || to == TEXT_TITLE) && first);
        bool keep = to == TEXT_SWAP && !is_cased(c);
        in_word = is_cased(c);
        if (c >= 0x80 && n == 1) buf_add(out, s.text + at, 1); // not UTF-8
        else if (keep) buf_add(out, s.text + at, n);
        else if (upper) add_upper(out, c, to == TEXT_CAPITALIZE || to == TEXT_TITLE);
        else buf_add_utf8(out, (unsigned)utf8proc_tolower(c));
    }
}

bool text_is_alpha(int32_t c)
{
    utf8proc_category_t k = utf8proc_category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool text_is_digit(int32_t c)
{
    return utf8proc_category(c) == UTF8PROC_CATEGORY_ND;
}

bool text_is_upper(int32_t c)
{
    return utf8proc_tolower(c) != c;
}

bool text_is_lower(int32_t c)
{
    return utf8proc_toupper(c) != c || c == 0xdf;
}

bool text_is_printable(int32_t c)
{
    if (c == ' ') return true;
    utf8proc_category_t k = utf8proc_category(c);
    return k != UTF8PROC_CATEGORY_CN && k < UTF8PROC_CATEGORY_ZS;
}
