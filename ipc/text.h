// ipc/text.h - JSON strings from text that may hold anything (file names, cut sentences).
#ifndef SIGHT_IPC_TEXT_H
#define SIGHT_IPC_TEXT_H

#include <jansson.h>

// A JSON string in which every byte that is not UTF-8 became '?'. NULL: no memory. Threads: any.
json_t *text_json(const char *s);

#endif
