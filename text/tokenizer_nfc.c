#include "text/tokenizer_nfc.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "text/tokenizer_utf8.h"

typedef struct range {
    uint32_t first, last;
} range;

// Characters with a combining class or in a canonical decomposition that are newer than the
// reference's data (Unicode 9). Found by comparing it with Unicode 18, character by character.
static const range young[] = {
    {0x5c8, 0x5c9},     {0x7fd, 0x7fd},     {0x897, 0x89f},     {0x8ca, 0x8d3},
    {0x9fe, 0x9fe},     {0xc3c, 0xc3c},     {0xd3b, 0xd3c},     {0xeba, 0xeba},
    {0x1715, 0x1715},   {0x1abf, 0x1af0},   {0x1df6, 0x1dfa},   {0xa82c, 0xa82c},
    {0x105d2, 0x105d2}, {0x105da, 0x105da}, {0x10d24, 0x10d27}, {0x10d69, 0x10d6d},
    {0x10eab, 0x10eac}, {0x10ecb, 0x10ecf}, {0x10ef0, 0x10efb}, {0x10efd, 0x10eff},
    {0x10f46, 0x10f50}, {0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b},
    {0x11382, 0x11382}, {0x11384, 0x11384}, {0x1138b, 0x1138b}, {0x11390, 0x11390},
    {0x113b8, 0x113b8}, {0x113bb, 0x113bb}, {0x113c2, 0x113c2}, {0x113c9, 0x113c9},
    {0x113ce, 0x113d0}, {0x1145e, 0x1145e}, {0x11839, 0x1183a}, {0x11930, 0x11930},
    {0x11935, 0x11935}, {0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0},
    {0x11a34, 0x11a34}, {0x11a47, 0x11a47}, {0x11a99, 0x11a99}, {0x11d42, 0x11d42},
    {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42}, {0x1611e, 0x16122},
    {0x16129, 0x16129}, {0x1612f, 0x1612f}, {0x16d63, 0x16d63}, {0x16d67, 0x16d67},
    {0x16d69, 0x16d69}, {0x16ff0, 0x16ff1}, {0x1d127, 0x1d128}, {0x1d250, 0x1d252},
    {0x1d25b, 0x1d25c}, {0x1d25f, 0x1d25f}, {0x1d280, 0x1d281}, {0x1e08f, 0x1e08f},
    {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef}, {0x1e4ec, 0x1e4ef},
    {0x1e5ee, 0x1e5ef}, {0x1e6e3, 0x1e6e3}, {0x1e6e6, 0x1e6e6}, {0x1e6ee, 0x1e6ef},
    {0x1e6f5, 0x1e6f5},
};

// Ranges of common writing whose characters are starters, stay as they are under NFC and do not
// compose with what stands before them.
static const range steady[] = {
    {0x0, 0x2ff},       {0x400, 0x482},     {0x5d0, 0x5f4},     {0xe01, 0xe37},
    {0x2010, 0x2027},   {0x2030, 0x205e},   {0x3000, 0x3029},   {0x3041, 0x3096},
    {0x30a1, 0x30fa},   {0x3400, 0x4dbf},   {0x4e00, 0x9fff},   {0xac00, 0xd7a3},
    {0xff01, 0xffee},   {0x1f300, 0x1faff},
};

static bool in_ranges(const range *ranges, size_t n, uint32_t c)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (c > ranges[middle].last) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < n && c >= ranges[low].first;
}

static bool is_young(uint32_t c)
{
    return in_ranges(young, sizeof young / sizeof *young, c);
}

static bool is_steady(uint32_t c)
{
    return c < 0x300 || in_ranges(steady, sizeof steady / sizeof *steady, c);
}

// Bytes of text up to its first character that is not steady; *last is where the character before
// that one begins.
static size_t steady_run(const char *text, size_t n, size_t *last)
{
    size_t i = 0, length;
    *last = 0;
    while (i < n) {
        if (!is_steady(tokenizer_utf8_decode(text + i, &length))) return i;
        *last = i;
        i += length;
    }
    return n;
}

bool tokenizer_nfc_surely(const char *text, size_t n)
{
    size_t last;
    return steady_run(text, n, &last) == n;
}

