// decoder/orient.h - turns and mirrors a picture, numbered as EXIF does (CIPA DC-008, tag 0x0112).
//
// 1 as stored; 2 mirrored left-right; 3 half a turn; 4 mirrored top-bottom; 5 transposed;
// 6 a quarter turn clockwise; 7 transposed across the other diagonal; 8 a quarter turn
// anticlockwise - what is done to the stored pixels to show them. Threads: any.
#ifndef SIGHT_DECODER_ORIENT_H
#define SIGHT_DECODER_ORIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "decoder/frame.h"

// Whether width and height change places.
bool orient_swaps(int orientation);

// Replaces *f (sole reference) by the turned picture; 1 and unknown numbers leave it.
// SIGHT_E_MEMORY, *f then as before.
sight_err orient_apply(frame **f, int orientation);

// The same into a frame that is there, of the size as shown; its time stays.
void orient_into(frame *out, const frame *in, int orientation);

// The number for a container's display matrix (nine integers as in ISO/IEC 14496-12, tkhd), to the
// nearest quarter turn.
int orient_of_matrix(const int32_t matrix[9]);

// The orientation in a TIFF structure (EXIF data, or a TIFF file itself); 1 when there is none.
int orient_of_exif(const uint8_t *tiff, size_t size);

#endif
