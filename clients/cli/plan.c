#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/cli/question.h"
#include "clients/cli/stream.h"

#define FRAMES_PER_LINE 8

static long long count(const json_t *o, const char *key)
{
    return (long long)json_integer_value(json_object_get(o, key));
}

static const char *text(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double mib(const json_t *o, const char *key)
{
    return (double)count(o, key) / (1 << 20);
}

static void print_frames(const json_t *frames)
{
    size_t i;
    json_t *f;
    json_array_foreach(frames, i, f) {
        if (i % FRAMES_PER_LINE == 0) printf("%s    ", i ? "\n" : "");
        printf("%lld @ %.2f s%s", count(f, "index"), json_number_value(json_object_get(f, "time_s")),
               i + 1 < json_array_size(frames) ? ", " : "");
    }
    if (json_array_size(frames)) printf("\n");
}

static void print_medium(const json_t *m)
{
    const json_t *source = json_object_get(m, "source"), *frames = json_object_get(m, "frames");
    printf("%s %s: %s %lldx%lld", text(m, "kind"), text(m, "name"), text(m, "format"),
           count(source, "width"), count(source, "height"));
    if (json_array_size(frames)) {
        printf(", %.2f s at %.4g fps", json_number_value(json_object_get(source, "duration_s")),
               json_number_value(json_object_get(source, "fps")));
    }
    printf("\n  looked at as %lldx%lld, %lld patches, %lld tokens", count(m, "width"),
           count(m, "height"), count(m, "patches"), count(m, "tokens"));
    if (json_object_get(m, "decoded_on")) printf(", decoded on %s", text(m, "decoded_on"));
    if (json_array_size(frames)) printf(", %zu frames:\n", json_array_size(frames));
    else printf("\n");
    print_frames(frames);
}

static void print_plan(const json_t *plan)
{
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(plan, "media"), i, m) print_medium(m);
    json_array_foreach(json_object_get(plan, "warnings"), i, m) {
        printf("warning: %s\n", json_string_value(m) ? json_string_value(m) : "");
    }
    printf("prompt: %lld tokens, %lld of them visual; answer: up to %lld; context: %lld\n",
           count(plan, "prompt_tokens"), count(plan, "visual_tokens"), count(plan, "max_tokens"),
           count(plan, "context"));
    const json_t *memory = json_object_get(plan, "memory");
    printf("memory: %.1f MiB for this request (keys and values %.1f, states %.1f, vision %.1f), %.1f "
           "with the model's weights, %.1f allowed; model: %s\n", mib(plan, "memory_bytes"),
           mib(memory, "kv"), mib(memory, "states"), mib(memory, "vision"), mib(memory, "total"),
           mib(memory, "allowed"), text(plan, "model"));
}

static sight_err show(const question *q, const char *reply)
{
    json_t *plan = json_loads(reply, 0, NULL);
    if (!plan) return sight_fail(SIGHT_E_PROTOCOL, "the server's plan is no JSON");
    if (q->json) printf("%s\n", reply);
    else print_plan(plan);
    json_decref(plan);
    return SIGHT_OK;
}

static sight_err run(question *q, char **media, int n_media, bool *no_server)
{
    sight_client *c = NULL;
    json_t *user = NULL, *messages = NULL;
    char *request = NULL, *reply = NULL, id[SIGHT_ID_SIZE];
    sight_err err = question_message(q, &user, media, n_media, "");
    if (!err && !(messages = json_pack("[o]", user))) {
        err = sight_fail(SIGHT_E_MEMORY, "no memory for the request");
    }
    if (!err) err = question_request(q, &request, messages);
    if (!err) *no_server = (err = connect_open(&c, &q->connect)) != SIGHT_OK;
    if (!err) err = sight_client_plan(c, id, request, q->parts, q->n_parts);
    if (!err) err = stream_wait(c, &reply, id, 60000);
    if (!err) err = show(q, reply);
    sight_client_close(&c);
    free(reply);
    free(request);
    json_decref(messages);
    return err;
}

static const char *const summary =
    "Shows what a question about these media would take, before any work: the frames chosen and their\n"
    "times, sizes after scaling, tokens, memory.";

int cli_plan(int argc, char **argv)
{
    question q;
    question_init(&q);
    int n, status = EXIT_OK;
    if (question_args(&q, "plan", "MEDIA...", summary, argc, argv, &n, &status)) return status;
    bool no_server = false;
    sight_err err = n ? run(&q, argv, n, &no_server)
                      : sight_fail(SIGHT_E_ARGUMENT, "no picture or clip to plan for");
    question_done(&q);
    return err ? cli_fail_asking(err, no_server) : EXIT_OK;
}
