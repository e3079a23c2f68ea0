#include "sight/client.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "clients/c/connection.h"

// While a request is under way the server says something every 250 ms; so long a silence means that
// it hangs.
#define SILENCE_S 30.0
// How long a server that listens may take to answer the first question.
#define HELLO_MS 5000

static const char cancel_prefix[] = "cancel-";

// An event put aside while sight_client_call waited for another.
typedef struct kept_event {
    struct kept_event *next;
    sight_event event;
    char id[SIGHT_ID_SIZE];
    char json[];
} kept_event;

struct sight_client {
    connection *link;
    unsigned long long asked;      // requests so far, for ids
    int under_way;                 // requests without their end
    double heard_s;                // when the server was last heard
    long long max_message_bytes;   // of the server; 0: not known yet
    kept_event *kept, **kept_end;
    kept_event *shown; // what the last sight_client_next handed out
};

sight_err sight_err_parse(const char *name)
{
    for (int i = 1; name && i < SIGHT_E_COUNT; i++) {
        if (!strcmp(name, sight_err_name((sight_err)i))) return (sight_err)i;
    }
    return SIGHT_E_INTERNAL;
}

// ---- sending ----

static sight_err send_request(sight_client *c, char *id_out, const char *prefix, sight_verb verb,
                              const char *json, const sight_part *parts, size_t n_parts)
{
    wire_frame frames[WIRE_HEAD_FRAMES + SIGHT_PARTS_MAX];
    char id[SIGHT_ID_SIZE];
    if (n_parts > SIGHT_PARTS_MAX) {
        return sight_fail(SIGHT_E_LIMIT, "%zu binary parts, the limit is %d", n_parts,
                          SIGHT_PARTS_MAX);
    }
    snprintf(id, sizeof id, "%s%llu", prefix, ++c->asked);
    if (!json) json = "{}";
    wire_write_request(frames, id, verb, json, strlen(json));
    size_t total = frames[3].size;
    for (size_t i = 0; i < n_parts; i++) {
        frames[WIRE_HEAD_FRAMES + i] = (wire_frame){parts[i].data, parts[i].size};
        total += parts[i].size;
    }
    if (c->max_message_bytes && total + 256 > (unsigned long long)c->max_message_bytes) {
        return sight_fail(SIGHT_E_LIMIT, "the request has %zu bytes, the server's limit is %lld",
                          total, c->max_message_bytes);
    }
    if (!c->under_way) c->heard_s = clock_now_s();
    sight_err err = connection_send(c->link, frames, WIRE_HEAD_FRAMES + n_parts);
    if (err) return err;
    c->under_way++;
    if (id_out) memcpy(id_out, id, sizeof id);
    return SIGHT_OK;
}

sight_err sight_client_ask(sight_client *c, char *id_out, const char *json, const sight_part *parts,
                           size_t n_parts)
{
    return send_request(c, id_out, "ask-", SIGHT_ASK, json, parts, n_parts);
}

sight_err sight_client_plan(sight_client *c, char *id_out, const char *json,
                            const sight_part *parts, size_t n_parts)
{
    return send_request(c, id_out, "plan-", SIGHT_PLAN, json, parts, n_parts);
}

sight_err sight_client_cancel(sight_client *c, const char *id)
{
    char json[SIGHT_ID_SIZE + 16];
    if (!wire_id_is_good(id, strlen(id))) {
        return sight_fail(SIGHT_E_ARGUMENT, "'%.80s' is no request id", id);
    }
    snprintf(json, sizeof json, "{\"id\": \"%s\"}", id);
    return send_request(c, NULL, cancel_prefix, SIGHT_CANCEL, json, NULL, 0);
}

// ---- receiving ----

static kept_event *keep(const wire_event *w)
{
    kept_event *k = malloc(sizeof *k + w->json_size + 1);
    if (!k) return NULL;
    k->next = NULL;
    memcpy(k->id, w->id, sizeof k->id);
    memcpy(k->json, w->json, w->json_size);
    k->json[w->json_size] = 0;
    k->event = (sight_event){w->kind, k->id, k->json, w->json_size};
    return k;
}

// The next event that is the caller's business, from the wire.
static sight_err receive(sight_client *c, kept_event **out, int timeout_ms)
{
    const double start = clock_now_s();
    for (;;) {
        int left = -1;
        if (timeout_ms >= 0) left = timeout_ms - (int)((clock_now_s() - start) * 1000);
        if (timeout_ms >= 0 && left < 0) left = 0;
        const int slice = left < 0 || left > 1000 ? 1000 : left;
        wire_event w;
        const double before = clock_now_s();
        sight_err err = connection_receive(c->link, &w, slice);
        const double now = clock_now_s();
        if (err == SIGHT_E_TIMEOUT) {
            if (c->under_way && now - c->heard_s > SILENCE_S) {
                return sight_fail(SIGHT_E_IO, "sightd has not said anything for %.0f s", SILENCE_S);
            }
            // A short wait that ended early was ended by a signal: the caller wants to know.
            const bool interrupted = slice > 100 && (now - before) * 1000 < slice - 50;
            if (left >= 0 && left <= slice) return err;
            if (interrupted) return err;
            continue;
        }
        if (err) return err;
        c->heard_s = now;
        if (w.kind == SIGHT_DONE || w.kind == SIGHT_ERROR) c->under_way -= c->under_way > 0;
        if (w.kind == SIGHT_ALIVE) continue;
        if (!strncmp(w.id, cancel_prefix, sizeof cancel_prefix - 1)) continue;
        *out = keep(&w);
        return *out ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for an event");
    }
}

static void put_aside(sight_client *c, kept_event *k)
{
    *c->kept_end = k;
    c->kept_end = &k->next;
}

