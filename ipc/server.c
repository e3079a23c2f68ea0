#include "ipc/server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "ipc/endpoint.h"

// Routing id, head and parts; what comes after them is counted and dropped.
#define MAX_FRAMES (1 + WIRE_HEAD_FRAMES + SIGHT_PARTS_MAX)
#define MONITOR    "inproc://connections"

struct server {
    void *context, *router, *monitor;
    char endpoint[ENDPOINT_MAX];
    int64_t max_message_bytes, frame_limit;
    int connections;
    bool bound;
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

static bool set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

static bool configure(server *s, const server_options *o)
{
    s->frame_limit = choose_frame_limit(o->max_message_bytes);
    bool good = set_int(s->router, ZMQ_LINGER, 500) &&
                set_int(s->router, ZMQ_ROUTER_MANDATORY, 1) &&
                set_int(s->router, ZMQ_SNDHWM, o->send_queue) &&
                set_int(s->router, ZMQ_RCVHWM, 64) && set_int(s->router, ZMQ_IPV6, 1) &&
                zmq_setsockopt(s->router, ZMQ_MAXMSGSIZE, &s->frame_limit,
                               sizeof s->frame_limit) == 0;
    if (good && !endpoint_path(o->endpoint)) { // a local socket tells at once; a network may not
        good = set_int(s->router, ZMQ_HEARTBEAT_IVL, 250) &&
               set_int(s->router, ZMQ_HEARTBEAT_TIMEOUT, 700);
    }
    return good;
}

static bool open_monitor(server *s)
{
    const int events = ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED;
    if (zmq_socket_monitor(s->router, MONITOR, events)) return false;
    s->monitor = zmq_socket(s->context, ZMQ_PAIR);
    return s->monitor && set_int(s->monitor, ZMQ_LINGER, 0) &&
           zmq_connect(s->monitor, MONITOR) == 0;
}

static sight_err fail_zmq(const char *doing, const char *endpoint)
{
    const int e = zmq_errno();
    sight_err code = e == EADDRINUSE ? SIGHT_E_BUSY : e == EACCES ? SIGHT_E_PERMISSION
                   : e == ENOMEM ? SIGHT_E_MEMORY : SIGHT_E_IO;
    return sight_fail(code, "cannot %s '%s': %s", doing, endpoint, zmq_strerror(e));
}

static sight_err bind_private(server *s)
{
    // The socket file must never be open to others, not even between bind and chmod.
    const mode_t before = umask(0177);
    const int failed = zmq_bind(s->router, s->endpoint);
    umask(before);
    if (failed) return fail_zmq("serve", s->endpoint);
    s->bound = true;
    return SIGHT_OK;
}

sight_err server_open(server **out, const server_options *options)
{
    server *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory for a server");
    snprintf(s->endpoint, sizeof s->endpoint, "%s", options->endpoint);
    s->max_message_bytes = options->max_message_bytes;
    s->context = zmq_ctx_new();
    s->router = s->context ? zmq_socket(s->context, ZMQ_ROUTER) : NULL;
    sight_err err = SIGHT_OK;
    if (!s->router || !configure(s, options) || !open_monitor(s)) {
        err = fail_zmq("make a socket for", s->endpoint);
    }
    if (!err) err = bind_private(s);
    if (err) server_close(&s);
    else *out = s;
    return err;
}

void server_close(server **p)
{
    server *s = *p;
    if (!s) return;
    if (s->monitor) zmq_close(s->monitor);
    if (s->router) zmq_close(s->router);
    if (s->context) zmq_ctx_term(s->context); // waits for what lingers
    const char *path = endpoint_path(s->endpoint);
    if (s->bound && path) unlink(path);
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
static sight_err take_frames(server *s, server_message *m, size_t *extra)
{
    server_frames *f = m->frames;
    for (bool more = true; more;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, s->router, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&frame);
            return zmq_errno() == EAGAIN ? SIGHT_E_TIMEOUT : fail_zmq("read from", s->endpoint);
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

// The user at the other end of an ipc connection: libzmq's address of such a peer ends with ":uid:gid:pid", which the system
// told it (SO_PEERCRED). The properties that a peer sends itself never replace an address that is known. -1: not known.
static int64_t read_uid(zmq_msg_t *frame)
{
    const char *address = zmq_msg_gets(frame, "Peer-Address");
    const char *at = address ? address + strlen(address) : NULL;
    for (int colons = 0; at && at > address && colons < 3;) colons += *--at == ':';
    if (!at || *at != ':') return -1;
    char *end;
    const unsigned long long uid = strtoull(at + 1, &end, 10);
    return end > at + 1 && *end == ':' && uid <= UINT32_MAX ? (int64_t)uid : -1;
}

static void read_message(const server *s, server_message *m, size_t extra)
{
    const wire_frame *frames = m->frames->frames;
    m->from.size = frames[0].size < sizeof m->from.name ? frames[0].size : sizeof m->from.name;
    memcpy(m->from.name, frames[0].data, m->from.size);
    // The first frame, the ROUTER's own, does not always carry what is known of the peer.
    const bool local = endpoint_path(s->endpoint) && m->frames->n > 1;
    m->uid = local ? read_uid(&m->frames->messages[1]) : -1;
    m->err = wire_read_request(&m->request, frames + 1, m->frames->n - 1);
    if (!m->err && extra) {
        m->err = sight_fail(SIGHT_E_PROTOCOL, "more than %d binary parts", SIGHT_PARTS_MAX);
    }
    if (!m->err && (int64_t)m->bytes > s->max_message_bytes) {
        m->err = sight_fail(SIGHT_E_LIMIT, "the message has %zu bytes, the server's limit is %lld",
                            m->bytes, (long long)s->max_message_bytes);
    }
    if (m->err) snprintf(m->line, sizeof m->line, "%s", sight_error());
}

sight_err server_receive(server *s, server_message **out)
{
    *out = NULL;
    server_message *m = calloc(1, sizeof *m);
    if (m) m->frames = calloc(1, sizeof *m->frames);
    if (!m || !m->frames) {
        free(m);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a message");
    }
    size_t extra = 0;
    sight_err err = take_frames(s, m, &extra);
    if (err) {
        server_message_destroy(&m);
        return err == SIGHT_E_TIMEOUT ? SIGHT_OK : err;
    }
    read_message(s, m, extra);
    *out = m;
    return SIGHT_OK;
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
    wire_write_event(frames, id, kind, json, json_size);
    int n = send_frame(s->router, to->name, to->size, ZMQ_SNDMORE);
    for (int i = 0; n >= 0 && i < WIRE_HEAD_FRAMES; i++) {
        const int more = i + 1 < WIRE_HEAD_FRAMES ? ZMQ_SNDMORE : 0;
        n = send_frame(s->router, frames[i].data, frames[i].size, more);
    }
    if (n >= 0) return SIGHT_OK;
    if (zmq_errno() == EHOSTUNREACH) return sight_fail(SIGHT_E_NOT_FOUND, "the client is gone");
    if (zmq_errno() == EAGAIN) return sight_fail(SIGHT_E_BUSY, "the client does not read");
    return fail_zmq("write to", s->endpoint);
}

// ---- waiting ----

// A monitor event is two frames: number and value, then the endpoint.
static void take_monitor_events(server *s)
{
    for (;;) {
        unsigned char head[6];
        if (zmq_recv(s->monitor, head, sizeof head, ZMQ_DONTWAIT) != (int)sizeof head) return;
        char address[ENDPOINT_MAX];
        zmq_recv(s->monitor, address, sizeof address, ZMQ_DONTWAIT);
        uint16_t event;
        memcpy(&event, head, sizeof event);
        if (event == ZMQ_EVENT_ACCEPTED) s->connections++;
        if (event == ZMQ_EVENT_DISCONNECTED && s->connections) s->connections--;
    }
}

sight_err server_wait(server *s, int wake_fd, int timeout_ms)
{
    zmq_pollitem_t items[] = {
        {.socket = s->router, .events = ZMQ_POLLIN},
        {.socket = s->monitor, .events = ZMQ_POLLIN},
        {.fd = wake_fd, .events = ZMQ_POLLIN},
    };
    const int n = zmq_poll(items, wake_fd >= 0 ? 3 : 2, timeout_ms);
    if (n < 0 && zmq_errno() != EINTR) return fail_zmq("wait at", s->endpoint);
    if (n > 0 && items[1].revents) take_monitor_events(s);
    return SIGHT_OK;
}

int server_connections(const server *s)
{
    return s->connections;
}

int64_t server_frame_limit(const server *s)
{
    return s->frame_limit;
}
