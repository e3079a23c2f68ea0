#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "clients/cli/args.h"
#include "clients/cli/cli.h"
#include "clients/cli/connect.h"
#include "clients/cli/overview.h"
#include "clients/cli/terminal.h"

// A JSON value as indented "key: value" lines.
static void print_value(const json_t *v, int depth)
{
    const char *key;
    json_t *item;
    size_t i;
    json_object_foreach((json_t *)v, key, item) {
        printf("%*s%s:", 2 * depth, "", key);
        if (json_is_object(item) || json_is_array(item)) {
            printf("\n");
            print_value(item, depth + 1);
        } else {
            char *s = json_is_string(item) ? NULL : json_dumps(item, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6));
            printf(" %s\n", s ? s : json_string_value(item) ? json_string_value(item) : "");
            free(s);
        }
    }
    json_array_foreach(v, i, item) {
        printf("%*s-\n", 2 * depth, "");
        print_value(item, depth + 1);
    }
}

typedef struct question {
    sight_verb verb;
    bool json, metrics;
} question;

static sight_err print_overview(const json_t *status)
{
    const overview_look look = {.colour = terminal_out_colour(), .selected = -1};
    buf out;
    buf_init(&out);
    overview_write(&out, status, &look);
    fputs(buf_text(&out), stdout);
    const bool failed = buf_failed(&out);
    buf_done(&out);
    return failed ? sight_fail(SIGHT_E_MEMORY, "no memory for a table") : SIGHT_OK;
}

static sight_err print_reply(const question *q, const char *reply)
{
    json_t *v = json_loads(reply, 0, NULL);
    const char *metrics = json_string_value(json_object_get(v, "metrics"));
    sight_err err = SIGHT_OK;
    if (!v) err = sight_fail(SIGHT_E_PROTOCOL, "the server's reply is no JSON");
    else if (q->json) printf("%s\n", reply);
    else if (q->metrics) fputs(metrics ? metrics : "", stdout);
    else if (q->verb == SIGHT_STATUS) err = print_overview(v);
    else print_value(v, 0);
    json_decref(v);
    return err;
}

static sight_err ask_server(const question *q, const connect_options *to, bool *no_server)
{
    sight_client *c = NULL;
    char *reply = NULL;
    sight_err err = connect_running(&c, to, 2000);
    *no_server = err != SIGHT_OK;
    const char *json = q->metrics ? "{\"metrics\": true}" : NULL;
    if (!err) err = sight_client_call(c, &reply, q->verb, json, NULL, 0, 5000);
    if (!err) err = print_reply(q, reply);
    free(reply);
    sight_client_close(&c);
    return err;
}

static int run(int argc, char **argv, const char *command, const char *summary, sight_verb verb)
{
    connect_options to = {0};
    question q = {.verb = verb};
    bool no_server = false;
    const arg_option options[] = {
        CONNECT_ARGS(&to),
        {"json", 'j', ARG_FLAG, &q.json, NULL, "as JSON", 0, 0},
        {"metrics", 'm', ARG_FLAG, &q.metrics, NULL, "the metrics alone, as Prometheus reads them", 0, 0},
    };
    const size_t n_options = sizeof options / sizeof *options - (verb != SIGHT_STATUS);
    arg_spec spec = {command, "", summary, options, n_options};
    int n, status = EXIT_OK;
    if (cli_args(&spec, argc, argv, &n, &status)) return status;
    sight_err err = SIGHT_OK;
    if (n) err = sight_fail(SIGHT_E_ARGUMENT, "'%s' is one argument too many", argv[0]);
    else err = ask_server(&q, &to, &no_server);
    return err ? cli_fail_asking(err, no_server) : EXIT_OK;
}

int cli_status(int argc, char **argv)
{
    return run(argc, argv, "status", "Says what the daemon is doing, its queue and its limits.",
               SIGHT_STATUS);
}

int cli_models(int argc, char **argv)
{
    return run(argc, argv, "models", "Says what the daemon has loaded.", SIGHT_MODELS);
}
