// decoder/remote.h - clips and pictures opened and read by confined children: what video.c, video_read.c and image.c
// do when their limits name decoders.
//
// Everything that a child says is foreign: kinds, sizes, numbers and sentences are checked (decoder/job.h), and the
// list of a clip's frames too (decoder/video_state.h). Pixels are not copied: frames lie in memory that the child can
// still write to, so nothing may depend on reading them twice alike.
//
// Beside the codes of the work itself: SIGHT_E_CANCELLED, SIGHT_E_MEDIA (the child ended, or talked nonsense),
// SIGHT_E_TIMEOUT (it was silent for too long, or took too much of the processor), SIGHT_E_MEMORY.
// Threads: any.
#ifndef SIGHT_DECODER_REMOTE_H
#define SIGHT_DECODER_REMOTE_H

#include "decoder/image.h"
#include "decoder/video.h"

sight_err remote_clip_open(video *v, const video_range *range);
sight_err remote_clip_read(const video *v, const int64_t *indices, int32_t n, int32_t width, int32_t height,
                           video_sink *sink, void *arg, const video_raw *raw, char **warning);

sight_err remote_picture_probe(image_info *out, const void *bytes, size_t size, const char *what,
                               const image_limits *limits);
sight_err remote_picture_read(frame **out, image_info *source, const void *bytes, size_t size, const char *what,
                              int32_t width, int32_t height, const image_limits *limits);

#endif
