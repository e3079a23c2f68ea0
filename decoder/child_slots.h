// decoder/child_slots.h - where a decoder child puts frames: memory shared with the daemon, in slots that go to and fro.
//
// Frames are written where the daemon reads them. A slot is free, or the daemon has it, or it holds the frame that was
// handed over last, which may be asked for again. When none is free, the child waits: that is what holds it back.
// Threads: one.
#ifndef SIGHT_DECODER_CHILD_SLOTS_H
#define SIGHT_DECODER_CHILD_SLOTS_H

#include <stdbool.h>

#include "decoder/job.h"
#include "decoder/shared.h"
#include "decoder/video.h"

typedef struct child_slot {
    struct child_slots *of;
    bool out;  // the daemon has it
    bool used; // a frame of this process refers to it
} child_slot;

typedef struct child_slots {
    int socket;
    shared *memory;
    const job *job;
    int64_t bytes; // of one
    child_slot slots[JOB_SLOTS];
    answer_kind heard; // the latest answer about planes
} child_slots;

// Takes over fd. SIGHT_E_MEMORY, SIGHT_E_INTERNAL (sizes that do not fit).
sight_err child_slots_open(child_slots *s, int socket, int fd, const job *j);
void child_slots_close(child_slots *s); // all frames let go of

// The three below have child_slots for arg. SIGHT_E_IO: the daemon is gone.
// A frame of the wanted size in a free slot.
sight_err child_slots_place(void *arg, frame **out, int32_t width, int32_t height);
// A video_sink: hands f over.
sight_err child_slots_frame(void *arg, int32_t i, frame *f);
// A video_raw_sink: copies planes into a slot, where they fit, and asks.
sight_err child_slots_planes(void *arg, int32_t i, const planes *p, bool *taken);

#endif
