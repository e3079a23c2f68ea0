// daemon/access/identity_terms.c - what an identity may, as text and back.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/access/identity.h"

static const char *const priorities[] = {"interactive", "camera", "batch"};

// The numbers among the terms.
static const struct number {
    const char *name;
    size_t offset;
    bool is_wide; // int64_t, and K, M, G, T may follow
    double max;
} numbers[] = {
    {"max-jobs", offsetof(identity_terms, max_jobs), false, 100000},
    {"max-running", offsetof(identity_terms, max_running), false, 64},
    {"max-tokens", offsetof(identity_terms, max_tokens), false, 10000000},
    {"max-media-bytes", offsetof(identity_terms, max_media_bytes), true, 9e15},
    {"requests-per-minute", offsetof(identity_terms, requests_per_minute), false, 1000000},
};

#define N_NUMBERS (sizeof numbers / sizeof *numbers)

const char *const identity_term_names[] = {"rights", "max-jobs", "max-running", "max-tokens", "max-media-bytes",
                                           "requests-per-minute", "priority", "roots", NULL};

// ---- rights ----

static sight_err add_right(unsigned *rights, const char *word, size_t n, const char *where)
{
    if (n == 3 && !memcmp(word, "all", 3)) {
        *rights = IDENTITY_ALL_RIGHTS;
        return SIGHT_OK;
    }
    for (int i = 0; i < RIGHT_COUNT; i++) {
        const char *name = identity_right_name((identity_right)i);
        if (strlen(name) != n || memcmp(name, word, n)) continue;
        *rights |= 1u << i;
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_ARGUMENT, "%s has '%.*s', must be of ask, plan, status, paths, urls, admin, or all, or none",
                      where, n < 40 ? (int)n : 40, word);
}

sight_err identity_rights_parse(unsigned *out, const char *words, const char *where)
{
    unsigned rights = 0;
    if (!strcmp(words, "none")) {
        *out = 0;
        return SIGHT_OK;
    }
    for (const char *s = words; *s;) {
        s += strspn(s, " ,\t");
        const size_t n = strcspn(s, " ,\t");
        if (n == 0) break;
        sight_err err = add_right(&rights, s, n, where);
        if (err) return err;
        s += n;
    }
    if (rights == 0) return sight_fail(SIGHT_E_ARGUMENT, "%s is empty: say none where nothing is allowed", where);
    *out = rights;
    return SIGHT_OK;
}

static void print_rights(char *out, size_t size, unsigned rights)
{
    size_t n = 0;
    for (int i = 0; i < RIGHT_COUNT; i++) {
        if (!(rights & 1u << i)) continue;
        n += (size_t)snprintf(out + n, size - n, "%s%s", n ? " " : "", identity_right_name((identity_right)i));
        if (n >= size) return;
    }
    if (n == 0) snprintf(out, size, "none");
}

// ---- roots ----

static void roots_done(identity_terms *t)
{
    for (size_t i = 0; i < t->n_roots; i++) free(t->roots[i]);
    t->n_roots = 0;
}

static sight_err add_root(identity_terms *t, const char *path, size_t n, const char *where)
{
    if (path[0] != '/') {
        return sight_fail(SIGHT_E_ARGUMENT, "%s has '%.*s', must be absolute paths with ':' between them", where,
                          n < 200 ? (int)n : 200, path);
    }
    if (t->n_roots == IDENTITY_ROOTS_MAX) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s has more than %d folders", where, IDENTITY_ROOTS_MAX);
    }
    char *copy = strndup(path, n);
    if (!copy) return sight_fail(SIGHT_E_MEMORY, "no memory for rights");
    t->roots[t->n_roots++] = copy;
    return SIGHT_OK;
}

static sight_err put_roots(identity_terms *t, const char *value, const char *where)
{
    identity_terms given = {0};
    sight_err err = SIGHT_OK;
    for (const char *s = value; *s && !err;) {
        const size_t n = strcspn(s, ":");
        err = add_root(&given, s, n, where);
        s += n + (s[n] == ':');
    }
    if (err) {
        roots_done(&given);
        return err;
    }
    roots_done(t);
    memcpy(t->roots, given.roots, sizeof t->roots);
    t->n_roots = given.n_roots;
    return SIGHT_OK;
}

