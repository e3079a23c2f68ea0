#define _GNU_SOURCE // M_ARENA_MAX
#include "decoder/child.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "decoder/child_slots.h"
#include "decoder/image.h"
#include "decoder/job.h"
#include "decoder/resize.h"
#include "decoder/video_parts.h"
#include "decoder/video_state.h"

// The daemon hears this often that packets pass.
#define ALIVE_S 0.2
// Arenas of the allocator reserve address space each; decoders allocate rarely.
#define MAX_ARENAS 2
// Blocks below this are kept when they are freed; the most that glibc takes.
#define KEPT_BYTES (32 << 20)

typedef struct child {
    int socket;
    job job;
    int fds[3]; // the medium, the slots, the clip's state
    double said_s;
} child;

// ---- speaking ----

static bool send_reply(const child *c, const reply *r, const void *more, size_t size)
{
    return job_send(c->socket, r, sizeof *r, more, size, NULL, 0, 0);
}

static void send_end(const child *c, sight_err err, const char *text)
{
    const reply r = {.kind = err ? REPLY_ERROR : REPLY_DONE, .code = (uint32_t)err};
    const size_t size = text ? strlen(text) : 0;
    send_reply(c, &r, text, size < JOB_TEXT_MAX ? size : JOB_TEXT_MAX);
}

// Between packets: tells the daemon that it goes on. The daemon ends its children, so nothing is ever to stop here.
static bool stay_alive(void *arg)
{
    child *c = arg;
    const double now = clock_now_s();
    if (now - c->said_s < ALIVE_S) return false;
    const reply r = {.kind = REPLY_ALIVE};
    job_send(c->socket, &r, sizeof r, NULL, 0, NULL, 0, MSG_DONTWAIT);
    c->said_s = now;
    return false;
}

// ---- clips ----

static video_limits limits_of(child *c)
{
    const job *j = &c->job;
    return (video_limits){.max_pixels = j->max_pixels, .max_seconds = j->max_seconds, .max_bytes = j->max_bytes,
                          .threads = j->threads, .stop = stay_alive, .stop_arg = c};
}

static sight_err send_state(const child *c, const video *v)
{
    buf b;
    buf_init(&b);
    video_state_pack(&b, v);
    sight_err err = SIGHT_OK;
    if (buf_failed(&b)) err = sight_fail(SIGHT_E_MEMORY, "no memory for the frame list of '%s'", v->name);
    for (size_t at = 0; !err && at < b.size; at += JOB_DATA_MAX) {
        const reply r = {.kind = REPLY_STATE};
        const size_t size = b.size - at < JOB_DATA_MAX ? b.size - at : JOB_DATA_MAX;
        if (!send_reply(c, &r, b.data + at, size)) err = sight_fail(SIGHT_E_IO, "nobody listens");
    }
    buf_done(&b);
    return err;
}

static sight_err open_clip(child *c)
{
    const job *j = &c->job;
    const video_limits limits = limits_of(c);
    const video_range range = {j->start_s, j->end_s};
    video *v;
    sight_err err = video_open_sized(&v, c->fds[0], j->bytes, j->name, &range, &limits);
    if (err) return err;
    err = send_state(c, v);
    video_close(&v);
    return err;
}

// The clip's state and the asked numbers, as the daemon keeps them.
static sight_err read_state(const child *c, video *v, int64_t **asked)
{
    const job *j = &c->job;
    const size_t numbers = (size_t)j->n * sizeof(int64_t), all = (size_t)j->state_bytes + numbers;
    uint8_t *bytes = malloc(all);
    *asked = malloc(numbers);
    sight_err err = SIGHT_OK;
    if (!bytes || !*asked) err = sight_fail(SIGHT_E_MEMORY, "no memory for the frame list of '%s'", j->name);
    for (size_t at = 0; !err && at < all;) {
        const ssize_t n = pread(c->fds[2], bytes + at, all - at, (off_t)at);
        if (n <= 0 && errno != EINTR) err = sight_fail(SIGHT_E_IO, "the frame list of '%s' cannot be read", j->name);
        else if (n > 0) at += (size_t)n;
    }
    if (!err) err = video_state_unpack(v, bytes, (size_t)j->state_bytes);
    if (!err) memcpy(*asked, bytes + j->state_bytes, numbers);
    free(bytes);
    return err;
}

