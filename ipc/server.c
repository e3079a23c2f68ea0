#include "ipc/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>

#include "ipc/port.h"

// Routing id, head and parts; what comes after them is counted and dropped.
#define MAX_FRAMES (1 + WIRE_HEAD_FRAMES + SIGHT_PARTS_MAX)
// Of a routing id that the socket gave: a zero byte and four more.
#define OWN_ID_SIZE 5

struct server {
    void *context;
    zap *zap; // NULL: there are no keys
    port ports[ENDPOINTS_MAX];
    size_t n_ports, next; // the port that is read from next
    int64_t max_message_bytes, frame_limit;
    zap_accepts *accepts;
    void *accepts_arg;
};

typedef struct server_frames {
    zmq_msg_t messages[MAX_FRAMES];
    wire_frame frames[MAX_FRAMES];
    size_t n;
} server_frames;

// ---- opening ----

// A message somewhat over the limit is still taken in, to be refused with a sentence; what is far
// over it, or would be much of this machine's memory, ends the connection while it arrives.
static int64_t choose_frame_limit(int64_t max_message_bytes)
{
    int64_t limit = max_message_bytes > INT64_MAX / 8 ? INT64_MAX : 5 * max_message_bytes;
    const int64_t memory = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE);
    if (memory > 0 && limit > memory / 4) limit = memory / 4;
    return limit < max_message_bytes ? max_message_bytes : limit;
}

static sight_err open_ports(server *s, const server_options *o)
{
    const port_options lo = {
        .frame_limit = s->frame_limit, .send_queue = o->send_queue,
        .socket_mode = o->socket_mode ? o->socket_mode : 0600, .set_group = o->set_group, .group = o->group,
        .secret_key = o->secret_key,
    };
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < o->n_endpoints && !err; i++) {
        err = port_open(&s->ports[s->n_ports++], s->context, (int)i, o->endpoints[i], &lo);
    }
    return err;
}

sight_err server_open(server **out, const server_options *options)
{
    server *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory for a server");
    s->max_message_bytes = options->max_message_bytes;
    s->frame_limit = choose_frame_limit(options->max_message_bytes);
    s->accepts = options->accepts;
    s->accepts_arg = options->accepts_arg;
    s->context = zmq_ctx_new();
    sight_err err = s->context ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for a server");
    if (!err && options->secret_key) err = zap_open(&s->zap, s->context, s->accepts, s->accepts_arg);
    if (!err) err = open_ports(s, options);
    if (err) server_close(&s);
    else *out = s;
    return err;
}

void server_close(server **p)
{
    server *s = *p;
    if (!s) return;
    for (size_t i = 0; i < s->n_ports; i++) port_close(&s->ports[i]);
    zap_close(&s->zap);
    if (s->context) zmq_ctx_term(s->context); // waits for what lingers
    free(s);
    *p = NULL;
}

// ---- receiving ----

void server_message_destroy(server_message **p)
{
    server_message *m = *p;
    if (!m) return;
    if (m->frames) {
        for (size_t i = 0; i < m->frames->n; i++) zmq_msg_close(&m->frames->messages[i]);
        free(m->frames);
    }
    free(m);
    *p = NULL;
}

// Takes all frames of one message off the socket; *extra counts those beyond MAX_FRAMES.
static sight_err take_frames(port *from, server_message *m, size_t *extra)
{
    server_frames *f = m->frames;
    for (bool more = true; more;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, from->router, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&frame);
            return zmq_errno() == EAGAIN ? SIGHT_E_TIMEOUT : port_fail(from, "read from");
        }
        more = zmq_msg_more(&frame);
        m->bytes += zmq_msg_size(&frame);
        if (f->n == MAX_FRAMES) {
            ++*extra;
            zmq_msg_close(&frame);
            continue;
        }
        zmq_msg_init(&f->messages[f->n]);
        zmq_msg_move(&f->messages[f->n++], &frame);
    }
    // Small frames live inside zmq_msg_t: pointers are taken now that nothing moves any more.
    for (size_t i = 0; i < f->n; i++) {
        f->frames[i] = (wire_frame){zmq_msg_data(&f->messages[i]), zmq_msg_size(&f->messages[i])};
    }
    return SIGHT_OK;
}

// The first frame, the ROUTER's own, does not always carry what is known of the peer.
static void read_sender(port *from, int number, server_message *m)
{
    const wire_frame *id = &m->frames->frames[0];
    const size_t most = sizeof m->from.name - 1;
    m->from.name[0] = (unsigned char)number;
    m->from.size = 1 + (id->size < most ? id->size : most);
    memcpy(m->from.name + 1, id->data, m->from.size - 1);
    m->local = endpoint_path(from->endpoint) != NULL;
    m->uid = -1;
    if (m->frames->n < 2) return;
    m->uid = port_read_uid(from, &m->frames->messages[1]);
    port_read_key(from, m->key, &m->frames->messages[1]);
}

// A client that chose its own routing id could take another's whose connection broke just now, and hear the end of its answers.
static bool has_chosen_id(const server_message *m)
{
    return m->from.size != 1 + OWN_ID_SIZE || m->from.name[1] != 0;
}

