// daemon/media/request_media.h - the media parts of a request: where the bytes are, and what of them.
//
// Threads: a request belongs to one thread at a time.
#ifndef SIGHT_DAEMON_REQUEST_MEDIA_H
#define SIGHT_DAEMON_REQUEST_MEDIA_H

#include "daemon/request.h"

// What reading one request's parts needs to know.
typedef struct request_reader {
    const request_source *source;
    const request_limits *limits;
    const char *base_dir; // NULL: relative paths are refused
    request *out;         // gets media and warnings
} request_reader;

// Adds a warning to the request; at most 32 are kept.
void request_warn(request *r, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Warns about every field of the object that is not in the NULL-ended list.
void request_warn_unknown(request *r, const json_t *object, const char *where,
                          const char *const *known);

// Reads one content part of a media type into a new medium of the request and reduces the part to
// {"type": "image" | "video"}. `where` names the part: "messages[0].content[1]".
sight_err request_read_media(request_reader *reader, json_t *part, const char *where);

// Opens the files that media name by path, each once: what is there later at the same path is never looked at. Does nothing to
// those that are open. Codes of roots_open.
sight_err request_open_media(request *r, const request_limits *limits);

// What a request has open, kept for another reading of the same JSON (by another model): its media are what they were then, and
// nothing is fetched twice. Zeroed: nothing.
typedef struct media_files {
    int *fds; // [n], one a medium, -1: none
    int32_t n;
} media_files;

// Keeps them beside what was kept; without memory or descriptors they are opened or fetched anew.
void request_keep_files(media_files *out, const request *r);
// Hands them over to a request of as many media, and empties f.
void request_take_files(request *r, media_files *f);
void media_files_done(media_files *f);

// For the error event's "about": "medium" where opening, fetching or reading media ends with that code because of one; NULL: of something else.
const char *request_media_blame(sight_err code);

// Whether a medium named by URL has not been fetched yet.
bool request_wants_fetching(const request *r);

// Whether a content part's type is one of image, video, image_url, video_url.
bool request_is_media_type(const char *type);

#endif
