#include "daemon/fair.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct owner {
    const void *who;
    double used_s;
    int requests; // open ones, over all connections
    int accounts;
    struct owner *next;
} owner;

struct fair_account {
    owner *owner;
    double used_s;
    int requests;
    fair_account *next;
    size_t client_size;
    unsigned char client[];
};

// More accounts than that of those who are away are not remembered.
#define AWAY_MAX 256

struct fair {
    owner *owners;
    fair_account *accounts;
    int n_accounts;
};

static const char *const names[] = {"interactive", "camera", "batch"};

const char *fair_class_name(fair_class class)
{
    return (unsigned)class < FAIR_CLASSES ? names[class] : NULL;
}

bool fair_class_parse(fair_class *out, const char *name)
{
    for (int i = 0; i < FAIR_CLASSES; i++) {
        if (strcmp(name, names[i])) continue;
        *out = (fair_class)i;
        return true;
    }
    return false;
}

sight_err fair_create(fair **out)
{
    fair *f = calloc(1, sizeof *f);
    if (!f) return sight_fail(SIGHT_E_MEMORY, "no memory for accounts");
    *out = f;
    return SIGHT_OK;
}

void fair_destroy(fair **pf)
{
    fair *f = *pf;
    if (!f) return;
    for (fair_account *a; (a = f->accounts);) {
        f->accounts = a->next;
        free(a);
    }
    for (owner *o; (o = f->owners);) {
        f->owners = o->next;
        free(o);
    }
    free(f);
    *pf = NULL;
}

// ---- what the least of those at work has used; INFINITY: nobody is ----

static double least_owner(const fair *f)
{
    double least = INFINITY;
    for (const owner *o = f->owners; o; o = o->next) {
        if (o->requests && o->used_s < least) least = o->used_s;
    }
    return least;
}

static double least_account(const fair *f, const owner *of)
{
    double least = INFINITY;
    for (const fair_account *a = f->accounts; a; a = a->next) {
        if (a->owner == of && a->requests && a->used_s < least) least = a->used_s;
    }
    return least;
}

// ---- opening and closing ----

// Forgets who is away and would begin with the least of the others anyway.
static void forget(fair *f)
{
    const double least = f->n_accounts > AWAY_MAX ? INFINITY : least_owner(f);
    for (fair_account **at = &f->accounts, *a; (a = *at);) {
        const bool keeps = (a->owner->requests && a->used_s > least_account(f, a->owner)) ||
                           (!a->owner->requests && a->owner->used_s > least);
        if (a->requests || (keeps && isfinite(least))) {
            at = &a->next;
            continue;
        }
        *at = a->next;
        a->owner->accounts--;
        f->n_accounts--;
        free(a);
    }
    for (owner **at = &f->owners, *o; (o = *at);) {
        if (o->accounts) {
            at = &o->next;
            continue;
        }
        *at = o->next;
        free(o);
    }
}

static owner *find_owner(const fair *f, const void *who)
{
    owner *o = f->owners;
    while (o && o->who != who) o = o->next;
    return o;
}

static fair_account *find_account(const fair *f, const owner *of, const void *client, size_t size)
{
    fair_account *a = f->accounts;
    while (a && (a->owner != of || a->client_size != size || memcmp(a->client, client, size))) a = a->next;
    return a;
}

static fair_account *add_account(fair *f, const void *who, const void *client, size_t size)
{
    owner *o = find_owner(f, who);
    fair_account *a = o ? find_account(f, o, client, size) : NULL;
    if (a) return a;
    a = calloc(1, sizeof *a + size);
    if (!o) {
        o = a ? calloc(1, sizeof *o) : NULL;
        if (!o) {
            free(a);
            return NULL;
        }
        o->who = who;
        o->next = f->owners;
        f->owners = o;
    }
    if (!a) return NULL;
    a->owner = o;
    a->client_size = size;
    memcpy(a->client, client, size);
    a->next = f->accounts;
    f->accounts = a;
    o->accounts++;
    f->n_accounts++;
    return a;
}

sight_err fair_open(fair *f, fair_account **out, const void *who, const void *client, size_t client_size)
{
    fair_account *a = add_account(f, who, client, client_size);
    if (!a) return sight_fail(SIGHT_E_MEMORY, "no memory for an account");
    owner *o = a->owner;
    const double least = least_owner(f), least_own = least_account(f, o);
    if (o->requests++ == 0 && isfinite(least) && o->used_s < least) o->used_s = least;
    if (a->requests++ == 0 && isfinite(least_own) && a->used_s < least_own) a->used_s = least_own;
    *out = a;
    return SIGHT_OK;
}

void fair_close(fair *f, fair_account **pa)
{
    fair_account *a = *pa;
    if (!a) return;
    *pa = NULL;
    a->requests--;
    a->owner->requests--;
    forget(f);
}

void fair_charge(fair *f, fair_account *a, double seconds)
{
    (void)f;
    if (!a || !(seconds > 0)) return;
    a->used_s += seconds;
    a->owner->used_s += seconds;
}

// ---- turns ----

static int class_now(const fair_claim *c, double now_s)
{
    const double ages = floor((now_s - c->since_s) / FAIR_AGE_S);
    const double class = c->class - (ages > 0 ? ages : 0);
    return class > 0 ? (int)class : 0;
}

static double deadline_of(const fair_claim *c)
{
    return c->deadline_s > 0 ? c->deadline_s : INFINITY;
}

static int order_of(double a, double b)
{
    return a < b ? -1 : a > b;
}

bool fair_before(const fair *f, const fair_claim *a, const fair_claim *b, double now_s)
{
    const double ahead = least_owner(f) + FAIR_AHEAD_S;
    const fair_account *x = a->account, *y = b->account;
    int o = class_now(a, now_s) - class_now(b, now_s);
    if (!o && x && y) o = (x->owner->used_s > ahead) - (y->owner->used_s > ahead);
    if (!o) o = order_of(deadline_of(a), deadline_of(b));
    if (!o && x && y && x->owner != y->owner) o = order_of(x->owner->used_s, y->owner->used_s);
    if (!o && x && y && x->owner == y->owner) o = order_of(x->used_s, y->used_s);
    return o ? o < 0 : a->order < b->order;
}
