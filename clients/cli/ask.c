#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/cli/question.h"
#include "clients/cli/stream.h"

// Builds the messages: a system message if one was given, then the user's.
static sight_err build_messages(question *q, json_t **out, char **media, int n_media,
                                const char *text)
{
    json_t *user, *messages = json_array();
    if (!messages) return sight_fail(SIGHT_E_MEMORY, "no memory for the question");
    sight_err err = question_message(q, &user, media, n_media, text);
    if (err) {
        json_decref(messages);
        return err;
    }
    err = question_add_system(q, messages);
    json_array_append_new(messages, user);
    if (err) json_decref(messages);
    else *out = messages;
    return err;
}

// *no_server: what failed was reaching a daemon.
static sight_err run(question *q, char **media, int n_media, const char *text, bool *no_server)
{
    sight_client *c = NULL;
    json_t *messages = NULL;
    char *request = NULL, id[SIGHT_ID_SIZE];
    stream_options show = {.json = q->json, .quiet = q->quiet, .verbose = q->verbose,
                           .thinking = q->think};
    sight_err err = build_messages(q, &messages, media, n_media, text);
    if (!err) err = question_request(q, &request, messages);
    if (!err) *no_server = (err = connect_open(&c, &q->connect)) != SIGHT_OK;
    if (!err) err = sight_client_ask(c, id, request, q->parts, q->n_parts);
    if (!err) err = stream_show(c, id, &show);
    sight_client_close(&c);
    free(request);
    json_decref(messages);
    return err;
}

static const char *const summary =
    "Answers a question about pictures and videos, streaming. Starts a private daemon when none\n"
    "runs. The question is the last argument; - reads it from standard input.";

int cli_ask(int argc, char **argv)
{
    question q;
    question_init(&q);
    int n, status = EXIT_OK;
    if (question_args(&q, "ask", "[MEDIA...] QUESTION", summary, argc, argv, &n, &status)) {
        return status;
    }
    bool no_server = false;
    char *from_stdin = NULL;
    sight_err err = SIGHT_OK;
    if (n == 0) err = sight_fail(SIGHT_E_ARGUMENT, "no question (see sight ask --help)");
    else if (!strcmp(argv[n - 1], "-")) err = question_read_stdin(&from_stdin);
    const char *text = from_stdin ? from_stdin : n ? argv[n - 1] : "";
    if (!err && !*text) err = sight_fail(SIGHT_E_ARGUMENT, "the question is empty");
    if (!err) err = run(&q, argv, n - 1, text, &no_server);
    free(from_stdin);
    question_done(&q);
    return err ? cli_fail_asking(err, no_server) : EXIT_OK;
}
