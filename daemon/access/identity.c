#include "daemon/access/identity.h"

#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_IDENTITIES 4096
#define SLOTS          (2 * MAX_IDENTITIES) // a power of two

// Terms once given are never changed: readers of other threads may be looking at them.
typedef struct given_terms {
    identity_terms terms;
    struct given_terms *next; // of the replaced ones
} given_terms;

struct identity {
    char name[IDENTITY_NAME_SIZE];
    bool is_key;
    _Atomic(given_terms *) given;
    // The service's own: requests that it may begin now, and when that was counted.
    double tokens, counted_s;
    bool counted;
};

struct identity_table {
    identity *slots[SLOTS]; // by hash of the name, the next free one where it is taken
    int n;
    given_terms *replaced;
};

static const char *const right_names[RIGHT_COUNT] = {"ask", "plan", "status", "paths", "urls", "admin"};

const char *identity_right_name(identity_right right)
{
    return right_names[right];
}

// ---- reading ----

const char *identity_name(const identity *who)
{
    return who ? who->name : "";
}

const identity_terms *identity_limits(const identity *who)
{
    static const identity_terms everything = {.rights = IDENTITY_ALL_RIGHTS};
    return who ? &atomic_load(&((identity *)who)->given)->terms : &everything;
}

bool identity_may(const identity *who, identity_right right)
{
    return identity_limits(who)->rights & 1u << right;
}

void identity_describe(char *out, size_t size, const identity *who)
{
    if (!who) snprintf(out, size, "this process");
    else if (who->is_key) snprintf(out, size, "the key '%s'", who->name);
    else if (!strcmp(who->name, IDENTITY_TCP)) snprintf(out, size, "a client without a key");
    else snprintf(out, size, "%s", who->name);
}

bool identity_is_self(const identity *who)
{
    char own[IDENTITY_NAME_SIZE];
    if (!who) return true;
    snprintf(own, sizeof own, "uid %lld", (long long)geteuid());
    return !who->is_key && (!strcmp(who->name, own) || !strcmp(who->name, "uid 0"));
}

sight_err identity_refuse(const identity *who, identity_right right)
{
    static const char *const deeds[RIGHT_COUNT] = {"ask", "plan", "see the requests of others", "name media by path",
                                                   "have media fetched", "do what concerns everybody"};
    char name[IDENTITY_NAME_SIZE + 16];
    identity_describe(name, sizeof name, who);
    return sight_fail(SIGHT_E_PERMISSION, "%s may not %s: it lacks the right '%s'", name, deeds[right],
                      right_names[right]);
}

// ---- the table ----

sight_err identity_table_create(identity_table **out)
{
    identity_table *t = calloc(1, sizeof *t);
    if (!t) return sight_fail(SIGHT_E_MEMORY, "no memory for those who ask");
    *out = t;
    return SIGHT_OK;
}

static void given_destroy(given_terms *g)
{
    if (!g) return;
    identity_terms_done(&g->terms);
    free(g);
}

static void identity_destroy(identity *who)
{
    if (!who) return;
    given_destroy(atomic_load(&who->given));
    free(who);
}

void identity_table_sweep(identity_table *t)
{
    while (t->replaced) {
        given_terms *g = t->replaced;
        t->replaced = g->next;
        given_destroy(g);
    }
}

void identity_table_destroy(identity_table **p)
{
    identity_table *t = *p;
    if (!t) return;
    identity_table_sweep(t);
    for (int i = 0; i < SLOTS; i++) identity_destroy(t->slots[i]);
    free(t);
    *p = NULL;
}

// The slot of that name, or the free one where it belongs. There is always a free one.
static identity **find_slot(identity_table *t, const char *name)
{
    uint32_t h = 2166136261u; // FNV-1a
    for (const char *s = name; *s; s++) h = (h ^ (unsigned char)*s) * 16777619u;
    uint32_t i = h % SLOTS;
    while (t->slots[i] && strcmp(t->slots[i]->name, name)) i = (i + 1) % SLOTS;
    return &t->slots[i];
}

identity *identity_table_find(identity_table *t, const char *name)
{
    return *find_slot(t, name);
}

static sight_err give(given_terms **out, const identity_terms *terms)
{
    given_terms *g = calloc(1, sizeof *g);
    sight_err err = g ? identity_terms_copy(&g->terms, terms) : sight_fail(SIGHT_E_MEMORY, "no memory for rights");
    if (err) free(g);
    else *out = g;
    return err;
}

sight_err identity_table_get(identity_table *t, identity **out, const char *name, bool is_key, const identity_terms *terms)
{
    identity **slot = find_slot(t, name);
    if (*slot) {
        *out = *slot;
        return SIGHT_OK;
    }
    if (t->n == MAX_IDENTITIES) {
        return sight_fail(SIGHT_E_LIMIT, "%.60s is not known, and the server knows %d others, the limit", name, t->n);
    }
    given_terms *g;
    sight_err err = give(&g, terms);
    if (err) return err;
    identity *who = calloc(1, sizeof *who);
    if (!who) {
        given_destroy(g);
        return sight_fail(SIGHT_E_MEMORY, "no memory for '%.60s'", name);
    }
    snprintf(who->name, sizeof who->name, "%s", name);
    who->is_key = is_key;
    atomic_init(&who->given, g);
    *out = *slot = who;
    t->n++;
    return SIGHT_OK;
}

sight_err identity_table_set(identity_table *t, identity *who, const identity_terms *terms)
{
    if (identity_terms_equal(identity_limits(who), terms)) return SIGHT_OK;
    given_terms *g;
    sight_err err = give(&g, terms);
    if (err) return err;
    given_terms *old = atomic_exchange(&who->given, g);
    old->next = t->replaced;
    t->replaced = old;
    return SIGHT_OK;
}

// A bucket that holds the requests of a minute and fills up evenly.
bool identity_spend(identity *who, double now_s, int *retry_after_s)
{
    const double most = identity_limits(who)->requests_per_minute;
    if (most <= 0) return true;
    if (!who->counted) who->tokens = most;
    else who->tokens = fmin(most, who->tokens + (now_s - who->counted_s) * most / 60);
    who->counted = true;
    who->counted_s = now_s;
    if (who->tokens >= 1 - 1e-9) {
        who->tokens -= 1;
        return true;
    }
    const double wait_s = ceil((1 - who->tokens) * 60 / most - 1e-6);
    *retry_after_s = wait_s < 1 ? 1 : (int)wait_s;
    return false;
}
