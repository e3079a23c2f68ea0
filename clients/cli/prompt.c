#include <stdio.h>
#include <stdlib.h>

#include "clients/cli/cli.h"
#include "clients/cli/inspect.h"
#include "daemon/task.h"

int cli_prompt(int argc, char **argv)
{
    const char *model = NULL, *mmproj = NULL, *path = NULL;
    const arg_option options[] = {
        {"model", 'm', ARG_TEXT, &model, "DIR|NAME", "the checkpoint whose template to use", 0, 0},
        {"mmproj", 0, ARG_TEXT, &mmproj, "FILE", "a GGUF model's vision file, or none", 0, 0},
        {"request", 'r', ARG_TEXT, &path, "FILE", "the request, JSON", 0, 0},
    };
    arg_spec spec = {"prompt", "", "Prints the prompt a request becomes, before media are expanded.",
                     options, sizeof options / sizeof *options};
    int n, status = EXIT_OK;
    if (cli_args(&spec, argc, argv, &n, &status)) return status;
    request_file file = {0};
    engine *e = NULL;
    request *r = NULL;
    char *text = NULL;
    size_t size = 0;
    request_limits limits = request_limits_default();
    sight_err err = inspect_read_request(&file, path);
    if (!err) err = inspect_open(&e, model, mmproj);
    if (!err) {
        inspect_warnings(e);
        request_source source = {.json = file.text, .size = file.size, .base_dir = file.folder};
        err = request_parse(&r, &source, &limits, &engine_config(e)->generation);
    }
    if (!err) err = task_prompt_text(&text, &size, e, r);
    if (!err) fwrite(text, 1, size, stdout);
    free(text);
    request_destroy(&r);
    engine_close(&e);
    free(file.text);
    return err ? cli_fail(err, sight_error()) : EXIT_OK;
}
