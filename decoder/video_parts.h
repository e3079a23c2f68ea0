// decoder/video_parts.h - what video.c, video_index.c, video_choose.c and video_read.c share.
// Threads: one at a time per video.
#ifndef SIGHT_DECODER_VIDEO_PARTS_H
#define SIGHT_DECODER_VIDEO_PARTS_H

#include <stdbool.h>
#include <stdint.h>

#include "decoder/av.h"
#include "decoder/video.h"

// A place where decoding can begin.
typedef struct video_key {
    int64_t frame; // frames from this number on come out right when decoding begins here
    int64_t seek;  // what the demuxer is asked for, in the stream's time base
} video_key;

// All frames in the order shown, from the packets alone.
typedef struct video_index {
    int64_t n;
    int64_t *pts;      // [n] ascending, in ticks; with by_count the frame numbers themselves
    double tick_s;     // seconds
    bool by_count;     // packets carry no times: frames are told apart by counting
    bool constant;     // pts[i] - pts[0] is i / fps but for rounding
    double fps;        // average
    double duration_s; // to the end of the last frame
    video_key *keys;   // [n_keys] ascending; none where seeking is not safe
    int64_t n_keys;
    int64_t lost;      // frames that the header lists but the file no longer holds
    bool cut_off;      // reading ended with an error
    double claimed_s;  // the whole duration as the header has it, 0 when it does not say
} video_index;

struct video {
    char *name;            // for errors
    av_origin from;        // its name is that one
    video_limits limits;   // defaults filled in
    int orientation;       // EXIF's number
    video_index index;
    int64_t first;         // of the range
    video_info info;
};

// A container being read, with everything but the picture track discarded.
typedef struct video_track {
    av_source source;
    AVFormatContext *container;
    AVStream *stream;
} video_track;

// Nothing of it opened. *out is new.
sight_err video_create(video **out, const av_origin *from, const video_limits *limits);
// For a child, which is told the size and need not ask.
sight_err video_open_sized(video **out, int fd, int64_t size, const char *name, const video_range *range,
                           const video_limits *limits);

// SIGHT_E_CANCELLED when the limits' stop says so.
sight_err video_check_stop(const video *v);

sight_err video_track_open(video_track *t, const video *v);
void video_track_close(video_track *t);

// Seconds from the first frame of the clip.
double video_time_of(const video_index *x, int64_t number);
// The number of the frame whose time is nearest to pts.
int64_t video_nearest(const video_index *x, int64_t pts);
// The last frame shown at or before that time.
int64_t video_shown_at(const video_index *x, double time_s);

// Reads the track to its end, or takes the container's own index. SIGHT_E_MEDIA, SIGHT_E_LIMIT,
// SIGHT_E_MEMORY, SIGHT_E_CANCELLED.
sight_err video_index_build(video_index *x, video_track *t, const video *v);
void video_index_done(video_index *x);

#endif
