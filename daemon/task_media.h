// daemon/task_media.h - opening and pricing one medium of a task.
#ifndef SIGHT_DAEMON_TASK_MEDIA_H
#define SIGHT_DAEMON_TASK_MEDIA_H

#include "daemon/task.h"

// Opens asked's bytes or file, chooses frames and sizes. out is zeroed before and released by
// task_media_done also after a failure. Errors name the medium.
sight_err task_media_open(task_media *out, const request_media *asked, const model_config *config,
                          const request_limits *limits);
void task_media_done(task_media *m);

// The entry of a plan's "media". NULL: no memory.
json_t *task_media_describe(const task_media *m);

#endif
