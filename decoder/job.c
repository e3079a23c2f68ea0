#define _GNU_SOURCE // MSG_CMSG_CLOEXEC
#include "decoder/job.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_FDS 3
// Of a colour's factors, so that products with samples of 16 bits stay in 64.
#define MAX_COLOUR (1 << 20)

// ---- parsing ----

// Bytes of the well-formed UTF-8 character at s, which ends before end; 0: none (RFC 3629, section 4).
static size_t utf8_length(const uint8_t *s, const uint8_t *end)
{
    size_t n = *s < 0x80 ? 1 : *s >= 0xc2 && *s < 0xe0 ? 2 : *s >= 0xe0 && *s < 0xf0 ? 3 : *s >= 0xf0 && *s < 0xf5 ? 4 : 0;
    if (n == 0 || (size_t)(end - s) < n) return 0;
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
    }
    if ((*s == 0xe0 && s[1] < 0xa0) || (*s == 0xed && s[1] > 0x9f)) return 0;
    if ((*s == 0xf0 && s[1] < 0x90) || (*s == 0xf4 && s[1] > 0x8f)) return 0;
    return n;
}

static void take_text(char *out, const uint8_t *s, size_t size)
{
    for (const uint8_t *end = s + size; s < end;) {
        const size_t n = utf8_length(s, end);
        if (n == 0 || (n == 1 && (*s < 0x20 || *s == 0x7f))) {
            *out++ = '?';
            s++;
            continue;
        }
        memcpy(out, s, n);
        out += n;
        s += n;
    }
    *out = 0;
}

static bool is_format(const char format[16])
{
    const char *end = memchr(format, 0, 16);
    if (!end || end == format) return false;
    for (const char *c = format; c < end; c++) {
        if (*c < 0x21 || *c > 0x7e) return false;
    }
    return true;
}

// Errors that a decoder may have; that it was cancelled or that this program is defective it does not know.
static bool is_code(uint32_t code)
{
    switch (code) {
    case SIGHT_E_ARGUMENT:
    case SIGHT_E_MEDIA:
    case SIGHT_E_UNSUPPORTED:
    case SIGHT_E_LIMIT:
    case SIGHT_E_MEMORY:
    case SIGHT_E_IO: return true;
    default: return false;
    }
}

bool job_parse_reply(reply_message *out, const void *bytes, size_t size)
{
    reply *r = &out->head;
    if (size < sizeof *r || size > JOB_MESSAGE_MAX) return false;
    memcpy(r, bytes, sizeof *r);
    out->data = (const uint8_t *)bytes + sizeof *r;
    out->data_size = size - sizeof *r;
    const bool has_text = r->kind == REPLY_ERROR || r->kind == REPLY_DONE;
    if (has_text) {
        if (out->data_size > JOB_TEXT_MAX) return false;
        take_text(out->text, out->data, out->data_size);
        out->data_size = 0;
    }
    switch (r->kind) {
    case REPLY_READY:
    case REPLY_ALIVE:
    case REPLY_DONE: return out->data_size == 0;
    case REPLY_ERROR: return is_code(r->code) && out->text[0];
    case REPLY_STATE: return out->data_size > 0;
    case REPLY_PICTURE: return out->data_size == 0 && r->width > 0 && r->height > 0 && is_format(r->format);
    case REPLY_FRAME:
    case REPLY_PLANES:
        return out->data_size == 0 && r->width > 0 && r->height > 0 && r->number >= 0 && r->slot >= 0 &&
               isfinite(r->time_s);
    default: return false;
    }
}

// Whether rows of that many bytes, pitch apart, lie in the slot.
static bool rows_fit(int64_t at, int64_t pitch, int64_t row_bytes, int64_t rows, int64_t slot_bytes)
{
    if (at < 0 || at > slot_bytes || pitch < row_bytes || pitch > slot_bytes) return false;
    return pitch * (rows - 1) + row_bytes <= slot_bytes - at; // rows < 2^31, pitch bounded by what is mapped
}

