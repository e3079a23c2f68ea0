#include "decoder/child_slots.h"

#include <string.h>

sight_err child_slots_open(child_slots *s, int socket, int fd, const job *j)
{
    *s = (child_slots){.socket = socket, .job = j, .bytes = j->slot_bytes};
    int64_t all;
    const bool fits = j->slots >= 1 && j->slots <= JOB_SLOTS && j->width > 0 && j->height > 0 &&
                      j->slot_bytes >= (int64_t)j->width * j->height * 3 &&
                      !__builtin_mul_overflow(j->slot_bytes, (int64_t)j->slots, &all);
    if (!fits) return sight_fail(SIGHT_E_INTERNAL, "slots that hold no frame of '%s'", j->name);
    for (int i = 0; i < j->slots; i++) s->slots[i].of = s;
    return shared_open(&s->memory, fd, (size_t)all);
}

void child_slots_close(child_slots *s)
{
    shared_unref(&s->memory);
}

static sight_err gone(void)
{
    return sight_fail(SIGHT_E_IO, "nobody listens");
}

// Takes one answer, waiting for it.
static sight_err hear(child_slots *s)
{
    answer a;
    if (job_receive(s->socket, &a, sizeof a, NULL, NULL, 0) != (long)sizeof a) return gone();
    if (a.slot < 0 || a.slot >= s->job->slots) return gone();
    s->slots[a.slot].out = false;
    if (a.kind != ANSWER_FREE) s->heard = a.kind;
    return SIGHT_OK;
}

static uint8_t *memory_of(const child_slots *s, int i)
{
    return s->memory->at + i * s->bytes;
}

static sight_err find_free(child_slots *s, int *slot)
{
    for (;;) {
        for (int i = 0; i < s->job->slots; i++) {
            if (s->slots[i].out || s->slots[i].used) continue;
            *slot = i;
            return SIGHT_OK;
        }
        sight_err err = hear(s);
        if (err) return err;
    }
}

static void let_go(void *place)
{
    child_slot *s = place;
    s->used = false;
}

sight_err child_slots_place(void *arg, frame **out, int32_t width, int32_t height)
{
    child_slots *s = arg;
    int i = 0;
    sight_err err = SIGHT_OK;
    if (width != s->job->width || height != s->job->height) {
        return sight_fail(SIGHT_E_INTERNAL, "a frame of %d x %d", width, height);
    }
    err = find_free(s, &i);
    if (!err) err = frame_wrap(out, width, height, memory_of(s, i), let_go, &s->slots[i]);
    if (!err) s->slots[i].used = true;
    return err;
}

static bool say(const child_slots *s, reply_kind kind, int32_t i, int slot, int32_t width, int32_t height, double time_s,
                const reply_planes *at)
{
    reply r = {.kind = kind, .number = i, .slot = slot, .width = width, .height = height, .time_s = time_s};
    if (at) r.planes = *at;
    return job_send(s->socket, &r, sizeof r, NULL, 0, NULL, 0, 0);
}

// The one that was handed over last may be asked for again while the daemon still has it.
static sight_err copy_frame(child_slots *s, const frame *f, int *slot)
{
    sight_err err = find_free(s, slot);
    if (!err) memcpy(memory_of(s, *slot), f->rgb, (size_t)f->width * (size_t)f->height * 3);
    return err;
}

sight_err child_slots_frame(void *arg, int32_t i, frame *f)
{
    child_slots *s = arg;
    int slot = (int)((f->rgb - s->memory->at) / s->bytes);
    sight_err err = s->slots[slot].out ? copy_frame(s, f, &slot) : SIGHT_OK;
    if (!err) {
        s->slots[slot].out = true;
        if (!say(s, REPLY_FRAME, i, slot, f->width, f->height, f->time_s, NULL)) err = gone();
    }
    frame_unref(&f);
    return err;
}

// ---- planes ----

static void copy_rows(uint8_t *to, const uint8_t *from, int64_t pitch, int64_t row_bytes, int32_t rows)
{
    for (int32_t y = 0; y < rows; y++) memcpy(to + y * row_bytes, from + y * pitch, (size_t)row_bytes);
}

static bool lay_out(reply_planes *out, const planes *p, int64_t slot_bytes)
{
    const int64_t sample = p->bits > 8 ? 2 : 1, row = p->width * sample, uv_row = p->width / 2 * p->uv_step * sample;
    const int64_t uv_rows = p->height / 2, n = p->uv_step == 1 ? 2 : 1;
    *out = (reply_planes){.y_pitch = row, .uv_pitch = uv_row, .u_at = row * p->height, .uv_step = p->uv_step,
                          .bits = p->bits, .shift = p->shift, .colours = p->colours};
    if (n == 2) out->v_at = out->u_at + uv_row * uv_rows;
    return out->u_at + n * uv_row * uv_rows <= slot_bytes;
}

sight_err child_slots_planes(void *arg, int32_t i, const planes *p, bool *taken)
{
    child_slots *s = arg;
    reply_planes at;
    int slot;
    if (!lay_out(&at, p, s->bytes)) return SIGHT_OK; // it comes as a frame
    sight_err err = find_free(s, &slot);
    if (err) return err;
    uint8_t *to = memory_of(s, slot);
    copy_rows(to, p->y, p->y_pitch, at.y_pitch, p->height);
    copy_rows(to + at.u_at, p->u, p->uv_pitch, at.uv_pitch, p->height / 2);
    if (p->uv_step == 1) copy_rows(to + at.v_at, p->v, p->uv_pitch, at.uv_pitch, p->height / 2);
    s->slots[slot].out = true;
    s->heard = (answer_kind)0;
    if (!say(s, REPLY_PLANES, i, slot, p->width, p->height, 0, &at)) return gone();
    while (!err && !s->heard) err = hear(s);
    *taken = s->heard == ANSWER_TAKEN;
    return err;
}
