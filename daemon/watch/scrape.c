#include "daemon/watch/scrape.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/watch/metrics.h"

#define CONNECTION_BYTES 32768
#define STACK_BYTES      (256 << 10)

struct scrape {
    struct MHD_Daemon *http;
    scrape_source source;
    char address[INET6_ADDRSTRLEN + 16];
};

typedef union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} socket_address;

// ---- addresses ----

// Splits at the last colon; a port alone is of 127.0.0.1.
static bool split(char host[64], long *port, const char *address)
{
    const char *colon = strrchr(address, ':'), *digits = colon ? colon + 1 : address;
    char *end;
    if (!*digits || strspn(digits, "0123456789") != strlen(digits) || strlen(digits) > 5) return false;
    *port = strtol(digits, &end, 10);
    const size_t n = colon ? (size_t)(colon - address) : 0;
    if (*port > 65535 || n >= 64) return false;
    snprintf(host, 64, "%.*s", (int)n, address);
    if (!colon) strcpy(host, "127.0.0.1");
    return true;
}

static bool parse(socket_address *out, const char *address)
{
    char host[64];
    long port;
    *out = (socket_address){0};
    if (!split(host, &port, address)) return false;
    const size_t n = strlen(host);
    if (n > 2 && host[0] == '[' && host[n - 1] == ']') {
        host[n - 1] = 0;
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons((uint16_t)port);
        return inet_pton(AF_INET6, host + 1, &out->v6.sin6_addr) == 1;
    }
    out->v4.sin_family = AF_INET;
    out->v4.sin_port = htons((uint16_t)port);
    return inet_pton(AF_INET, strcmp(host, "localhost") ? host : "127.0.0.1", &out->v4.sin_addr) == 1;
}

sight_err scrape_check(const char *address)
{
    socket_address a;
    if (parse(&a, address)) return SIGHT_OK;
    return sight_fail(SIGHT_E_ARGUMENT, "metrics is '%.80s', must be ADDRESS:PORT, as 127.0.0.1:9464 or [::1]:9464, or a "
                      "port alone", address);
}

bool scrape_same(const char *a, const char *b)
{
    socket_address one, other;
    if (!a || !b) return a == b;
    return parse(&one, a) && parse(&other, b) && !memcmp(&one, &other, sizeof one);
}

bool scrape_is_local(const char *address)
{
    socket_address a;
    if (!parse(&a, address)) return false;
    if (a.any.sa_family == AF_INET) return ntohl(a.v4.sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr);
}

// ---- answering ----

static enum MHD_Result answer(struct MHD_Connection *to, unsigned status, buf *body, const char *type)
{
    if (buf_failed(body)) {
        buf_done(body);
        status = MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
    struct MHD_Response *r =
        MHD_create_response_from_buffer(body->size, (void *)buf_text(body), MHD_RESPMEM_MUST_COPY);
    buf_done(body);
    if (!r) return MHD_NO; // ends the connection
    MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(r, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED) MHD_add_response_header(r, MHD_HTTP_HEADER_ALLOW, "GET");
    const enum MHD_Result queued = MHD_queue_response(to, status, r);
    MHD_destroy_response(r);
    return queued;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *from, const char *url, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **seen)
{
    static const char plain[] = "text/plain; charset=utf-8";
    const scrape *s = arg;
    unsigned status = MHD_HTTP_OK;
    buf body;
    buf_init(&body);
    if (strcmp(method, MHD_HTTP_METHOD_GET)) {
        buf_puts(&body, "only GET\n");
        return answer(from, MHD_HTTP_METHOD_NOT_ALLOWED, &body, plain);
    }
    if (!strcmp(url, "/metrics")) {
        s->source.metrics(s->source.arg, &body);
        return answer(from, status, &body, METRICS_CONTENT_TYPE);
    }
    if (!strcmp(url, "/healthz")) {
        if (!s->source.health(s->source.arg, &body)) status = MHD_HTTP_SERVICE_UNAVAILABLE;
    } else {
        status = MHD_HTTP_NOT_FOUND;
        buf_puts(&body, "there are /metrics and /healthz\n");
    }
    return answer(from, status, &body, plain);
}

// ---- opening ----

static sight_err fail_socket(const char *address)
{
    const sight_err code = errno == EADDRINUSE ? SIGHT_E_BUSY : errno == EACCES ? SIGHT_E_PERMISSION : SIGHT_E_IO;
    return sight_fail(code, "cannot serve metrics at '%s': %s", address, strerror(errno));
}

// A socket that listens, made here so that a failure has its own sentence.
static sight_err listen_at(int *out, const socket_address *a, const char *address)
{
    const int family = a->any.sa_family, one = 1;
    const socklen_t size = family == AF_INET ? sizeof a->v4 : sizeof a->v6;
    const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return fail_socket(address);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (bind(fd, &a->any, size) || listen(fd, SCRAPE_CONNECTIONS)) {
        const sight_err err = fail_socket(address);
        close(fd);
        return err;
    }
    *out = fd;
    return SIGHT_OK;
}

static void write_address(char *out, size_t size, int fd)
{
    socket_address a = {0};
    socklen_t a_size = sizeof a;
    char host[INET6_ADDRSTRLEN] = "";
    if (getsockname(fd, &a.any, &a_size)) return;
    const bool v4 = a.any.sa_family == AF_INET;
    inet_ntop(a.any.sa_family, v4 ? (const void *)&a.v4.sin_addr : &a.v6.sin6_addr, host, sizeof host);
    snprintf(out, size, v4 ? "%s:%d" : "[%s]:%d", host, ntohs(v4 ? a.v4.sin_port : a.v6.sin6_port));
}

sight_err scrape_open(scrape **out, const char *address, const scrape_source *source)
{
    socket_address a;
    sight_err err = scrape_check(address);
    if (err) return err;
    parse(&a, address);
    scrape *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory for the metrics endpoint");
    s->source = *source;
    int fd = -1;
    err = listen_at(&fd, &a, address);
    if (!err) {
        write_address(s->address, sizeof s->address, fd);
        s->http = MHD_start_daemon(MHD_USE_AUTO_INTERNAL_THREAD, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET, fd,
                                   MHD_OPTION_CONNECTION_LIMIT, (unsigned)SCRAPE_CONNECTIONS,
                                   MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SCRAPE_IDLE_S,
                                   MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
                                   MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES, MHD_OPTION_END);
        if (!s->http) { // which has closed the socket
            err = sight_fail(SIGHT_E_MEMORY, "cannot start the metrics endpoint at '%s'", address);
        }
    }
    if (err) scrape_close(&s);
    else *out = s;
    return err;
}

void scrape_close(scrape **p)
{
    scrape *s = *p;
    if (!s) return;
    if (s->http) MHD_stop_daemon(s->http); // closes the socket
    free(s);
    *p = NULL;
}

const char *scrape_address(const scrape *s)
{
    return s->address;
}
