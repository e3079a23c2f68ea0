// decoder/job.h - what the daemon and a decoder child say to each other over their socket (SOCK_SEQPACKET).
//
// The daemon sends one job with its files (SCM_RIGHTS), the child answers with replies and ends. Both are of one build,
// so structs travel as they are. What the child says is foreign: job_parse_reply and job_planes check all of it; the job
// comes from the daemon and is trusted.
// Threads: any.
#ifndef SIGHT_DECODER_JOB_H
#define SIGHT_DECODER_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "decoder/planes.h"

#define JOB_NAME_MAX 4352
#define JOB_TEXT_MAX 8192
#define JOB_DATA_MAX 65536 // of one message of a state
// Frames that may be under way between the two; and those of them that a reader may hold at once without their being
// copied, so that the child always finds one.
#define JOB_SLOTS    5
#define JOB_IN_PLACE 3

typedef enum job_verb { JOB_CLIP_OPEN = 1, JOB_CLIP_READ, JOB_PICTURE_PROBE, JOB_PICTURE_READ } job_verb;

// Files with it, in this order: the medium; to read, the memory of the slots; to read a clip, its packed state
// (decoder/video_state.h) followed by the n asked numbers.
typedef struct job {
    uint32_t size; // of this struct
    uint32_t verb;
    int64_t bytes; // of the medium
    int64_t max_pixels, max_bytes;
    double max_seconds, start_s, end_s;
    int32_t threads;
    int32_t width, height; // of the frames
    int32_t n;
    int64_t state_bytes;
    int64_t slot_bytes;
    int32_t slots;
    int32_t raw; // planes are wanted, and frames only where those are refused
    char name[JOB_NAME_MAX];
} job;

typedef enum reply_kind {
    REPLY_READY = 1, // it is confined, by `code`'s layers (decoder/confine.h)
    REPLY_ALIVE,     // it works
    REPLY_ERROR,     // code, text; the last
    REPLY_DONE,      // text: a warning or nothing; the last
    REPLY_STATE,     // data: a piece of a packed state
    REPLY_PICTURE,   // width, height, format
    REPLY_FRAME,     // number, slot, width, height, time_s: its pixels lie in the slot
    REPLY_PLANES,    // number, slot, width, height, planes; waits for ANSWER_TAKEN or ANSWER_CONVERT
} reply_kind;

// decoder/planes.h, with places in the slot for pointers.
typedef struct reply_planes {
    int64_t y_at, u_at, v_at, y_pitch, uv_pitch;
    int32_t uv_step, bits, shift;
    planes_colours colours;
} reply_planes;

typedef struct reply {
    uint32_t kind, code;
    int32_t number, slot, width, height;
    double time_s;
    char format[16];
    reply_planes planes;
} reply;

// A message as received: room for the struct and what follows it.
typedef struct reply_message {
    reply head;
    char text[JOB_TEXT_MAX + 1];
    const uint8_t *data; // [data_size] of a state; inside the bytes parsed
    size_t data_size;
} reply_message;

#define JOB_MESSAGE_MAX (sizeof(reply) + JOB_DATA_MAX)

// false: nonsense; out is undefined then. Text comes out as UTF-8 without control characters.
bool job_parse_reply(reply_message *out, const void *bytes, size_t size);
// The planes that a REPLY_PLANES tells of, in a slot of that size. false: they would not lie in it.
bool job_planes(planes *out, const reply *r, const uint8_t *slot, int64_t slot_bytes);

typedef enum answer_kind {
    ANSWER_FREE = 1, // the slot may be used again
    ANSWER_TAKEN,    // of planes: done with them
    ANSWER_CONVERT,  // of planes: wanted as a frame
} answer_kind;

typedef struct answer {
    uint32_t kind;
    int32_t slot;
} answer;

// Sends one message of two parts, the second perhaps empty, with at most 3 files. false: nobody is there (errno).
// flags: MSG_DONTWAIT or 0.
bool job_send(int socket, const void *head, size_t head_size, const void *more, size_t more_size, const int *fds,
              int n_fds, int flags);
// Receives one message. *n_fds: room at call, files received after. Gives its size, 0 at the end, -1 (errno).
long job_receive(int socket, void *out, size_t size, int *fds, int *n_fds, int flags);

#endif