// Every frame takes what the one before has given back, which then need not be had again, page by page.
static void keep_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, KEPT_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
}

static sight_err read_clip(child *c, char **warning)
{
    const job *j = &c->job;
    const video_limits limits = limits_of(c);
    child_slots slots;
    video *v = NULL;
    int64_t *asked = NULL;
    keep_memory();
    sight_err err = child_slots_open(&slots, c->socket, c->fds[1], j);
    if (err) return err;
    err = video_create(&v, &(av_origin){j->name, c->fds[0], NULL, (size_t)j->bytes}, &limits);
    if (!err) err = read_state(c, v, &asked);
    if (!err) {
        const video_raw raw = {.sink = j->raw ? child_slots_planes : NULL, .place = child_slots_place};
        err = video_read_raw(v, asked, j->n, j->width, j->height, child_slots_frame, &slots, &raw, warning);
    }
    video_close(&v);
    free(asked);
    child_slots_close(&slots);
    return err;
}

// ---- pictures ----

// Cut short, it ends this process, and nobody else.
static sight_err map_medium(const child *c, void **bytes)
{
    *bytes = mmap(NULL, (size_t)c->job.bytes, PROT_READ, MAP_PRIVATE, c->fds[0], 0);
    if (*bytes != MAP_FAILED) return SIGHT_OK;
    return sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", c->job.name);
}

static sight_err send_picture(const child *c, const image_info *info)
{
    reply r = {.kind = REPLY_PICTURE, .width = info->width, .height = info->height};
    memcpy(r.format, info->format, sizeof r.format);
    return send_reply(c, &r, NULL, 0) ? SIGHT_OK : sight_fail(SIGHT_E_IO, "nobody listens");
}

static sight_err resize_picture(const child *c, const frame *whole)
{
    child_slots slots;
    frame *sized = NULL;
    sight_err err = child_slots_open(&slots, c->socket, c->fds[1], &c->job);
    if (err) return err;
    err = child_slots_place(&slots, &sized, c->job.width, c->job.height);
    if (!err) err = resize_into(sized, whole->rgb, (int64_t)whole->width * 3, whole->width, whole->height);
    if (!err) err = child_slots_frame(&slots, 0, sized);
    else frame_unref(&sized);
    child_slots_close(&slots);
    return err;
}

static sight_err do_picture(const child *c)
{
    const job *j = &c->job;
    const image_limits limits = {.max_pixels = j->max_pixels, .max_bytes = j->max_bytes};
    void *bytes;
    image_info info;
    frame *whole = NULL;
    sight_err err = map_medium(c, &bytes);
    if (err) return err;
    err = image_probe(&info, bytes, (size_t)j->bytes, j->name, &limits);
    if (!err) err = send_picture(c, &info);
    if (!err && j->verb == JOB_PICTURE_READ) {
        err = image_decode(&whole, bytes, (size_t)j->bytes, j->name, &limits);
        if (!err) err = resize_picture(c, whole);
        frame_unref(&whole);
    }
    munmap(bytes, (size_t)j->bytes);
    return err;
}

// ---- the job ----

static int files_of(uint32_t verb)
{
    return verb == JOB_CLIP_READ ? 3 : verb == JOB_PICTURE_READ ? 2 : 1;
}

static bool receive_job(child *c)
{
    int n = 3;
    const long size = job_receive(c->socket, &c->job, sizeof c->job, c->fds, &n, 0);
    const job *j = &c->job;
    return size == (long)sizeof *j && j->size == sizeof *j && memchr(j->name, 0, sizeof j->name) && j->bytes > 0 &&
           n == files_of(j->verb);
}

void child_serve(int socket, uint32_t layers)
{
    child c = {.socket = socket, .fds = {-1, -1, -1}};
    const reply ready = {.kind = REPLY_READY, .code = layers};
    char *warning = NULL;
    mallopt(M_ARENA_MAX, MAX_ARENAS);
    if (!send_reply(&c, &ready, NULL, 0) || !receive_job(&c)) return;
    sight_err err;
    switch (c.job.verb) {
    case JOB_CLIP_OPEN: err = open_clip(&c); break;
    case JOB_CLIP_READ: err = read_clip(&c, &warning); break;
    case JOB_PICTURE_PROBE:
    case JOB_PICTURE_READ: err = do_picture(&c); break;
    default: return;
    }
    send_end(&c, err, err ? sight_error() : warning);
    free(warning);
}
