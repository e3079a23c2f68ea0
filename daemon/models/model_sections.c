#include "daemon/models/model_sections.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/models/model_set.h"

static const char *const kinds[] = {"model", "router"};

// Letters, digits and . _ - : /, and with plain none of the last two.
static bool name_is_good(const char *name, size_t n, bool plain)
{
    if (n == 0 || n >= MODEL_NAME_SIZE) return false;
    for (size_t i = 0; i < n; i++) {
        const char c = name[i];
        const bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!alnum && (!c || !strchr(plain ? "._-" : "._-:/", c))) return false;
    }
    return true;
}

static model_section *find(const model_sections *s, const char *name, size_t n)
{
    for (size_t i = 0; i < s->n; i++) {
        const char *has = s->items[i].name;
        if (strlen(has) == n && !memcmp(has, name, n)) return &s->items[i];
    }
    return NULL;
}

static sight_err add(model_sections *s, model_section **out, section_kind kind, const char *name, size_t n,
                     const char *where)
{
    size_t of_kind = 0;
    for (size_t i = 0; i < s->n; i++) of_kind += s->items[i].kind == kind;
    const int most = kind == SECTION_MODEL ? MODELS_MAX - 1 : ROUTERS_MAX; // one is --model's own
    if (of_kind >= (size_t)most) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s: more than %d %ss", where, most, kinds[kind]);
    }
    model_section *items = realloc(s->items, (s->n + 1) * sizeof *items);
    if (!items) return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    s->items = items;
    items[s->n] = (model_section){.kind = kind};
    memcpy(items[s->n].name, name, n);
    *out = &items[s->n++];
    return SIGHT_OK;
}

sight_err model_sections_begin(model_sections *s, model_section **out, const char *line, const char *where)
{
    const size_t size = strlen(line);
    for (int kind = 0; kind < 2; kind++) {
        const size_t n = strlen(kinds[kind]);
        if (size < n + 4 || line[size - 1] != ']' || memcmp(line + 1, kinds[kind], n) || line[n + 1] != ' ') continue;
        const char *name = line + n + 2;
        while (*name == ' ') name++;
        size_t length = (size_t)(line + size - 1 - name);
        while (length && name[length - 1] == ' ') length--;
        if (!name_is_good(name, length, false)) {
            return sight_fail(SIGHT_E_ARGUMENT, "%s: a name is 1 to %d letters, digits and ._-:/, not '%.*s'", where,
                              MODEL_NAME_SIZE - 1, (int)(length < 80 ? length : 80), name);
        }
        if (find(s, name, length)) {
            return sight_fail(SIGHT_E_ARGUMENT, "%s: there is a '%.*s' already", where, (int)length, name);
        }
        return add(s, out, (section_kind)kind, name, length, where);
    }
    return sight_fail(SIGHT_E_ARGUMENT, "%s: '%.80s' is neither [model NAME] nor [router NAME]", where, line);
}

sight_err model_sections_set(model_section *to, const char *name, const char *value, const char *where)
{
    sight_err err = model_set_check(to->kind, name, value, where);
    if (err) return err;
    section_value *values = realloc(to->values, (to->n + 1) * sizeof *values);
    if (!values) return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    to->values = values;
    const section_value fresh = {strdup(name), strdup(value)};
    if (!fresh.name || !fresh.value) {
        free(fresh.name);
        free(fresh.value);
        return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    }
    values[to->n++] = fresh;
    return SIGHT_OK;
}

sight_err model_sections_take(model_sections *s, bool *taken, const char *value, const char *where)
{
    const char *equals = strchr(value, '=');
    *taken = equals && name_is_good(value, (size_t)(equals - value), true);
    if (!*taken) return SIGHT_OK;
    const size_t n = (size_t)(equals - value);
    model_section *to = find(s, value, n);
    if (to && to->kind != SECTION_MODEL) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s: '%.*s' is a router", where, (int)n, value);
    }
    sight_err err = to ? SIGHT_OK : add(s, &to, SECTION_MODEL, value, n, where);
    return err ? err : model_sections_set(to, "model", equals + 1, where);
}

void model_sections_print(const model_sections *s, FILE *to)
{
    for (size_t i = 0; i < s->n; i++) {
        const model_section *x = &s->items[i];
        fprintf(to, "\n[%s %s]\n", kinds[x->kind], x->name);
        for (size_t j = 0; j < x->n; j++) fprintf(to, "%s = %s\n", x->values[j].name, x->values[j].value);
    }
}

void model_sections_done(model_sections *s)
{
    for (size_t i = 0; i < s->n; i++) {
        for (size_t j = 0; j < s->items[i].n; j++) {
            free(s->items[i].values[j].name);
            free(s->items[i].values[j].value);
        }
        free(s->items[i].values);
    }
    free(s->items);
    *s = (model_sections){0};
}
