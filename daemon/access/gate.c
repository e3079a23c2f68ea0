#include "daemon/access/gate.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/access/keys.h"

#define LOOK_S 0.4 // between two looks at the folder of keys: a key that is taken away is noticed within a second
#define TELL_S 1.0 // between two lines about those who were turned away

#define DEFAULT_UID_RIGHTS (1u << RIGHT_ASK | 1u << RIGHT_PLAN | 1u << RIGHT_PATHS | 1u << RIGHT_URLS)
#define DEFAULT_TCP_RIGHTS (1u << RIGHT_ASK | 1u << RIGHT_PLAN)

// The settings, read.
typedef struct gate_rules {
    mode_t mode;
    bool set_group;
    gid_t group;
    uid_t allowed[OPTIONS_LIST_MAX];
    size_t n_allowed;
    unsigned uid_rights, tcp_rights;
} gate_rules;

struct gate {
    gate_rules rules;
    identity_table *table;
    keys *keys; // NULL: there are none
    bool broken;  // the folder could not be read, which was told
    bool recheck; // a connection whose key is gone has just spoken
    double looked_s, told_s;
    int64_t told; // of those turned away
    metrics *metrics;
    int64_t let_in[BY_CLASS_COUNT], turned_away[BY_CLASS_COUNT]; // that were counted there
    int64_t refused_users; // messages of users that are not allowed
};

// ---- settings ----

static sight_err read_mode(mode_t *out, const char *text)
{
    char *end;
    const unsigned long mode = strtoul(text, &end, 8);
    if (*text < '0' || *text > '7' || *end || mode > 0777 || (mode & 0600) != 0600 || mode & 0111) {
        return sight_fail(SIGHT_E_ARGUMENT, "socket-mode is '%.20s', must be octal and leave its owner rw: 0600, 0660 or 0666", text);
    }
    *out = (mode_t)mode;
    return SIGHT_OK;
}

// A number, or what find makes of a name.
static bool read_number(unsigned long *out, const char *text)
{
    char *end;
    *out = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && *out < UINT32_MAX;
}

static sight_err read_group(gid_t *out, const char *text)
{
    unsigned long number;
    const struct group *g = read_number(&number, text) ? NULL : getgrnam(text);
    if (!g && !read_number(&number, text)) return sight_fail(SIGHT_E_ARGUMENT, "socket-group: there is no group '%.60s'", text);
    *out = g ? g->gr_gid : (gid_t)number;
    return SIGHT_OK;
}

static sight_err read_user(uid_t *out, const char *text)
{
    unsigned long number;
    const struct passwd *u = read_number(&number, text) ? NULL : getpwnam(text);
    if (!u && !read_number(&number, text)) return sight_fail(SIGHT_E_ARGUMENT, "allow-uid: there is no user '%.60s'", text);
    *out = u ? u->pw_uid : (uid_t)number;
    return SIGHT_OK;
}

static sight_err read_rules(gate_rules *out, const gate_options *o)
{
    gate_rules r = {.mode = 0600, .set_group = o->socket_group, .uid_rights = DEFAULT_UID_RIGHTS, .tcp_rights = DEFAULT_TCP_RIGHTS};
    sight_err err = o->socket_mode ? read_mode(&r.mode, o->socket_mode) : SIGHT_OK;
    if (!err && o->socket_group) err = read_group(&r.group, o->socket_group);
    for (; r.n_allowed < o->allow_uid.n && !err; r.n_allowed++) {
        err = read_user(&r.allowed[r.n_allowed], o->allow_uid.items[r.n_allowed]);
    }
    if (!err && o->uid_rights) err = identity_rights_parse(&r.uid_rights, o->uid_rights, "uid-rights");
    if (!err && o->tcp_rights) err = identity_rights_parse(&r.tcp_rights, o->tcp_rights, "tcp-rights");
    if (!err && o->server_key && !o->keys) {
        err = sight_fail(SIGHT_E_ARGUMENT, "server-key is given without keys, the folder of those who may connect");
    }
    if (!err) *out = r;
    return err;
}

sight_err gate_check(const gate_options *o)
{
    gate_rules rules;
    keys *k = NULL;
    sight_err err = read_rules(&rules, o);
    if (!err && o->keys) err = keys_open(&k, o->keys, o->server_key);
    keys_close(&k);
    return err;
}

unsigned gate_open_to(const gate_options *o)
{
    mode_t mode = 0600;
    return o->socket_mode && !read_mode(&mode, o->socket_mode) ? mode & 077 : 0;
}

sight_err gate_open(gate **out, const gate_options *o, identity_table *table, metrics *m)
{
    gate *g = calloc(1, sizeof *g);
    if (!g) return sight_fail(SIGHT_E_MEMORY, "no memory for rights");
    g->table = table;
    g->metrics = m;
    sight_err err = read_rules(&g->rules, o);
    if (!err && o->keys) err = keys_open(&g->keys, o->keys, o->server_key);
    if (!err && g->keys && keys_count(g->keys) == 0) {
        log_line(LOG_WARNING, "'%s' holds no client's key yet: nobody can connect over tcp; see sight keys new", o->keys);
    }
    if (err) gate_close(&g);
    else *out = g;
    return err;
}

