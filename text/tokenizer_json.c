#include "text/tokenizer_json.h"

#include <string.h>

#include "text/tokenizer_utf8.h"

void tokenizer_json_init(tokenizer_json *j, const char *text, size_t n, const char *what)
{
    *j = (tokenizer_json){.begin = text, .at = text, .end = text + n, .what = what};
    buf_init(&j->unescaped);
}

void tokenizer_json_done(tokenizer_json *j)
{
    buf_done(&j->unescaped);
}

static sight_err fail(const tokenizer_json *j, const char *expected)
{
    return sight_fail(SIGHT_E_MODEL, "%s: not valid at byte %zu: expected %s", j->what,
                      (size_t)(j->at - j->begin), expected);
}

char tokenizer_json_peek(tokenizer_json *j)
{
    while (j->at < j->end &&
           (*j->at == ' ' || *j->at == '\n' || *j->at == '\t' || *j->at == '\r')) {
        j->at++;
    }
    return j->at < j->end ? *j->at : 0;
}

sight_err tokenizer_json_enter(tokenizer_json *j, char bracket)
{
    if (tokenizer_json_peek(j) != bracket) return fail(j, bracket == '{' ? "'{'" : "'['");
    j->at++;
    return SIGHT_OK;
}

sight_err tokenizer_json_next(tokenizer_json *j, char closing, bool *first, bool *more)
{
    char c = tokenizer_json_peek(j);
    *more = c != closing;
    if (!*more) {
        j->at++;
    } else if (!*first) {
        if (c != ',') return fail(j, "a comma or the closing bracket");
        j->at++;
        if (tokenizer_json_peek(j) == closing) return fail(j, "a value after the comma");
    }
    *first = false;
    return SIGHT_OK;
}

sight_err tokenizer_json_colon(tokenizer_json *j)
{
    if (tokenizer_json_peek(j) != ':') return fail(j, "':'");
    j->at++;
    return SIGHT_OK;
}

static bool hex4(tokenizer_json *j, uint32_t *out)
{
    if (j->end - j->at < 4) return false;
    uint32_t v = 0;
    for (int k = 0; k < 4; k++) {
        char c = j->at[k];
        int digit = c >= '0' && c <= '9' ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return false;
        v = v << 4 | (uint32_t)digit;
    }
    j->at += 4;
    *out = v;
    return true;
}

// After "\u".
static sight_err unicode_escape(tokenizer_json *j)
{
    uint32_t c, low;
    if (!hex4(j, &c)) return fail(j, "four hexadecimal digits");
    if (c >= 0xdc00 && c < 0xe000) return fail(j, "a high surrogate first");
    if (c >= 0xd800 && c < 0xdc00) {
        if (j->end - j->at < 2 || j->at[0] != '\\' || j->at[1] != 'u') {
            return fail(j, "a low surrogate");
        }
        j->at += 2;
        if (!hex4(j, &low) || low < 0xdc00 || low > 0xdfff) return fail(j, "a low surrogate");
        c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    char bytes[4];
    buf_add(&j->unescaped, bytes, tokenizer_utf8_encode(bytes, c));
    return SIGHT_OK;
}

// After the backslash.
static sight_err escape(tokenizer_json *j)
{
    static const char letters[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    char c = j->at < j->end ? *j->at : 0;
    if (c == 'u') {
        j->at++;
        return unicode_escape(j);
    }
    const char *letter = c ? strchr(letters, c) : NULL;
    if (!letter) return fail(j, "an escape");
    j->at++;
    buf_putc(&j->unescaped, meant[letter - letters]);
    return SIGHT_OK;
}

static const char *plain_run(const char *at, const char *end)
{
    while (at < end && *at != '"' && *at != '\\' && (unsigned char)*at >= 0x20) at++;
    return at;
}

sight_err tokenizer_json_string(tokenizer_json *j, const char **text, size_t *n)
{
    if (tokenizer_json_peek(j) != '"') return fail(j, "a string");
    const char *begin = ++j->at;
    j->at = plain_run(begin, j->end);
    if (j->at < j->end && *j->at == '"') {
        *text = begin;
        *n = (size_t)(j->at++ - begin);
        return SIGHT_OK;
    }
    buf_clear(&j->unescaped);
    buf_add(&j->unescaped, begin, (size_t)(j->at - begin));
    while (j->at < j->end && *j->at != '"') {
        if (*j->at != '\\') return fail(j, "no control character in a string");
        j->at++;
        sight_err err = escape(j);
        if (err) return err;
        begin = j->at;
        j->at = plain_run(begin, j->end);
        buf_add(&j->unescaped, begin, (size_t)(j->at - begin));
    }
    if (j->at == j->end) return fail(j, "the end of a string");
    j->at++;
    if (buf_failed(&j->unescaped)) return sight_fail(SIGHT_E_MEMORY, "%s: no memory", j->what);
    *text = buf_text(&j->unescaped);
    *n = j->unescaped.size;
    return SIGHT_OK;
}

sight_err tokenizer_json_integer(tokenizer_json *j, int32_t *out, int32_t max)
{
    char c = tokenizer_json_peek(j);
    if (c < '0' || c > '9') return fail(j, "a whole number");
    const char *begin = j->at;
    int64_t v = 0;
    for (; j->at < j->end && *j->at >= '0' && *j->at <= '9'; j->at++) {
        v = v * 10 + (*j->at - '0');
        if (v > max) {
            return sight_fail(SIGHT_E_MODEL, "%s: the id at byte %zu is over the limit of %d",
                              j->what, (size_t)(begin - j->begin), (int)max);
        }
    }
    if (*begin == '0' && j->at - begin > 1) return fail(j, "a number without leading zeros");
    *out = (int32_t)v;
    return SIGHT_OK;
}

static bool skip_string(tokenizer_json *j)
{
    for (j->at++; j->at < j->end; j->at++) {
        if (*j->at == '"') {
            j->at++;
            return true;
        }
        if (*j->at == '\\' && ++j->at == j->end) return false;
    }
    return false;
}

sight_err tokenizer_json_skip(tokenizer_json *j, const char **value, size_t *n)
{
    char c = tokenizer_json_peek(j);
    const char *begin = j->at;
    size_t depth = 0;
    do {
        if (j->at == j->end) return fail(j, "the end of a value");
        c = *j->at;
        if (c == '"') {
            if (!skip_string(j)) return fail(j, "the end of a string");
            continue;
        }
        if (c == '{' || c == '[') depth++;
        if (c == '}' || c == ']') {
            if (depth == 0) break;
            depth--;
        }
        if (depth == 0 && c == ',') break;
        j->at++;
    } while (depth > 0 || (j->at < j->end && !strchr(",}]", *j->at)));
    if (j->at == begin) return fail(j, "a value");
    *value = begin;
    *n = (size_t)(j->at - begin);
    return SIGHT_OK;
}
