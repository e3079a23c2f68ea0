#include "text/tokenizer_regex.h"

#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MAX_PATTERN 65536

// ---- translation ----

#define SPACES                                                                                     \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define NOT_SPACES                                                                                 \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-"         \
    "\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"        \
    "\\x{3001}-\\x{10ffff}"

// Characters of Unicode 15 and 16, which Oniguruma 6.9.10 has and PCRE2 10.42 has not.
static const char new_letters[] =
    "\\x{1c89}\\x{1c8a}\\x{a7cb}-\\x{a7cd}\\x{a7da}-\\x{a7dc}\\x{105c0}-\\x{105f3}\\x{10d4a}-"
    "\\x{10d65}\\x{10d6f}-\\x{10d85}\\x{10ec2}-\\x{10ec4}\\x{1123f}\\x{11240}\\x{11380}-\\x{11389}"
    "\\x{1138b}\\x{1138e}\\x{11390}-\\x{113b5}\\x{113b7}\\x{113d1}\\x{113d3}\\x{11bc0}-\\x{11be0}"
    "\\x{11f02}\\x{11f04}-\\x{11f10}\\x{11f12}-\\x{11f33}\\x{1342f}\\x{13441}-\\x{13446}\\x{13460}-"
    "\\x{143fa}\\x{16100}-\\x{1611d}\\x{16d40}-\\x{16d6c}\\x{18cff}\\x{1b132}\\x{1b155}\\x{1df25}-"
    "\\x{1df2a}\\x{1e030}-\\x{1e06d}\\x{1e4d0}-\\x{1e4eb}\\x{1e5d0}-\\x{1e5ed}\\x{1e5f0}\\x{2b739}"
    "\\x{2ebf0}-\\x{2ee5d}\\x{31350}-\\x{323af}";
static const char new_marks[] =
    "\\x{897}\\x{cf3}\\x{ece}\\x{10d69}-\\x{10d6d}\\x{10efc}-\\x{10eff}\\x{11241}\\x{113b8}-"
    "\\x{113c0}\\x{113c2}\\x{113c5}\\x{113c7}-\\x{113ca}\\x{113cc}-\\x{113d0}\\x{113d2}\\x{113e1}"
    "\\x{113e2}\\x{11f00}\\x{11f01}\\x{11f03}\\x{11f34}-\\x{11f3a}\\x{11f3e}-\\x{11f42}\\x{11f5a}"
    "\\x{13440}\\x{13447}-\\x{13455}\\x{1611e}-\\x{1612f}\\x{1e08f}\\x{1e4ec}-\\x{1e4ef}\\x{1e5ee}"
    "\\x{1e5ef}";
static const char new_numbers[] =
    "\\x{10d40}-\\x{10d49}\\x{116d0}-\\x{116e3}\\x{11bf0}-\\x{11bf9}\\x{11f50}-\\x{11f59}\\x{16130}"
    "-\\x{16139}\\x{16d70}-\\x{16d79}\\x{1ccf0}-\\x{1ccf9}\\x{1d2c0}-\\x{1d2d3}\\x{1e4f0}-"
    "\\x{1e4f9}\\x{1e5f1}-\\x{1e5fa}";

typedef struct translator {
    buf *out;
    const char *at, *end;
    const char *what;
    bool in_class;
} translator;

static sight_err refuse(const translator *t, const char *syntax, size_t n)
{
    size_t left = (size_t)(t->end - syntax);
    return sight_fail(SIGHT_E_UNSUPPORTED,
                      "%s: '%.*s' in the pre-tokenizer's regex is not supported", t->what,
                      (int)(n < left ? n : left), syntax);
}

