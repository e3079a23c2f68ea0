// clients/cli/inspect.h - what the commands that run the engine in this process share.
#ifndef SIGHT_CLI_INSPECT_H
#define SIGHT_CLI_INSPECT_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "daemon/engine.h"

#define INSPECT_MAX_FILE ((size_t)256 << 20)

// Opens config, tokenizer and template of --model (with --mmproj, or NULL), no weights.
// SIGHT_E_ARGUMENT when model is NULL; codes of engine_open.
sight_err inspect_open(engine **out, const char *model, const char *mmproj);

// Prints the engine's warnings on stderr.
void inspect_warnings(const engine *e);

// A request file's text (free it) and the folder that its media paths start from.
typedef struct request_file {
    char *text;
    size_t size;
    char folder[PATH_MAX];
} request_file;

// SIGHT_E_ARGUMENT when path is NULL; codes of file_read.
sight_err inspect_read_request(request_file *f, const char *path);

#endif
