// Any bytes as a clip: opened, frames chosen and read.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "decoder/video.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static sight_err drop(void *arg, int32_t i, frame *f)
{
    frame_unref(&f);
    return SIGHT_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const video_limits limits = {.max_pixels = 1 << 18};
    const video_choice choice = {.fps = 2, .min_frames = 4, .max_frames = 12};
    video *v = NULL;
    if (size == 0 || video_open(&v, "fuzz", data, size, NULL, &limits)) return 0;
    int64_t *indices;
    double *times;
    int32_t n;
    if (!video_choose(v, &choice, &indices, &times, &n)) {
        char *warning = NULL;
        if (!video_read(v, indices, n, 64, 32, drop, NULL, &warning)) free(warning);
        free(indices);
        free(times);
    }
    video_close(&v);
    return 0;
}