// A property: \p{L}, \P{Lu}, \p{^N} is refused.
static sight_err property(translator *t, const char *begin)
{
    const char *close = memchr(t->at, '}', (size_t)(t->end - t->at));
    size_t n = close ? (size_t)(close - t->at) : 0; // with '{'
    if (t->at == t->end || *t->at != '{' || n < 2 || n > 3) return refuse(t, begin, 8);
    for (size_t k = 1; k < n; k++) {
        char c = t->at[k];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'))) return refuse(t, begin, n + 3);
    }
    char category = n == 2 ? t->at[1] : 0;
    const char *more = category == 'L'   ? new_letters
                       : category == 'M' ? new_marks
                       : category == 'N' ? new_numbers
                                         : "";
    bool negated = begin[1] == 'P';
    if (negated && t->in_class && *more) return refuse(t, begin, n + 3);
    t->at = close + 1;
    if (!t->in_class) buf_puts(t->out, negated ? "[^" : "[");
    buf_puts(t->out, t->in_class && negated ? "\\P" : "\\p");
    buf_add(t->out, begin + 2, n + 1);
    buf_puts(t->out, more);
    if (!t->in_class) buf_putc(t->out, ']');
    return SIGHT_OK;
}

static sight_err escape(translator *t)
{
    const char *begin = t->at++;
    if (t->at == t->end) return refuse(t, begin, 1);
    char c = *t->at++;
    if (c == 'p' || c == 'P') return property(t, begin);
    if (c == 's') {
        buf_puts(t->out, t->in_class ? SPACES : "[" SPACES "]");
    } else if (c == 'S') {
        buf_puts(t->out, t->in_class ? NOT_SPACES : "[^" SPACES "]");
    } else if (c && (strchr("rnt", c) || strchr("\\/.*+?()[]{}|^$-'\"#&~!@%=:,;<>`_ ", c))) {
        buf_add(t->out, begin, 2);
    } else {
        return refuse(t, begin, 2);
    }
    return SIGHT_OK;
}

// '(' and what may follow it: a plain group, (?:  (?i:  (?=  (?!  (?<=  (?<!  (?>
static sight_err group(translator *t)
{
    static const char *const kinds[] = {"(?:", "(?i:", "(?=", "(?!", "(?<=", "(?<!", "(?>"};
    size_t left = (size_t)(t->end - t->at);
    if (left < 2 || (t->at[1] != '?' && t->at[1] != '*')) {
        buf_putc(t->out, *t->at++);
        return SIGHT_OK;
    }
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t n = strlen(kinds[k]);
        if (left < n || memcmp(t->at, kinds[k], n) != 0) continue;
        buf_add(t->out, kinds[k], n);
        t->at += n;
        return SIGHT_OK;
    }
    return refuse(t, t->at, 4);
}

// One character of the pattern that is not an escape.
static sight_err plain(translator *t)
{
    char c = *t->at;
    size_t left = (size_t)(t->end - t->at);
    if (t->in_class) {
        if (c == '[' || (c == '&' && left > 1 && t->at[1] == '&')) return refuse(t, t->at, 2);
        if (c == ']') t->in_class = false;
    } else if (c == '[') {
        t->in_class = true;
        buf_putc(t->out, *t->at++);
        if (t->at < t->end && *t->at == '^') buf_putc(t->out, *t->at++);
        if (t->at < t->end && *t->at == ']') return refuse(t, t->at - 1, 2);
        return SIGHT_OK;
    } else if (c == '(') {
        return group(t);
    } else if (c == '^' || c == '$' || c == '.') {
        return refuse(t, t->at, 1);
    } else if (c == '}' && left > 1 && t->at[1] == '+') {
        return refuse(t, t->at, 2); // greedy twice for Oniguruma, possessive for PCRE2
    } else if (c == '{' && (left < 2 || t->at[1] < '0' || t->at[1] > '9')) {
        return refuse(t, t->at, 2);
    }
    buf_putc(t->out, *t->at++);
    return SIGHT_OK;
}

sight_err regex_translate(buf *out, const char *pattern, size_t n, const char *what)
{
    if (n == 0 || n > MAX_PATTERN) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "%s: a regex of %zu bytes (1 to %d)", what, n,
                          MAX_PATTERN);
    }
    translator t = {.out = out, .at = pattern, .end = pattern + n, .what = what};
    sight_err err = SIGHT_OK;
    while (!err && t.at < t.end) err = *t.at == '\\' ? escape(&t) : plain(&t);
    if (!err && buf_failed(out)) err = sight_fail(SIGHT_E_MEMORY, "%s: no memory", what);
    return err;
}

