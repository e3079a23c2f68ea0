// daemon/media/task_media.h - opening and pricing one medium of a task.
//
// Threads: opening is the planner's, reading the decoder's; a medium that is open is only read.
#ifndef SIGHT_DAEMON_TASK_MEDIA_H
#define SIGHT_DAEMON_TASK_MEDIA_H

#include <stdbool.h>

#include "daemon/task.h"
#include "decoder/image.h"

// Opens the bytes or file of medium i of q, chooses frames and sizes. Ends early when q->cancel says so. out is zeroed before and released by
// task_media_done also after a failure. Errors name the medium.
// key: of hashes; NULL: none are made.
sight_err task_media_open(task_media *out, const request *q, int32_t i, const model_config *config,
                          const request_limits *limits, const uint8_t *key);
void task_media_done(task_media *m);

// Those under which its picture was opened, for reading it. cancel is borrowed; NULL: never.
image_limits task_media_image_limits(const task_media *m, const atomic_bool *cancel);

// A picture's encoded bytes: the message's, or the file's, read anew (*owned, free it; else NULL).
// Nothing is kept while a request waits, nor mapped: a file that shrinks under a map would end the
// process. SIGHT_E_MEDIA (empty), SIGHT_E_LIMIT, those of file_read.
sight_err task_media_read(const task_media *m, const void **bytes, size_t *size, char **owned);

// Whether what was read is still what was opened: of a picture the bytes, of a clip the file at its
// path. True where no hashes are made.
bool task_media_same_picture(const task_media *m, const void *bytes, size_t size,
                             const uint8_t *key);
bool task_media_same_clip(const task_media *m, const uint8_t *key);

// The entry of a plan's "media". NULL: no memory.
json_t *task_media_describe(const task_media *m);

#endif
