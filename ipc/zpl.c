#include "ipc/zpl.h"

#include <stdlib.h>
#include <string.h>

#define MAX_BYTES (64 << 10)
#define MAX_ITEMS 256
#define INDENT    4

typedef struct zpl_reader {
    zpl *out;
    const char *what, *section;
    int line;
} zpl_reader;

static size_t name_size(const char *s)
{
    return strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789$-_@.&+/");
}

// Whether nothing but a comment follows.
static int is_rest(const char *s)
{
    s += strspn(s, " \t");
    return !*s || *s == '#';
}

// Cuts the value out of its line: quoted up to the same quotation mark, else up to a comment.
static sight_err cut_value(zpl_reader *r, const char **out, char *s)
{
    s += strspn(s, " \t");
    if (*s == '"' || *s == '\'') {
        char *end = strchr(s + 1, *s);
        if (!end) return sight_fail(SIGHT_E_ARGUMENT, "%s:%d: a quotation mark is missing", r->what, r->line);
        if (!is_rest(end + 1)) {
            return sight_fail(SIGHT_E_ARGUMENT, "%s:%d: '%.40s' follows the value", r->what, r->line, end + 1);
        }
        *end = 0;
        *out = s + 1;
        return SIGHT_OK;
    }
    s[strcspn(s, "#")] = 0;
    for (size_t n = strlen(s); n && strchr(" \t", s[n - 1]);) s[--n] = 0;
    if (!*s) return sight_fail(SIGHT_E_ARGUMENT, "%s:%d: the value is missing", r->what, r->line);
    *out = s;
    return SIGHT_OK;
}

static sight_err add(zpl_reader *r, const char *name, const char *value)
{
    zpl *z = r->out;
    if (z->n == MAX_ITEMS) {
        return sight_fail(SIGHT_E_LIMIT, "%s: more than %d values", r->what, MAX_ITEMS);
    }
    z->items[z->n++] = (zpl_item){r->section, name, value};
    return SIGHT_OK;
}

static sight_err read_line(zpl_reader *r, char *line)
{
    const size_t depth = strspn(line, " ");
    char *name = line + depth;
    if (is_rest(name)) return SIGHT_OK;
    const size_t n = name_size(name);
    char *rest = name + n + strspn(name + n, " \t");
    const int has_value = *rest == '=';
    if (n == 0 || (!has_value && !is_rest(rest))) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s:%d: '%.40s' is neither a section nor 'name = value'", r->what, r->line, name);
    }
    if (depth != 0 && (depth != INDENT || !*r->section)) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s:%d: stands %zu spaces in, must be none, or %d in a section", r->what, r->line,
                          depth, INDENT);
    }
    if (!has_value && depth) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s:%d: a section within a section", r->what, r->line);
    }
    const char *value = NULL;
    sight_err err = has_value ? cut_value(r, &value, rest + 1) : SIGHT_OK;
    if (err) return err;
    name[n] = 0;
    if (depth == 0) r->section = has_value ? "" : name;
    return has_value ? add(r, name, value) : SIGHT_OK;
}

static sight_err check_bytes(const char *text, size_t size, const char *what)
{
    if (size > MAX_BYTES) {
        return sight_fail(SIGHT_E_LIMIT, "%s has %zu bytes, the limit is %d", what, size, MAX_BYTES);
    }
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)text[i];
        if (c >= ' ' ? c != 127 : c == '\n' || c == '\r' || c == '\t') continue;
        return sight_fail(SIGHT_E_ARGUMENT, "%s is no text: byte %zu is %d", what, i, c);
    }
    return SIGHT_OK;
}

sight_err zpl_read(zpl *out, const char *text, size_t size, const char *what)
{
    sight_err err = check_bytes(text, size, what);
    if (err) return err;
    zpl z = {.text = malloc(size + 1), .items = calloc(MAX_ITEMS, sizeof(zpl_item))};
    if (!z.text || !z.items) {
        zpl_done(&z);
        return sight_fail(SIGHT_E_MEMORY, "%s: no memory", what);
    }
    memcpy(z.text, text, size);
    z.text[size] = 0;
    zpl_reader r = {.out = &z, .what = what, .section = "", .line = 1};
    for (char *line = z.text; line && !err; r.line++) {
        char *next = strchr(line, '\n');
        if (next) *next++ = 0;
        line[strcspn(line, "\r")] = 0;
        err = read_line(&r, line);
        line = next;
    }
    if (err) zpl_done(&z);
    else *out = z;
    return err;
}

void zpl_done(zpl *z)
{
    free(z->text);
    free(z->items);
    *z = (zpl){0};
}

const char *zpl_get(const zpl *z, const char *section, const char *name)
{
    for (size_t i = 0; i < z->n; i++) {
        if (!strcmp(z->items[i].section, section) && !strcmp(z->items[i].name, name)) return z->items[i].value;
    }
    return NULL;
}

int zpl_can_write(const char *value)
{
    for (const char *s = value; *s; s++) {
        if ((unsigned char)*s < ' ' || *s == 127 || *s == '"') return 0;
    }
    return 1;
}
