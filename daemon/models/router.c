#include "daemon/models/router.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/text.h"

typedef enum route_state { LOOKING, PASSING, GIVING_UP } route_state;

struct route {
    router_spec spec;
    int at;         // of its models
    route_state state;
    json_t *kept;   // [[kind, body], ...] of the model that is looked at
    json_t *ended;  // the same of one that had answered to the end, with its done; NULL: none had
    json_t *tried;  // [{"model", "confidence", "tokens", "why"}] of those that were given up on
};

sight_err route_create(route **out, const router_spec *spec)
{
    route *r = calloc(1, sizeof *r);
    if (r) {
        r->kept = json_array();
        r->tried = json_array();
    }
    if (!r || !r->kept || !r->tried) {
        route_destroy(&r);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a request");
    }
    r->spec = *spec;
    *out = r;
    return SIGHT_OK;
}

void route_destroy(route **p)
{
    route *r = *p;
    if (!r) return;
    json_decref(r->kept);
    json_decref(r->ended);
    json_decref(r->tried);
    free(r);
    *p = NULL;
}

const char *route_model(const route *r)
{
    return r->spec.models[r->at];
}

static bool is_last(const route *r)
{
    return r->at + 1 == r->spec.n_models;
}

bool route_looks(const route *r)
{
    return r->state == LOOKING && !is_last(r);
}

bool route_gives_up(const route *r)
{
    return r->state == GIVING_UP;
}

int route_asked(const route *r)
{
    return r->at;
}

void route_next(route *r)
{
    r->at++;
    r->state = LOOKING;
    json_array_clear(r->kept);
}

// ---- sending and keeping ----

static void send_done(const route *r, const json_t *body, route_sink *sink, void *arg)
{
    json_t *done = json_copy((json_t *)body);
    json_t *about = json_pack("{s:s, s:O}", "router", r->spec.name, "tried", r->tried);
    if (done && about) json_object_set(done, "routed", about);
    json_decref(about);
    sink(arg, SIGHT_DONE, done ? done : body);
    json_decref(done);
}

static void send_on(const route *r, sight_event_kind kind, const json_t *body, route_sink *sink, void *arg)
{
    if (kind == SIGHT_DONE) send_done(r, body, sink, arg);
    else sink(arg, kind, body);
}

static void flush(const route *r, const json_t *kept, route_sink *sink, void *arg)
{
    size_t i;
    json_t *pair;
    json_array_foreach(kept, i, pair) {
        const sight_event_kind kind = (sight_event_kind)json_integer_value(json_array_get(pair, 0));
        send_on(r, kind, json_array_get(pair, 1), sink, arg);
    }
}

static bool keep(route *r, sight_event_kind kind, const json_t *body)
{
    json_t *pair = json_array();
    if (!pair || json_array_append_new(pair, json_integer(kind)) || json_array_append(pair, (json_t *)body)) {
        json_decref(pair);
        return false;
    }
    return json_array_append_new(r->kept, pair) == 0;
}

// ---- deciding ----

static void accept(route *r, route_sink *sink, void *arg)
{
    r->state = PASSING;
    flush(r, r->kept, sink, arg);
    json_array_clear(r->kept);
}

static void note(route *r, const char *why, const confidence *c, const char *line)
{
    json_t *about = json_pack("{s:s, s:s}", "model", route_model(r), "why", why);
    if (about && c && isfinite(confidence_value(c))) {
        json_object_set_new(about, "confidence", json_real(confidence_value(c)));
    }
    if (about && c) json_object_set_new(about, "tokens", json_integer(c->tokens));
    if (about && line) json_object_set_new(about, "message", text_json(line));
    if (about) json_array_append_new(r->tried, about);
}

static void give_up(route *r, const char *why, const confidence *c, const char *line)
{
    note(r, why, c, line);
    r->state = GIVING_UP;
}

static bool is_sure(const route *r, const confidence *c)
{
    return confidence_value(c) >= r->spec.confidence; // not of NAN: nothing was answered
}

static void decide_at_end(route *r, const json_t *done, const confidence *c, route_sink *sink, void *arg)
{
    const char *reason = json_string_value(json_object_get(done, "finish_reason"));
    const bool circles = reason && !strcmp(reason, "repetition"), cancelled = reason && !strcmp(reason, "cancelled");
    if (cancelled || (is_sure(r, c) && !circles)) {
        accept(r, sink, arg);
        return;
    }
    json_decref(r->ended);
    r->ended = json_incref(r->kept); // with its done
    json_t *fresh = json_array();
    if (fresh) {
        json_decref(r->kept);
        r->kept = fresh;
    }
    give_up(r, circles ? "repetition" : "confidence", c, NULL);
    if (fresh) return;
    json_decref(r->ended); // they are one list
    r->ended = NULL;
}

sight_err route_event(route *r, sight_event_kind kind, const json_t *body, const confidence *c, route_sink *sink, void *arg)
{
    if (r->state == GIVING_UP) return SIGHT_OK; // what ending it brings
    const bool at_once = kind == SIGHT_PROGRESS || kind == SIGHT_ACCEPTED || kind == SIGHT_ALIVE;
    if (!route_looks(r) || at_once) {
        send_on(r, kind, body, sink, arg);
        return SIGHT_OK;
    }
    if (kind == SIGHT_ERROR) {
        give_up(r, "error", c, json_string_value(json_object_get(body, "message")));
        return SIGHT_OK;
    }
    if (!keep(r, kind, body)) return sight_fail(SIGHT_E_MEMORY, "no memory to keep an answer until it is decided");
    if (kind == SIGHT_DONE) decide_at_end(r, body, c, sink, arg);
    return SIGHT_OK;
}

void route_look(route *r, const confidence *c, route_sink *sink, void *arg)
{
    if (!route_looks(r) || r->spec.first_tokens == 0 || c->tokens < r->spec.first_tokens) return;
    if (is_sure(r, c)) accept(r, sink, arg);
    else give_up(r, "confidence", c, NULL);
}

bool route_fails(route *r, sight_err code, const char *line, bool *sent, route_sink *sink, void *arg)
{
    *sent = false;
    // What is wrong with the request itself is wrong for all models.
    const bool own = code == SIGHT_E_UNSUPPORTED || code == SIGHT_E_LIMIT || code == SIGHT_E_MEMORY ||
                     code == SIGHT_E_MODEL || code == SIGHT_E_NOT_FOUND || code == SIGHT_E_BUSY || code == SIGHT_E_IO ||
                     code == SIGHT_E_INTERNAL;
    if (!is_last(r) && own) {
        give_up(r, "error", NULL, line);
        return true;
    }
    if (!r->ended) return false;
    note(r, "error", NULL, line);
    flush(r, r->ended, sink, arg);
    *sent = true;
    return false;
}
