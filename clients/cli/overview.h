// clients/cli/overview.h - a daemon's `status` as lines for people: `sight status`, and what `sight top` shows each second.
//
// Lines are cut to the terminal's width, and of the table of requests the least important columns go first, so that it is
// readable on a narrow one. Whatever the daemon says is shown as plain characters. Threads: one.
#ifndef SIGHT_CLI_OVERVIEW_H
#define SIGHT_CLI_OVERVIEW_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"

typedef struct overview_look {
    int width;    // columns; 0: no bound
    int rows;     // of requests, at most; 0: all
    bool colour;
    int selected; // index of a request; -1: none
} overview_look;

void overview_write(buf *out, const json_t *status, const overview_look *look);

// "1.5 GiB", "3 min 20 s", for tests.
void overview_bytes(char *out, size_t size, double bytes);
void overview_seconds(char *out, size_t size, double seconds);

#endif
