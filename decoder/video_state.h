// decoder/video_state.h - an opened clip as bytes: what is known of it, and the list of its frames.
//
// Between processes of one build, so in the machine's own order. Threads: one at a time per video.
#ifndef SIGHT_DECODER_VIDEO_STATE_H
#define SIGHT_DECODER_VIDEO_STATE_H

#include "base/buf.h"
#include "decoder/video_parts.h"

// Appends to b, whose failing says that there was no memory.
void video_state_pack(buf *b, const video *v);

// Fills info, orientation, range and index of a video that has none yet. Whatever the bytes are, the result is one that
// video_choose and video_read can work with: counts fit, times ascend, numbers are finite. SIGHT_E_MEDIA, v then as
// before; SIGHT_E_MEMORY.
sight_err video_state_unpack(video *v, const void *bytes, size_t size);

#endif
