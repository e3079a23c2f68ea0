#include "ipc/port.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define HANDSHAKE_MS    5000  // for a stranger to say who it is
#define MAX_MONITORED   1000  // events taken in before others get their turn
#define MAX_PEER_FILES  65536 // past that number of a file a connection cannot be ended from here, only refused

sight_err port_fail(const port *p, const char *doing)
{
    const int e = zmq_errno();
    sight_err code = e == EADDRINUSE ? SIGHT_E_BUSY : e == EACCES ? SIGHT_E_PERMISSION
                   : e == ENOMEM ? SIGHT_E_MEMORY : SIGHT_E_IO;
    return sight_fail(code, "cannot %s '%s': %s", doing, p->endpoint, zmq_strerror(e));
}

// ---- opening ----

static bool set_int(void *socket, int option, int value)
{
    return zmq_setsockopt(socket, option, &value, sizeof value) == 0;
}

// Only who is accepted by our voice (ipc/zap.h) gets through: it was there before, and goes after the socket. Without one libzmq would
// let everybody in.
static bool set_keys(port *p, const char *secret_key)
{
    return set_int(p->router, ZMQ_CURVE_SERVER, 1) &&
           zmq_setsockopt(p->router, ZMQ_CURVE_SECRETKEY, secret_key, KEY_SIZE) == 0 &&
           zmq_setsockopt(p->router, ZMQ_ZAP_DOMAIN, ZAP_DOMAIN, strlen(ZAP_DOMAIN)) == 0;
}

static bool configure(port *p, const port_options *o)
{
    bool good = set_int(p->router, ZMQ_LINGER, 500) && set_int(p->router, ZMQ_ROUTER_MANDATORY, 1) &&
                set_int(p->router, ZMQ_SNDHWM, o->send_queue) && set_int(p->router, ZMQ_RCVHWM, 64) &&
                set_int(p->router, ZMQ_IPV6, 1) && set_int(p->router, ZMQ_HANDSHAKE_IVL, HANDSHAKE_MS) &&
                zmq_setsockopt(p->router, ZMQ_MAXMSGSIZE, &o->frame_limit, sizeof o->frame_limit) == 0;
    if (good && !endpoint_path(p->endpoint)) { // a local socket tells at once that its client went; a network may not
        good = set_int(p->router, ZMQ_HEARTBEAT_IVL, 250) && set_int(p->router, ZMQ_HEARTBEAT_TIMEOUT, 700);
    }
    return good && (!p->keyed || set_keys(p, o->secret_key));
}

static bool open_monitor(port *p, void *context, int number)
{
    char name[48];
    snprintf(name, sizeof name, "inproc://connections-%d", number);
    if (zmq_socket_monitor(p->router, name, ZMQ_EVENT_ACCEPTED | ZMQ_EVENT_DISCONNECTED)) return false;
    p->monitor = zmq_socket(context, ZMQ_PAIR);
    return p->monitor && set_int(p->monitor, ZMQ_LINGER, 0) && zmq_connect(p->monitor, name) == 0;
}

// The group before the mode: never open to the wrong one.
static sight_err share_socket(const port *p, const port_options *o)
{
    const char *path = endpoint_path(p->endpoint);
    if (!path) return SIGHT_OK;
    if (o->set_group && chown(path, (uid_t)-1, o->group)) {
        return sight_fail(SIGHT_E_PERMISSION, "cannot give '%s' to the group %lu: %s", path, (unsigned long)o->group,
                          strerror(errno));
    }
    if (chmod(path, o->socket_mode)) {
        return sight_fail(SIGHT_E_IO, "cannot set the mode of '%s': %s", path, strerror(errno));
    }
    return SIGHT_OK;
}

static sight_err bind_private(port *p, const port_options *o)
{
    // The socket file must never be open to others, not even between bind and chmod.
    const mode_t before = umask(0177);
    const int failed = zmq_bind(p->router, p->endpoint);
    umask(before);
    if (failed) return port_fail(p, "serve");
    p->bound = true;
    return share_socket(p, o);
}

sight_err port_open(port *out, void *context, int number, const char *endpoint, const port_options *options)
{
    *out = (port){.keyed = options->secret_key && !endpoint_path(endpoint)};
    snprintf(out->endpoint, sizeof out->endpoint, "%s", endpoint);
    out->router = zmq_socket(context, ZMQ_ROUTER);
    if (!out->router || !configure(out, options) || !open_monitor(out, context, number)) {
        return port_fail(out, "make a socket for");
    }
    return bind_private(out, options);
}

