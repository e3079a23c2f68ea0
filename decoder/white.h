// decoder/white.h - a picture with alpha laid on white. Threads: any.
#ifndef SIGHT_DECODER_WHITE_H
#define SIGHT_DECODER_WHITE_H

#include <stdint.h>

// rgb out [n, 3], rgba [n, 4], alpha not multiplied in. Rounds as Pillow's paste does.
static inline void white_lay(uint8_t *rgb, const uint8_t *rgba, int64_t n)
{
    for (int64_t i = 0; i < n; i++, rgb += 3, rgba += 4) {
        uint32_t a = rgba[3], white = 255 * (255 - a) + 128;
        for (int c = 0; c < 3; c++) {
            uint32_t v = rgba[c] * a + white;
            rgb[c] = (uint8_t)((v + (v >> 8)) >> 8);
        }
    }
}

#endif
