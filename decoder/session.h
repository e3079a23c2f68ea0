// decoder/session.h - one job with one child: sending it, hearing the replies, naming whatever goes wrong.
//
// A child that is killed from outside (SIGKILL of an administrator, or of a kernel that is short of memory; its keeper's end) is no
// fault of the medium: the same job may be given to one more child (SESSION_TRIES), as long as nothing was handed on.
// A session ends its child at once when it is stopped, when the child is silent for too long and when it talks nonsense.
// Threads: one at a time; session_answer from any.
#ifndef SIGHT_DECODER_SESSION_H
#define SIGHT_DECODER_SESSION_H

#include "decoder/decoders_parts.h"
#include "decoder/job.h"

// How many children a job is given to, at most.
#define SESSION_TRIES 2

typedef struct session {
    decoders *decoders;
    decoder_child child;
    const char *name; // of the medium
    bool (*stop)(void *arg);
    void *stop_arg;
    uint8_t *bytes; // [JOB_MESSAGE_MAX + 1] the message at hand
    reply_message reply;
    double waited_s; // for it, so far
    bool ready;      // it has said so
    bool killed;     // somebody outside has ended it: no fault of the medium's
    decoder_event end;
} session;

// Takes a child and sends the job with its files, which stay the caller's. Sentences call the medium name.
// On failure there is nothing to end. SIGHT_E_CANCELLED, SIGHT_E_MEMORY, SIGHT_E_INTERNAL.
sight_err session_begin(session **out, decoders *d, const job *j, const int *fds, int n_fds, const char *name,
                        bool (*stop)(void *), void *stop_arg);
// Accepts NULL; leaves NULL.
void session_end(session **s);

// Waits for the next reply that says something, in s->reply, whose data is good until the next call. The child's own
// error comes as this function's; REPLY_DONE as SIGHT_OK. Codes of decoder/remote.h.
sight_err session_next(session *s);
// When what it says cannot be, though it parses. Gives SIGHT_E_MEDIA.
sight_err session_nonsense(session *s);
void session_answer(int socket, answer_kind kind, int32_t slot);

#endif
