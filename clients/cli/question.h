// clients/cli/question.h - command-line words to a request's JSON.
#ifndef SIGHT_CLI_QUESTION_H
#define SIGHT_CLI_QUESTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "clients/cli/args.h"
#include "clients/cli/connect.h"
#include "sight/client.h"

#define QUESTION_MAX_MEDIA 64

// What ask, chat and plan have in common. Init with question_init.
typedef struct question {
    connect_options connect;
    double start_s, end_s, fps; // 0: not given
    int64_t frames, min_pixels, max_pixels;
    int64_t max_tokens, top_k, seed; // -1: not given
    double temperature, top_p, min_p, presence_penalty, frequency_penalty, repetition_penalty;
    arg_list stop;
    const char *system, *drafts, *use;
    bool confidence;
    const char *schema, *regex; // the answer's form
    arg_list choice;
    bool think, no_think, attach, json, quiet, verbose;
    // With --attach: the media of all messages so far, each sent with every request.
    sight_part parts[QUESTION_MAX_MEDIA];
    size_t n_parts;
} question;

void question_init(question *q);
void question_done(question *q); // frees what was attached; the options stay

// Reads a command's arguments into q: what is no option is argv[0..*n-1]. true when the command is
// over, with *status: help was shown, or an error printed.
bool question_args(question *q, const char *command, const char *positional, const char *summary,
                   int argc, char **argv, int *n, int *status);

// Whether a file is a picture or a clip, by its first bytes; what http:// or https:// names, by its ending.
// SIGHT_E_MEDIA (missing, a folder, empty, not to be read), SIGHT_E_UNSUPPORTED (another network address).
sight_err question_look_at(const char *path, bool *picture);
// A user message of these media and this text (NULL: none yet). Paths are made absolute; whether a
// file is a picture or a clip is told from its first bytes.
// As question_look_at; SIGHT_E_ARGUMENT, SIGHT_E_MEMORY.
sight_err question_message(question *q, json_t **out, char *const *media, int n_media,
                           const char *text);
// Appends --system's text, if there is one. SIGHT_E_ARGUMENT (not UTF-8), SIGHT_E_MEMORY.
sight_err question_add_system(const question *q, json_t *messages);
// The form of the answer, where one is asked for (question_form.c). SIGHT_E_ARGUMENT and those of reading a file.
sight_err question_add_form(const question *q, json_t *request);
// The whole request around messages (borrowed); *out is malloced text.
// SIGHT_E_ARGUMENT (a stop text that is not UTF-8, an end before the start), SIGHT_E_MEMORY.
sight_err question_request(const question *q, char **out, json_t *messages);

// The whole of stdin as text (malloc). SIGHT_E_IO, SIGHT_E_LIMIT over 16 MiB, SIGHT_E_ARGUMENT
// for a NUL byte in it.
sight_err question_read_stdin(char **out);

#endif
