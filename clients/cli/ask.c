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
    if (q->system) {
        json_array_append_new(messages,
                              json_pack("{s:s, s:s}", "role", "system", "content", q->system));
    }
    json_array_append_new(messages, user);
    *out = messages;
    return SIGHT_OK;
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
    arg_option options[QUESTION_MAX_OPTIONS];
    arg_spec spec = {"ask", "[MEDIA...] QUESTION", summary, options, 0};
    spec.n_options = question_options(&q, options);
    int n;
    bool help, no_server = false;
    sight_err err = args_parse(&spec, argc, argv, &n, &help);
    if (!err && help) {
        args_help(&spec);
        return EXIT_OK;
    }
    if (!err && n == 0) err = sight_fail(SIGHT_E_ARGUMENT, "no question (see sight ask --help)");
    char *from_stdin = NULL;
    if (!err && !strcmp(argv[n - 1], "-")) err = question_read_stdin(&from_stdin);
    if (!err) err = run(&q, argv, n - 1, from_stdin ? from_stdin : argv[n - 1], &no_server);
    free(from_stdin);
    question_done(&q);
    return err ? cli_fail_asking(err, no_server) : EXIT_OK;
}