void gate_close(gate **p)
{
    gate *g = *p;
    if (!g) return;
    keys_close(&g->keys);
    free(g);
    *p = NULL;
}

static bool accepts(void *arg, const char *public_key)
{
    const gate *g = arg;
    return keys_find(g->keys, public_key) != NULL;
}

void gate_configure(gate *g, server_options *o)
{
    o->socket_mode = g->rules.mode;
    o->set_group = g->rules.set_group;
    o->group = g->rules.group;
    if (!g->keys) return;
    o->secret_key = keys_server_secret(g->keys);
    o->accepts = accepts;
    o->accepts_arg = g;
}

// ---- who ----

static bool is_allowed(const gate_rules *r, int64_t uid)
{
    for (size_t i = 0; i < r->n_allowed; i++) {
        if (r->allowed[i] == (uid_t)uid) return true;
    }
    return r->n_allowed == 0;
}

static sight_err identify_user(gate *g, identity **who, int64_t uid)
{
    char name[IDENTITY_NAME_SIZE];
    if (uid < 0) return sight_fail(SIGHT_E_PERMISSION, "the system does not say whose process asks");
    if (!is_allowed(&g->rules, uid)) {
        g->refused_users++;
        return sight_fail(SIGHT_E_PERMISSION, "uid %lld may not ask this server: it is not in allow-uid", (long long)uid);
    }
    const bool trusted = uid == 0 || uid == (int64_t)geteuid();
    snprintf(name, sizeof name, "uid %lld", (long long)uid);
    const identity_terms terms = {.rights = trusted ? IDENTITY_ALL_RIGHTS : g->rules.uid_rights};
    return identity_table_get(g->table, who, name, false, &terms);
}

static sight_err identify_key(gate *g, identity **who, const char *key)
{
    const keys_entry *e = keys_find(g->keys, key);
    if (e) return identity_table_get(g->table, who, e->name, true, &e->terms);
    g->recheck = true;
    return sight_fail(SIGHT_E_PERMISSION, "this key is no longer known here");
}

sight_err gate_identify(gate *g, identity **who, const server_message *m)
{
    if (m->local) return identify_user(g, who, m->uid);
    if (g->keys) return identify_key(g, who, m->key);
    const identity_terms terms = {.rights = g->rules.tcp_rights};
    return identity_table_get(g->table, who, IDENTITY_TCP, false, &terms);
}

// ---- keys that come and go ----

static void warn(void *arg, const char *sentence)
{
    log_line(LOG_WARNING, "keys: %s", sentence);
}

// Those who are known already get the terms that their keys have now; the others when they first ask.
static void give_terms(gate *g)
{
    for (size_t i = 0; i < keys_count(g->keys); i++) {
        const keys_entry *e = keys_get(g->keys, i);
        identity *who = identity_table_find(g->table, e->name);
        if (who && identity_table_set(g->table, who, &e->terms)) warn(NULL, sight_error());
    }
}

void gate_reload(gate *g, server *s)
{
    if (!g->keys) return;
    sight_err err = keys_reload(g->keys, warn, NULL);
    if (err && !g->broken) warn(NULL, sight_error());
    g->broken = err != SIGHT_OK;
    give_terms(g);
    const int ended = server_recheck(s);
    g->recheck = false;
    if (err) return;
    log_line(LOG_INFO, "keys: %zu are known%s", keys_count(g->keys), ended ? ", connections of others were ended" : "");
}

// One line about strangers now and then, however many there are.
static void tell_refusals(gate *g, const server *s, double now_s)
{
    const zap_tally *r = server_key_tally(s);
    if (r->refused == g->told || now_s - g->told_s < TELL_S) return;
    log_line(LOG_WARNING, "keys: %lld connections with unknown keys were turned away, the last from %s with '%s'",
             (long long)(r->refused - g->told), r->address, r->key);
    g->told = r->refused;
    g->told_s = now_s;
}

int gate_step_ms(const gate *g)
{
    return g->keys ? (int)(LOOK_S * 1000) : -1;
}

// What was not yet counted of a number that only grows.
static void count(gate *g, metric_id id, metric_class class, int64_t *counted, int64_t now)
{
    if (now > *counted) metrics_add_to(g->metrics, id, class, 0, now - *counted);
    *counted = now;
}

static void count_all(gate *g, const server *s)
{
    const zap_tally *keyed = server_key_tally(s);
    const int64_t let_in[BY_CLASS_COUNT] = {server_opened(s, false), server_opened(s, true), keyed ? keyed->accepted : 0};
    const int64_t turned_away[BY_CLASS_COUNT] = {0, g->refused_users, keyed ? keyed->refused : 0};
    for (int i = 0; i < BY_CLASS_COUNT; i++) {
        count(g, METRIC_AUTHENTICATED, (metric_class)i, &g->let_in[i], let_in[i]);
        count(g, METRIC_TURNED_AWAY, (metric_class)i, &g->turned_away[i], turned_away[i]);
    }
}

void gate_tend(gate *g, server *s, double now_s)
{
    count_all(g, s);
    if (!g->keys) return;
    tell_refusals(g, s, now_s);
    if (now_s - g->looked_s >= LOOK_S) {
        g->looked_s = now_s;
        if (keys_changed(g->keys)) gate_reload(g, s);
    }
    if (g->recheck) server_recheck(s);
    g->recheck = false;
}
