#include "daemon/outbox.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_ITEMS 4096

struct outbox {
    int fds[2]; // a pipe: read end, write end
    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t room;
    outbox_item *first, **end;
    int n;
    bool closed;
};

sight_err outbox_create(outbox **out)
{
    outbox *o = calloc(1, sizeof *o);
    if (!o) return sight_fail(SIGHT_E_MEMORY, "no memory for events");
    if (pipe(o->fds)) {
        free(o);
        return sight_fail(SIGHT_E_IO, "cannot make a pipe: %s", strerror(errno));
    }
    for (int i = 0; i < 2; i++) {
        fcntl(o->fds[i], F_SETFL, O_NONBLOCK);
        fcntl(o->fds[i], F_SETFD, FD_CLOEXEC);
    }
    pthread_mutex_init(&o->mutex, NULL);
    pthread_cond_init(&o->room, NULL);
    o->end = &o->first;
    *out = o;
    return SIGHT_OK;
}

void outbox_destroy(outbox **p)
{
    outbox *o = *p;
    if (!o) return;
    for (outbox_item *i; (i = outbox_take(o));) outbox_item_destroy(&i);
    close(o->fds[0]);
    close(o->fds[1]);
    pthread_cond_destroy(&o->room);
    pthread_mutex_destroy(&o->mutex);
    free(o);
    *p = NULL;
}

void outbox_close(outbox *o)
{
    pthread_mutex_lock(&o->mutex);
    o->closed = true;
    pthread_cond_broadcast(&o->room);
    pthread_mutex_unlock(&o->mutex);
}

bool outbox_put(outbox *o, const outbox_item *item)
{
    outbox_item *copy = malloc(sizeof *copy);
    // An end must not be lost: without it the request would stay in the queue for ever.
    while (!copy && item->kind != OUTBOX_EVENT) {
        usleep(10000);
        copy = malloc(sizeof *copy);
    }
    if (!copy) {
        free(item->json);
        return false;
    }
    *copy = *item;
    copy->next = NULL;
    pthread_mutex_lock(&o->mutex);
    while (o->n >= MAX_ITEMS && !o->closed) pthread_cond_wait(&o->room, &o->mutex);
    *o->end = copy;
    o->end = &copy->next;
    const bool wake = o->n++ == 0;
    pthread_mutex_unlock(&o->mutex);
    if (wake) {
        ssize_t n = write(o->fds[1], "", 1); // a full pipe is awake already
        (void)n;
    }
    return true;
}

outbox_item *outbox_take(outbox *o)
{
    pthread_mutex_lock(&o->mutex);
    outbox_item *item = o->first;
    if (item) {
        o->first = item->next;
        if (!o->first) o->end = &o->first;
        o->n--;
        pthread_cond_signal(&o->room);
    } else {
        char drop[64];
        while (read(o->fds[0], drop, sizeof drop) > 0) continue;
    }
    pthread_mutex_unlock(&o->mutex);
    return item;
}

void outbox_item_destroy(outbox_item **p)
{
    if (!*p) return;
    free((*p)->json);
    free(*p);
    *p = NULL;
}

int outbox_fd(const outbox *o)
{
    return o->fds[0];
}
