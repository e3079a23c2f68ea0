#include "clients/cli/stream.h"

#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "clients/cli/terminal.h"

static volatile sig_atomic_t interrupted; // the stop flag of this program

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted++;
}

typedef struct stream {
    const stream_options *options;
    bool in_thinking, wrote_answer;
    char last; // of the answer
} stream;

static const char *text_of(const json_t *body, const char *key)
{
    const char *s = json_string_value(json_object_get(body, key));
    return s ? s : "";
}

static long long count_of(const json_t *body, const char *key)
{
    return (long long)json_integer_value(json_object_get(body, key));
}

static void show_progress(const json_t *body)
{
    static const struct {
        const char *stage, *words;
    } names[] = {{"decode", "decoding frames"}, {"encode", "looking"}, {"read", "reading tokens"},
                 {"load", "preparing the model's weights"}};
    const char *stage = text_of(body, "stage"), *words = stage;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!strcmp(stage, names[i].stage)) words = names[i].words;
    }
    const double left_s = json_number_value(json_object_get(body, "left_s"));
    char left[40] = "";
    if (left_s >= 90) snprintf(left, sizeof left, ", %.0f min left", left_s / 60);
    else if (left_s >= 2) snprintf(left, sizeof left, ", %.0f s left", left_s);
    if (!strcmp(stage, "fetch")) {
        const long long total = count_of(body, "total");
        if (total) snprintf(left, sizeof left, " of %.1f", (double)total / (1 << 20));
        terminal_progress("fetching, %.1f%s MiB", (double)count_of(body, "done") / (1 << 20), left);
        return;
    }
    terminal_progress("%s %lld of %lld%s", words, count_of(body, "done"), count_of(body, "total"),
                      left);
}

static void show_accepted(const json_t *body)
{
    long long place = count_of(body, "place");
    if (place > 0) terminal_progress("waiting, place %lld in the queue", place);
}

static void show_thinking(stream *s, const char *text)
{
    if (!s->options->thinking) {
        if (!s->options->quiet) terminal_progress("thinking ...");
        return;
    }
    terminal_clear();
    bool dim = terminal_err_colour();
    fprintf(stderr, "%s%s%s", dim ? "\033[2m" : "", text, dim ? "\033[0m" : "");
    s->in_thinking = true;
}

static void show_delta(stream *s, const json_t *body)
{
    const char *text = text_of(body, "text"), *channel = text_of(body, "channel");
    if (!strcmp(channel, "thinking")) {
        show_thinking(s, text);
        return;
    }
    terminal_clear();
    if (s->in_thinking) fprintf(stderr, "\n");
    s->in_thinking = false;
    fputs(text, stdout);
    fflush(stdout);
    size_t n = strlen(text);
    if (n) s->last = text[n - 1];
    s->wrote_answer = s->wrote_answer || n;
    if (s->options->answer) buf_add(s->options->answer, text, n);
}

// How sure the model was, where that was asked for, and whom a router asked before it.
static void show_confidence(const json_t *body)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(json_object_get(body, "routed"), "tried"), i, one) {
        const json_t *sure = json_object_get(one, "confidence");
        if (sure) terminal_note("(%s was asked first: confidence %.2f)", text_of(one, "model"), json_number_value(sure));
        else terminal_note("(%s was asked first: %s)", text_of(one, "model"), text_of(one, "message"));
    }
    const json_t *sure = json_object_get(body, "confidence");
    if (json_is_number(sure)) terminal_note("(%s: confidence %.2f)", text_of(body, "model"), json_number_value(sure));
}

static void show_done(stream *s, const json_t *body)
{
    terminal_clear();
    if (s->wrote_answer && s->last != '\n') printf("\n");
    fflush(stdout);
    const char *reason = text_of(body, "finish_reason");
    if (!s->options->quiet && !strcmp(reason, "length")) {
        terminal_note("(cut at the token limit; --max-tokens raises it)");
    }
    if (!s->options->quiet) show_confidence(body);
    if (!s->options->verbose) return;
    char *usage = json_dumps(json_object_get(body, "usage"), 0);
    char *timings = json_dumps(json_object_get(body, "timings"), JSON_REAL_PRECISION(4));
    terminal_note("%s; usage %s; timings %s", reason, usage ? usage : "-", timings ? timings : "-");
    free(usage);
    free(timings);
}

