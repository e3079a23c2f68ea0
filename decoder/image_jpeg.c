#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

#include "decoder/image_parts.h"

// A progressive file may ask for thousands of passes over all pixels.
#define MAX_SCANS 500

typedef struct jpeg_state {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf out;
    char message[JMSG_LENGTH_MAX];
    sight_err code;
    bool cut_off;      // the data ended early
    frame *frame;      // the result so far
    uint8_t *cmyk_row; // [width, 4]
} jpeg_state;

static void on_error(j_common_ptr c)
{
    jpeg_state *s = c->client_data;
    s->errors.format_message(c, s->message);
    s->code = s->errors.msg_code == JERR_OUT_OF_MEMORY ? SIGHT_E_MEMORY : SIGHT_E_MEDIA;
    longjmp(s->out, 1);
}

static void on_message(j_common_ptr c, int level)
{
    jpeg_state *s = c->client_data;
    if (level < 0 && s->errors.msg_code == JWRN_JPEG_EOF) s->cut_off = true;
}

static void on_output(j_common_ptr c)
{
}

static void on_progress(j_common_ptr c)
{
    jpeg_state *s = c->client_data;
    if (s->cinfo.input_scan_number <= MAX_SCANS) return;
    snprintf(s->message, sizeof s->message, "over %d scans", MAX_SCANS);
    s->code = SIGHT_E_LIMIT;
    longjmp(s->out, 1);
}

// CMYK is stored inverted, as all writers that follow Adobe do and Pillow assumes.
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int32_t width)
{
    for (int32_t x = 0; x < width; x++, rgb += 3, cmyk += 4) {
        uint32_t k = cmyk[3]; // 255 - K
        for (int c = 0; c < 3; c++) {
            uint32_t product = (255u - cmyk[c]) * k + 128;
            int v = (int)k - (int)((product + (product >> 8)) >> 8);
            rgb[c] = (uint8_t)(v < 0 ? 0 : v);
        }
    }
}

static void read_rows(jpeg_state *s, bool cmyk)
{
    struct jpeg_decompress_struct *c = &s->cinfo;
    while (c->output_scanline < c->output_height) {
        uint8_t *to = s->frame->rgb + (size_t)c->output_scanline * c->output_width * 3;
        JSAMPROW row = cmyk ? s->cmyk_row : to;
        jpeg_read_scanlines(c, &row, 1);
        if (cmyk) cmyk_to_rgb(to, s->cmyk_row, s->frame->width);
    }
}

static sight_err allocate(jpeg_state *s, bool cmyk)
{
    sight_err err = frame_create(&s->frame, (int32_t)s->cinfo.output_width,
                                 (int32_t)s->cinfo.output_height);
    if (err || !cmyk) return err;
    s->cmyk_row = malloc((size_t)s->cinfo.output_width * 4);
    return s->cmyk_row ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for a row of pixels");
}

// Everything that can longjmp; the caller cleans up.
static sight_err decode(jpeg_state *s, const image_bytes *in)
{
    struct jpeg_decompress_struct *c = &s->cinfo;
    if (setjmp(s->out)) {
        return sight_fail(s->code, "'%s' is not a readable JPEG: %s", in->what, s->message);
    }
    jpeg_create_decompress(c);
    c->client_data = s;
    s->progress.progress_monitor = on_progress;
    c->progress = &s->progress;
    jpeg_mem_src(c, in->data, in->size);
    jpeg_read_header(c, TRUE);
    if ((int64_t)c->image_width * c->image_height > in->max_pixels) {
        return sight_fail(SIGHT_E_LIMIT, "'%s' has %u x %u pixels, the limit is %lld in all",
                          in->what, c->image_width, c->image_height, (long long)in->max_pixels);
    }
    bool cmyk = c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK;
    c->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    // What Pillow uses, so that the pixels are those of the reference.
    c->dct_method = JDCT_ISLOW;
    c->do_fancy_upsampling = TRUE;
    jpeg_start_decompress(c);
    sight_err err = allocate(s, cmyk);
    if (err) return err;
    read_rows(s, cmyk);
    if (s->cut_off) return sight_fail(SIGHT_E_MEDIA, "'%s' is cut off in the middle", in->what);
    return SIGHT_OK;
}

sight_err image_decode_jpeg(frame **out, const image_bytes *in)
{
    jpeg_state *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory to decode '%s'", in->what);
    s->cinfo.err = jpeg_std_error(&s->errors);
    s->errors.error_exit = on_error;
    s->errors.emit_message = on_message;
    s->errors.output_message = on_output;
    s->cinfo.client_data = s;
    sight_err err = decode(s, in);
    jpeg_destroy_decompress(&s->cinfo);
    free(s->cmyk_row);
    if (err) frame_unref(&s->frame);
    else *out = s->frame;
    free(s);
    return err;
}
