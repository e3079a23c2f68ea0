// Filters of text and numbers, and the way to any filter. Those of lists: template_filters_list.c.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template_run.h"

// As len(v).
static sight_err length_of(trun *r, tvalue *out, const tvalue *v)
{
    size_t n;
    switch (v->lazy ? T_ABSENT : v->kind) {
    case T_UNDEFINED: n = 0; break;
    case T_STRING: n = text_length(v->s); break;
    case T_LIST:
    case T_TUPLE: n = v->list.n; break;
    case T_DICT: n = v->dict.n; break;
    default: return template_fail(r, "object of type '%s' has no len()", tvalue_type(v));
    }
    *out = tvalue_int((int64_t)n);
    return template_step(r, v->kind == T_STRING ? n / 64 : 0);
}

static sight_err filter_length(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    return length_of(r, out, v);
}

static sight_err filter_trim(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tstr s, chars;
    TRY(template_str(r, &s, v));
    if (args[0].kind == T_ABSENT || args[0].kind == T_NONE) {
        *out = tvalue_str(text_strip_space(s, true, true));
        return SIGHT_OK;
    }
    TRY(template_str(r, &chars, &args[0]));
    *out = tvalue_str(text_strip(s, chars, true, true));
    return SIGHT_OK;
}

static sight_err change_case(trun *r, tvalue *out, const tvalue *v, text_case to)
{
    tstr s;
    buf b;
    TRY(template_str(r, &s, v));
    buf_init(&b);
    text_add_case(&b, s, to);
    return template_take(r, out, &b);
}

static sight_err filter_upper(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    return change_case(r, out, v, TEXT_UPPER);
}

static sight_err filter_lower(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    return change_case(r, out, v, TEXT_LOWER);
}

static sight_err filter_capitalize(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    return change_case(r, out, v, TEXT_CAPITALIZE);
}

// Jinja's title differs from Python's: words begin after spaces, dashes and opening brackets only.
static sight_err filter_title(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tstr s;
    buf b;
    size_t n, word = 0;
    TRY(template_str(r, &s, v));
    buf_init(&b);
    for (size_t at = 0; at <= s.n; at += n) {
        int32_t c = at < s.n ? text_char((tstr){ s.text + at, s.n - at }, &n) : ' ';
        if (at == s.n) n = 1;
        if (!text_is_space(c) && (c == 0 || c > 0x7f || !strchr("-({[<", c))) continue;
        text_add_case(&b, (tstr){ s.text + word, at - word }, TEXT_CAPITALIZE);
        if (at < s.n) template_add(r, &b, (tstr){ s.text + at, n });
        word = at + n;
    }
    return template_take(r, out, &b);
}

static sight_err filter_string(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tstr s;
    TRY(template_str(r, &s, v));
    *out = tvalue_str(s);
    return SIGHT_OK;
}

// There is no autoescape for it to switch off.
static sight_err filter_safe(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    return filter_string(r, out, v, args);
}

static sight_err filter_escape(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    static const char from[] = "&<>'\"";
    static const char *const to[] = { "&amp;", "&lt;", "&gt;", "&#39;", "&#34;" };
    tstr s;
    buf b;
    TRY(template_str(r, &s, v));
    buf_init(&b);
    for (size_t i = 0; i < s.n; i++) {
        const char *special = memchr(from, s.text[i], sizeof from - 1);
        if (special) template_add(r, &b, (tstr){ to[special - from], strlen(to[special - from]) });
        else template_add(r, &b, (tstr){ s.text + i, 1 });
    }
    return template_take(r, out, &b);
}

static sight_err filter_replace(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tstr parts[3];
    TRY(template_str(r, &parts[0], v));
    TRY(template_str(r, &parts[1], &args[0]));
    TRY(template_str(r, &parts[2], &args[1]));
    tvalue self = tvalue_str(parts[0]);
    tvalue bound[3] = { tvalue_str(parts[1]), tvalue_str(parts[2]), args[2] };
    if (bound[2].kind == T_NONE) bound[2] = tvalue_of(T_ABSENT);
    return template_method_find(T_STRING, TSTR("replace"))->run(r, out, &self, bound);
}

static sight_err filter_default(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    bool boolean = args[1].kind != T_ABSENT && tvalue_true(&args[1]);
    if (v->kind != T_UNDEFINED && !(boolean && !tvalue_true(v))) *out = *v;
    else if (args[0].kind == T_ABSENT) *out = tvalue_str((tstr){ "", 0 });
    else *out = args[0];
    return SIGHT_OK;
}

// ---- indent ----

