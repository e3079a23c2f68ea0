#include "decoder/frame.h"

#include <stdbool.h>
#include <stdlib.h>

// No machine has a tebibyte for one picture; allocators differ in what they do when asked.
#define MAX_BYTES ((size_t)1 << 40)

sight_err frame_create(frame **out, int32_t width, int32_t height)
{
    if (width < 1 || height < 1) {
        return sight_fail(SIGHT_E_INTERNAL, "a frame of %d x %d", width, height);
    }
    size_t bytes;
    frame *f = NULL;
    bool fits = !__builtin_mul_overflow((size_t)width * 3, (size_t)height, &bytes);
    if (fits && bytes <= MAX_BYTES) {
        f = calloc(1, sizeof *f);
        if (f) f->rgb = malloc(bytes);
    }
    if (!f || !f->rgb) {
        free(f);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a picture of %d x %d", width, height);
    }
    f->width = width;
    f->height = height;
    f->refs = 1;
    *out = f;
    return SIGHT_OK;
}

sight_err frame_wrap(frame **out, int32_t width, int32_t height, uint8_t *rgb, void (*give_back)(void *place),
                     void *place)
{
    frame *f = malloc(sizeof *f);
    if (!f) return sight_fail(SIGHT_E_MEMORY, "no memory for a picture of %d x %d", width, height);
    *f = (frame){.rgb = rgb, .width = width, .height = height, .refs = 1, .give_back = give_back, .place = place};
    *out = f;
    return SIGHT_OK;
}

frame *frame_ref(frame *f)
{
    __atomic_fetch_add(&f->refs, 1, __ATOMIC_RELAXED);
    return f;
}

void frame_unref(frame **f)
{
    if (!*f) return;
    if (__atomic_sub_fetch(&(*f)->refs, 1, __ATOMIC_ACQ_REL) == 0) {
        if ((*f)->give_back) (*f)->give_back((*f)->place);
        else free((*f)->rgb);
        free(*f);
    }
    *f = NULL;
}
