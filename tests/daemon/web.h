// tests/daemon/web.h - a small web server on loopback, for tests of what is fetched: a thread for each connection, one request each.
#ifndef TESTS_DAEMON_WEB_H
#define TESTS_DAEMON_WEB_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "support/test.h"

#define WEB_CONNECTIONS 512

typedef struct web web;

typedef struct web_visit {
    web *of;
    int fd;
    char request[4096], path[1024];
} web_visit;

struct web {
    int fd, port;
    pthread_t thread, visits[WEB_CONNECTIONS];
    int n_visits;
    atomic_bool stop;
    atomic_int open, most_open, asked; // connections now, at most, in all
    const void *file; // what /file gives
    size_t file_size;
};

static inline bool web_send(const web_visit *v, const void *bytes, size_t n)
{
    const char *at = bytes;
    while (n) {
        const ssize_t put = send(v->fd, at, n, MSG_NOSIGNAL);
        if (put <= 0) return false;
        at += put;
        n -= (size_t)put;
    }
    return true;
}

static inline bool web_say(const web_visit *v, const char *text)
{
    return web_send(v, text, strlen(text));
}

static inline void web_sleep(int ms)
{
    const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

// Until the client goes, or the server stops.
static inline void web_hang(const web_visit *v)
{
    char byte;
    struct pollfd p = {v->fd, POLLIN, 0};
    while (!atomic_load(&v->of->stop) && (poll(&p, 1, 20) == 0 || recv(v->fd, &byte, 1, MSG_DONTWAIT) > 0)) {}
}

static inline void web_body(const web_visit *v, const char *head, const void *body, size_t n)
{
    char text[2200];
    snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", head, n);
    if (web_say(v, text)) web_send(v, body, n);
}

static inline void web_redirect(const web_visit *v, const char *to)
{
    char text[2048];
    snprintf(text, sizeof text, "302 Found\r\nSet-Cookie: a=b\r\nLocation: %s", to);
    web_body(v, text, "elsewhere", 9);
}

static inline void web_drip(const web_visit *v)
{
    web_say(v, "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n");
    while (!atomic_load(&v->of->stop) && web_say(v, "x")) web_sleep(50);
}

static inline void web_forever(const web_visit *v, const char *head, const char *piece)
{
    web_say(v, head);
    while (!atomic_load(&v->of->stop) && web_say(v, piece)) {}
}

static inline void web_answer(const web_visit *v)
{
    const char *p = v->path;
    static const char many[] = "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";
    if (!strcmp(p, "/ok") || !strncmp(p, "/ok?", 4)) web_body(v, "200 OK", "hello", 5);
    else if (!strcmp(p, "/file")) web_body(v, "200 OK", v->of->file, v->of->file_size);
    else if (!strcmp(p, "/empty")) web_body(v, "200 OK", "", 0);
    else if (!strcmp(p, "/echo")) web_body(v, "200 OK", v->request, strlen(v->request));
    else if (!strcmp(p, "/chunked")) {
        web_say(v, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n");
    } else if (!strcmp(p, "/close")) web_say(v, "HTTP/1.0 200 OK\r\n\r\nhello");
    else if (!strcmp(p, "/big")) web_body(v, "200 OK", many, 100);
    else if (!strcmp(p, "/lies")) web_say(v, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\nx");
    else if (!strcmp(p, "/endless")) web_forever(v, "HTTP/1.1 200 OK\r\n\r\n", many);
    else if (!strcmp(p, "/headers")) web_forever(v, "HTTP/1.1 200 OK\r\n", "X-More: 01234567890123456789012345678901234567890123456789\r\n");
    else if (!strcmp(p, "/drip")) web_drip(v);
    else if (!strcmp(p, "/hang")) web_hang(v);
    else if (!strcmp(p, "/cut")) web_say(v, "HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nhello");
    else if (!strcmp(p, "/cut-chunk")) web_say(v, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n20\r\nhe");
    else if (!strcmp(p, "/gzip")) web_body(v, "200 OK\r\ncontent-ENCODING:  gzip ", "\x1f\x8b\x08", 3);
    else if (!strcmp(p, "/identity")) web_body(v, "200 OK\r\nContent-Encoding: identity", "hello", 5);
    else if (!strcmp(p, "/silent")) {}
    else if (!strcmp(p, "/noise")) web_say(v, "this is no HTTP at all\r\n\r\n");
    else if (!strncmp(p, "/status/", 8)) web_body(v, p + 8, "a page of words", 15);
    else if (!strcmp(p, "/loop")) web_redirect(v, "/loop");
    else if (!strncmp(p, "/to/", 4)) web_redirect(v, p + 4);
    else web_body(v, "404 Not Found", "no", 2);
}

static inline void *web_visit_main(void *arg)
{
    web_visit *v = arg;
    size_t n = 0;
    ssize_t got;
    const int open = atomic_fetch_add(&v->of->open, 1) + 1;
    int most = atomic_load(&v->of->most_open);
    while (open > most && !atomic_compare_exchange_weak(&v->of->most_open, &most, open)) {}
    while (n + 1 < sizeof v->request && !strstr(v->request, "\r\n\r\n")) {
        struct pollfd p = {v->fd, POLLIN, 0};
        while (poll(&p, 1, 20) == 0 && !atomic_load(&v->of->stop)) {}
        if (atomic_load(&v->of->stop) || (got = recv(v->fd, v->request + n, sizeof v->request - 1 - n, 0)) <= 0) break;
        n += (size_t)got;
    }
    atomic_fetch_add(&v->of->asked, 1);
    if (sscanf(v->request, "GET %1023s", v->path) == 1) web_answer(v);
    shutdown(v->fd, SHUT_WR);
    close(v->fd);
    atomic_fetch_sub(&v->of->open, 1);
    free(v);
    return NULL;
}

static inline void *web_main(void *arg)
{
    web *w = arg;
    while (!atomic_load(&w->stop) && w->n_visits < WEB_CONNECTIONS) {
        struct pollfd p = {w->fd, POLLIN, 0};
        if (poll(&p, 1, 20) <= 0) continue;
        web_visit *v = calloc(1, sizeof *v);
        if (!v) break;
        v->of = w;
        v->fd = accept(w->fd, NULL, NULL);
        if (v->fd < 0 || pthread_create(&w->visits[w->n_visits], NULL, web_visit_main, v)) {
            free(v);
            break;
        }
        w->n_visits++;
    }
    return NULL;
}

static inline void web_start(web *w)
{
    *w = (web){0};
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    w->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(w->fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(listen(w->fd, 64), 0);
    assert_int_equal(getsockname(w->fd, (struct sockaddr *)&at, &size), 0);
    w->port = ntohs(at.sin_port);
    assert_int_equal(pthread_create(&w->thread, NULL, web_main, w), 0);
}

static inline void web_stop(web *w)
{
    atomic_store(&w->stop, true);
    pthread_join(w->thread, NULL);
    for (int i = 0; i < w->n_visits; i++) pthread_join(w->visits[i], NULL);
    close(w->fd);
}

#endif
