// daemon/media/feed_frames.h - decoded frames of a clip for the GPU that makes patch rows of them.
//
// Joins decoder/planes and decoder/resize to kernels/frames, which know nothing of each other. Threads: the
// decoder's.
#ifndef SIGHT_DAEMON_FEED_FRAMES_H
#define SIGHT_DAEMON_FEED_FRAMES_H

#include "daemon/task.h"
#include "decoder/planes.h"
#include "kernels/frames.h"

// Says how frames like p become rows of m's plan. Codes of frames_set_shape.
sight_err feed_frames_shape(frames *f, const task_media *m, const model_config *c, const planes *p);
// Writes p as one or two slots of a pair's rows. SIGHT_E_UNSUPPORTED: not of the shape, or another that the GPU does not
// take. Codes of frames_add.
sight_err feed_frames_add(frames *f, float *rows, const planes *p, int slot, int slots);

// Whether the GPU decodes m's clip: its first chosen frame is tried. Threads: whoever has the clip.
bool feed_frames_decodes(const task_media *m, device_id device);

#endif