static size_t line_end(tstr s, size_t *next)
{
    size_t n;
    for (size_t at = 0; at < s.n; at += n) {
        int32_t c = text_char((tstr){ s.text + at, s.n - at }, &n);
        bool end = (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 ||
                   c == 0x2029;
        if (!end) continue;
        *next = at + n + (c == '\r' && at + 1 < s.n && s.text[at + 1] == '\n');
        return at;
    }
    *next = s.n;
    return s.n;
}

static sight_err filter_indent(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tstr s, indent = TSTR("    ");
    tvalue made;
    bool first = args[1].kind != T_ABSENT && tvalue_true(&args[1]);
    bool blank = args[2].kind != T_ABSENT && tvalue_true(&args[2]);
    buf b;
    TRY(template_str(r, &s, v));
    if (args[0].kind == T_STRING) {
        indent = args[0].s;
    } else if (args[0].kind != T_ABSENT) {
        tvalue space = tvalue_str(TSTR(" "));
        TRY(template_binary(r, &made, OP_MULTIPLY, &space, &args[0]));
        indent = made.s;
    }
    buf_init(&b);
    bool at_first = true;
    for (size_t next; at_first || s.n; s.text += next, s.n -= next) {
        size_t end = line_end(s, &next);
        if (!at_first) template_add(r, &b, TSTR("\n"));
        if (at_first ? first : blank || end) template_add(r, &b, indent);
        template_add(r, &b, (tstr){ s.text, end });
        at_first = false;
        // A newline at the very end opens one more line, which is empty.
        if (next == s.n && next > end) {
            template_add(r, &b, TSTR("\n"));
            if (blank) template_add(r, &b, indent);
        }
    }
    return template_take(r, out, &b);
}

// ---- numbers ----

// The number that a text is, as int() and float() read it; T_ABSENT when it is none.
static tvalue read_number(tstr s, bool whole)
{
    char text[320], *end;
    size_t n = 0;
    s = text_strip_space(s, true, true);
    if (!s.n || s.n >= sizeof text) return tvalue_of(T_ABSENT);
    for (size_t i = 0; i < s.n; i++) {
        bool digit = s.text[i] >= '0' && s.text[i] <= '9';
        if (s.text[i] == '_' && i > 0) continue;
        if (!digit && (!s.text[i] || !strchr(whole ? "+-" : "+-.eEinfatyINFATY", s.text[i])))
            return tvalue_of(T_ABSENT);
        text[n++] = s.text[i];
    }
    text[n] = '\0';
    if (!whole) {
        double f = strtod(text, &end);
        return *end || end == text ? tvalue_of(T_ABSENT) : tvalue_float(f);
    }
    long long i = strtoll(text, &end, 10);
    if (*end || end == text || i == INT64_MAX || i == INT64_MIN) return tvalue_of(T_ABSENT);
    return tvalue_int(i);
}

static sight_err filter_int(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tvalue number = *v;
    if (args[1].kind != T_ABSENT) return template_fail(r, "int() with a base is not supported");
    if (v->kind == T_STRING) {
        number = read_number(v->s, true);
        if (number.kind == T_ABSENT) number = read_number(v->s, false);
    }
    if (number.kind == T_FLOAT && fabs(number.f) < 9.2e18) number = tvalue_int((int64_t)number.f);
    if (number.kind == T_BOOL) number = tvalue_int(number.truth);
    if (number.kind == T_INT) *out = number;
    else *out = args[0].kind == T_ABSENT ? tvalue_int(0) : args[0];
    return SIGHT_OK;
}

static sight_err filter_float(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tvalue number = v->kind == T_STRING ? read_number(v->s, false) : *v;
    if (tvalue_is_number(&number)) *out = tvalue_float(tvalue_to_float(&number));
    else *out = args[0].kind == T_ABSENT ? tvalue_float(0) : args[0];
    return SIGHT_OK;
}

static sight_err need_number(trun *r, const tvalue *v, const char *what)
{
    if (v->kind == T_UNDEFINED) return template_fail_undefined(r, v);
    if (tvalue_is_number(v)) return SIGHT_OK;
    return template_fail(r, "bad operand type for %s: '%s'", what, tvalue_type(v));
}

static sight_err filter_abs(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    TRY(need_number(r, v, "abs()"));
    if (v->kind == T_FLOAT) {
        *out = tvalue_float(fabs(v->f));
        return SIGHT_OK;
    }
    tvalue zero = tvalue_int(0);
    if (tvalue_to_int(v) >= 0) return template_binary(r, out, OP_ADD, &zero, v);
    return template_binary(r, out, OP_SUBTRACT, &zero, v);
}

// Half to even on the exact binary value, as Python's round(x, n).
static double round_common(double f, int precision)
{
    char text[400];
    if (precision < 0) {
        double power = pow(10, -precision);
        return nearbyint(f / power) * power;
    }
    snprintf(text, sizeof text, "%.*f", precision, f);
    return strtod(text, NULL);
}

static sight_err filter_round(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    bool common = args[1].kind == T_ABSENT;
    if (!common && args[1].kind != T_STRING) return template_fail(r, "round() method is no text");
    tstr method = common ? TSTR("common") : args[1].s;
    TRY(need_number(r, v, "round()"));
    if (args[0].kind != T_ABSENT && args[0].kind != T_INT)
        return template_fail(r, "round() precision is no whole number");
    int64_t precision = args[0].kind == T_INT ? args[0].i : 0;
    if (precision < -300 || precision > 30)
        return template_fail(r, "round() precision out of range");
    double f = tvalue_to_float(v), power = pow(10, (double)precision);
    if (tstr_equal(method, TSTR("common"))) {
        if (v->kind != T_FLOAT && precision >= 0) *out = tvalue_int(tvalue_to_int(v));
        else *out = tvalue_float(isfinite(f) ? round_common(f, (int)precision) : f);
        return SIGHT_OK;
    }
    bool up = tstr_equal(method, TSTR("ceil"));
    if (!up && !tstr_equal(method, TSTR("floor")))
        return template_fail(r, "method must be common, ceil or floor");
    *out = tvalue_float((up ? ceil(f * power) : floor(f * power)) / power);
    return SIGHT_OK;
}

// ---- tojson ----

// indent: a number of spaces or the text itself.
static sight_err json_indent(trun *r, tstr *out, const tvalue *v)
{
    static const char spaces[] = "                                ";
    if (v->kind == T_ABSENT || v->kind == T_NONE) return SIGHT_OK;
    if (v->kind == T_STRING) {
        *out = (tstr){ v->s.n ? v->s.text : "", v->s.n };
        return SIGHT_OK;
    }
    if (v->kind != T_INT && v->kind != T_BOOL)
        return template_fail(r, "tojson() indent is neither a number nor a text");
    int64_t n = tvalue_to_int(v);
    if (n > (int64_t)sizeof spaces - 1) return template_fail(r, "tojson() indent is over 32");
    *out = (tstr){ spaces, n > 0 ? (size_t)n : 0 };
    return SIGHT_OK;
}

static sight_err filter_tojson(trun *r, tvalue *out, const tvalue *v, const tvalue *args)
{
    tjson_style style = { .item_separator = TSTR(", "), .key_separator = TSTR(": ") };
    style.ascii = args[0].kind != T_ABSENT && tvalue_true(&args[0]);
    TRY(json_indent(r, &style.indent, &args[1]));
    if (style.indent.text) style.item_separator = TSTR(",");
    if (args[2].kind == T_TUPLE || args[2].kind == T_LIST) {
        tlist l = args[2].list;
        if (l.n != 2 || l.items[0].kind != T_STRING || l.items[1].kind != T_STRING)
            return template_fail(r, "tojson() separators are not two texts");
        style.item_separator = l.items[0].s;
        style.key_separator = l.items[1].s;
    } else if (args[2].kind != T_ABSENT && args[2].kind != T_NONE) {
        return template_fail(r, "tojson() separators are not two texts");
    }
    style.sort_keys = args[3].kind != T_ABSENT && tvalue_true(&args[3]);
    return template_json(r, out, v, &style);
}

// ---- the table ----

static const tfilter filters[] = {
    {.name = "abs", .parameters = "", .run = filter_abs},
    {.name = "capitalize", .parameters = "", .run = filter_capitalize},
    {.name = "count", .parameters = "", .run = filter_length},
    {.name = "d", .parameters = "default_value boolean", .run = filter_default},
    {.name = "default", .parameters = "default_value boolean", .run = filter_default},
    {.name = "e", .parameters = "", .run = filter_escape},
    {.name = "escape", .parameters = "", .run = filter_escape},
    {.name = "float", .parameters = "default", .run = filter_float},
    {.name = "indent", .parameters = "width first blank", .run = filter_indent},
    {.name = "int", .parameters = "default base", .run = filter_int},
    {.name = "length", .parameters = "", .run = filter_length},
    {.name = "lower", .parameters = "", .run = filter_lower},
    {.name = "replace", .parameters = "old! new! count", .run = filter_replace},
    {.name = "round", .parameters = "precision method", .run = filter_round},
    {.name = "safe", .parameters = "", .run = filter_safe},
    {.name = "string", .parameters = "", .run = filter_string},
    {.name = "title", .parameters = "", .run = filter_title},
    {.name = "tojson",
     .parameters = "ensure_ascii indent separators sort_keys",
     .run = filter_tojson},
    {.name = "trim", .parameters = "chars", .run = filter_trim},
    {.name = "upper", .parameters = "", .run = filter_upper},
    {.name = NULL},
};

static const tfilter *find_in(const tfilter *table, tstr name)
{
    for (; table->name; table++) {
        if (tstr_equal(name, (tstr){ table->name, strlen(table->name) })) return table;
    }
    return NULL;
}

const tfilter *template_filter_find(tstr name)
{
    const tfilter *f = find_in(filters, name);
    return f ? f : find_in(template_list_filters, name);
}

int template_filter_names(const tfilter *f)
{
    return f->names;
}

sight_err template_filter_run(trun *r, tvalue *out, const tfilter *f, const tvalue *v,
                              const targuments *args)
{
    tvalue bound[TARGUMENTS_MAX];
    if (f->run_free) return f->run_free(r, out, v, args);
    TRY(template_bind(r, bound, f->parameters, args, f->name));
    return f->run(r, out, v, bound);
}
