// Values as text: Python's str() and repr(), and json.dumps().
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/marks.h"
#include "text/template_run.h"

void template_add_float(trun *r, buf *b, double f)
{
    char digits[40], text[64];
    if (isnan(f) || isinf(f)) {
        const char *name = isnan(f) ? "nan" : f < 0 ? "-inf" : "inf";
        template_add(r, b, (tstr){ name, strlen(name) });
        return;
    }
    int precision = 0; // digits after the first
    do snprintf(digits, sizeof digits, "%.*e", precision, f);
    while (strtod(digits, NULL) != f && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent >= -4 && exponent < 16) {
        int after = precision > exponent ? precision - exponent : 0;
        snprintf(text, sizeof text, "%.*f%s", after, f, after ? "" : ".0");
    } else {
        *strchr(digits, 'e') = '\0';
        snprintf(text, sizeof text, "%se%c%02d", digits, exponent < 0 ? '-' : '+', abs(exponent));
    }
    template_add(r, b, (tstr){ text, strlen(text) });
}

static void add_text(trun *r, buf *b, const char *text)
{
    template_add(r, b, (tstr){ text, strlen(text) });
}

static void add_escape(trun *r, buf *b, int32_t c)
{
    char text[16];
    snprintf(text, sizeof text, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x",
             (unsigned)c);
    add_text(r, b, text);
}

// Whether a mark stands at the front: it is not part of the text, and passes everywhere unchanged.
static bool at_mark(tstr s)
{
    return text_starts(s, (tstr){ MARK, MARK_SIZE });
}

static void add_repr_string(trun *r, buf *b, tstr s)
{
    bool has_single = s.n && memchr(s.text, '\'', s.n),
         has_double = s.n && memchr(s.text, '"', s.n);
    char quote = has_single && !has_double ? '"' : '\'';
    size_t n;
    template_add(r, b, (tstr){ &quote, 1 });
    for (tstr rest = s; rest.n; rest.text += n, rest.n -= n) {
        int32_t c = text_char(rest, &n);
        if (c == quote || c == '\\') {
            char pair[2] = { '\\', (char)c };
            template_add(r, b, (tstr){ pair, 2 });
        } else if (c == '\n' || c == '\r' || c == '\t') {
            add_text(r, b, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
        } else if (text_is_printable(c) || at_mark(rest)) {
            template_add(r, b, (tstr){ rest.text, n });
        } else {
            add_escape(r, b, c);
        }
    }
    template_add(r, b, (tstr){ &quote, 1 });
}

static void add_repr(trun *r, buf *b, const tvalue *v, int depth);

static void add_repr_list(trun *r, buf *b, const tvalue *v, int depth)
{
    bool tuple = v->kind == T_TUPLE;
    add_text(r, b, tuple ? "(" : "[");
    for (size_t i = 0; i < v->list.n; i++) {
        if (i) add_text(r, b, ", ");
        add_repr(r, b, &v->list.items[i], depth);
    }
    if (tuple && v->list.n == 1) add_text(r, b, ",");
    add_text(r, b, tuple ? ")" : "]");
}

static void add_repr_dict(trun *r, buf *b, tdict d, int depth)
{
    add_text(r, b, "{");
    for (size_t i = 0; i < d.n; i++) {
        if (i) add_text(r, b, ", ");
        add_repr(r, b, &d.pairs[i].key, depth);
        add_text(r, b, ": ");
        add_repr(r, b, &d.pairs[i].value, depth);
    }
    add_text(r, b, "}");
}

static void add_repr(trun *r, buf *b, const tvalue *v, int depth)
{
    if (depth > TVALUE_MAX_DEPTH) {
        r->too_long = true; // a value inside of itself has no other end
        return;
    }
    if (r->too_long) return;
    switch (v->kind) {
    case T_STRING: add_repr_string(r, b, v->s); break;
    case T_LIST:
    case T_TUPLE: add_repr_list(r, b, v, depth + 1); break;
    case T_DICT: add_repr_dict(r, b, v->dict, depth + 1); break;
    case T_UNDEFINED: add_text(r, b, "Undefined"); break;
    default: template_add_str(r, b, v);
    }
}

void template_add_str(trun *r, buf *b, const tvalue *v)
{
    char text[64];
    switch (v->kind) {
    case T_ABSENT:
    case T_UNDEFINED: return;
    case T_NONE: add_text(r, b, "None"); return;
    case T_BOOL: add_text(r, b, v->truth ? "True" : "False"); return;
    case T_INT:
        snprintf(text, sizeof text, "%lld", (long long)v->i);
        add_text(r, b, text);
        return;
    case T_FLOAT: template_add_float(r, b, v->f); return;
    case T_STRING: template_add(r, b, v->s); return;
    case T_LIST:
    case T_TUPLE:
    case T_DICT: add_repr(r, b, v, 0); return;
    default:
        snprintf(text, sizeof text, "<%s>", tvalue_type(v));
        add_text(r, b, text);
    }
}

sight_err template_str(trun *r, tstr *out, const tvalue *v)
{
    if (v->kind == T_STRING) {
        *out = v->s;
        return SIGHT_OK;
    }
    buf b;
    tvalue s;
    buf_init(&b);
    template_add_str(r, &b, v);
    TRY(template_take(r, &s, &b));
    *out = s.s;
    return SIGHT_OK;
}

// ---- JSON ----

typedef struct json_writer {
    trun *r;
    buf *b;
    const tjson_style *style;
    const tvalue *misfit; // what JSON cannot hold
} json_writer;

static void json_escape(json_writer *w, int32_t c)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    char text[16];
    const char *simple = c && c < 0x80 ? strchr(from, c) : NULL;
    if (simple) snprintf(text, sizeof text, "\\%c", to[simple - from]);
    else if (c < 0x10000) snprintf(text, sizeof text, "\\u%04x", (unsigned)c);
    else
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800 + (((unsigned)c - 0x10000) >> 10),
                 0xdc00 + ((unsigned)c & 0x3ff));
    add_text(w->r, w->b, text);
}

