#include <stdlib.h>

#include "clients/cli/cli.h"
#include "clients/cli/inspect.h"
#include "daemon/trace.h"

int cli_trace(int argc, char **argv)
{
    const char *model = NULL, *mmproj = NULL, *path = NULL, *out = NULL, *device = NULL;
    const char *simd = NULL, *weights = NULL;
    arg_list lora = {0};
    int64_t threads = 0;
    const arg_option options[] = {
        {"model", 'm', ARG_TEXT, &model, "DIR|NAME", "the checkpoint", 0, 0},
        {"mmproj", 0, ARG_TEXT, &mmproj, "FILE", "a GGUF model's vision file, or none", 0, 0},
        {"lora", 0, ARG_LIST, &lora, "DIR[:SCALE]", "a LoRA adapter (PEFT); may be given again", 0, 0},
        {"request", 'r', ARG_TEXT, &path, "FILE", "the request, JSON; media paths start beside it", 0, 0},
        {"out", 'o', ARG_TEXT, &out, "FILE", "the safetensors file to write", 0, 0},
        {"device", 'd', ARG_TEXT, &device, "NAME", "cpu (default), auto, cuda:N, or cuda:N,M", 0, 0},
        {"weights", 'w', ARG_TEXT, &weights, "FORM", "stored, bf16, int8, int4 or fp8", 0, 0},
        {"simd", 0, ARG_TEXT, &simd, "LEVEL", "auto, plain, avx2, avx512, avx512bf16 or neon", 0, 0},
        {"threads", 't', ARG_COUNT, &threads, "N", "default: all processors", 1, 256},
    };
    arg_spec spec = {"trace", "",
                     "Runs one request in this process at full precision and writes every number on the\n"
                     "way: ids, positions, pixels, features, logits.",
                     options, sizeof options / sizeof *options};
    int n, status = EXIT_OK;
    if (cli_args(&spec, argc, argv, &n, &status)) return status;
    request_file file = {0};
    engine *e = NULL;
    engine_options eo = engine_options_exact();
    request_limits limits = request_limits_default();
    sight_err err = device ? engine_options_device(&eo, device, "--device") : SIGHT_OK;
    if (!err && !model) err = sight_fail(SIGHT_E_ARGUMENT, "--model is missing");
    if (!err && !out) err = sight_fail(SIGHT_E_ARGUMENT, "--out is missing");
    if (!err && simd) err = simd_level_parse(&eo.simd, simd);
    if (!err && weights) err = weights_form_parse(&eo.weights.form, weights);
    if (!err) err = inspect_read_request(&file, path);
    eo.model = model;
    eo.mmproj = mmproj;
    eo.lora = lora.items;
    eo.n_lora = lora.n;
    eo.threads = (int)threads;
    if (!err) err = engine_open(&e, &eo);
    if (!err) {
        inspect_warnings(e);
        request_source source = {.json = file.text, .size = file.size, .base_dir = file.folder};
        err = trace_run(e, &source, &limits, out);
    }
    engine_close(&e);
    free(file.text);
    return err ? cli_fail(err, sight_error()) : EXIT_OK;
}
