// decoder/gpu.h - decoding on an NVIDIA GPU, through FFmpeg's hwaccel.
//
// FFmpeg looks for the driver's decoder at run time. Builds without the CUDA toolkit's headers decode on the CPU.
// Threads: that of the codec.
#ifndef SIGHT_DECODER_GPU_H
#define SIGHT_DECODER_GPU_H

#include <stdbool.h>

#include <libavcodec/avcodec.h>

// The GPU that frames are to stay on: its CUcontext, current for the calling thread or not, and the CUstream on which
// finished frames are handed over.
typedef struct gpu_place {
    void *context, *stream;
} gpu_place;

// The decoder for which there can be a GPU's; NULL: none in this build, or for that codec.
const AVCodec *gpu_find_decoder(enum AVCodecID id);
// Before the codec is opened: it decodes there what the chip can, and its frames are AV_PIX_FMT_CUDA. What the chip
// refuses (a profile, a size) comes as usual frames, or not at all. false: not possible.
bool gpu_attach(AVCodecContext *c, const gpu_place *place);

#endif