// What the server could not find, open or read is bad: a medium, or a model (of a name that it does not have, the request). None of
// it is a server that is gone.
static sight_err error_of(const json_t *body)
{
    const char *about = text_of(body, "about");
    sight_err code = sight_err_parse(text_of(body, "code"));
    const bool lacks = code == SIGHT_E_IO || code == SIGHT_E_NOT_FOUND || code == SIGHT_E_PERMISSION;
    if (lacks && !strcmp(about, "medium")) code = SIGHT_E_MEDIA;
    else if (lacks && !strcmp(about, "model")) code = code == SIGHT_E_NOT_FOUND ? SIGHT_E_ARGUMENT : SIGHT_E_MODEL;
    else if (code == SIGHT_E_IO) code = SIGHT_E_INTERNAL;
    return sight_fail(code, "%s", text_of(body, "message"));
}

static void show_event(stream *s, const sight_event *e, const json_t *body)
{
    if (s->options->json) {
        printf("{\"event\": \"%s\", \"id\": \"%s\", \"data\": %s}\n", sight_event_name(e->kind), e->id,
               e->json);
        fflush(stdout);
        if (e->kind == SIGHT_DELTA && s->options->answer &&
            !strcmp(text_of(body, "channel"), "answer")) {
            buf_puts(s->options->answer, text_of(body, "text"));
        }
        return;
    }
    switch (e->kind) {
    case SIGHT_DELTA: show_delta(s, body); break;
    case SIGHT_DONE: show_done(s, body); break;
    case SIGHT_WARNING:
        if (!s->options->quiet) terminal_warning(text_of(body, "message"));
        break;
    case SIGHT_PROGRESS:
        if (!s->options->quiet) show_progress(body);
        break;
    case SIGHT_ACCEPTED:
        if (!s->options->quiet) show_accepted(body);
        break;
    default: break;
    }
}

// One event of this request handled; *over at its end.
static sight_err step(stream *s, sight_client *c, const char *id, bool *over)
{
    sight_event e;
    sight_err err = sight_client_next(c, &e, 200);
    if (err == SIGHT_E_TIMEOUT) return SIGHT_OK;
    if (err) return err;
    if (strcmp(e.id, id)) return SIGHT_OK;
    json_t *body = json_loadb(e.json, e.json_size, 0, NULL);
    if (!body) return sight_fail(SIGHT_E_PROTOCOL, "the server sent an event that is no JSON");
    show_event(s, &e, body);
    *over = e.kind == SIGHT_DONE || e.kind == SIGHT_ERROR;
    if (e.kind == SIGHT_ERROR) err = error_of(body);
    else if (e.kind == SIGHT_DONE && !strcmp(text_of(body, "finish_reason"), "cancelled")) {
        err = sight_fail(SIGHT_E_CANCELLED, "cancelled");
    }
    json_decref(body);
    return err;
}

sight_err stream_show(sight_client *c, const char *id, const stream_options *options)
{
    struct sigaction action = {.sa_handler = on_interrupt}, before;
    sigemptyset(&action.sa_mask);
    interrupted = 0;
    sigaction(SIGINT, &action, &before);
    stream s = {.options = options};
    sight_err err = SIGHT_OK;
    bool over = false, cancelled = false;
    while (!over && !err) {
        if (interrupted && !cancelled) {
            cancelled = true;
            err = sight_client_cancel(c, id);
            if (err) break;
        }
        if (interrupted > 1) err = sight_fail(SIGHT_E_CANCELLED, "cancelled");
        else err = step(&s, c, id, &over);
    }
    sigaction(SIGINT, &before, NULL);
    terminal_clear();
    return err;
}

// The reply, once it is there.
static sight_err take_reply(char **reply, const sight_event *e)
{
    if (e->kind == SIGHT_DONE) {
        *reply = strdup(e->json);
        return *reply ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for a reply");
    }
    json_t *body = json_loadb(e->json, e->json_size, 0, NULL);
    if (!body) return sight_fail(SIGHT_E_PROTOCOL, "the server sent an event that is no JSON");
    sight_err err = error_of(body);
    json_decref(body);
    return err;
}

sight_err stream_wait(sight_client *c, char **reply, const char *id, int timeout_ms)
{
    const double end_s = clock_now_s() + timeout_ms * 1e-3;
    for (;;) {
        sight_event e;
        const double left_s = end_s - clock_now_s();
        if (left_s <= 0) return sight_fail(SIGHT_E_TIMEOUT, "sightd did not answer in %d s", timeout_ms / 1000);
        sight_err err = sight_client_next(c, &e, (int)(left_s * 1000) + 1);
        if (err == SIGHT_E_TIMEOUT) continue; // or a signal
        if (err) return err;
        if (!strcmp(e.id, id) && (e.kind == SIGHT_DONE || e.kind == SIGHT_ERROR)) return take_reply(reply, &e);
    }
}