static void json_text(json_writer *w, tstr s)
{
    size_t n;
    add_text(w->r, w->b, "\"");
    for (tstr rest = s; rest.n; rest.text += n, rest.n -= n) {
        int32_t c = text_char(rest, &n);
        bool escaped = c < 0x20 || c == '"' || c == '\\' ||
                       (w->style->ascii && c >= 0x7f && c != 0x7f && !at_mark(rest));
        if (escaped) json_escape(w, c);
        else template_add(w->r, w->b, (tstr){ rest.text, n });
    }
    add_text(w->r, w->b, "\"");
}

static void json_newline(json_writer *w, int depth)
{
    if (!w->style->indent.text) return;
    add_text(w->r, w->b, "\n");
    for (int i = 0; i < depth; i++) template_add(w->r, w->b, w->style->indent);
}

static void json_value(json_writer *w, const tvalue *v, int depth);

static void json_list(json_writer *w, tlist l, int depth)
{
    add_text(w->r, w->b, "[");
    for (size_t i = 0; i < l.n; i++) {
        if (i) template_add(w->r, w->b, w->style->item_separator);
        json_newline(w, depth + 1);
        json_value(w, &l.items[i], depth + 1);
    }
    if (l.n) json_newline(w, depth);
    add_text(w->r, w->b, "]");
}

// Keys that are no strings become their JSON text.
static void json_key(json_writer *w, const tvalue *key)
{
    if (key->kind == T_STRING) {
        json_text(w, key->s);
        return;
    }
    add_text(w->r, w->b, "\"");
    json_value(w, key, 0);
    add_text(w->r, w->b, "\"");
}

static int by_key(const void *a, const void *b)
{
    int order = 0;
    tvalue_order(&order, &((const tpair *)a)->key, &((const tpair *)b)->key);
    return order;
}

static void json_dict(json_writer *w, tdict d, int depth)
{
    if (w->style->sort_keys && d.n) {
        tpair *sorted = template_alloc(w->r, d.n * sizeof *sorted);
        if (!sorted) {
            w->b->failed = true;
            return;
        }
        memcpy(sorted, d.pairs, d.n * sizeof *sorted);
        qsort(sorted, d.n, sizeof *sorted, by_key);
        d.pairs = sorted;
    }
    add_text(w->r, w->b, "{");
    for (size_t i = 0; i < d.n; i++) {
        if (i) template_add(w->r, w->b, w->style->item_separator);
        json_newline(w, depth + 1);
        json_key(w, &d.pairs[i].key);
        template_add(w->r, w->b, w->style->key_separator);
        json_value(w, &d.pairs[i].value, depth + 1);
    }
    if (d.n) json_newline(w, depth);
    add_text(w->r, w->b, "}");
}

static void json_float(json_writer *w, double f)
{
    if (isnan(f)) add_text(w->r, w->b, "NaN");
    else if (isinf(f)) add_text(w->r, w->b, f < 0 ? "-Infinity" : "Infinity");
    else template_add_float(w->r, w->b, f);
}

static void json_value(json_writer *w, const tvalue *v, int depth)
{
    if (depth > TVALUE_MAX_DEPTH || w->r->too_long || w->misfit) {
        w->r->too_long |= depth > TVALUE_MAX_DEPTH;
        return;
    }
    switch (v->lazy ? T_ABSENT : v->kind) {
    case T_NONE: add_text(w->r, w->b, "null"); break;
    case T_BOOL: add_text(w->r, w->b, v->truth ? "true" : "false"); break;
    case T_INT: template_add_str(w->r, w->b, v); break;
    case T_FLOAT: json_float(w, v->f); break;
    case T_STRING: json_text(w, v->s); break;
    case T_LIST:
    case T_TUPLE: json_list(w, v->list, depth); break;
    case T_DICT: json_dict(w, v->dict, depth); break;
    default: w->misfit = v;
    }
}

sight_err template_json(trun *r, tvalue *out, const tvalue *v, const tjson_style *style)
{
    buf b;
    buf_init(&b);
    json_writer w = { .r = r, .b = &b, .style = style };
    json_value(&w, v, 0);
    if (w.misfit) {
        buf_done(&b);
        return template_fail(r, "Object of type %s is not JSON serializable",
                             tvalue_type(w.misfit));
    }
    return template_take(r, out, &b);
}