// ---- compiled ----

struct regex {
    pcre2_code *code;
};

sight_err regex_compile(regex **out, const char *pattern, size_t n, const char *what)
{
    buf translated;
    buf_init(&translated);
    sight_err err = regex_translate(&translated, pattern, n, what);
    if (err) {
        buf_done(&translated);
        return err;
    }
    int error;
    PCRE2_SIZE at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)translated.data, translated.size,
                                     PCRE2_UTF | PCRE2_UCP, &error, &at, NULL);
    buf_done(&translated);
    if (!code) {
        char line[200];
        pcre2_get_error_message(error, (PCRE2_UCHAR *)line, sizeof line);
        return sight_fail(SIGHT_E_MODEL, "%s: the pre-tokenizer's regex is not valid: %s", what,
                          line);
    }
    regex *r = malloc(sizeof *r);
    if (!r) {
        pcre2_code_free(code);
        return sight_fail(SIGHT_E_MEMORY, "%s: no memory", what);
    }
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE); // without it (no JIT here) it is interpreted
    r->code = code;
    *out = r;
    return SIGHT_OK;
}

void regex_destroy(regex **r)
{
    if (!*r) return;
    pcre2_code_free((*r)->code);
    free(*r);
    *r = NULL;
}

// ---- matching ----

struct regex_match {
    const pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack; // made when the default 32 KiB do not do
};

sight_err regex_match_create(regex_match **out, const regex *r)
{
    regex_match *m = calloc(1, sizeof *m);
    if (m) {
        m->code = r->code;
        m->data = pcre2_match_data_create(1, NULL);
        m->context = pcre2_match_context_create(NULL);
    }
    if (!m || !m->data || !m->context) {
        regex_match_destroy(&m);
        return sight_fail(SIGHT_E_MEMORY, "no memory to run a regex");
    }
    *out = m;
    return SIGHT_OK;
}

void regex_match_destroy(regex_match **m)
{
    if (!*m) return;
    pcre2_match_data_free((*m)->data);
    pcre2_match_context_free((*m)->context);
    pcre2_jit_stack_free((*m)->stack);
    free(*m);
    *m = NULL;
}

static int run(regex_match *m, const char *text, size_t n, size_t from, uint32_t options)
{
    return pcre2_match(m->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | options, m->data,
                       m->context);
}

// Steps are bounded by the text's length, with room for regexes that try a word a few times.
static void set_limit(regex_match *m, size_t n)
{
    size_t limit = 10000000 + 100 * n;
    pcre2_set_match_limit(m->context, limit < UINT32_MAX ? (uint32_t)limit : UINT32_MAX);
}

sight_err regex_find(regex_match *m, bool *found, size_t *begin, size_t *end, const char *text,
                     size_t n, size_t from)
{
    if (from == 0) set_limit(m, n);
    int rc = run(m, text, n, from, 0);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT && !m->stack) {
        m->stack = pcre2_jit_stack_create(1 << 15, 1 << 26, NULL);
        pcre2_jit_stack_assign(m->context, NULL, m->stack);
        rc = run(m, text, n, from, 0);
    }
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) rc = run(m, text, n, from, PCRE2_NO_JIT);
    if (rc == PCRE2_ERROR_NOMEMORY) return sight_fail(SIGHT_E_MEMORY, "no memory to run a regex");
    if (rc < 0 && rc != PCRE2_ERROR_NOMATCH) {
        char line[200];
        pcre2_get_error_message(rc, (PCRE2_UCHAR *)line, sizeof line);
        return sight_fail(SIGHT_E_MODEL, "the pre-tokenizer's regex gave up at byte %zu: %s", from,
                          line);
    }
    *found = rc >= 0;
    if (*found) {
        const PCRE2_SIZE *where = pcre2_get_ovector_pointer(m->data);
        *begin = where[0];
        *end = where[1];
    }
    return SIGHT_OK;
}
