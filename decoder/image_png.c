#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <png.h>

#include "decoder/image_parts.h"
#include "decoder/white.h"

// Of one ancillary chunk, unpacked: text and profiles are of no use here.
#define MAX_CHUNK_BYTES 8000000

typedef struct png_state {
    png_structp png;
    png_infop info;
    const image_bytes *in;
    size_t at;
    char message[200];
    sight_err code;
    frame *frame;
    png_bytep *rows;
    uint8_t *rgba; // [height, width, 4], for pictures with alpha
} png_state;

static void on_error(png_structp png, png_const_charp message)
{
    png_state *s = png_get_error_ptr(png);
    snprintf(s->message, sizeof s->message, "%s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
}

static void on_read(png_structp png, png_bytep to, size_t n)
{
    png_state *s = png_get_io_ptr(png);
    if (n > s->in->size - s->at) png_error(png, "it is cut off in the middle");
    memcpy(to, s->in->data + s->at, n);
    s->at += n;
}

// 8-bit RGB or RGBA out of every kind; 16-bit samples lose their low byte, as in Pillow.
static void set_transforms(png_state *s)
{
    png_set_strip_16(s->png);
    png_set_expand(s->png);
    png_set_gray_to_rgb(s->png);
    png_set_interlace_handling(s->png);
    png_read_update_info(s->png, s->info);
}

static sight_err allocate(png_state *s, int32_t width, int32_t height, bool alpha)
{
    sight_err err = frame_create(&s->frame, width, height);
    if (err) return err;
    size_t channels = alpha ? 4 : 3, h = (size_t)height, row = (size_t)width * channels;
    s->rows = malloc(h * sizeof *s->rows);
    if (alpha) s->rgba = malloc(row * h);
    if (!s->rows || (alpha && !s->rgba)) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for a picture of %d x %d", width, height);
    }
    uint8_t *base = alpha ? s->rgba : s->frame->rgb;
    for (size_t y = 0; y < h; y++) s->rows[y] = base + y * row;
    return SIGHT_OK;
}

// Everything that can longjmp; the caller cleans up.
static sight_err decode(png_state *s)
{
    if (setjmp(png_jmpbuf(s->png))) {
        return sight_fail(SIGHT_E_MEDIA, "'%s' is not a readable PNG: %s", s->in->what,
                          s->message);
    }
    png_set_read_fn(s->png, s, on_read);
    png_set_user_limits(s->png, 0x7fffffff, 0x7fffffff);
    png_set_chunk_malloc_max(s->png, MAX_CHUNK_BYTES);
    png_set_chunk_cache_max(s->png, 64);
    png_read_info(s->png, s->info);
    int64_t width = png_get_image_width(s->png, s->info);
    int64_t height = png_get_image_height(s->png, s->info);
    if (width * height > s->in->max_pixels) {
        return sight_fail(SIGHT_E_LIMIT, "'%s' has %lld x %lld pixels, the limit is %lld in all",
                          s->in->what, (long long)width, (long long)height,
                          (long long)s->in->max_pixels);
    }
    set_transforms(s);
    bool alpha = png_get_channels(s->png, s->info) == 4;
    sight_err err = allocate(s, (int32_t)width, (int32_t)height, alpha);
    if (err) return err;
    png_read_image(s->png, s->rows);
    if (alpha) white_lay(s->frame->rgb, s->rgba, width * height);
    return SIGHT_OK;
}

sight_err image_decode_png(frame **out, const image_bytes *in)
{
    png_state s = {.in = in};
    sight_err err;
    s.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);
    if (s.png) s.info = png_create_info_struct(s.png);
    if (s.info) err = decode(&s);
    else err = sight_fail(SIGHT_E_MEMORY, "no memory to decode '%s'", in->what);
    png_destroy_read_struct(&s.png, &s.info, NULL);
    free(s.rows);
    free(s.rgba);
    if (err) frame_unref(&s.frame);
    else *out = s.frame;
    return err;
}
