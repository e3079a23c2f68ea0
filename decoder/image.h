// decoder/image.h - a still picture from a file or from memory.
//
// JPEG by libjpeg-turbo (CMYK, grey, progressive), PNG by libpng (16-bit, palette, interlaced),
// WebP, BMP, TIFF, GIF (first frame) by FFmpeg. EXIF orientation is applied; alpha is laid on
// white. Threads: any.
#ifndef SIGHT_DECODER_IMAGE_H
#define SIGHT_DECODER_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "decoder/frame.h"

typedef struct image_limits {
    int64_t max_pixels; // of the source; 0: 268,435,456
    int64_t max_bytes;  // of the file; 0: 1 GiB
    struct decoders *decoders; // children that read it in confinement (decoder/decoders.h); NULL: this process does
    bool (*stop)(void *arg);   // with them polled while they work; true ends it with SIGHT_E_CANCELLED. NULL: never
    void *stop_arg;
} image_limits;

typedef struct image_info {
    int32_t width, height; // after orientation
    char format[16];       // "jpeg", "png", "webp", ...
} image_info;

// From the header alone, without decoding pixels. `what` names the source in errors.
// SIGHT_E_MEDIA, SIGHT_E_LIMIT, SIGHT_E_MEMORY, SIGHT_E_UNSUPPORTED.
sight_err image_probe(image_info *out, const void *bytes, size_t size, const char *what,
                      const image_limits *limits);
// Decoded and resized (decoder/resize.h); *source gets what image_probe says. *out is new. Codes of image_decode;
// SIGHT_E_CANCELLED, SIGHT_E_TIMEOUT.
sight_err image_read(frame **out, image_info *source, const void *bytes, size_t size, const char *what, int32_t width,
                     int32_t height, const image_limits *limits);
// In this process. *out is new. A picture cut off in the middle is SIGHT_E_MEDIA.
sight_err image_decode(frame **out, const void *bytes, size_t size, const char *what,
                       const image_limits *limits);

#endif
