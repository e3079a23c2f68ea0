// Methods of texts, as Python has them. Those of lists and mappings: template_methods_list.c.
#include <stdio.h>
#include <string.h>

#include "text/template_run.h"

static sight_err need_text(trun *r, const tvalue *v, const char *what)
{
    if (v->kind == T_STRING) return SIGHT_OK;
    if (v->kind == T_UNDEFINED) return template_fail_undefined(r, v);
    return template_fail(r, "%s: expected str, not %s", what, tvalue_type(v));
}

static bool given(const tvalue *v)
{
    return v->kind != T_ABSENT && v->kind != T_NONE;
}

// A whole number argument with its default.
static sight_err whole(trun *r, int64_t *out, const tvalue *v, int64_t absent)
{
    *out = absent;
    if (!given(v)) return SIGHT_OK;
    if (v->kind != T_INT && v->kind != T_BOOL)
        return template_fail(r, "'%s' object cannot be interpreted as an integer", tvalue_type(v));
    *out = tvalue_to_int(v);
    return SIGHT_OK;
}

// ---- strip ----

static sight_err strip(trun *r, tvalue *out, const tvalue *self, const tvalue *args, bool left,
                       bool right)
{
    if (!given(&args[0])) {
        *out = tvalue_str(text_strip_space(self->s, left, right));
        return SIGHT_OK;
    }
    TRY(need_text(r, &args[0], "strip"));
    *out = tvalue_str(text_strip(self->s, args[0].s, left, right));
    return template_step(r, self->s.n / 64);
}

static sight_err str_strip(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return strip(r, out, self, args, true, true);
}

static sight_err str_lstrip(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return strip(r, out, self, args, true, false);
}

static sight_err str_rstrip(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return strip(r, out, self, args, false, true);
}

static sight_err str_removeprefix(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    TRY(need_text(r, &args[0], "removeprefix"));
    size_t n = text_starts(self->s, args[0].s) ? args[0].s.n : 0;
    *out = tvalue_str((tstr){ self->s.text + n, self->s.n - n });
    return SIGHT_OK;
}

static sight_err str_removesuffix(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    TRY(need_text(r, &args[0], "removesuffix"));
    size_t n = text_ends(self->s, args[0].s) ? args[0].s.n : 0;
    *out = tvalue_str((tstr){ self->s.text, self->s.n - n });
    return SIGHT_OK;
}

// ---- split ----

// The word at the front (or the end) of *rest, which is cut off; false when there is none.
static bool take_word(tstr *rest, tstr *word, bool from_right)
{
    size_t n;
    *rest = text_strip_space(*rest, !from_right, from_right);
    if (!rest->n) return false;
    size_t size = 0;
    while (size < rest->n) {
        tstr left = { rest->text + (from_right ? 0 : size), rest->n - size };
        if (from_right) n = text_last(left);
        else text_char(left, &n);
        tstr c = { from_right ? left.text + left.n - n : left.text, n };
        if (text_is_space(text_char(c, &n))) break;
        size += c.n;
    }
    *word = (tstr){ from_right ? rest->text + rest->n - size : rest->text, size };
    if (!from_right) rest->text += size;
    rest->n -= size;
    return true;
}

static sight_err split_words(trun *r, tgrow *g, tstr s, int64_t max, bool from_right)
{
    tstr word;
    while (max-- != 0 && take_word(&s, &word, from_right))
        TRY(template_push(r, g, tvalue_str(word)));
    s = text_strip_space(s, !from_right, from_right);
    return s.n ? template_push(r, g, tvalue_str(s)) : SIGHT_OK;
}

static sight_err split_at(trun *r, tgrow *g, tstr s, tstr separator, int64_t max, bool from_right)
{
    ptrdiff_t at;
    while (max-- != 0 && (at = text_find(s, separator, from_right)) >= 0) {
        tstr before = { s.text, (size_t)at };
        tstr behind = { s.text + at + separator.n, s.n - (size_t)at - separator.n };
        TRY(template_push(r, g, tvalue_str(from_right ? behind : before)));
        s = from_right ? before : behind;
    }
    return template_push(r, g, tvalue_str(s));
}

