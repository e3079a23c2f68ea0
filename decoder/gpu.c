#include "decoder/gpu.h"

#include <libavutil/hwcontext.h>

#if defined(__has_include)
#if __has_include(<cuda.h>)
#include <libavutil/hwcontext_cuda.h>
#define WITH_CUDA
#endif
#endif

#ifdef WITH_CUDA

// Frames alive at once besides those that the codec itself refers to: the one being looked at, and the one kept in
// case the next is lost.
#define EXTRA_FRAMES 4

static bool can_be_on_gpu(const AVCodec *codec)
{
    for (int i = 0;; i++) {
        const AVCodecHWConfig *h = avcodec_get_hw_config(codec, i);
        if (!h) return false;
        if (h->device_type == AV_HWDEVICE_TYPE_CUDA && h->pix_fmt == AV_PIX_FMT_CUDA &&
            (h->methods & AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX)) {
            return true;
        }
    }
}

const AVCodec *gpu_find_decoder(enum AVCodecID id)
{
    // FFmpeg's own AV1 decoder is nothing but the frame of a GPU's; others stand before it in the list.
    const AVCodec *codec = id == AV_CODEC_ID_AV1 ? avcodec_find_decoder_by_name("av1") : avcodec_find_decoder(id);
    return codec && can_be_on_gpu(codec) ? codec : NULL;
}

// The codec's default get_format then asks for the device's format first, and for another where that fails.
bool gpu_attach(AVCodecContext *c, const gpu_place *place)
{
    AVBufferRef *device = av_hwdevice_ctx_alloc(AV_HWDEVICE_TYPE_CUDA);
    if (!device) return false;
    AVCUDADeviceContext *cuda = ((AVHWDeviceContext *)device->data)->hwctx;
    cuda->cuda_ctx = place->context; // which it pushes and pops around each of its calls, and does not own
    cuda->stream = place->stream;
    if (av_hwdevice_ctx_init(device) < 0) {
        av_buffer_unref(&device);
        return false;
    }
    c->hw_device_ctx = device; // goes with the codec
    c->extra_hw_frames = EXTRA_FRAMES;
    c->thread_count = 1; // frames are decoded one after the other there
    return true;
}

#else

const AVCodec *gpu_find_decoder(enum AVCodecID id)
{
    return NULL;
}

bool gpu_attach(AVCodecContext *c, const gpu_place *place)
{
    return false;
}

#endif