sight_err sight_client_next(sight_client *c, sight_event *out, int timeout_ms)
{
    kept_event *k = c->kept;
    if (k) {
        c->kept = k->next;
        if (!c->kept) c->kept_end = &c->kept;
    } else {
        sight_err err = receive(c, &k, timeout_ms);
        if (err) return err;
    }
    free(c->shown);
    c->shown = k;
    *out = k->event;
    return SIGHT_OK;
}

// ---- one question, one reply ----

// The error event's code and sentence, as the caller's own.
static sight_err fail_as_told(const char *json)
{
    json_t *body = json_loads(json, 0, NULL);
    const char *message = json_string_value(json_object_get(body, "message"));
    sight_err err = sight_err_parse(json_string_value(json_object_get(body, "code")));
    err = sight_fail(err, "%s", message ? message : "sightd reported an error without a sentence");
    json_decref(body);
    return err;
}

static sight_err wait_for_end(sight_client *c, char **reply, const char *id, int timeout_ms)
{
    const double start = clock_now_s();
    for (;;) {
        int left = -1;
        if (timeout_ms >= 0) {
            left = timeout_ms - (int)((clock_now_s() - start) * 1000);
            if (left <= 0) return sight_fail(SIGHT_E_TIMEOUT, "sightd did not answer in time");
        }
        kept_event *k;
        sight_err err = receive(c, &k, left);
        if (err == SIGHT_E_TIMEOUT) continue; // or a signal
        if (err) return err;
        if (strcmp(k->id, id)) {
            put_aside(c, k);
            continue;
        }
        if (k->event.kind == SIGHT_DONE) {
            *reply = strdup(k->json);
            if (!*reply) err = sight_fail(SIGHT_E_MEMORY, "no memory for a reply");
        } else if (k->event.kind == SIGHT_ERROR) {
            err = fail_as_told(k->json);
        }
        const bool over = k->event.kind == SIGHT_DONE || k->event.kind == SIGHT_ERROR;
        free(k);
        if (over) return err;
    }
}

sight_err sight_client_call(sight_client *c, char **reply, sight_verb verb, const char *json,
                            const sight_part *parts, size_t n_parts, int timeout_ms)
{
    char id[SIGHT_ID_SIZE];
    sight_err err = send_request(c, id, "call-", verb, json, parts, n_parts);
    return err ? err : wait_for_end(c, reply, id, timeout_ms);
}

// ---- the connection ----

// The first question: is it a sightd, and how much does it take?
static sight_err say_hello(sight_client *c, int timeout_ms)
{
    char *reply;
    const int ms = timeout_ms >= 0 && timeout_ms < HELLO_MS ? HELLO_MS : timeout_ms;
    sight_err err = sight_client_call(c, &reply, SIGHT_STATUS, NULL, NULL, 0, ms);
    if (err) return err;
    json_t *status = json_loads(reply, 0, NULL);
    const json_t *limits = json_object_get(status, "limits");
    c->max_message_bytes = json_integer_value(json_object_get(limits, "max_message_bytes"));
    json_decref(status);
    free(reply);
    return SIGHT_OK;
}

// A client that does not know the server's key could be talking to anybody, so both are needed.
static sight_err read_keys(connection_keys *out, const sight_connect_options *o)
{
    if (!o->key_file || !o->server_key) {
        return sight_fail(SIGHT_E_ARGUMENT, o->key_file ? "a key is given without the server's public one"
                                                        : "the server's key is given without one of the client's own");
    }
    connection_keys k;
    key_file own;
    sight_err err = key_read_public(k.server_key, o->server_key);
    if (!err) err = key_read_secret(&own, o->key_file);
    if (err) return err;
    memcpy(k.public_key, own.public_key, KEY_SIZE);
    memcpy(k.secret_key, own.secret_key, KEY_SIZE);
    key_done(&own);
    *out = k;
    explicit_bzero(&k, sizeof k);
    return SIGHT_OK;
}

static sight_err connect_client(sight_client *c, const sight_connect_options *o, const char *endpoint)
{
    connection_keys keys;
    const bool keyed = o->key_file || o->server_key;
    sight_err err = keyed ? read_keys(&keys, o) : SIGHT_OK;
    if (!err) err = connection_open(&c->link, endpoint, keyed ? &keys : NULL, o->timeout_ms);
    if (keyed) explicit_bzero(&keys, sizeof keys);
    return err ? err : say_hello(c, o->timeout_ms);
}

sight_err sight_client_open(sight_client **out, const sight_connect_options *options)
{
    char own[256];
    sight_connect_options o = {0};
    if (!options || options->size < sizeof(size_t)) {
        return sight_fail(SIGHT_E_ARGUMENT, "the size of the options to connect with is not set");
    }
    memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    if (!o.endpoint) {
        sight_err err = sight_default_endpoint(own, sizeof own);
        if (err) return err;
        o.endpoint = own;
    }
    sight_client *c = calloc(1, sizeof *c);
    if (!c) return sight_fail(SIGHT_E_MEMORY, "no memory for a client");
    c->kept_end = &c->kept;
    sight_err err = connect_client(c, &o, o.endpoint);
    if (err) sight_client_close(&c);
    else *out = c;
    return err;
}

sight_err sight_client_connect(sight_client **out, const char *endpoint, int timeout_ms)
{
    const sight_connect_options o = {.size = sizeof o, .endpoint = endpoint, .timeout_ms = timeout_ms};
    return sight_client_open(out, &o);
}

void sight_client_close(sight_client **p)
{
    sight_client *c = *p;
    if (!c) return;
    connection_close(&c->link);
    while (c->kept) {
        kept_event *k = c->kept;
        c->kept = k->next;
        free(k);
    }
    free(c->shown);
    free(c);
    *p = NULL;
}
