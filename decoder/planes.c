#include "decoder/planes.h"

#include <libavutil/hwcontext.h>

#include "decoder/av.h"

typedef struct layout {
    enum AVPixelFormat format;
    int uv_step, bits, shift;
} layout;

static const layout layouts[] = {
    {AV_PIX_FMT_YUV420P, 1, 8, 0},      {AV_PIX_FMT_YUVJ420P, 1, 8, 0},
    {AV_PIX_FMT_NV12, 2, 8, 0},         {AV_PIX_FMT_YUV420P10LE, 1, 10, 0},
    {AV_PIX_FMT_YUV420P12LE, 1, 12, 0}, {AV_PIX_FMT_P010LE, 2, 10, 6},
    {AV_PIX_FMT_P016LE, 2, 12, 4}, // what NVDEC makes of 12 bits
};

static const layout *find_layout(enum AVPixelFormat format)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        if (layouts[i].format == format) return &layouts[i];
    }
    return NULL;
}

// As swscale takes a matrix and a range (libswscale/yuv2rgb.c): what it calls coefficients are those of the
// narrow range.
static planes_colours colours_of(const AVFrame *f)
{
    const int *c = sws_getCoefficients(f->colorspace); // v to r, u to b, u to g, v to g
    if (!av_full_range(f)) return (planes_colours){(255 << 16) / 219, 16, c[0], c[2], c[3], c[1]};
    return (planes_colours){.luma_gain = 1 << 16,
                            .v_to_r = c[0] * 224 / 255,
                            .u_to_g = c[2] * 224 / 255,
                            .v_to_g = c[3] * 224 / 255,
                            .u_to_b = c[1] * 224 / 255};
}

bool planes_of(planes *out, const AVFrame *f)
{
    const bool on_gpu = f->format == AV_PIX_FMT_CUDA;
    enum AVPixelFormat format = f->format;
    if (on_gpu) {
        if (!f->hw_frames_ctx) return false;
        format = ((const AVHWFramesContext *)f->hw_frames_ctx->data)->sw_format;
    }
    const layout *l = find_layout(format);
    if (!l || f->width < 2 || f->height < 2 || f->width % 2 || f->height % 2) return false;
    for (int i = 0; i < (l->uv_step == 1 ? 3 : 2); i++) {
        if (!f->data[i] || f->linesize[i] <= 0) return false;
    }
    if (l->uv_step == 1 && f->linesize[1] != f->linesize[2]) return false;
    *out = (planes){.y = f->data[0], .u = f->data[1], .v = f->data[2], .y_pitch = f->linesize[0],
                    .uv_pitch = f->linesize[1], .uv_step = l->uv_step, .bits = l->bits,
                    .shift = l->shift, .width = f->width, .height = f->height, .on_gpu = on_gpu,
                    .colours = colours_of(f)};
    return true;
}
