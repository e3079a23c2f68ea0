// clients/cli/stream.h - shows a request's events as they come; Ctrl-C cancels it in the daemon.
#ifndef SIGHT_CLI_STREAM_H
#define SIGHT_CLI_STREAM_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "sight/client.h"

typedef struct stream_options {
    bool json;     // one event per line on stdout
    bool quiet;    // no progress, warnings or notes
    bool verbose;  // usage after the answer
    bool thinking; // show the thinking channel
    buf *answer;   // collects the answer channel; NULL: not wanted
} stream_options;

// Reads events of request `id` to its end. SIGHT_E_CANCELLED after Ctrl-C; the error event's sentence with its code, where that is
// about a medium SIGHT_E_MEDIA, about a model SIGHT_E_ARGUMENT (there is none of that name) or SIGHT_E_MODEL; SIGHT_E_IO when the
// server went away.
sight_err stream_show(sight_client *c, const char *id, const stream_options *options);
// Waits for its end and shows nothing; *reply (malloc) is the JSON of its done. The same codes; SIGHT_E_TIMEOUT.
sight_err stream_wait(sight_client *c, char **reply, const char *id, int timeout_ms);

#endif
