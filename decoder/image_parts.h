// decoder/image_parts.h - what image.c is made of: header parsing and one decoder per library.
// Threads: any.
#ifndef SIGHT_DECODER_IMAGE_PARTS_H
#define SIGHT_DECODER_IMAGE_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "decoder/frame.h"

typedef enum image_format {
    IMAGE_UNKNOWN,
    IMAGE_JPEG,
    IMAGE_PNG,
    IMAGE_WEBP,
    IMAGE_BMP,
    IMAGE_TIFF,
    IMAGE_GIF,
} image_format;

// A source being read: bytes, their name for errors, and the bound that decoders must also keep.
typedef struct image_bytes {
    const uint8_t *data;
    size_t size;
    const char *what;
    int64_t max_pixels;
} image_bytes;

// As stored, before the orientation is applied.
typedef struct image_header {
    image_format format;
    int64_t width, height;
    int orientation; // EXIF's number, 1 when not given
} image_header;

const char *image_format_name(image_format format);

// From the first bytes; IMAGE_UNKNOWN for anything else.
image_format image_sniff(const uint8_t *data, size_t size);

// The header of a format that sniffs as known. SIGHT_E_MEDIA (no size before the end),
// SIGHT_E_UNSUPPORTED (a variant that no decoder here reads).
sight_err image_read_header(image_header *out, const image_bytes *in);

// Each decodes as stored, alpha laid on white. *out is new. SIGHT_E_MEDIA, SIGHT_E_LIMIT,
// SIGHT_E_UNSUPPORTED, SIGHT_E_MEMORY.
sight_err image_decode_jpeg(frame **out, const image_bytes *in);
sight_err image_decode_png(frame **out, const image_bytes *in);
sight_err image_decode_av(frame **out, const image_bytes *in, image_format format);

#endif
