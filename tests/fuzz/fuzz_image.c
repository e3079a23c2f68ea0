// Any bytes as a picture: probed, decoded, resized.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "decoder/image.h"
#include "decoder/resize.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const image_limits limits = {.max_pixels = 1 << 20};
    image_info info;
    frame *f = NULL, *small = NULL;
    sight_err probed = image_probe(&info, data, size, "fuzz", &limits);
    sight_err err = image_decode(&f, data, size, "fuzz", &limits);
    if (probed && !err) abort(); // what decodes must have had a header
    if (!err && (info.width != f->width || info.height != f->height)) abort();
    if (!err && resize_bicubic(&small, f, 64, 32)) abort();
    frame_unref(&small);
    frame_unref(&f);
    return 0;
}
