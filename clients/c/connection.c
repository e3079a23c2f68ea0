#include "clients/c/connection.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

#include "base/clock.h"
#include "clients/c/probe.h"

#define MONITOR "inproc://server"

struct connection {
    void *context, *dealer, *monitor;
    bool local, keyed, ready, lost;
    sight_err why; // it is lost: SIGHT_E_IO, or SIGHT_E_PERMISSION with the sentence
    char line[256];
    zmq_msg_t frames[WIRE_HEAD_FRAMES]; // of the event last handed out
    size_t n;
};

static bool set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static sight_err fail_zmq(const char *doing)
{
    return sight_fail(zmq_errno() == ENOMEM ? SIGHT_E_MEMORY : SIGHT_E_IO, "cannot %s: %s", doing,
                      zmq_strerror(zmq_errno()));
}

// A connection is made once: requests do not outlive it, so a silent reconnect would only hide that
// they are lost.
static bool connect_socket(connection *c, const char *endpoint)
{
    const int events = ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                       ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
    return set_int(c->dealer, ZMQ_LINGER, 500) && set_int(c->dealer, ZMQ_RECONNECT_IVL, -1) &&
           set_int(c->dealer, ZMQ_IPV6, 1) &&
           zmq_socket_monitor(c->dealer, MONITOR, events) == 0 &&
           set_int(c->monitor, ZMQ_LINGER, 0) && zmq_connect(c->monitor, MONITOR) == 0 &&
           zmq_connect(c->dealer, endpoint) == 0;
}

static bool set_keys(connection *c, const connection_keys *k)
{
    if (!k) return true;
    c->keyed = true;
    return zmq_setsockopt(c->dealer, ZMQ_CURVE_SERVERKEY, k->server_key, KEY_SIZE) == 0 &&
           zmq_setsockopt(c->dealer, ZMQ_CURVE_PUBLICKEY, k->public_key, KEY_SIZE) == 0 &&
           zmq_setsockopt(c->dealer, ZMQ_CURVE_SECRETKEY, k->secret_key, KEY_SIZE) == 0;
}

static sight_err wait_for_listener(const char *endpoint, int timeout_ms)
{
    const double start = clock_now_s();
    for (;;) {
        sight_err err = probe_endpoint(endpoint);
        if (err != SIGHT_E_NOT_FOUND) return err;
        if (timeout_ms >= 0 && (clock_now_s() - start) * 1000 >= timeout_ms) return err;
        const struct timespec pause = {.tv_nsec = 20000000};
        nanosleep(&pause, NULL);
    }
}

sight_err connection_open(connection **out, const char *endpoint, const connection_keys *keys, int timeout_ms)
{
    sight_err err = wait_for_listener(endpoint, timeout_ms);
    if (err) return err;
    connection *c = calloc(1, sizeof *c);
    if (!c) return sight_fail(SIGHT_E_MEMORY, "no memory for a connection");
    c->local = !strncmp(endpoint, "ipc://", 6);
    c->context = zmq_ctx_new();
    if (c->context) {
        c->dealer = zmq_socket(c->context, ZMQ_DEALER);
        c->monitor = zmq_socket(c->context, ZMQ_PAIR);
    }
    if (!c->dealer || !c->monitor || !set_keys(c, keys) || !connect_socket(c, endpoint)) {
        err = fail_zmq("connect");
        connection_close(&c);
        return err;
    }
    *out = c;
    return SIGHT_OK;
}

static void drop_frames(connection *c)
{
    for (size_t i = 0; i < c->n; i++) zmq_msg_close(&c->frames[i]);
    c->n = 0;
}

void connection_close(connection **p)
{
    connection *c = *p;
    if (!c) return;
    drop_frames(c);
    // What a lost connection still had to send goes nowhere: waiting for it would only make a refused client slow.
    if (c->lost) set_int(c->dealer, ZMQ_LINGER, 0);
    if (c->monitor) zmq_close(c->monitor);
    if (c->dealer) zmq_close(c->dealer);
    if (c->context) zmq_ctx_term(c->context);
    free(c);
    *p = NULL;
}

static sight_err gone(const connection *c)
{
    if (c->why == SIGHT_E_PERMISSION) return sight_fail(c->why, "%s", c->line);
    return sight_fail(SIGHT_E_IO, "the connection to sightd is lost; requests under way are too");
}