static void read_message(const server *s, server_message *m, size_t extra)
{
    m->err = wire_read_request(&m->request, m->frames->frames + 1, m->frames->n - 1);
    if (!m->err && has_chosen_id(m)) {
        m->err = sight_fail(SIGHT_E_PROTOCOL, "the client's socket has a routing id; it must leave that to the server");
    }
    if (!m->err && extra) {
        m->err = sight_fail(SIGHT_E_PROTOCOL, "more than %d binary parts", SIGHT_PARTS_MAX);
    }
    if (!m->err && (int64_t)m->bytes > s->max_message_bytes) {
        m->err = sight_fail(SIGHT_E_LIMIT, "the message has %zu bytes, the server's limit is %lld",
                            m->bytes, (long long)s->max_message_bytes);
    }
    if (m->err) snprintf(m->line, sizeof m->line, "%s", sight_error());
}

static sight_err receive_from(server *s, int number, server_message **out)
{
    server_message *m = calloc(1, sizeof *m);
    if (m) m->frames = calloc(1, sizeof *m->frames);
    if (!m || !m->frames) {
        free(m);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a message");
    }
    size_t extra = 0;
    sight_err err = take_frames(&s->ports[number], m, &extra);
    if (err) {
        server_message_destroy(&m);
        return err == SIGHT_E_TIMEOUT ? SIGHT_OK : err;
    }
    read_sender(&s->ports[number], number, m);
    read_message(s, m, extra);
    *out = m;
    return SIGHT_OK;
}

// The endpoints take turns.
sight_err server_receive(server *s, server_message **out)
{
    *out = NULL;
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < s->n_ports && !*out && !err; i++) {
        const int number = (int)s->next;
        s->next = (s->next + 1) % s->n_ports;
        err = receive_from(s, number, out);
    }
    return err;
}

// ---- sending ----

static int send_frame(void *socket, const void *data, size_t size, int flags)
{
    return zmq_send(socket, size ? data : "", size, flags | ZMQ_DONTWAIT);
}

sight_err server_send(server *s, const server_peer *to, const char *id, sight_event_kind kind,
                      const char *json, size_t json_size)
{
    wire_frame frames[WIRE_HEAD_FRAMES];
    port *from = &s->ports[to->name[0]];
    wire_write_event(frames, id, kind, json, json_size);
    int n = send_frame(from->router, to->name + 1, to->size - 1, ZMQ_SNDMORE);
    for (int i = 0; n >= 0 && i < WIRE_HEAD_FRAMES; i++) {
        const int more = i + 1 < WIRE_HEAD_FRAMES ? ZMQ_SNDMORE : 0;
        n = send_frame(from->router, frames[i].data, frames[i].size, more);
    }
    if (n >= 0) return SIGHT_OK;
    if (zmq_errno() == EHOSTUNREACH) return sight_fail(SIGHT_E_NOT_FOUND, "the client is gone");
    if (zmq_errno() == EAGAIN) return sight_fail(SIGHT_E_BUSY, "the client does not read");
    return port_fail(from, "write to");
}

// ---- waiting ----

sight_err server_wait(server *s, int wake_fd, int timeout_ms)
{
    zmq_pollitem_t items[2 * ENDPOINTS_MAX + 2];
    int n = 0;
    for (size_t i = 0; i < s->n_ports; i++) {
        items[n++] = (zmq_pollitem_t){.socket = s->ports[i].router, .events = ZMQ_POLLIN};
        items[n++] = (zmq_pollitem_t){.socket = s->ports[i].monitor, .events = ZMQ_POLLIN};
    }
    if (s->zap) items[n++] = (zmq_pollitem_t){.socket = zap_socket(s->zap), .events = ZMQ_POLLIN};
    if (wake_fd >= 0) items[n++] = (zmq_pollitem_t){.fd = wake_fd, .events = ZMQ_POLLIN};
    const int ready = zmq_poll(items, n, timeout_ms);
    if (ready < 0 && zmq_errno() != EINTR) return port_fail(&s->ports[0], "wait at");
    for (size_t i = 0; ready > 0 && i < s->n_ports; i++) {
        if (items[2 * i + 1].revents) port_hear_monitor(&s->ports[i]);
    }
    if (s->zap) zap_serve(s->zap);
    return SIGHT_OK;
}

int server_recheck(server *s)
{
    int n = 0;
    for (size_t i = 0; i < s->n_ports; i++) {
        if (s->ports[i].keyed) n += port_recheck(&s->ports[i], s->accepts, s->accepts_arg);
    }
    return n;
}

const zap_tally *server_key_tally(const server *s)
{
    return s->zap ? zap_count(s->zap) : NULL;
}

int64_t server_opened(const server *s, bool local)
{
    int64_t n = 0;
    for (size_t i = 0; i < s->n_ports; i++) {
        const port *p = &s->ports[i];
        if (!p->keyed && (endpoint_path(p->endpoint) != NULL) == local) n += p->opened;
    }
    return n;
}

int server_connections(const server *s)
{
    int n = 0;
    for (size_t i = 0; i < s->n_ports; i++) n += s->ports[i].connections;
    return n;
}

int64_t server_frame_limit(const server *s)
{
    return s->frame_limit;
}