// Decomposed characters of one stretch. One more than n fits always: utf8proc may end it with 0.
typedef struct stretch {
    utf8proc_int32_t *c;
    size_t n, capacity;
} stretch;

static bool stretch_reserve(stretch *s, size_t more)
{
    if (s->n + more + 1 <= s->capacity) return true;
    size_t capacity = (s->n + more + 1) * 2;
    utf8proc_int32_t *c = realloc(s->c, capacity * sizeof *c);
    if (!c) return false;
    s->c = c;
    s->capacity = capacity;
    return true;
}

static int class_of(utf8proc_int32_t c)
{
    return utf8proc_get_property(c)->combining_class;
}

// Sorts a run of marks by combining class, keeping the order within a class: by counting when it
// is long, so that a text of marks alone cannot take quadratic time.
static bool sort_marks(utf8proc_int32_t *c, size_t n)
{
    if (n < 32) {
        for (size_t i = 1; i < n; i++) {
            utf8proc_int32_t moved = c[i];
            size_t k = i;
            for (; k > 0 && class_of(c[k - 1]) > class_of(moved); k--) c[k] = c[k - 1];
            c[k] = moved;
        }
        return true;
    }
    size_t starts[257] = {0};
    utf8proc_int32_t *sorted = malloc(n * sizeof *sorted);
    if (!sorted) return false;
    for (size_t i = 0; i < n; i++) starts[class_of(c[i]) + 1]++;
    for (size_t k = 1; k < 257; k++) starts[k] += starts[k - 1];
    for (size_t i = 0; i < n; i++) sorted[starts[class_of(c[i])]++] = c[i];
    memcpy(c, sorted, n * sizeof *sorted);
    free(sorted);
    return true;
}

static bool order_marks(stretch *s)
{
    for (size_t i = 0, end; i < s->n; i = end) {
        end = i + 1;
        if (!class_of(s->c[i])) continue;
        while (end < s->n && class_of(s->c[end])) end++;
        if (!sort_marks(s->c + i, end - i)) return false;
    }
    return true;
}

// Orders, composes and appends what the stretch holds, and empties it.
static void flush(buf *out, stretch *s)
{
    if (s->n == 0) return;
    if (!order_marks(s)) {
        out->failed = true;
        return;
    }
    utf8proc_ssize_t n = utf8proc_normalize_utf32(s->c, (utf8proc_ssize_t)s->n,
                                                  UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    char bytes[4];
    for (utf8proc_ssize_t i = 0; i < n; i++)
        buf_add(out, bytes, tokenizer_utf8_encode(bytes, (uint32_t)s->c[i]));
    s->n = 0;
}

static void compose(buf *out, stretch *s, const char *text, size_t n)
{
    for (size_t i = 0, length; i < n && !out->failed; i += length) {
        uint32_t c = tokenizer_utf8_decode(text + i, &length);
        if (is_young(c)) {
            flush(out, s);
            buf_add(out, text + i, length);
            continue;
        }
        utf8proc_int32_t parts[16]; // a canonical decomposition has at most four
        int boundclass = 0;
        utf8proc_ssize_t k = utf8proc_decompose_char((utf8proc_int32_t)c, parts, 16,
                                                     UTF8PROC_DECOMPOSE, &boundclass);
        if (k < 0 || k > 16 || !stretch_reserve(s, (size_t)k)) {
            out->failed = true;
            return;
        }
        memcpy(s->c + s->n, parts, (size_t)k * sizeof *parts);
        s->n += (size_t)k;
    }
    flush(out, s);
}

// Only stretches around characters that are not steady are worked on: each begins at the character
// before (it may compose) and ends before the next steady one.
void tokenizer_nfc(buf *out, const char *text, size_t n)
{
    stretch s = {0};
    size_t i = 0;
    while (i < n && !out->failed) {
        size_t last;
        size_t run = steady_run(text + i, n - i, &last);
        size_t end = i + run;
        size_t begin = run == n - i ? end : i + last;
        buf_add(out, text + i, begin - i);
        for (size_t length; end < n; end += length)
            if (is_steady(tokenizer_utf8_decode(text + end, &length))) break;
        compose(out, &s, text + begin, end - begin);
        i = end;
    }
    free(s.c);
}
