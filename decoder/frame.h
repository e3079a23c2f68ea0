// decoder/frame.h - a decoded picture: 8-bit RGB, reference-counted.
//
// Threads: frame_ref and frame_unref from any; the pixels are not changed once a frame is shared.
#ifndef SIGHT_DECODER_FRAME_H
#define SIGHT_DECODER_FRAME_H

#include <stdint.h>

#include "base/err.h"

typedef struct frame {
    uint8_t *rgb; // [height, width, 3], no row padding
    int32_t width, height;
    double time_s; // presentation time of a video frame, from the start of the file; 0 for pictures
    int refs;      // atomic
    // Where the pixels are somebody else's memory: called once, with place, when nobody refers to the frame any more.
    void (*give_back)(void *place);
    void *place;
} frame;

// SIGHT_E_MEMORY.
sight_err frame_create(frame **out, int32_t width, int32_t height);
// Over pixels that stay where they are. SIGHT_E_MEMORY; the place is not given back then.
sight_err frame_wrap(frame **out, int32_t width, int32_t height, uint8_t *rgb, void (*give_back)(void *place),
                     void *place);
frame *frame_ref(frame *f);
void frame_unref(frame **f); // accepts NULL; leaves NULL

#endif