static void print_roots(char *out, size_t size, const identity_terms *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_roots && n < size; i++) {
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ":" : "", t->roots[i]);
    }
}

// ---- numbers and priorities ----

static sight_err put_number(identity_terms *t, const struct number *what, const char *value, const char *where)
{
    static const char units[] = "KMGT";
    char *end = NULL;
    double v = value[0] >= '0' && value[0] <= '9' && !strpbrk(value, "xXpPnNeE.") ? strtod(value, &end) : NAN;
    const char *unit = what->is_wide && end && *end ? strchr(units, *end) : NULL;
    if (unit) {
        v = ldexp(v, 10 * (int)(unit - units + 1));
        end++;
    }
    if (!end || *end || !(v >= 0 && v <= what->max)) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.40s', must be a whole number from 0 to %.0f%s", where, value, what->max,
                          what->is_wide ? " (K, M, G may follow)" : "");
    }
    char *at = (char *)t + what->offset;
    if (what->is_wide) *(int64_t *)at = (int64_t)v;
    else *(int32_t *)at = (int32_t)v;
    return SIGHT_OK;
}

static int64_t get_number(const identity_terms *t, const struct number *what)
{
    const char *at = (const char *)t + what->offset;
    return what->is_wide ? *(const int64_t *)at : *(const int32_t *)at;
}

static sight_err put_priority(identity_terms *t, const char *value, const char *where)
{
    for (int i = 0; i < 3; i++) {
        if (strcmp(value, priorities[i])) continue;
        t->priority = i;
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.40s', must be interactive, camera or batch", where, value);
}

// ---- any ----

sight_err identity_terms_put(identity_terms *t, const char *name, const char *value, const char *where)
{
    if (!strcmp(name, "rights")) return identity_rights_parse(&t->rights, value, where);
    if (!strcmp(name, "roots")) return put_roots(t, value, where);
    if (!strcmp(name, "priority")) return put_priority(t, value, where);
    for (size_t i = 0; i < N_NUMBERS; i++) {
        if (!strcmp(name, numbers[i].name)) return put_number(t, &numbers[i], value, where);
    }
    return sight_fail(SIGHT_E_NOT_FOUND, "%s: there is no such term", where);
}

void identity_terms_print(char *out, size_t size, const identity_terms *t, const char *name)
{
    *out = 0;
    if (!strcmp(name, "rights")) print_rights(out, size, t->rights);
    if (!strcmp(name, "roots")) print_roots(out, size, t);
    if (!strcmp(name, "priority") && t->priority) snprintf(out, size, "%s", priorities[t->priority]);
    for (size_t i = 0; i < N_NUMBERS; i++) {
        if (strcmp(name, numbers[i].name) || !get_number(t, &numbers[i])) continue;
        snprintf(out, size, "%lld", (long long)get_number(t, &numbers[i]));
    }
}

sight_err identity_terms_copy(identity_terms *out, const identity_terms *from)
{
    identity_terms copy = *from;
    for (copy.n_roots = 0; copy.n_roots < from->n_roots; copy.n_roots++) {
        copy.roots[copy.n_roots] = strdup(from->roots[copy.n_roots]);
        if (copy.roots[copy.n_roots]) continue;
        roots_done(&copy);
        return sight_fail(SIGHT_E_MEMORY, "no memory for rights");
    }
    *out = copy;
    return SIGHT_OK;
}

void identity_terms_done(identity_terms *t)
{
    roots_done(t);
    *t = (identity_terms){0};
}

bool identity_terms_equal(const identity_terms *a, const identity_terms *b)
{
    bool equal = a->rights == b->rights && a->priority == b->priority && a->n_roots == b->n_roots;
    for (size_t i = 0; i < N_NUMBERS; i++) equal = equal && get_number(a, &numbers[i]) == get_number(b, &numbers[i]);
    for (size_t i = 0; equal && i < a->n_roots; i++) equal = !strcmp(a->roots[i], b->roots[i]);
    return equal;
}
