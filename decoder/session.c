#include "decoder/session.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"

// How soon a stop is noticed.
#define POLL_MS 25

static sight_err cancelled(const session *s)
{
    return sight_fail(SIGHT_E_CANCELLED, "reading '%s' was stopped", s->name);
}

// A child that died while it waited has read nothing of the medium: another takes its place.
static sight_err send_job(session *s, const job *j, const int *fds, int n_fds)
{
    for (int i = 0; i < 3; i++) {
        sight_err err = decoders_take(s->decoders, &s->child, s->stop, s->stop_arg);
        if (err) return err;
        if (job_send(s->child.socket, j, sizeof *j, NULL, 0, fds, n_fds, 0)) return SIGHT_OK;
        decoders_give(s->decoders, &s->child, DECODER_CRASHED);
    }
    return sight_fail(SIGHT_E_INTERNAL, "no decoder takes '%s': they end before they begin", s->name);
}

sight_err session_begin(session **out, decoders *d, const job *j, const int *fds, int n_fds, const char *name,
                        bool (*stop)(void *), void *stop_arg)
{
    session *s = calloc(1, sizeof *s);
    if (s) s->bytes = malloc(JOB_MESSAGE_MAX + 1);
    if (!s || !s->bytes) {
        free(s);
        return sight_fail(SIGHT_E_MEMORY, "no memory to read '%s'", name);
    }
    s->decoders = d;
    s->name = name;
    s->end = DECODER_FAILED;
    s->stop = stop;
    s->stop_arg = stop_arg;
    sight_err err = send_job(s, j, fds, n_fds);
    if (err) {
        free(s->bytes);
        free(s);
        return err;
    }
    *out = s;
    return SIGHT_OK;
}

void session_end(session **p)
{
    session *s = *p;
    if (!s) return;
    decoders_give(s->decoders, &s->child, s->end);
    free(s->bytes);
    free(s);
    *p = NULL;
}

// ---- bad ends ----

static sight_err fail_long(session *s, const char *of)
{
    s->end = DECODER_TIMED_OUT;
    return sight_fail(SIGHT_E_TIMEOUT, "reading '%s' took over %g s %s, the limit (decoder-seconds)", s->name,
                      decoders_get_options(s->decoders)->seconds, of);
}

static sight_err fail_signal(session *s, int number)
{
    if (number == SIGXCPU) return fail_long(s, "of the processor");
    if (number == SIGSYS) {
        return sight_fail(SIGHT_E_MEDIA, "the decoder was ended (SIGSYS) while reading '%s': it did what decoders may not",
                          s->name);
    }
    return sight_fail(SIGHT_E_MEDIA, "the decoder ended on signal %d while reading '%s'", number, s->name);
}

static sight_err fail_ended(session *s)
{
    const int status = decoders_wait_status(&s->child);
    s->end = DECODER_CRASHED;
    s->killed = status < 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    if (status < 0) return sight_fail(SIGHT_E_MEDIA, "the decoder was ended from outside while reading '%s'", s->name);
    if (WIFSIGNALED(status)) return fail_signal(s, WTERMSIG(status));
    return sight_fail(SIGHT_E_MEDIA, "the decoder ended without a word (%d) while reading '%s'", WEXITSTATUS(status),
                      s->name);
}

static sight_err fail_silent(session *s, double limit_s)
{
    s->end = DECODER_TIMED_OUT;
    if (!s->ready) decoders_distrust(s->decoders);
    return sight_fail(SIGHT_E_TIMEOUT, "the decoder was silent for %g s, the limit (decoder-timeout), while reading '%s'",
                      limit_s, s->name);
}

sight_err session_nonsense(session *s)
{
    s->end = DECODER_CRASHED;
    return sight_fail(SIGHT_E_MEDIA, "the decoder talked nonsense while reading '%s'", s->name);
}

// What the child ran into is its own limit, not the daemon's memory.
static sight_err fail_as_told(session *s)
{
    const sight_err code = (sight_err)s->reply.head.code;
    if (code != SIGHT_E_MEMORY) return sight_fail(code, "%s", s->reply.text);
    s->end = DECODER_NO_MEMORY;
    return sight_fail(code, "%s (a decoder may take %lld MiB: decoder-memory)", s->reply.text,
                      (long long)(decoders_get_options(s->decoders)->memory_bytes >> 20));
}

// ---- hearing ----

static sight_err wait_for_message(session *s)
{
    const decoders_options *o = decoders_get_options(s->decoders);
    const double start = clock_now_s(), waited_s = s->waited_s;
    for (;;) {
        if (s->stop && s->stop(s->stop_arg)) return cancelled(s);
        struct pollfd p = {s->child.socket, POLLIN, 0};
        const int ready = poll(&p, 1, POLL_MS);
        if (ready < 0 && errno != EINTR) return session_nonsense(s);
        const double silent_s = clock_now_s() - start;
        s->waited_s = waited_s + silent_s;
        if (s->waited_s > o->seconds) return fail_long(s, "of waiting");
        if (ready > 0) return SIGHT_OK;
        if (silent_s > o->silence_s) return fail_silent(s, o->silence_s);
    }
}

sight_err session_next(session *s)
{
    for (;;) {
        sight_err err = wait_for_message(s);
        if (err) return err;
        const long n = job_receive(s->child.socket, s->bytes, JOB_MESSAGE_MAX + 1, NULL, NULL, 0);
        if (n <= 0) return fail_ended(s);
        if (!job_parse_reply(&s->reply, s->bytes, (size_t)n)) return session_nonsense(s);
        if (s->reply.head.kind == REPLY_ERROR) return fail_as_told(s);
        s->ready = true;
        if (s->reply.head.kind == REPLY_DONE) s->end = DECODER_DONE;
        if (s->reply.head.kind != REPLY_READY && s->reply.head.kind != REPLY_ALIVE) return SIGHT_OK;
    }
}

void session_answer(int socket, answer_kind kind, int32_t slot)
{
    const answer a = {kind, slot};
    // A child that is gone, or never reads, needs none: there is room for an answer a slot.
    job_send(socket, &a, sizeof a, NULL, 0, NULL, 0, MSG_DONTWAIT);
}
