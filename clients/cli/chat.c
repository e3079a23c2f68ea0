#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/cli.h"
#include "clients/cli/question.h"
#include "clients/cli/stream.h"
#include "clients/cli/terminal.h"

typedef struct conversation {
    question q;
    sight_client *client;
    json_t *messages;
    char *pending[QUESTION_MAX_MEDIA]; // media that go with the next question, owned
    int n_pending;
} conversation;

static void drop_pending(conversation *c)
{
    for (int i = 0; i < c->n_pending; i++) free(c->pending[i]);
    c->n_pending = 0;
}

static sight_err add_pending(conversation *c, const char *path)
{
    if (c->n_pending == QUESTION_MAX_MEDIA) {
        return sight_fail(SIGHT_E_LIMIT, "%d media at most go with one question", QUESTION_MAX_MEDIA);
    }
    bool picture;
    sight_err err = question_look_at(path, &picture);
    if (err) return err;
    char *copy = strdup(path);
    if (!copy) return sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", path);
    c->pending[c->n_pending++] = copy;
    return SIGHT_OK;
}

// Starts anew; the options stay.
static sight_err reset(conversation *c)
{
    json_decref(c->messages);
    question_done(&c->q);
    c->messages = json_array();
    if (!c->messages) return sight_fail(SIGHT_E_MEMORY, "no memory for a conversation");
    return question_add_system(&c->q, c->messages);
}

// Sends the conversation as it stands and shows the answer, which is appended to it.
static sight_err answer(conversation *c)
{
    buf text;
    buf_init(&text);
    char *request = NULL, id[SIGHT_ID_SIZE];
    stream_options show = {.json = c->q.json, .quiet = c->q.quiet, .verbose = c->q.verbose,
                           .thinking = c->q.think, .answer = &text};
    sight_err err = question_request(&c->q, &request, c->messages);
    if (!err) err = sight_client_ask(c->client, id, request, c->q.parts, c->q.n_parts);
    if (!err) err = stream_show(c->client, id, &show);
    if (!err) {
        json_array_append_new(c->messages, json_pack("{s:s, s:s}", "role", "assistant", "content",
                                                     buf_text(&text)));
    }
    buf_done(&text);
    free(request);
    return err;
}

// One question; on failure the conversation is as before it, but for media that cannot be read:
// waiting on, they would fail every question.
static sight_err ask(conversation *c, const char *text)
{
    json_t *user;
    sight_err err = question_message(&c->q, &user, c->pending, c->n_pending, text);
    if (!err) {
        json_array_append_new(c->messages, user);
        err = answer(c);
        if (err) json_array_remove(c->messages, json_array_size(c->messages) - 1);
    }
    if (!err || err == SIGHT_E_MEDIA) drop_pending(c);
    return err;
}

// "/word rest": true when the line was a command. *quit ends the conversation.
static bool command(conversation *c, char *line, bool *quit)
{
    if (line[0] != '/') return false;
    sight_err err = SIGHT_OK;
    if (!strcmp(line, "/quit") || !strcmp(line, "/exit")) *quit = true;
    else if (!strcmp(line, "/reset")) err = reset(c);
    else if (!strncmp(line, "/add ", 5)) err = add_pending(c, line + 5);
    else terminal_note("/add FILE   with the next question\n/reset      forget all\n/quit");
    if (err) cli_fail(err, sight_error());
    return true;
}

static void loop(conversation *c)
{
    bool terminal = isatty(STDIN_FILENO), quit = false;
    char *line = NULL;
    size_t capacity = 0;
    while (!quit) {
        if (terminal) fprintf(stderr, "%s> %s", terminal_err_colour() ? "\033[1m" : "",
                              terminal_err_colour() ? "\033[0m" : "");
        ssize_t n = getline(&line, &capacity, stdin);
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        if (n == 0 || command(c, line, &quit)) continue;
        sight_err err = ask(c, line);
        if (err) cli_fail(err, sight_error());
        if (err == SIGHT_E_IO) break;
    }
    if (terminal && !quit) fprintf(stderr, "\n");
    free(line);
}

static const char *const summary =
    "Keeps a conversation about pictures and videos: a line is a question. /add FILE gives another\n"
    "medium with the next one, /reset forgets all, /quit or Ctrl-D ends.";

int cli_chat(int argc, char **argv)
{
    conversation c = {0};
    question_init(&c.q);
    int n, status = EXIT_OK;
    if (question_args(&c.q, "chat", "[MEDIA...]", summary, argc, argv, &n, &status)) return status;
    bool no_server = false;
    sight_err err = SIGHT_OK;
    for (int i = 0; i < n && !err; i++) err = add_pending(&c, argv[i]);
    if (!err) err = reset(&c);
    if (!err) no_server = (err = connect_open(&c.client, &c.q.connect)) != SIGHT_OK;
    if (!err) loop(&c);
    sight_client_close(&c.client);
    json_decref(c.messages);
    question_done(&c.q);
    drop_pending(&c);
    return err ? cli_fail_asking(err, no_server) : EXIT_OK;
}
