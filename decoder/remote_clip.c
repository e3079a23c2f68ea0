// Clips of remote.h. Frames come in slots of shared memory: each is handed on where it lies, and its slot goes back to
// the child when nobody refers to it any more. A reader that keeps many gets copies, so that the child never waits for
// memory that nobody will give back.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "decoder/remote.h"
#include "decoder/session.h"
#include "decoder/shared.h"
#include "decoder/video_state.h"

#define PAGE 4096
// Of a packed state: the most frames that a clip may have, and a key each.
#define STATE_MAX ((size_t)(1 << 24) * 24 + 65536)

// ---- the medium as a file ----

// *own: to close. A clip's file is opened for each use, as it is without children.
static sight_err medium_file(int *fd, int64_t *size, bool *own, const video *v)
{
    const av_origin *from = &v->from;
    *own = from->fd < 0;
    sight_err err = SIGHT_OK;
    if (from->fd >= 0) *fd = from->fd;
    else if (from->bytes) err = shared_copy(fd, from->bytes, from->size);
    else err = file_open(fd, from->name);
    if (err) return err;
    av_source s;
    err = av_source_open(&s, &(av_origin){v->name, *fd, NULL, 0}); // whether it is a file, and its size
    if (!err) {
        *size = s.size;
        av_source_close(&s);
    }
    if (!err && *size == 0) err = sight_fail(SIGHT_E_MEDIA, "'%s' is empty", v->name);
    if (err && *own) close(*fd);
    return err;
}

static void fill_job(job *j, job_verb verb, const video *v, int64_t size)
{
    memset(j, 0, sizeof *j);
    j->size = sizeof *j;
    j->verb = verb;
    j->bytes = size;
    j->max_pixels = v->limits.max_pixels;
    j->max_bytes = v->limits.max_bytes;
    j->max_seconds = v->limits.max_seconds;
    j->threads = v->limits.threads;
    strncpy(j->name, v->name, sizeof j->name - 1);
}

// ---- opening ----

static sight_err hear_state(session *s, video *v)
{
    buf b;
    buf_init(&b);
    sight_err err = session_next(s);
    while (!err && s->reply.head.kind == REPLY_STATE && b.size <= STATE_MAX) {
        buf_add(&b, s->reply.data, s->reply.data_size);
        err = session_next(s);
    }
    if (!err && s->reply.head.kind != REPLY_DONE) err = session_nonsense(s);
    if (!err && buf_failed(&b)) err = sight_fail(SIGHT_E_MEMORY, "no memory for the frame list of '%s'", v->name);
    if (!err) err = video_state_unpack(v, buf_text(&b), b.size);
    buf_done(&b);
    return err;
}

static sight_err run_open(video *v, const job *j, int fd, bool *killed)
{
    session *s = NULL;
    sight_err err = session_begin(&s, v->limits.decoders, j, &fd, 1, v->name, v->limits.stop, v->limits.stop_arg);
    if (!err) err = hear_state(s, v);
    *killed = err && s && s->killed;
    session_end(&s);
    return err;
}

sight_err remote_clip_open(video *v, const video_range *range)
{
    if (v->from.bytes && v->from.size > (uint64_t)v->limits.max_bytes) {
        return sight_fail(SIGHT_E_LIMIT, "'%s' has %zu bytes, the limit is %lld", v->name, v->from.size,
                          (long long)v->limits.max_bytes);
    }
    int fd;
    int64_t size;
    bool own, killed = true;
    job *j = malloc(sizeof *j);
    if (!j) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", v->name);
    sight_err err = medium_file(&fd, &size, &own, v);
    if (!err) {
        fill_job(j, JOB_CLIP_OPEN, v, size);
        j->start_s = range->start_s;
        j->end_s = range->end_s;
        for (int i = 0; killed && i < SESSION_TRIES; i++) err = run_open(v, j, fd, &killed);
        if (own) close(fd);
    }
    free(j);
    return err;
}

// ---- slots ----

typedef struct clip_slots clip_slots;

typedef struct clip_slot {
    clip_slots *of;
    int32_t number;
} clip_slot;

struct clip_slots {
    shared *memory;
    int64_t bytes; // of one
    int32_t n;
    clip_slot slots[JOB_SLOTS];
    atomic_int refs; // the reading's, and one for each frame in place

