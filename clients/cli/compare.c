// sight compare - what another form of the weights, or another checkpoint of the same model, costs.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/cli.h"
#include "clients/cli/inspect.h"
#include "clients/cli/terminal.h"
#include "daemon/compare.h"

static const char *const summary =
    "Reads the prompts of a file of requests with two forms of the weights, or two models of one kind, and says how far\n"
    "their next-token distributions are apart. The first one's products are exact, in float32.";

typedef struct side {
    const char *model, *mmproj, *weights, *simd;
    int64_t threads;
    bool exact;
} side;

static void on_progress(void *arg, int percent)
{
    terminal_progress("preparing weights: %d %%", percent);
}

static sight_err open_side(engine **out, const side *s)
{
    engine_options o = engine_options_exact();
    o.model = s->model;
    o.mmproj = s->mmproj;
    o.exact = s->exact;
    o.threads = (int)s->threads;
    o.weights.progress = on_progress;
    sight_err err = s->weights ? weights_form_parse(&o.weights.form, s->weights) : SIGHT_OK;
    if (!err && s->simd) err = simd_level_parse(&o.simd, s->simd);
    if (!err) err = engine_open(out, &o);
    terminal_clear();
    if (!err) inspect_warnings(*out);
    return err;
}

// A list of requests, or one.
static sight_err read_requests(json_t **out, const request_file *file, const char *path)
{
    json_error_t e;
    json_t *v = json_loadb(file->text, file->size, 0, &e);
    if (!v) return sight_fail(SIGHT_E_ARGUMENT, "'%s', line %d: %s", path, e.line, e.text);
    if (json_is_object(v)) v = json_pack("[o]", v);
    if (!json_is_array(v) || json_array_size(v) == 0) {
        json_decref(v);
        return sight_fail(SIGHT_E_ARGUMENT, "'%s' holds no list of requests", path);
    }
    *out = v;
    return SIGHT_OK;
}

static sight_err compare_all(compared *c, engine *a, engine *b, const json_t *list,
                             const request_file *file)
{
    request_limits limits = request_limits_default();
    const size_t n = json_array_size(list);
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < n && !err; i++) {
        terminal_progress("request %zu of %zu ...", i + 1, n);
        char *text = json_dumps(json_array_get(list, i), JSON_ENCODE_ANY);
        if (!text) return sight_fail(SIGHT_E_MEMORY, "no memory for a request");
        const request_source source = {.json = text, .size = strlen(text), .base_dir = file->folder};
        err = compare_add(c, a, b, &source, &limits);
        if (err) err = sight_fail_in(err, "request %zu", i + 1);
        free(text);
    }
    terminal_clear();
    return err;
}

static void print_result(const compare_summary *s, int64_t tokens, const engine *a, const engine *b,
                         bool as_json)
{
    const double mib = 1 << 20;
    const double first_mib = (double)engine_get_memory(a).weights / mib;
    const double second_mib = (double)engine_get_memory(b).weights / mib;
    if (as_json) {
        json_t *o = json_pack(
            "{s:s, s:s, s:s, s:s, s:f, s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "first",
            engine_model_name(a), "second", engine_model_name(b), "first_weights", engine_weights(a),
            "second_weights", engine_weights(b), "first_mib", first_mib, "second_mib", second_mib,
            "tokens", (json_int_t)tokens, "kl_mean", s->mean, "kl_median", s->median, "kl_p99", s->p99,
            "kl_largest", s->largest, "same_top", s->same, "first_perplexity", s->first_perplexity,
            "second_perplexity", s->second_perplexity);
        char *text = o ? json_dumps(o, JSON_REAL_PRECISION(6) | JSON_INDENT(1)) : NULL;
        printf("%s\n", text ? text : "{}");
        free(text);
        json_decref(o);
        return;
    }
    printf("%-28s %s, %s, %.1f MiB\n", "first", engine_model_name(a), engine_weights(a), first_mib);
    printf("%-28s %s, %s, %.1f MiB\n", "second", engine_model_name(b), engine_weights(b), second_mib);
    printf("%-28s %lld\n", "tokens", (long long)tokens);
    printf("%-28s mean %.3g, median %.3g, 99 %% below %.3g, largest %.3g\n", "KL divergence, nats",
           s->mean, s->median, s->p99, s->largest);
    printf("%-28s %.2f %%\n", "same likeliest token", 100 * s->same);
    printf("%-28s %.5g and %.5g\n", "perplexity", s->first_perplexity, s->second_perplexity);
}

int cli_compare(int argc, char **argv)
{
    side first = {.weights = "stored", .exact = true}, second = {.weights = "auto"};
    const char *path = NULL, *with = NULL, *with_mmproj = NULL;
    bool json = false;
    const arg_option options[] = {
        {"model", 'm', ARG_TEXT, &first.model, "DIR|NAME", "the checkpoint", 0, 0},
        {"mmproj", 0, ARG_TEXT, &first.mmproj, "FILE", "a GGUF model's vision file, or none", 0, 0},
        {"against", 'a', ARG_TEXT, &first.weights, "FORM", "of the first (default stored)", 0, 0},
        {"weights", 'w', ARG_TEXT, &second.weights, "FORM", "of the second: stored, bf16, int8, int4 or fp8",
         0, 0},
        {"with", 0, ARG_TEXT, &with, "DIR|NAME", "another checkpoint as the second", 0, 0},
        {"with-mmproj", 0, ARG_TEXT, &with_mmproj, "FILE", "its vision file", 0, 0},
        {"requests", 'r', ARG_TEXT, &path, "FILE", "a JSON list of requests; media paths start beside it",
         0, 0},
        {"exact", 0, ARG_FLAG, &second.exact, NULL, "exact products in the second too: the weights alone",
         0, 0},
        {"simd", 0, ARG_TEXT, &second.simd, "LEVEL", "of the second", 0, 0},
        {"threads", 't', ARG_COUNT, &first.threads, "N", "default: all processors", 1, 256},
        {"json", 'j', ARG_FLAG, &json, NULL, "as JSON", 0, 0},
    };
    arg_spec spec = {"compare", "", summary, options, sizeof options / sizeof *options};
    int n, status = EXIT_OK;
    if (cli_args(&spec, argc, argv, &n, &status)) return status;
    request_file file = {0};
    json_t *list = NULL;
    engine *a = NULL, *b = NULL;
    compared c = {0};
    second.model = with ? with : first.model;
    second.mmproj = with ? with_mmproj : first.mmproj;
    second.threads = first.threads;
    sight_err err = first.model ? SIGHT_OK : sight_fail(SIGHT_E_ARGUMENT, "--model is missing");
    if (!err) err = inspect_read_request(&file, path);
    if (!err) err = read_requests(&list, &file, path);
    if (!err) err = open_side(&a, &first);
    if (!err) err = open_side(&b, &second);
    if (!err) err = compare_all(&c, a, b, list, &file);
    if (!err) {
        const compare_summary s = compare_sum_up(&c);
        print_result(&s, c.n, a, b, json);
    }
    engine_close(&a);
    engine_close(&b);
    compared_done(&c);
    json_decref(list);
    free(file.text);
    return err ? cli_fail(err, sight_error()) : EXIT_OK;
}