void port_close(port *p)
{
    if (p->monitor) zmq_close(p->monitor);
    if (p->router) zmq_close(p->router);
    const char *path = endpoint_path(p->endpoint);
    if (p->bound && path) unlink(path);
    free(p->peers);
    *p = (port){0};
}

// ---- who is connected ----

static void forget_peer(port *p, int fd)
{
    if (fd >= 0 && (size_t)fd < p->n_peers) p->peers[fd] = (port_peer){0};
}

// An event is two frames: number and value, then the endpoint.
void port_hear_monitor(port *p)
{
    for (int i = 0; i < MAX_MONITORED; i++) {
        unsigned char head[6];
        if (zmq_recv(p->monitor, head, sizeof head, ZMQ_DONTWAIT) != (int)sizeof head) return;
        char address[ENDPOINT_MAX];
        zmq_recv(p->monitor, address, sizeof address, ZMQ_DONTWAIT);
        uint16_t event;
        int32_t value;
        memcpy(&event, head, sizeof event);
        memcpy(&value, head + sizeof event, sizeof value);
        if (event == ZMQ_EVENT_ACCEPTED) {
            p->connections++;
            p->opened++;
        }
        if (event != ZMQ_EVENT_DISCONNECTED) continue;
        if (p->connections) p->connections--;
        forget_peer(p, value);
    }
}

// libzmq's address of the peer of an ipc socket ends with ":uid:gid:pid", which the system told it (SO_PEERCRED). What a peer says of
// itself never replaces an address that is known.
int64_t port_read_uid(const port *p, zmq_msg_t *frame)
{
    const char *address = endpoint_path(p->endpoint) ? zmq_msg_gets(frame, "Peer-Address") : NULL;
    const char *at = address ? address + strlen(address) : NULL;
    for (int colons = 0; at && at > address && colons < 3;) colons += *--at == ':';
    if (!at || *at != ':') return -1;
    char *end;
    const unsigned long long uid = strtoull(at + 1, &end, 10);
    return end > at + 1 && *end == ':' && uid <= UINT32_MAX ? (int64_t)uid : -1;
}

static void note_peer(port *p, int fd, const char *key)
{
    struct stat st;
    if (fd < 0 || fd >= MAX_PEER_FILES || fstat(fd, &st)) return;
    if ((size_t)fd >= p->n_peers) {
        const size_t n = (size_t)fd + 64;
        port_peer *more = realloc(p->peers, n * sizeof *more);
        if (!more) return; // it is refused then, though not ended
        memset(more + p->n_peers, 0, (n - p->n_peers) * sizeof *more);
        p->peers = more;
        p->n_peers = n;
    }
    memcpy(p->peers[fd].key, key, KEY_SIZE);
    p->peers[fd].inode = st.st_ino;
}

// The User-Id is what our own voice gave (ipc/zap.h). Sockets without keys have no voice, and a peer could give itself one there.
void port_read_key(port *p, char key[KEY_SIZE], zmq_msg_t *frame)
{
    const char *user = p->keyed ? zmq_msg_gets(frame, "User-Id") : NULL;
    snprintf(key, KEY_SIZE, "%s", user ? user : "");
    if (*key) note_peer(p, zmq_msg_get(frame, ZMQ_SRCFD), key);
}

// The I/O thread may close the connection at any moment and another file take its number: a duplicate stays the same file, so it can be
// looked at first. Shut down, the connection ends for libzmq as if its client had gone.
static bool end_connection(int fd, ino_t inode)
{
    const int same = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (same < 0) return false;
    struct stat st;
    const bool found = !fstat(same, &st) && S_ISSOCK(st.st_mode) && st.st_ino == inode;
    if (found) shutdown(same, SHUT_RDWR);
    close(same);
    return found;
}

int port_recheck(port *p, zap_accepts *accepts, void *arg)
{
    int n = 0;
    for (size_t fd = 0; fd < p->n_peers; fd++) {
        const port_peer *peer = &p->peers[fd];
        if (!peer->key[0] || accepts(arg, peer->key)) continue;
        n += end_connection((int)fd, peer->inode);
        forget_peer(p, (int)fd);
    }
    return n;
}
