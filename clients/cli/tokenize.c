#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "clients/cli/cli.h"
#include "clients/cli/inspect.h"
#include "clients/cli/question.h"
#include "text/tokenizer.h"

static sight_err print_ids(const tokenizer *t, const char *text, size_t n, tokenizer_mode mode,
                           bool first)
{
    token_list ids = {0};
    sight_err err = tokenizer_encode(t, &ids, text, n, mode);
    if (!err) {
        printf("%s[", first ? "" : ",\n");
        for (size_t i = 0; i < ids.n; i++) printf("%s%d", i ? ", " : "", ids.ids[i]);
        printf("]");
    }
    token_list_done(&ids);
    return err;
}

static sight_err tokenize_batch(const tokenizer *t, const char *path, tokenizer_mode mode)
{
    json_t *texts = NULL, *text;
    sight_err err = json_parse_file(&texts, path, INSPECT_MAX_FILE, SIGHT_E_ARGUMENT);
    if (err) return err;
    if (!json_is_array(texts)) err = sight_fail(SIGHT_E_ARGUMENT, "'%s' is no array of strings", path);
    if (!err) printf("[");
    size_t i;
    json_array_foreach(texts, i, text) {
        if (!err && !json_is_string(text)) {
            err = sight_fail(SIGHT_E_ARGUMENT, "'%s': item %zu is no string", path, i);
        }
        if (err) break;
        err = print_ids(t, json_string_value(text), json_string_length(text), mode, i == 0);
    }
    if (!err) printf("]\n");
    json_decref(texts);
    return err;
}

int cli_tokenize(int argc, char **argv)
{
    const char *model = NULL, *mmproj = NULL, *batch = NULL;
    bool plain = false;
    const arg_option options[] = {
        {"model", 'm', ARG_TEXT, &model, "DIR|NAME", "the checkpoint whose tokenizer to use", 0, 0},
        {"mmproj", 0, ARG_TEXT, &mmproj, "FILE", "a GGUF model's vision file, or none", 0, 0},
        {"batch", 'b', ARG_TEXT, &batch, "FILE", "a JSON array of strings; prints an array of arrays", 0, 0},
        {"plain", 'p', ARG_FLAG, &plain, NULL, "as text from a user: no special tokens", 0, 0},
    };
    arg_spec spec = {"tokenize", "[TEXT]", "Prints the token ids of a text (- or none: standard input).",
                     options, sizeof options / sizeof *options};
    int n, status = EXIT_OK;
    if (cli_args(&spec, argc, argv, &n, &status)) return status;
    tokenizer_mode mode = plain ? TOKENIZER_PLAIN : TOKENIZER_TOKENS;
    engine *e = NULL;
    char *from_stdin = NULL;
    sight_err err = n > 1 ? sight_fail(SIGHT_E_ARGUMENT, "more than one text") : SIGHT_OK;
    if (!err) err = inspect_open(&e, model, mmproj);
    if (!err && batch) {
        err = tokenize_batch(engine_tokenizer(e), batch, mode);
    } else if (!err) {
        if (n == 0 || !strcmp(argv[0], "-")) err = question_read_stdin(&from_stdin);
        const char *text = from_stdin ? from_stdin : n ? argv[0] : "";
        if (!err) err = print_ids(engine_tokenizer(e), text, strlen(text), mode, true);
        if (!err) printf("\n");
    }
    free(from_stdin);
    engine_close(&e);
    return err ? cli_fail(err, sight_error()) : EXIT_OK;
}