static bool colours_fit(const planes_colours *c)
{
    const int32_t all[] = {c->luma_gain, c->luma_zero, c->v_to_r, c->u_to_g, c->v_to_g, c->u_to_b};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i] < -MAX_COLOUR || all[i] > MAX_COLOUR) return false;
    }
    return true;
}

bool job_planes(planes *out, const reply *r, const uint8_t *slot, int64_t slot_bytes)
{
    const reply_planes *p = &r->planes;
    if (r->width < 2 || r->height < 2 || r->width % 2 || r->height % 2) return false;
    if (p->uv_step < 1 || p->uv_step > 2 || p->bits < 8 || p->bits > 16 || p->shift < 0 || p->shift > 16 - p->bits) {
        return false;
    }
    if ((p->bits == 8 && p->shift) || !colours_fit(&p->colours) || slot_bytes > INT64_MAX >> 32) return false;
    const int64_t sample = p->bits > 8 ? 2 : 1, row = r->width * sample;
    const int64_t uv_row = p->uv_step * (int64_t)(r->width / 2) * sample, uv_rows = r->height / 2;
    if (!rows_fit(p->y_at, p->y_pitch, row, r->height, slot_bytes)) return false;
    if (!rows_fit(p->u_at, p->uv_pitch, uv_row, uv_rows, slot_bytes)) return false;
    if (p->uv_step == 1 && !rows_fit(p->v_at, p->uv_pitch, uv_row, uv_rows, slot_bytes)) return false;
    if (sample == 2 && (p->y_at | p->u_at | p->v_at | p->y_pitch | p->uv_pitch) % 2) return false;
    *out = (planes){.y = slot + p->y_at, .u = slot + p->u_at, .v = p->uv_step == 1 ? slot + p->v_at : NULL,
                    .y_pitch = p->y_pitch, .uv_pitch = p->uv_pitch, .uv_step = p->uv_step, .bits = p->bits,
                    .shift = p->shift, .width = r->width, .height = r->height, .colours = p->colours};
    return true;
}

// ---- messages ----

typedef union control {
    char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
    struct cmsghdr align;
} control;

bool job_send(int socket, const void *head, size_t head_size, const void *more, size_t more_size, const int *fds,
              int n_fds, int flags)
{
    struct iovec parts[2] = {{(void *)head, head_size}, {(void *)more, more_size}};
    struct msghdr m = {.msg_iov = parts, .msg_iovlen = more_size ? 2 : 1};
    control c;
    if (n_fds > 0 && n_fds <= MAX_FDS) {
        memset(&c, 0, sizeof c);
        m.msg_control = c.bytes;
        m.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
        struct cmsghdr *h = CMSG_FIRSTHDR(&m);
        h->cmsg_level = SOL_SOCKET;
        h->cmsg_type = SCM_RIGHTS;
        h->cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int));
        memcpy(CMSG_DATA(h), fds, (size_t)n_fds * sizeof(int));
    }
    ssize_t sent;
    do sent = sendmsg(socket, &m, MSG_NOSIGNAL | flags);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)(head_size + more_size);
}

// Takes the files of a message; more than there is room for are closed.
static void take_fds(struct msghdr *m, int *fds, int *n)
{
    const int room = *n;
    *n = 0;
    for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS) continue;
        const size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
            if (*n < room) fds[(*n)++] = fd;
            else close(fd);
        }
    }
}

long job_receive(int socket, void *out, size_t size, int *fds, int *n_fds, int flags)
{
    struct iovec part = {out, size};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    control c;
    if (n_fds) {
        m.msg_control = c.bytes;
        m.msg_controllen = sizeof c.bytes;
    }
    ssize_t got;
    // A peer that ended with messages unread is told of once, before what it had said.
    do got = recvmsg(socket, &m, flags | MSG_CMSG_CLOEXEC);
    while (got < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n_fds && got >= 0) take_fds(&m, fds, n_fds);
    else if (n_fds) *n_fds = 0;
    if (got > 0 && (m.msg_flags & MSG_TRUNC)) return (long)size + 1; // more than any message has
    return (long)got;
}
