#include "checkpoint/quant_pattern.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define MAX_PATTERNS    65536
#define MAX_PATTERN     4096
#define MATCH_LIMIT     100000 // steps of one match: a hostile expression ends as "no match"
#define MAX_NAME        160
#define MAX_NAMES       4

typedef struct pattern {
    char *name;        // NULL for a regular expression
    pcre2_code *regex; // NULL for a name
} pattern;

struct quant_patterns {
    pattern *items;
    size_t n;
    pcre2_match_context *limits;
};

// ---- making ----

static sight_err compile(pattern *p, const char *text, const char *what, const char *key)
{
    int error;
    PCRE2_SIZE at;
    p->regex = pcre2_compile((PCRE2_SPTR)text, strlen(text), PCRE2_ANCHORED, &error, &at, NULL);
    if (p->regex) return SIGHT_OK;
    char line[160] = "";
    pcre2_get_error_message(error, (PCRE2_UCHAR *)line, sizeof line);
    return sight_fail(SIGHT_E_UNSUPPORTED,
                      "%s: %s: regular expression '%.200s' is not understood: %s at character %zu",
                      what, key, text, line, (size_t)at);
}

static sight_err add(quant_patterns *p, const json_t *v, const char *what, const char *key)
{
    const char *text = json_string_value(v);
    if (!text || strlen(text) > MAX_PATTERN || strlen(text) != json_string_length(v)) {
        return sight_fail(SIGHT_E_MODEL, "%s: '%s' must be a list of names of modules", what, key);
    }
    pattern *item = &p->items[p->n++];
    if (strncmp(text, "re:", 3) == 0) return compile(item, text + 3, what, key);
    item->name = strdup(text);
    return item->name ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", key);
}

sight_err quant_patterns_create(quant_patterns **out, const json_t *list, const char *what,
                                const char *key)
{
    const size_t n = json_array_size(list);
    if ((list && !json_is_null(list) && !json_is_array(list)) || n > MAX_PATTERNS) {
        return sight_fail(SIGHT_E_MODEL, "%s: '%s' must be a list of at most %d names of modules",
                          what, key, MAX_PATTERNS);
    }
    quant_patterns *p = calloc(1, sizeof *p);
    if (p) p->items = calloc(n + 1, sizeof *p->items);
    if (p) p->limits = pcre2_match_context_create(NULL);
    sight_err err = p && p->items && p->limits ? SIGHT_OK
                                               : sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", key);
    if (!err) pcre2_set_match_limit(p->limits, MATCH_LIMIT);
    for (size_t i = 0; i < n && !err; i++) err = add(p, json_array_get(list, i), what, key);
    if (err) quant_patterns_destroy(&p);
    else *out = p;
    return err;
}

void quant_patterns_destroy(quant_patterns **at)
{
    if (!at || !*at) return;
    quant_patterns *p = *at;
    for (size_t i = 0; p->items && i < p->n; i++) {
        free(p->items[i].name);
        pcre2_code_free(p->items[i].regex);
    }
    free(p->items);
    pcre2_match_context_free(p->limits);
    free(p);
    *at = NULL;
}

size_t quant_patterns_count(const quant_patterns *p)
{
    return p ? p->n : 0;
}

// ---- matching ----

// The names that a module goes by: as published, without "language_model." (a text-only model), without
// the leading "model.", and with both parts the other way round (transformers before 4.52).
static int names_of(char names[MAX_NAMES][MAX_NAME], const char *module)
{
    static const char inner[] = "model.language_model.";
    int n = 0;
    snprintf(names[n++], MAX_NAME, "%s", module);
    if (strncmp(module, "model.", 6) == 0) snprintf(names[n++], MAX_NAME, "%s", module + 6);
    if (strncmp(module, inner, sizeof inner - 1) == 0) {
        snprintf(names[n++], MAX_NAME, "model.%s", module + sizeof inner - 1);
        snprintf(names[n++], MAX_NAME, "language_model.model.%s", module + sizeof inner - 1);
    }
    return n;
}

static const char *class_of(const char *module)
{
    return strstr(module, "embed") ? "Embedding" : "Linear";
}

static bool regex_matches(const quant_patterns *p, const pattern *item, const char *name)
{
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    const int rc = data ? pcre2_match(item->regex, (PCRE2_SPTR)name, strlen(name), 0, 0, data, p->limits)
                        : -1;
    pcre2_match_data_free(data);
    return rc >= 0;
}

static quant_match match_one(const quant_patterns *p, const pattern *item, const char *class_name,
                             char names[MAX_NAMES][MAX_NAME], int n)
{
    if (item->name && strcmp(item->name, class_name) == 0) return QUANT_BY_CLASS;
    for (int i = 0; i < n; i++) {
        if (item->name && strcmp(item->name, names[i]) == 0) return QUANT_BY_NAME;
        if (item->regex && regex_matches(p, item, names[i])) return QUANT_BY_REGEX;
    }
    return QUANT_NO_MATCH;
}

quant_match quant_patterns_match(const quant_patterns *p, const char *module)
{
    char names[MAX_NAMES][MAX_NAME];
    const int n = names_of(names, module);
    quant_match best = QUANT_NO_MATCH;
    for (size_t i = 0; p && i < p->n; i++) {
        const quant_match m = match_one(p, &p->items[i], class_of(module), names, n);
        if (m > best) best = m;
    }
    return best;
}
