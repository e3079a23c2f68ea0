// Pictures of remote.h.
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "decoder/remote.h"
#include "decoder/session.h"
#include "decoder/shared.h"

// As image.c has it.
#define DEFAULT_MAX_BYTES (1LL << 30)

static sight_err check_bytes(const void *bytes, size_t size, const char *what, const image_limits *limits)
{
    const int64_t most = limits->max_bytes ? limits->max_bytes : DEFAULT_MAX_BYTES;
    if (!bytes || size == 0) return sight_fail(SIGHT_E_MEDIA, "'%s' is empty", what);
    if (size <= (uint64_t)most) return SIGHT_OK;
    return sight_fail(SIGHT_E_LIMIT, "'%s' has %zu bytes, the limit is %lld", what, size, (long long)most);
}

static void fill_job(job *j, job_verb verb, size_t size, const char *what, const image_limits *limits)
{
    memset(j, 0, sizeof *j);
    j->size = sizeof *j;
    j->verb = verb;
    j->bytes = (int64_t)size;
    j->max_pixels = limits->max_pixels;
    j->max_bytes = limits->max_bytes;
    strncpy(j->name, what, sizeof j->name - 1);
}

static sight_err hear_picture(session *s, image_info *out)
{
    sight_err err = session_next(s);
    const reply *p = &s->reply.head;
    if (err) return err;
    if (p->kind != REPLY_PICTURE) return session_nonsense(s);
    *out = (image_info){.width = p->width, .height = p->height};
    memcpy(out->format, p->format, sizeof out->format);
    return SIGHT_OK;
}

static sight_err hear_done(session *s)
{
    sight_err err = session_next(s);
    return err || s->reply.head.kind == REPLY_DONE ? err : session_nonsense(s);
}

static sight_err hear_frame(session *s, int32_t width, int32_t height)
{
    sight_err err = session_next(s);
    const reply *p = &s->reply.head;
    if (err) return err;
    const bool good = p->kind == REPLY_FRAME && p->number == 0 && p->slot == 0 && p->width == width &&
                      p->height == height;
    return good ? hear_done(s) : session_nonsense(s);
}

static sight_err run_probe(image_info *info, const job *j, int fd, const char *what, const image_limits *limits, bool *killed)
{
    session *s = NULL;
    sight_err err = session_begin(&s, limits->decoders, j, &fd, 1, what, limits->stop, limits->stop_arg);
    if (!err) err = hear_picture(s, info);
    if (!err) err = hear_done(s);
    *killed = err && s && s->killed;
    session_end(&s);
    return err;
}

sight_err remote_picture_probe(image_info *out, const void *bytes, size_t size, const char *what,
                               const image_limits *limits)
{
    int fd;
    image_info info;
    bool killed = true;
    sight_err err = check_bytes(bytes, size, what, limits);
    job *j = err ? NULL : malloc(sizeof *j);
    if (!err && !j) err = sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", what);
    if (!err) err = shared_copy(&fd, bytes, size);
    if (!err) {
        fill_job(j, JOB_PICTURE_PROBE, size, what, limits);
        for (int i = 0; killed && i < SESSION_TRIES; i++) err = run_probe(&info, j, fd, what, limits, &killed);
        close(fd);
    }
    free(j);
    if (!err) *out = info;
    return err;
}

static void drop_memory(void *place)
{
    shared *memory = place;
    shared_unref(&memory);
}

static sight_err run_read(image_info *info, const job *j, const int *fds, const char *what, const image_limits *limits,
                          bool *killed)
{
    session *s = NULL;
    sight_err err = session_begin(&s, limits->decoders, j, fds, 2, what, limits->stop, limits->stop_arg);
    if (!err) err = hear_picture(s, info);
    if (!err) err = hear_frame(s, j->width, j->height);
    *killed = err && s && s->killed;
    session_end(&s);
    return err;
}

sight_err remote_picture_read(frame **out, image_info *source, const void *bytes, size_t size, const char *what,
                              int32_t width, int32_t height, const image_limits *limits)
{
    int fd;
    bool killed = true;
    shared *memory = NULL;
    image_info info;
    frame *f = NULL;
    sight_err err = check_bytes(bytes, size, what, limits);
    if (!err && (width < 1 || height < 1)) err = sight_fail(SIGHT_E_INTERNAL, "a frame of %d x %d", width, height);
    job *j = err ? NULL : malloc(sizeof *j);
    if (!err && !j) err = sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", what);
    if (!err) err = shared_copy(&fd, bytes, size);
    if (!err) {
        fill_job(j, JOB_PICTURE_READ, size, what, limits);
        j->width = width;
        j->height = height;
        j->n = j->slots = 1;
        j->slot_bytes = (int64_t)width * height * 3;
        err = shared_create(&memory, (size_t)j->slot_bytes);
        const int fds[] = {fd, memory ? memory->fd : -1};
        for (int i = 0; memory && killed && i < SESSION_TRIES; i++) err = run_read(&info, j, fds, what, limits, &killed);
        close(fd);
    }
    free(j);
    if (!err) err = frame_wrap(&f, width, height, memory ? memory->at : NULL, drop_memory, memory);
    if (err) {
        shared_unref(&memory);
        return err;
    }
    *source = info;
    *out = f;
    return SIGHT_OK;
}