static sight_err split(trun *r, tvalue *out, const tvalue *self, const tvalue *args,
                       bool from_right)
{
    tgrow g = { 0 };
    int64_t max;
    TRY(whole(r, &max, &args[1], -1));
    TRY(template_step(r, self->s.n / 16));
    if (!given(&args[0])) {
        TRY(split_words(r, &g, self->s, max, from_right));
    } else {
        TRY(need_text(r, &args[0], "split"));
        if (!args[0].s.n) return template_fail(r, "empty separator");
        TRY(split_at(r, &g, self->s, args[0].s, max, from_right));
    }
    for (size_t i = 0; from_right && i < g.n / 2; i++) {
        tvalue swap = g.items[i];
        g.items[i] = g.items[g.n - 1 - i];
        g.items[g.n - 1 - i] = swap;
    }
    *out = tvalue_list(T_LIST, g.items, g.n);
    return SIGHT_OK;
}

static sight_err str_split(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return split(r, out, self, args, false);
}

static sight_err str_rsplit(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return split(r, out, self, args, true);
}

static sight_err str_splitlines(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    tgrow g = { 0 };
    bool keep = given(&args[0]) && tvalue_true(&args[0]);
    tstr rest = self->s;
    size_t begin = 0, n;
    for (size_t at = 0; at < rest.n; at += n) {
        int32_t c = text_char((tstr){ rest.text + at, rest.n - at }, &n);
        bool end = (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 ||
                   c == 0x2029;
        if (!end) continue;
        if (c == '\r' && at + 1 < rest.n && rest.text[at + 1] == '\n') n = 2;
        tstr line = { rest.text + begin, (keep ? at + n : at) - begin };
        TRY(template_push(r, &g, tvalue_str(line)));
        begin = at + n;
    }
    if (begin < rest.n)
        TRY(template_push(r, &g, tvalue_str((tstr){ rest.text + begin, rest.n - begin })));
    *out = tvalue_list(T_LIST, g.items, g.n);
    return template_step(r, rest.n / 16);
}

static sight_err partition(trun *r, tvalue *out, const tvalue *self, const tvalue *args,
                           bool from_right)
{
    tgrow g = { 0 };
    TRY(need_text(r, &args[0], "partition"));
    if (!args[0].s.n) return template_fail(r, "empty separator");
    ptrdiff_t at = text_find(self->s, args[0].s, from_right);
    size_t begin = at < 0 ? (from_right ? 0 : self->s.n) : (size_t)at;
    size_t end = at < 0 ? begin : begin + args[0].s.n;
    TRY(template_push(r, &g, tvalue_str((tstr){ self->s.text, begin })));
    TRY(template_push(r, &g, tvalue_str((tstr){ self->s.text + begin, end - begin })));
    TRY(template_push(r, &g, tvalue_str((tstr){ self->s.text + end, self->s.n - end })));
    *out = tvalue_list(T_TUPLE, g.items, g.n);
    return template_step(r, self->s.n / 16);
}

static sight_err str_partition(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return partition(r, out, self, args, false);
}

static sight_err str_rpartition(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return partition(r, out, self, args, true);
}

// ---- search ----

static sight_err affix(trun *r, tvalue *out, const tvalue *self, const tvalue *arg,
                       bool (*has)(tstr, tstr), const char *what)
{
    tlist options = { arg, 1 };
    if (arg->kind == T_TUPLE) options = arg->list;
    *out = tvalue_bool(false);
    for (size_t i = 0; i < options.n; i++) {
        TRY(need_text(r, &options.items[i], what));
        if (has(self->s, options.items[i].s)) *out = tvalue_bool(true);
    }
    return SIGHT_OK;
}

static sight_err str_startswith(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return affix(r, out, self, &args[0], text_starts, "startswith");
}

static sight_err str_endswith(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return affix(r, out, self, &args[0], text_ends, "endswith");
}

// The position in characters, or -1.
static sight_err position(trun *r, tvalue *out, const tvalue *self, const tvalue *args,
                          bool from_right)
{
    TRY(need_text(r, &args[0], "find"));
    ptrdiff_t at = text_find(self->s, args[0].s, from_right);
    *out = tvalue_int(at < 0 ? -1 : (int64_t)text_length((tstr){ self->s.text, (size_t)at }));
    return template_step(r, self->s.n / 16);
}

static sight_err str_find(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return position(r, out, self, args, false);
}

static sight_err str_rfind(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return position(r, out, self, args, true);
}

static sight_err str_index(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    TRY(position(r, out, self, args, false));
    return out->i < 0 ? template_fail(r, "substring not found") : SIGHT_OK;
}

static sight_err str_count(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    int64_t count = 0;
    ptrdiff_t at;
    TRY(need_text(r, &args[0], "count"));
    tstr s = self->s, needle = args[0].s;
    if (!needle.n) count = (int64_t)text_length(s) + 1;
    while (needle.n && (at = text_find(s, needle, false)) >= 0) {
        count++;
        s = (tstr){ s.text + at + needle.n, s.n - (size_t)at - needle.n };
    }
    *out = tvalue_int(count);
    return template_step(r, self->s.n / 16);
}

static sight_err str_replace(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    int64_t left;
    TRY(need_text(r, &args[0], "replace"));
    TRY(need_text(r, &args[1], "replace"));
    TRY(whole(r, &left, &args[2], -1));
    tstr s = self->s, from = args[0].s;
    buf b;
    buf_init(&b);
    for (; left != 0 && !r->too_long; left--) {
        ptrdiff_t at = text_find(s, from, false);
        if (at < 0) break;
        template_add(r, &b, (tstr){ s.text, (size_t)at });
        template_add(r, &b, args[1].s);
        size_t skip = (size_t)at + from.n, n = 0;
        if (!from.n && s.n) { // an empty text is found before each character and at the end
            text_char(s, &n);
            template_add(r, &b, (tstr){ s.text, n });
        }
        s = (tstr){ s.text + skip + n, s.n - skip - n };
        if (!from.n && !n) break;
    }
    template_add(r, &b, s);
    return template_take(r, out, &b);
}

// ---- case and kind ----

static sight_err change(trun *r, tvalue *out, const tvalue *self, text_case to)
{
    buf b;
    buf_init(&b);
    text_add_case(&b, self->s, to);
    return template_take(r, out, &b);
}

static sight_err str_upper(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return change(r, out, self, TEXT_UPPER);
}

static sight_err str_lower(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return change(r, out, self, TEXT_LOWER);
}

static sight_err str_capitalize(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return change(r, out, self, TEXT_CAPITALIZE);
}

static sight_err str_title(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return change(r, out, self, TEXT_TITLE);
}

static sight_err str_swapcase(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return change(r, out, self, TEXT_SWAP);
}

static bool is_alnum(int32_t c)
{
    return text_is_alpha(c) || text_is_digit(c);
}

// Whether there are characters, and all are of a kind.
static sight_err all(tvalue *out, tstr s, bool (*is)(int32_t))
{
    bool yes = s.n > 0;
    size_t n;
    for (; s.n && yes; s.text += n, s.n -= n) yes = is(text_char(s, &n));
    *out = tvalue_bool(yes);
    return SIGHT_OK;
}

static sight_err str_isdigit(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return all(out, self->s, text_is_digit);
}

static sight_err str_isalpha(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return all(out, self->s, text_is_alpha);
}

static sight_err str_isalnum(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return all(out, self->s, is_alnum);
}

static sight_err str_isspace(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return all(out, self->s, text_is_space);
}

static sight_err is_case(tvalue *out, tstr s, bool (*is)(int32_t), bool (*is_not)(int32_t))
{
    bool some = false, none = true;
    size_t n;
    for (; s.n; s.text += n, s.n -= n) {
        int32_t c = text_char(s, &n);
        some |= is(c);
        none &= !is_not(c);
    }
    *out = tvalue_bool(some && none);
    return SIGHT_OK;
}

static sight_err str_isupper(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return is_case(out, self->s, text_is_upper, text_is_lower);
}

static sight_err str_islower(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return is_case(out, self->s, text_is_lower, text_is_upper);
}

// ---- join, pad, format ----

static sight_err str_join(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    tlist items;
    buf b;
    TRY(template_iterate(r, &items, &args[0]));
    for (size_t i = 0; i < items.n; i++) TRY(need_text(r, &items.items[i], "join"));
    TRY(template_step(r, items.n));
    buf_init(&b);
    for (size_t i = 0; i < items.n; i++) {
        if (i) template_add(r, &b, self->s);
        template_add(r, &b, items.items[i].s);
    }
    return template_take(r, out, &b);
}

// Fills up to args[0] characters; `before` of the missing ones go to the front, as parts of two.
static sight_err pad(trun *r, tvalue *out, const tvalue *self, const tvalue *args, int before)
{
    int64_t width, have = (int64_t)text_length(self->s);
    tstr fill = TSTR(" ");
    TRY(whole(r, &width, &args[0], 0));
    if (args[1].kind != T_ABSENT) {
        TRY(need_text(r, &args[1], "the fill character"));
        fill = args[1].s;
        if (text_length(fill) != 1)
            return template_fail(r, "The fill character must be exactly one character long");
    }
    int64_t missing = width > have ? width - have : 0;
    int64_t front = before == 1 ? missing / 2 + (missing & width & 1) : before ? missing : 0;
    buf b;
    buf_init(&b);
    for (int64_t i = 0; i < front && !r->too_long; i++) template_add(r, &b, fill);
    template_add(r, &b, self->s);
    for (int64_t i = front; i < missing && !r->too_long; i++) template_add(r, &b, fill);
    return template_take(r, out, &b);
}

static sight_err str_ljust(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return pad(r, out, self, args, 0);
}

static sight_err str_center(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return pad(r, out, self, args, 1);
}

static sight_err str_rjust(trun *r, tvalue *out, const tvalue *self, const tvalue *args)
{
    return pad(r, out, self, args, 2);
}

// The value that a {field} of a format stands for.
static sight_err format_field(trun *r, tvalue *out, tstr field, size_t *next,
                              const targuments *args)
{
    size_t index = 0;
    bool number = true;
    for (size_t i = 0; i < field.n; i++) {
        number &= field.text[i] >= '0' && field.text[i] <= '9' && i < 4;
        index = index * 10 + (size_t)(field.text[i] - '0');
    }
    if (!field.n) index = (*next)++;
    if (number && index < args->n_positional) {
        *out = args->items[index].value;
        return SIGHT_OK;
    }
    for (size_t i = args->n_positional; i < args->n && !number; i++) {
        if (!tstr_equal(args->items[i].keyword, field)) continue;
        *out = args->items[i].value;
        return SIGHT_OK;
    }
    return template_fail(r, "format() has no value for '{%.*s}'", (int)(field.n & 0xff),
                         field.text);
}

static sight_err format_into(trun *r, buf *b, tstr s, const targuments *args)
{
    size_t next = 0, end;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.text[i];
        bool twice = i + 1 < s.n && s.text[i + 1] == c;
        if ((c == '{' || c == '}') && twice) i++;
        if ((c != '{' && c != '}') || twice) {
            template_add(r, b, (tstr){ &c, 1 });
            continue;
        }
        for (end = i + 1; end < s.n && s.text[end] != '}'; end++) {}
        if (c == '}' || end == s.n) return template_fail(r, "Single '%c' encountered in format", c);
        tstr field = { s.text + i + 1, end - i - 1 };
        if (text_find(field, TSTR(":"), false) >= 0 || text_find(field, TSTR("!"), false) >= 0 ||
            text_find(field, TSTR("."), false) >= 0 || text_find(field, TSTR("["), false) >= 0)
            return template_fail(r, "format() with more than a name in {} is not supported");
        tvalue v;
        TRY(format_field(r, &v, field, &next, args));
        template_add_str(r, b, &v);
        i = end;
    }
    return SIGHT_OK;
}

