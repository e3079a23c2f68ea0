#include "ipc/zap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#define ADDRESS     "inproc://zeromq.zap.01" // where libzmq asks
#define MAX_FRAMES  8
#define MAX_AT_ONCE 64 // handshakes answered before others get their turn

struct zap {
    void *socket;
    zap_accepts *accepts;
    void *arg;
    zap_tally tally;
};

// A request: version, number, domain, address, routing id, mechanism, then its credentials.
enum { VERSION, NUMBER, DOMAIN, PEER, ROUTING_ID, MECHANISM, CREDENTIALS, REQUEST_FRAMES };

typedef struct zap_request {
    zmq_msg_t frames[MAX_FRAMES];
    int n;
} zap_request;

sight_err zap_open(zap **out, void *context, zap_accepts *accepts, void *arg)
{
    zap *z = calloc(1, sizeof *z);
    if (!z) return sight_fail(SIGHT_E_MEMORY, "no memory for keys");
    z->accepts = accepts;
    z->arg = arg;
    z->socket = zmq_socket(context, ZMQ_REP);
    const int none = 0;
    if (!z->socket || zmq_setsockopt(z->socket, ZMQ_LINGER, &none, sizeof none) || zmq_bind(z->socket, ADDRESS)) {
        zap_close(&z);
        return sight_fail(SIGHT_E_IO, "cannot listen for keys: %s", zmq_strerror(zmq_errno()));
    }
    *out = z;
    return SIGHT_OK;
}

void zap_close(zap **p)
{
    zap *z = *p;
    if (!z) return;
    if (z->socket) zmq_close(z->socket);
    free(z);
    *p = NULL;
}

void *zap_socket(const zap *z)
{
    return z->socket;
}

const zap_tally *zap_count(const zap *z)
{
    return &z->tally;
}

static void drop_request(zap_request *r)
{
    for (int i = 0; i < r->n; i++) zmq_msg_close(&r->frames[i]);
    r->n = 0;
}

// False: none waits.
static bool take_request(zap *z, zap_request *r)
{
    r->n = 0;
    for (bool more = true; more;) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        if (zmq_msg_recv(&frame, z->socket, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&frame);
            drop_request(r);
            return false;
        }
        more = zmq_msg_more(&frame);
        if (r->n < MAX_FRAMES) {
            zmq_msg_init(&r->frames[r->n]);
            zmq_msg_move(&r->frames[r->n++], &frame);
        }
        zmq_msg_close(&frame);
    }
    return true;
}

static bool equals(zap_request *r, int frame, const char *text)
{
    return r->n > frame && zmq_msg_size(&r->frames[frame]) == strlen(text) &&
           !memcmp(zmq_msg_data(&r->frames[frame]), text, strlen(text));
}

// The key that asks, where it is a handshake with keys of one of our sockets.
static bool read_key(zap_request *r, char key[KEY_SIZE])
{
    return r->n == REQUEST_FRAMES && equals(r, VERSION, "1.0") && equals(r, DOMAIN, ZAP_DOMAIN) &&
           equals(r, MECHANISM, "CURVE") && zmq_msg_size(&r->frames[CREDENTIALS]) == 32 &&
           zmq_z85_encode(key, zmq_msg_data(&r->frames[CREDENTIALS]), 32);
}

static void note_refusal(zap *z, zap_request *r, const char *key)
{
    z->tally.refused++;
    snprintf(z->tally.key, sizeof z->tally.key, "%s", key);
    const int size = r->n > PEER ? (int)zmq_msg_size(&r->frames[PEER]) : 0;
    snprintf(z->tally.address, sizeof z->tally.address, "%.*s", size,
             size ? (const char *)zmq_msg_data(&r->frames[PEER]) : "");
}

static void send_text(zap *z, const char *text, bool more)
{
    zmq_send(z->socket, text, strlen(text), ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0));
}

// Version, number, status, its text, user, metadata. 400 is told to the client; it does not try again.
static void answer(zap *z, zap_request *r, bool accepted, const char *key)
{
    const void *number = r->n > NUMBER ? zmq_msg_data(&r->frames[NUMBER]) : "";
    const size_t size = r->n > NUMBER ? zmq_msg_size(&r->frames[NUMBER]) : 0;
    send_text(z, "1.0", true);
    zmq_send(z->socket, number, size, ZMQ_DONTWAIT | ZMQ_SNDMORE);
    send_text(z, accepted ? "200" : "400", true);
    send_text(z, accepted ? "OK" : "this key is not known here", true);
    send_text(z, accepted ? key : "", true);
    send_text(z, "", false);
}

void zap_serve(zap *z)
{
    zap_request r;
    for (int i = 0; i < MAX_AT_ONCE && take_request(z, &r); i++) {
        char key[KEY_SIZE] = "";
        const bool accepted = read_key(&r, key) && z->accepts(z->arg, key);
        if (accepted) z->tally.accepted++;
        else note_refusal(z, &r, key);
        answer(z, &r, accepted, key);
        drop_request(&r);
    }
}
