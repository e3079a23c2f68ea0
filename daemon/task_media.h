// daemon/task_media.h - opening and pricing one medium of a task.
#ifndef SIGHT_DAEMON_TASK_MEDIA_H
#define SIGHT_DAEMON_TASK_MEDIA_H

#include "daemon/task.h"

// Opens asked's bytes or file, chooses frames and sizes. out is zeroed before and released by
// task_media_done also after a failure. Errors name the medium.
sight_err task_media_open(task_media *out, const request_media *asked, const model_config *config,
                          const request_limits *limits);
void task_media_done(task_media *m);

// A picture's encoded bytes: the message's, or the file's, read anew (*owned, free it; else NULL).
// Nothing is kept while a request waits, nor mapped: a file that shrinks under a map would end the
// process. SIGHT_E_MEDIA (empty), SIGHT_E_LIMIT, those of file_read.
sight_err task_media_read(const task_media *m, const void **bytes, size_t *size, char **owned);

// The entry of a plan's "media". NULL: no memory.
json_t *task_media_describe(const task_media *m);

#endif