static sight_err str_format(trun *r, tvalue *out, const tvalue *self, const targuments *args)
{
    buf b;
    buf_init(&b);
    sight_err err = format_into(r, &b, self->s, args);
    if (!err) return template_take(r, out, &b);
    buf_done(&b);
    return err;
}

// ---- the table ----

static const tmethod_info methods[] = {
    { .kind = T_STRING, .name = "capitalize", .parameters = "", .run = str_capitalize },
    { .kind = T_STRING, .name = "center", .parameters = "width! fill", .run = str_center },
    { .kind = T_STRING, .name = "count", .parameters = "sub!", .run = str_count },
    { .kind = T_STRING, .name = "endswith", .parameters = "suffix!", .run = str_endswith },
    { .kind = T_STRING, .name = "find", .parameters = "sub!", .run = str_find },
    { .kind = T_STRING, .name = "format", .run_free = str_format },
    { .kind = T_STRING, .name = "index", .parameters = "sub!", .run = str_index },
    { .kind = T_STRING, .name = "isalnum", .parameters = "", .run = str_isalnum },
    { .kind = T_STRING, .name = "isalpha", .parameters = "", .run = str_isalpha },
    { .kind = T_STRING, .name = "isdigit", .parameters = "", .run = str_isdigit },
    { .kind = T_STRING, .name = "islower", .parameters = "", .run = str_islower },
    { .kind = T_STRING, .name = "isspace", .parameters = "", .run = str_isspace },
    { .kind = T_STRING, .name = "isupper", .parameters = "", .run = str_isupper },
    { .kind = T_STRING, .name = "join", .parameters = "iterable!", .run = str_join },
    { .kind = T_STRING, .name = "ljust", .parameters = "width! fill", .run = str_ljust },
    { .kind = T_STRING, .name = "lower", .parameters = "", .run = str_lower },
    { .kind = T_STRING, .name = "lstrip", .parameters = "chars", .run = str_lstrip },
    { .kind = T_STRING, .name = "partition", .parameters = "sep!", .run = str_partition },
    { .kind = T_STRING, .name = "removeprefix", .parameters = "prefix!", .run = str_removeprefix },
    { .kind = T_STRING, .name = "removesuffix", .parameters = "suffix!", .run = str_removesuffix },
    { .kind = T_STRING, .name = "replace", .parameters = "old! new! count", .run = str_replace },
    { .kind = T_STRING, .name = "rfind", .parameters = "sub!", .run = str_rfind },
    { .kind = T_STRING, .name = "rjust", .parameters = "width! fill", .run = str_rjust },
    { .kind = T_STRING, .name = "rpartition", .parameters = "sep!", .run = str_rpartition },
    { .kind = T_STRING, .name = "rsplit", .parameters = "sep maxsplit", .run = str_rsplit },
    { .kind = T_STRING, .name = "rstrip", .parameters = "chars", .run = str_rstrip },
    { .kind = T_STRING, .name = "split", .parameters = "sep maxsplit", .run = str_split },
    { .kind = T_STRING, .name = "splitlines", .parameters = "keepends", .run = str_splitlines },
    { .kind = T_STRING, .name = "startswith", .parameters = "prefix!", .run = str_startswith },
    { .kind = T_STRING, .name = "strip", .parameters = "chars", .run = str_strip },
    { .kind = T_STRING, .name = "swapcase", .parameters = "", .run = str_swapcase },
    { .kind = T_STRING, .name = "title", .parameters = "", .run = str_title },
    { .kind = T_STRING, .name = "upper", .parameters = "", .run = str_upper },
    { .name = NULL },
};

static const tmethod_info *find_in(const tmethod_info *table, tkind kind, tstr name)
{
    for (; table->name; table++) {
        if (table->kind == kind && tstr_equal(name, (tstr){ table->name, strlen(table->name) }))
            return table;
    }
    return NULL;
}

const tmethod_info *template_method_find(tkind kind, tstr name)
{
    return find_in(kind == T_STRING ? methods : template_list_methods, kind, name);
}

bool template_method_known(tstr name)
{
    return template_method_find(T_STRING, name) || template_method_find(T_LIST, name) ||
           template_method_find(T_DICT, name);
}
