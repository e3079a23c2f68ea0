#include "daemon/settings/settings.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

double settings_number(const char *text, setting_kind k)
{
    char *end;
    if (!strchr("0123456789.", *text) || !*text || strpbrk(text, "xXpPnN")) return NAN;
    double v = strtod(text, &end);
    static const char units[] = "KMGT";
    const char *unit = k == BYTES && *end ? strchr(units, *end) : NULL;
    if (unit) {
        v = ldexp(v, 10 * (int)(unit - units + 1));
        end++;
    }
    if (*end || !isfinite(v)) return NAN;
    return k != SECONDS && k != REAL && v != floor(v) ? NAN : v;
}

static sight_err set_flag(bool *out, const char *value, const char *where)
{
    static const char *const yes[] = {"yes", "true", "on", "1"};
    static const char *const no[] = {"no", "false", "off", "0"};
    for (int i = 0; i < 4; i++) {
        if (!strcmp(value, yes[i]) || !strcmp(value, no[i])) {
            *out = !strcmp(value, yes[i]);
            return SIGHT_OK;
        }
    }
    return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.80s', must be yes or no", where, value);
}

static sight_err set_text(char **out, const char *value, const char *where)
{
    if (!*value) return sight_fail(SIGHT_E_ARGUMENT, "%s is empty", where);
    char *copy = strdup(value);
    if (!copy) return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    free(*out);
    *out = copy;
    return SIGHT_OK;
}

static sight_err add_text(option_list *list, const char *value, const char *where)
{
    if (list->n == OPTIONS_LIST_MAX) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s is given more than %d times", where,
                          OPTIONS_LIST_MAX);
    }
    char *copy = NULL;
    sight_err err = set_text(&copy, value, where);
    if (!err) list->items[list->n++] = copy;
    return err;
}

static const char *number_words(setting_kind k)
{
    return k == SECONDS ? "seconds" : k == REAL ? "a number" : "a whole number";
}

sight_err settings_set(void *base, const setting *s, const char *value, const char *where)
{
    char *at = (char *)base + s->offset;
    if (s->kind == TEXT) return set_text((char **)at, value, where);
    if (s->kind == LIST) return add_text((option_list *)at, value, where);
    if (s->kind == FLAG) return set_flag((bool *)at, value, where);
    const double v = settings_number(value, s->kind);
    if (!(v >= s->min && v <= s->max)) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.80s', must be %s from %.0f to %.0f%s", where,
                          value, number_words(s->kind), s->min, s->max,
                          s->kind == BYTES ? " (K, M, G may follow)" : "");
    }
    if (s->kind == INT32) *(int32_t *)at = (int32_t)v;
    else if (s->kind == SECONDS || s->kind == REAL) *(double *)at = v;
    else *(int64_t *)at = (int64_t)v;
    return SIGHT_OK;
}

const setting *settings_find(const setting *table, size_t size, const char *name, size_t n)
{
    for (size_t i = 0; i < size; i++) {
        if (strlen(table[i].name) == n && !memcmp(table[i].name, name, n)) return &table[i];
    }
    return NULL;
}

void settings_done(void *base, const setting *table, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char *at = (char *)base + table[i].offset;
        if (table[i].kind == TEXT) free(*(char **)at);
        option_list *list = (option_list *)at;
        for (size_t j = 0; table[i].kind == LIST && j < list->n; j++) free(list->items[j]);
    }
}

void settings_override(void *base, const void *other, const setting *table, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        const option_list *instead = (const option_list *)((const char *)other + table[i].offset);
        if (table[i].kind != LIST || instead->n == 0) continue;
        settings_done(base, &table[i], 1);
        ((option_list *)((char *)base + table[i].offset))->n = 0;
    }
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static size_t size_of(setting_kind k)
{
    switch (k) {
    case TEXT: return sizeof(char *);
    case LIST: return sizeof(option_list);
    case INT32: return sizeof(int32_t);
    case SECONDS:
    case REAL: return sizeof(double);
    case FLAG: return sizeof(bool);
    default: return sizeof(int64_t);
    }
}

bool settings_equal(const void *a, const void *b, const setting *s)
{
    const char *at = (const char *)a + s->offset, *other = (const char *)b + s->offset;
    if (s->kind == TEXT) return same_text(*(char *const *)at, *(char *const *)other);
    if (s->kind != LIST) return !memcmp(at, other, size_of(s->kind));
    const option_list *l = (const option_list *)at, *m = (const option_list *)other;
    bool same = l->n == m->n;
    for (size_t i = 0; same && i < l->n; i++) same = !strcmp(l->items[i], m->items[i]);
    return same;
}

void settings_swap(void *a, void *b, const setting *s)
{
    char *at = (char *)a + s->offset, *other = (char *)b + s->offset, kept[sizeof(option_list)];
    const size_t n = size_of(s->kind);
    memcpy(kept, at, n);
    memcpy(at, other, n);
    memcpy(other, kept, n);
}

// ---- writing ----

static void print_list(FILE *to, const option_list *list, const char *name)
{
    for (size_t i = 0; i < list->n; i++) fprintf(to, "%s = %s\n", name, list->items[i]);
    if (list->n == 0) fprintf(to, "# %s =\n", name);
}

void settings_print(FILE *to, const void *base, const setting *s)
{
    const char *at = (const char *)base + s->offset;
    switch (s->kind) {
    case TEXT:
        if (*(char *const *)at) fprintf(to, "%s = %s\n", s->name, *(char *const *)at);
        else fprintf(to, "# %s =\n", s->name);
        break;
    case LIST: print_list(to, (const option_list *)at, s->name); break;
    case FLAG: fprintf(to, "%s = %s\n", s->name, *(const bool *)at ? "yes" : "no"); break;
    case INT32: fprintf(to, "%s = %d\n", s->name, *(const int32_t *)at); break;
    case SECONDS:
    case REAL: fprintf(to, "%s = %g\n", s->name, *(const double *)at); break;
    default: fprintf(to, "%s = %lld\n", s->name, (long long)*(const int64_t *)at); break;
    }
}

// ---- shares ----

sight_err settings_share(int64_t *bytes, int32_t *percent, const char *text, const char *where)
{
    const size_t n = strlen(text);
    const bool in_percent = n > 1 && text[n - 1] == '%';
    char number[32] = "";
    if (n < sizeof number) memcpy(number, text, in_percent ? n - 1 : n);
    const double v = settings_number(number, in_percent ? INT32 : BYTES);
    const bool good = in_percent ? v >= 1 && v <= 100 : v >= 0 && v <= NO_LIMIT;
    if (!good) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.40s', must be bytes (K, M, G may follow) or 1%% to 100%%",
                          where, text);
    }
    *bytes = in_percent ? 0 : (int64_t)v;
    *percent = in_percent ? (int32_t)v : 0;
    return SIGHT_OK;
}
