// decoder/video.h - chosen frames of a clip, by presentation time.
//
// video_open reads the container and, where the header lacks them, counts frames by demuxing;
// video_choose decides which frames; video_read decodes and hands over only these, resized, in
// order. Nothing but the given file or bytes is ever opened. Frame choice at a constant rate equals
// the reference (transformers, Qwen3VLVideoProcessor sample_frames); at a variable rate it picks
// the frame shown at each evenly spaced time.
// Threads: one at a time per video.
#ifndef SIGHT_DECODER_VIDEO_H
#define SIGHT_DECODER_VIDEO_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#include "base/err.h"
#include "decoder/frame.h"
#include "decoder/planes.h"

typedef struct video video;

typedef struct video_limits {
    int64_t max_pixels;  // of one source frame; 0: 67,108,864
    double max_seconds;  // 0: 86,400
    int64_t max_bytes;   // of in-memory clips; 0: 1 GiB
    int threads;         // of the decoder; 0: 1
    // Polled while opening and reading, every few packets; true ends it with SIGHT_E_CANCELLED.
    // NULL: never.
    bool (*stop)(void *arg);
    void *stop_arg;
    // Children that open and read it in confinement (decoder/decoders.h); NULL: this process does. Results are the same
    // to the last bit.
    struct decoders *decoders;
    bool gpu_here; // with children: reading for a GPU that decodes is this process's after all
} video_limits;

typedef struct video_info {
    int32_t width, height; // as shown: after rotation and sample aspect ratio 1:1
    int64_t n_frames;      // frames in the asked range, or in all
    double fps;            // average over the range
    double duration_s;     // of the whole clip
    double start_s;        // of the range's first frame
    bool variable_rate;
    int orientation; // EXIF's number: what is done to decoded frames to show them
    char codec[32], container[32];
} video_info;

// What to take. Zeroed: everything at the checkpoint's rate.
typedef struct video_range {
    double start_s, end_s; // end_s 0: to the end; else frames before it
} video_range;

typedef struct video_choice {
    double fps;                     // wanted sampling rate
    int32_t min_frames, max_frames; // bounds on what it gives
    int32_t n_frames;               // > 0: exactly so many (at most the clip's), fps unused
} video_choice;

// path, or bytes that outlive the video (path then names them in errors).
// SIGHT_E_ARGUMENT (a range that is none, or starts past the end), SIGHT_E_NOT_FOUND,
// SIGHT_E_PERMISSION, SIGHT_E_IO, SIGHT_E_MEDIA (not a video, no picture track, nothing decodable),
// SIGHT_E_MEMORY, SIGHT_E_LIMIT, SIGHT_E_UNSUPPORTED (no decoder, by codec name).
sight_err video_open(video **out, const char *path, const void *bytes, size_t size,
                     const video_range *range, const video_limits *limits);
// The same for a regular file that is open: read with pread, and the caller's to close after video_close.
sight_err video_open_fd(video **out, int fd, const char *name, const video_range *range, const video_limits *limits);
void video_close(video **v); // accepts NULL; leaves NULL
const video_info *video_get_info(const video *v);
// Another stop than its limits named, from now on; NULL: never.
void video_set_stop(video *v, bool (*stop)(void *arg), void *arg);

// Chooses frames; *times_s and *indices are malloced arrays of *n (free both). Nothing is decoded.
// Indices count frames from the start of the clip, whatever the range, and ascend; at a variable
// rate one may repeat.
// times_s are what the prompt says: true presentation times from the clip's first frame, or
// index / fps at a constant rate (the same thing there, and what the reference computes). A
// repeated frame has the time it was asked for.
// SIGHT_E_ARGUMENT (fps 0, negative or NaN, bounds crossed), SIGHT_E_MEMORY.
sight_err video_choose(const video *v, const video_choice *choice, int64_t **indices,
                       double **times_s, int32_t *n);

// What opening has told of losses: a clip that was cut off, frames past the end of its file. *warning is
// malloced, NULL when there is nothing to say. SIGHT_E_MEMORY.
sight_err video_losses(const video *v, char **warning);

// Pure form of the constant-rate rule, for tests and plans: writes at most `capacity` indices and
// returns the number chosen.
int32_t video_sample_indices(int64_t *indices, int32_t capacity, int64_t total, double fps,
                             const video_choice *choice);

// Called for each chosen frame in order; takes over f. Returning non-zero stops the reading, and
// video_read gives that code.
typedef sight_err video_sink(void *arg, int32_t i, frame *f);

// Decodes the chosen frames at width x height (0 x 0: as shown). Broken packets in the middle are
// passed over: the nearest earlier frame stands for what is lost, and *warning (malloced; NULL
// when all went well) says how much. At least one frame or SIGHT_E_MEDIA.
// Keyframe seeking is used where it decodes less.
sight_err video_read(video *v, const int64_t *indices, int32_t n, int32_t width, int32_t height,
                     video_sink *sink, void *arg, char **warning);

// For whoever converts, resizes and turns frames elsewhere: sees them as they were decoded, with the video_sink's arg. p is
// borrowed for the call; what it points at may be changing (decoder/remote.h) and is looked at as pixels only. *taken: the frame counts as handed over; else it comes to the video_sink.
typedef sight_err video_raw_sink(void *arg, int32_t i, const planes *p, bool *taken);

typedef struct video_raw {
    video_raw_sink *sink;
    // Where frames may be decoded besides: a CUcontext and CUstream (decoder/gpu.h); NULL: on the CPU. What goes
    // wrong there is decoded again on the CPU, from the first frame that was not handed over.
    void *cuda_context, *cuda_stream;
    // Makes the frames that sink gets, uninitialised; NULL: frame_create.
    sight_err (*place)(void *arg, frame **out, int32_t width, int32_t height);
} video_raw;

// Whether a GPU may decode it: not when children do all the reading.
bool video_may_use_gpu(const video *v);

sight_err video_read_raw(video *v, const int64_t *indices, int32_t n, int32_t width, int32_t height,
                         video_sink *sink, void *arg, const video_raw *raw, char **warning);

#endif
