// decoder/av.h - the corners of FFmpeg that pictures and video share: sources that reach nothing
// but their own bytes, pixels to RGB, errors in words.
//
// FFmpeg's own log is silenced for the process on first use. Threads: any, an object by one at a
// time.
#ifndef SIGHT_DECODER_AV_H
#define SIGHT_DECODER_AV_H

#include <stdbool.h>
#include <stdint.h>

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>

#include "base/err.h"
#include "decoder/frame.h"

// Turns FFmpeg's log off, once.
void av_silence(void);

// Where a medium's bytes are: an open file, else bytes, else the file at a path. All of it outlives what reads it.
typedef struct av_origin {
    const char *name; // for errors; of a file without fd and bytes its path
    int fd;           // -1: none. Read with pread, wherever its offset is
    const void *bytes;
    size_t size; // of bytes; of fd: 0: as the file system says
} av_origin;

// A regular file, or bytes, behind an AVIOContext.
typedef struct av_source {
    int fd;      // -1 for bytes
    bool own_fd; // closed with the source
    const uint8_t *data;
    int64_t size, at;
    AVIOContext *io;
} av_source;

// SIGHT_E_NOT_FOUND, SIGHT_E_PERMISSION, SIGHT_E_IO, SIGHT_E_MEMORY.
sight_err av_source_open(av_source *s, const av_origin *from);
void av_source_close(av_source *s); // accepts a source that never opened, when zeroed with fd -1

// Opens a container on the source. Demuxers that would open other files or the network (playlists,
// manifests, devices) are refused, and nothing they ask for is opened. name is for errors.
// SIGHT_E_MEDIA, SIGHT_E_UNSUPPORTED, SIGHT_E_MEMORY.
sight_err av_container_open(AVFormatContext **out, av_source *s, const char *name,
                            const char *only_format);

// The sentence for an FFmpeg error; valid until the thread's next call.
const char *av_words(int error);

// Whether bytes go from 0 to 255; where the frame does not say, as FFmpeg takes it.
bool av_full_range(const AVFrame *f);

// Pixels to packed RGB of the frame's own size, kept between frames of one stream.
typedef struct av_converter {
    struct SwsContext *sws;
    uint8_t *rgb, *rgba; // rgb [height, stride]
    int64_t stride;      // of rgb, bytes
    int32_t width, height;
} av_converter;

// Colour matrix and range are the frame's (BT.601, limited, where it does not say, as FFmpeg
// assumes); alpha is laid on white. The result stays in c->rgb until the next call.
// SIGHT_E_UNSUPPORTED, SIGHT_E_MEMORY, SIGHT_E_MEDIA.
sight_err av_convert(av_converter *c, const AVFrame *f, const char *name);
void av_converter_done(av_converter *c); // accepts a zeroed one

#endif
