// daemon/task.h - a request priced: media opened, frames chosen, prompt tokenised, nothing decoded.
//
// What does not fit is refused here, with a number, before work begins. Threads: a task is made by
// any thread and handed on; the engine is only read.
#ifndef SIGHT_DAEMON_TASK_H
#define SIGHT_DAEMON_TASK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/engine.h"
#include "daemon/store/prefix.h"
#include "daemon/request.h"
#include "decoder/video.h"
#include "text/prompt.h"
#include "vision/plan.h"

// One medium, opened and planned.
typedef struct task_media {
    const request_media *asked;
    bool is_video;
    vision_plan plan;  // size, grid, patches and tokens as encoded
    int32_t width, height; // as in the file
    char format[32];   // "png", "h264"
    // Pictures: the bounds under which they were opened, for reading them again.
    int64_t max_bytes, max_source_pixels;
    struct decoders *decoders; // children that read it; NULL: this process does
    // Clips.
    video *clip;
    int64_t *indices;   // [n_frames]
    double *times_s;    // [n_frames]
    double *pair_times; // [plan.grid.t], what the prompt says
    int32_t n_frames;
    double duration_s, source_fps;
    // Names what the model will see of it: content, size and frames (a clip of a path: its file's
    // identity and time of change). All zeros where nothing is kept for later requests.
    uint8_t hash[SIPHASH_BYTES];
    uint8_t content[SIPHASH_BYTES]; // the part of it that is the file's
} task_media;

typedef struct task {
    engine *model;
    request *asked; // owned
    task_media *media; // [asked->n_media]
    prompt prompt;
    prefix_medium *places; // [asked->n_media]: where each stands in the prompt
    int32_t max_tokens;  // of the answer, bounded by context and server
    bool opens_thinking; // the answer begins inside a thinking block
    bool calls_in_json; // the template shows calls as JSON, not as <function=...>
    grammar *form; // of the answer; NULL: any
    // What it takes beside the model.
    int64_t kv_bytes, state_bytes;
    int64_t vision_bytes; // patches, features under way, workspace
    int64_t memory_bytes; // all of it
} task;

// Takes over *asked on success (left NULL). Codes of the decoder's openers, plan_*, chat_render and
// prompt_build; SIGHT_E_LIMIT (tokens, frames, pixels), SIGHT_E_UNSUPPORTED (media, but a text-only
// checkpoint).
sight_err task_create(task **out, engine *model, request **asked, const request_limits *limits);
void task_destroy(task **t); // accepts NULL; leaves NULL

// For `plan`: {"model", "prompt_tokens", "visual_tokens", "max_tokens", "context", "memory_bytes",
// "memory": {"weights", "workspace", "kv", "states", "vision", "total", "allowed"}, "media": [{"kind", "name", "format", "source": {...}, "width", "height", "grid": [t, h, w],
// "patches", "tokens", "confined", of clips "frames": [{"index", "time_s"}] and "decoded_on"}], "warnings": [...]}. Where a GPU
// may decode a clip, its first frame is tried there. NULL: no memory.
json_t *task_describe(const task *t);

// The prompt's text before media are expanded, without marks. *out is malloced. Works on an engine
// with text_side_only.
sight_err task_prompt_text(char **out, size_t *size, const engine *model, const request *asked);

#endif