static void lose(connection *c, const char *line)
{
    c->lost = true;
    if (c->why) return; // the first reason is the true one
    c->why = line ? SIGHT_E_PERMISSION : SIGHT_E_IO;
    snprintf(c->line, sizeof c->line, "%s", line ? line : "");
}

// Before the handshake is over nothing can have been lost: the two did not agree about keys.
static void lose_early(connection *c, uint32_t event, uint32_t value)
{
    const bool other = event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL && value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH;
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) {
        lose(c, "the server does not know this key: the public one must be in its folder of keys");
    } else if (other && c->keyed) {
        lose(c, "the server uses no keys: connect without one");
    } else if (other) {
        lose(c, "the server serves with keys only: it needs one of yours, and its own public one");
    } else if (c->keyed) {
        lose(c, "the server ended the handshake: its key is another than the one given, or it uses no keys");
    } else { // over a network it is this, most likely; a local socket's daemon has just ended
        lose(c, c->local ? NULL : "the server ended the handshake: it serves with keys only, most likely");
    }
}

// An event is two frames: number and value, then the endpoint.
static void hear_monitor(connection *c)
{
    for (;;) {
        unsigned char head[6];
        char address[256];
        if (zmq_recv(c->monitor, head, sizeof head, ZMQ_DONTWAIT) != (int)sizeof head) return;
        zmq_recv(c->monitor, address, sizeof address, ZMQ_DONTWAIT);
        uint16_t event;
        uint32_t value;
        memcpy(&event, head, sizeof event);
        memcpy(&value, head + sizeof event, sizeof value);
        if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) c->ready = true;
        else if (c->ready) lose(c, NULL);
        else lose_early(c, event, value);
    }
}

sight_err connection_send(connection *c, const wire_frame *frames, size_t n)
{
    if (c->lost) return gone(c);
    for (size_t i = 0; i < n; i++) {
        const int more = i + 1 < n ? ZMQ_SNDMORE : 0;
        const void *data = frames[i].size ? frames[i].data : "";
        // Without a server to take it the first frame would wait for ever.
        if (zmq_send(c->dealer, data, frames[i].size, more | ZMQ_DONTWAIT) < 0) {
            return zmq_errno() == EAGAIN ? gone(c) : fail_zmq("send");
        }
    }
    return SIGHT_OK;
}

// Takes one whole message; its first frames are kept, any others dropped and counted. False: none.
static bool take_message(connection *c, size_t *count)
{
    drop_frames(c);
    *count = 0;
    for (bool more = true; more; ++*count) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, c->dealer, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&frame);
            return false;
        }
        more = zmq_msg_more(&frame);
        if (c->n < WIRE_HEAD_FRAMES) {
            zmq_msg_init(&c->frames[c->n]);
            zmq_msg_move(&c->frames[c->n++], &frame);
        }
        zmq_msg_close(&frame);
    }
    return true;
}

sight_err connection_receive(connection *c, wire_event *out, int timeout_ms)
{
    size_t count;
    if (!take_message(c, &count)) {
        if (c->lost) return gone(c);
        zmq_pollitem_t items[] = {{.socket = c->dealer, .events = ZMQ_POLLIN},
                                  {.socket = c->monitor, .events = ZMQ_POLLIN}};
        if (zmq_poll(items, 2, timeout_ms) < 0 && zmq_errno() != EINTR) return fail_zmq("wait");
        if (items[1].revents) hear_monitor(c); // what has arrived before is still read
        if (!take_message(c, &count)) {
            return c->lost ? gone(c) : sight_fail(SIGHT_E_TIMEOUT, "nothing came from sightd");
        }
    }
    wire_frame frames[WIRE_HEAD_FRAMES];
    for (size_t i = 0; i < c->n; i++) {
        frames[i] = (wire_frame){zmq_msg_data(&c->frames[i]), zmq_msg_size(&c->frames[i])};
    }
    if (count > WIRE_HEAD_FRAMES) {
        return sight_fail(SIGHT_E_PROTOCOL, "an event of %zu frames came", count);
    }
    return wire_read_event(out, frames, c->n);
}