    pthread_mutex_t mutex; // guards what follows
    int socket;            // -1: the session is over
    bool here[JOB_SLOTS];  // a frame of this process lies in it
    int32_t n_here;
};

static void slots_unref(clip_slots *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1) return;
    pthread_mutex_destroy(&s->mutex);
    shared_unref(&s->memory);
    free(s);
}

static sight_err slots_create(clip_slots **out, int32_t n, int64_t bytes)
{
    clip_slots *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory for frames");
    sight_err err = shared_create(&s->memory, (size_t)n * (size_t)bytes);
    if (err) {
        free(s);
        return err;
    }
    pthread_mutex_init(&s->mutex, NULL);
    s->bytes = bytes;
    s->n = n;
    s->socket = -1;
    atomic_store(&s->refs, 1);
    for (int32_t i = 0; i < n; i++) s->slots[i] = (clip_slot){s, i};
    *out = s;
    return SIGHT_OK;
}

static void slots_set_socket(clip_slots *s, int socket)
{
    pthread_mutex_lock(&s->mutex);
    s->socket = socket;
    pthread_mutex_unlock(&s->mutex);
}

static uint8_t *slots_memory(const clip_slots *s, int32_t i)
{
    return s->memory->at + i * s->bytes;
}

// A frame's give_back, on whatever thread.
static void slot_free(void *place)
{
    const clip_slot *p = place;
    clip_slots *s = p->of;
    pthread_mutex_lock(&s->mutex);
    s->here[p->number] = false;
    s->n_here--;
    if (s->socket >= 0) session_answer(s->socket, ANSWER_FREE, p->number);
    pthread_mutex_unlock(&s->mutex);
    slots_unref(s);
}

// Takes the slot for a frame in place. false: too many are in place, or this one is.
static bool slot_take(clip_slots *s, int32_t i)
{
    pthread_mutex_lock(&s->mutex);
    const bool free = s->n_here < JOB_IN_PLACE && s->n_here < s->n - 1 && !s->here[i];
    if (free) {
        s->here[i] = true;
        s->n_here++;
        atomic_fetch_add(&s->refs, 1);
    }
    pthread_mutex_unlock(&s->mutex);
    return free;
}

static bool slot_is_here(clip_slots *s, int32_t i)
{
    pthread_mutex_lock(&s->mutex);
    const bool here = s->here[i];
    pthread_mutex_unlock(&s->mutex);
    return here;
}

// ---- reading ----

typedef struct clip_reading {
    session *s;
    clip_slots *slots;
    int32_t n, next;
    int32_t width, height;
    video_sink *sink;
    void *arg;
    video_raw_sink *raw;
} clip_reading;

static sight_err copy_out(frame **out, const clip_reading *r, int32_t slot)
{
    frame *f;
    sight_err err = frame_create(&f, r->width, r->height);
    if (err) return err;
    memcpy(f->rgb, slots_memory(r->slots, slot), (size_t)r->width * (size_t)r->height * 3);
    session_answer(r->s->child.socket, ANSWER_FREE, slot);
    *out = f;
    return SIGHT_OK;
}

static sight_err take_frame(clip_reading *r)
{
    const reply *p = &r->s->reply.head;
    frame *f = NULL;
    sight_err err;
    if (p->slot >= r->slots->n || slot_is_here(r->slots, p->slot) || p->width != r->width || p->height != r->height) {
        return session_nonsense(r->s);
    }
    if (slot_take(r->slots, p->slot)) {
        clip_slot *place = &r->slots->slots[p->slot];
        err = frame_wrap(&f, r->width, r->height, slots_memory(r->slots, p->slot), slot_free, place);
        if (err) slot_free(place);
    } else {
        err = copy_out(&f, r, p->slot);
    }
    if (err) return err;
    f->time_s = p->time_s;
    return r->sink(r->arg, r->next++, f);
}

static sight_err take_planes(clip_reading *r)
{
    const reply *p = &r->s->reply.head;
    planes at;
    bool taken = false;
    if (!r->raw || p->slot >= r->slots->n || slot_is_here(r->slots, p->slot) ||
        !job_planes(&at, p, slots_memory(r->slots, p->slot), r->slots->bytes)) {
        return session_nonsense(r->s);
    }
    const int32_t slot = p->slot;
    sight_err err = r->raw(r->arg, r->next, &at, &taken);
    if (err) return err;
    if (taken) r->next++;
    session_answer(r->s->child.socket, taken ? ANSWER_TAKEN : ANSWER_CONVERT, slot);
    return SIGHT_OK;
}

