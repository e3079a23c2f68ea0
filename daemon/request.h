// daemon/request.h - a client's JSON, checked and typed, before any medium is opened.
//
// The chat format that everyone uses (docs/PROTOCOL.md, "The request"). Whatever is wrong gets one
// sentence that names field, value and limit. Threads: any; plain data afterwards.
#ifndef SIGHT_DAEMON_REQUEST_H
#define SIGHT_DAEMON_REQUEST_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/config.h"
#include "daemon/fair.h"
#include "daemon/access/identity.h"
#include "daemon/media/roots.h"
#include "text/chat.h"
#include "text/draft.h"
#include "text/sampler.h"
#include "text/stop.h"

// Ceilings the server sets; no request can raise them. Defaults: request_limits_default.
typedef struct request_limits {
    int64_t max_json_bytes;
    int64_t max_media;         // pictures and clips in one request
    int64_t max_media_bytes;   // of one picture file or of one medium inside the message
    int64_t max_source_pixels; // of one source frame or picture
    int64_t max_pixels;        // of one medium after resizing, over all its frames
    int32_t max_frames;        // of one clip
    double max_seconds;        // of one clip's file
    int64_t max_prompt_tokens; // 0: the context alone limits
    int32_t decoder_threads;   // of a clip; 0: half the processors
    int32_t max_tokens;        // of an answer
    int32_t drafts;            // where the request does not say (text/draft.h); no ceiling
    bool allow_paths;          // media may be named by path; else only inside the message
    const struct fetch_rules *urls; // what may be fetched; borrowed; NULL: nothing
    const roots *roots;        // and only below these; borrowed; NULL: anywhere
    struct decoders *decoders; // children that open and read media (decoder/decoders.h); borrowed; NULL: this process does
    bool gpu_decode;           // with them: clips are read by this process where a GPU decodes
} request_limits;

request_limits request_limits_default(void);

typedef enum media_kind { MEDIA_IMAGE, MEDIA_VIDEO } media_kind;

typedef struct request_media {
    media_kind kind;
    char *path;        // absolute or relative to base_dir, resolved; NULL: bytes. With neither
                       // the part only holds a place in the prompt, and task_create refuses it
    char *url;         // to be fetched into fd (daemon/media/fetcher.h), as url_parse writes it; NULL: none
    int fd;            // of the file at path, opened once by request_open_media and read with pread from then on,
                       // or of what was fetched; -1: bytes, or not opened yet
    const void *bytes; // inside `owned`, or borrowed from the message's parts
    size_t size;
    void *owned;
    char name[96];          // for people: file name, "attachment 0", "data URL"
    double start_s, end_s;  // clips: the part wanted; end_s 0: to the end
    double fps;             // clips: 0 = the checkpoint's
    int32_t frames;         // clips: exactly so many; 0 = by fps
    int64_t min_pixels, max_pixels; // 0 = the checkpoint's
} request_media;

typedef struct request {
    char *model;      // the model asked for; NULL: whichever is loaded
    json_t *messages; // owned; media parts reduced to {"type": "image" | "video"}
    json_t *tools;    // owned; NULL: none
    bool tool_required; // the answer is a call
    char *tool_name;    // of this function; NULL: of any
    json_t *format;   // owned: response_format, checked by form_create; NULL: text
    chat_options chat;
    sampler_options sampling; // generation_config.json's where the request is silent
    bool seed_given;
    bool confidence; // is told with the end (daemon/models/confidence.h)
    int32_t max_tokens; // 0: not given
    int32_t drafts;     // as in draft_options
    fair_class priority; // no more urgent than who asks may be
    double deadline_s;   // from arrival: by then it is over, or of no use; 0: no matter when
    int32_t thinking_budget; // tokens of thinking, after which it is ended; -1: as many as leave room for an answer
    bool repetition_guard;   // an answer that goes round in circles is ended
    double repetition_retry; // the temperature at which it is begun again, once; NAN: it is not
    char *stop[STOP_MAX_STRINGS];
    size_t n_stop;
    bool stream; // default true; false: no deltas, the text comes with done
    request_media *media; // in order of appearance
    int32_t n_media;
    json_t *warnings; // array of strings
    const identity *who; // asks; borrowed from the source; NULL: this process itself
    const atomic_bool *cancel; // set by who parsed it: opening and decoding media end early when it
                               // becomes true; borrowed; NULL: never
} request;

// Binary parts of the message; must outlive the request.
typedef struct request_part {
    const void *data;
    size_t size;
} request_part;

typedef struct request_source {
    const char *json;
    size_t size;
    const request_part *parts;
    size_t n_parts;
    // Says what a model's own settings are, once the model that is asked for is known (NULL: none is named); request_parse's
    // `defaults` are not looked at then. What it fails with is what parsing does. NULL: not asked.
    sight_err (*choose)(void *arg, const char *model, const generation_config **defaults);
    void *choose_arg;
    // For requests from a file: relative paths start here, and the file may also be an object with
    // the request under "request". NULL: only the request's own "base_dir" (absolute) counts.
    const char *base_dir;
    const identity *who; // asks; NULL: this process itself
} request_source;

// *out is new, untouched on failure. SIGHT_E_ARGUMENT, SIGHT_E_LIMIT, SIGHT_E_UNSUPPORTED (network
// addresses and fields that ask for what this build lacks), SIGHT_E_PERMISSION, SIGHT_E_MEMORY.
sight_err request_parse(request **out, const request_source *source, const request_limits *limits,
                        const generation_config *defaults);
// Whether its answer is one of a list (response_format "choice").
bool request_is_choice(const request *r);
void request_destroy(request **r); // accepts NULL; leaves NULL

// Seconds from a number or "90", "1:30", "1:02:03.5". SIGHT_E_ARGUMENT names field and value.
sight_err request_parse_time(double *out, const char *text, const char *field);

#endif