static sight_err hear_frames(clip_reading *r)
{
    for (;;) {
        sight_err err = session_next(r->s);
        const reply *p = &r->s->reply.head;
        if (err) return err;
        if (p->kind == REPLY_DONE) return r->next == r->n ? SIGHT_OK : session_nonsense(r->s);
        if (r->next == r->n || p->number != r->next) return session_nonsense(r->s);
        if (p->kind == REPLY_FRAME) err = take_frame(r);
        else if (p->kind == REPLY_PLANES) err = take_planes(r);
        else err = session_nonsense(r->s);
        if (err) return err;
    }
}

static sight_err take_warning(char **warning, const session *s)
{
    char *line = s->reply.text[0] ? strdup(s->reply.text) : NULL;
    if (s->reply.text[0] && !line) return sight_fail(SIGHT_E_MEMORY, "no memory for a warning");
    if (warning) *warning = line;
    else free(line);
    return SIGHT_OK;
}

// What a child needs to go on where another has opened the clip.
static sight_err state_file(int *fd, int64_t *state_bytes, const video *v, const int64_t *indices, int32_t n)
{
    buf b;
    buf_init(&b);
    video_state_pack(&b, v);
    *state_bytes = (int64_t)b.size;
    buf_add(&b, indices, (size_t)n * sizeof *indices);
    sight_err err = buf_failed(&b) ? sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", v->name)
                                   : shared_copy(fd, b.data, b.size);
    buf_done(&b);
    return err;
}

// A frame as shown, or planes of 16 bits as decoded.
static int64_t slot_size(const video *v, int32_t width, int32_t height, bool raw)
{
    int64_t bytes = (int64_t)width * height * 3;
    const int64_t whole = (int64_t)v->info.width * v->info.height * 3;
    if (raw && whole > bytes) bytes = whole;
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

// *again: it may be tried once more, as the sink has had nothing.
static sight_err run_session(clip_reading *r, const video *v, const job *j, const int *fds, char **warning, bool *again)
{
    sight_err err = session_begin(&r->s, v->limits.decoders, j, fds, 3, v->name, v->limits.stop, v->limits.stop_arg);
    *again = false;
    if (err) return err;
    slots_set_socket(r->slots, r->s->child.socket);
    err = hear_frames(r);
    if (!err) err = take_warning(warning, r->s);
    *again = err && r->s->killed && r->next == 0;
    slots_set_socket(r->slots, -1);
    session_end(&r->s);
    return err;
}

sight_err remote_clip_read(const video *v, const int64_t *indices, int32_t n, int32_t width, int32_t height,
                           video_sink *sink, void *arg, const video_raw *raw, char **warning)
{
    clip_reading r = {.n = n, .width = width, .height = height, .sink = sink, .arg = arg,
                      .raw = raw ? raw->sink : NULL};
    const int64_t bytes = slot_size(v, width, height, r.raw);
    int medium, state = -1;
    int64_t size;
    bool own;
    job *j = malloc(sizeof *j);
    if (!j) return sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", v->name);
    sight_err err = medium_file(&medium, &size, &own, v);
    if (err) {
        free(j);
        return err;
    }
    fill_job(j, JOB_CLIP_READ, v, size);
    j->width = width;
    j->height = height;
    j->n = n;
    j->raw = r.raw != NULL;
    j->slot_bytes = bytes;
    j->slots = n + 1 < JOB_SLOTS ? n + 1 : JOB_SLOTS;
    err = state_file(&state, &j->state_bytes, v, indices, n);
    if (!err) err = slots_create(&r.slots, j->slots, bytes);
    if (!err) {
        const int fds[] = {medium, r.slots->memory->fd, state};
        bool again = true;
        for (int i = 0; again && i < SESSION_TRIES; i++) err = run_session(&r, v, j, fds, warning, &again);
        slots_unref(r.slots);
    }
    if (state >= 0) close(state);
    if (own) close(medium);
    free(j);
    return err;
}
