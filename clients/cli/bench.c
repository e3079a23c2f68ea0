// sight bench - speed and memory of a shape or checkpoint, beside the machine's own limits.
#define _GNU_SOURCE
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "clients/cli/bench.h"
#include "clients/cli/cli.h"
#include "clients/cli/inspect.h"
#include "clients/cli/terminal.h"
#include "kernels/memory.h"

// Of a GPU in this process: a child cannot go on with what its parent has begun there.
static sight_err measure_device(machine_limits *out, device_id device)
{
    kernels *k = NULL;
    device_info about;
    kernels_options o = {.threads = 1, .device = device};
    sight_err err = device_describe(&about, device);
    if (err) return err;
    if (about.free_bytes > (int64_t)8 << 30) o.device_bytes = (int64_t)4 << 30; // else all that there is
    err = kernels_create(&k, &o);
    if (!err) kernels_measure_limits(k, out);
    if (!err) err = kernels_status(k);
    kernels_destroy(&k);
    return err;
}

// The limits are measured in a child process, so that its buffers do not count as ours.
static sight_err measure_limits(machine_limits *out, int threads, device_id device)
{
    if (device.kind != DEVICE_CPU) return measure_device(out, device);
    int fd[2];
    if (pipe(fd)) return sight_fail(SIGHT_E_IO, "cannot make a pipe");
    pid_t pid = fork();
    if (pid == 0) {
        kernels *k;
        kernels_options o = {.threads = threads};
        machine_limits limits = {0};
        if (kernels_create(&k, &o)) _exit(1);
        kernels_measure_limits(k, &limits);
        _exit(write(fd[1], &limits, sizeof limits) != sizeof limits);
    }
    close(fd[1]);
    ssize_t n = pid > 0 ? read(fd[0], out, sizeof *out) : -1;
    close(fd[0]);
    if (pid > 0) waitpid(pid, NULL, 0);
    if (n != sizeof *out) return sight_fail(SIGHT_E_INTERNAL, "the machine's limits were not measured");
    return SIGHT_OK;
}

// VmHWM of this process.
static double peak_memory_mib(void)
{
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    double kib = 0;
    while (f && fgets(line, sizeof line, f)) sscanf(line, "VmHWM: %lf", &kib);
    if (f) fclose(f);
    return kib / 1024;
}

typedef struct row {
    const char *key, *words, *unit;
    double value;
} row;

static void print_rows(const row *rows, size_t n, const char *device, const char *weights)
{
    for (size_t i = 0; i < n; i++) {
        printf("%-34s %10.4g %s\n", rows[i].words, rows[i].value, rows[i].unit);
    }
    printf("%-34s %10s %s\n", "weights, device", weights, device);
}

static void print_json(const row *rows, size_t n, const char *device, const char *weights,
                       const profile *profiles)
{
    json_t *o = json_object();
    for (size_t i = 0; i < n; i++) json_object_set_new(o, rows[i].key, json_real(rows[i].value));
    json_object_set_new(o, "device", json_string(device));
    json_object_set_new(o, "weights", json_string(weights));
    if (profiles) json_object_set_new(o, "profile", bench_profile_json(profiles));
    char *text = json_dumps(o, JSON_REAL_PRECISION(6) | JSON_INDENT(1));
    printf("%s\n", text ? text : "{}");
    free(text);
    json_decref(o);
}

// "cpu (avx512)", "cuda:0 (NVIDIA H200)".
static void name_device(char *text, size_t n, const kernels *k)
{
    char word[16];
    device_info info;
    device_format(word, kernels_device(k));
    if (kernels_on_device(k) && !device_describe(&info, kernels_device(k))) {
        snprintf(text, n, "%s (%s)", word, info.name);
    } else {
        snprintf(text, n, "%s (%s)", word, simd_level_name(kernels_simd(k)));
    }
}

static void report(engine *e, const machine_limits *limits, const bench_result *r,
                   const profile *profiles, bool as_json)
{
    double weights_bytes = (double)engine_get_memory(e).weights;
    double read_share = limits->read_gb_s > 0
                            ? r->decode_tok_s * r->decode_bytes / 1e9 / limits->read_gb_s : 0;
    const row rows[] = {
        {"load_s", "load", "s", r->load_s},
        {"first_token_s", "first token after start", "s", r->first_token_s},
        {"prefill_512_tok_s", "prefill, 512 tokens", "tok/s", r->prefill_512_tok_s},
        {"prefill_2048_tok_s", "prefill, 2048 tokens", "tok/s", r->prefill_2048_tok_s},
        {"prefill_8192_tok_s", "prefill, 8192 tokens", "tok/s", r->prefill_8192_tok_s},
        {"decode_tok_s", "decode", "tok/s", r->decode_tok_s},
        {"decode_4096_tok_s", "decode at depth 4096", "tok/s", r->decode_4096_tok_s},
        {"batch8_decode_tok_s", "decode, 8 sequences together", "tok/s", r->batch8_decode_tok_s},
        {"batch32_decode_tok_s", "decode, 32 sequences together", "tok/s", r->batch32_decode_tok_s},
        {"draft_decode_tok_s", "answers with drafts", "tok/s", r->draft_decode_tok_s},
        {"draft_acceptance", "drafts that are right", "", r->draft_acceptance},
        {"draft_speedup", "answers with drafts, against without", "", r->draft_speedup},
        {"clip_first_question_s", "first question about the clip", "s", r->clip_first_s},
        {"clip_second_question_s", "another question about it", "s", r->clip_again_s},
        {"text_question_s", "a question without any clip", "s", r->text_question_s},
        {"clip_reused_tokens", "tokens that the other question reused", "", r->clip_reused_tokens},
        {"vision_640x480_ms", "picture 640x480, encode", "ms", r->vision_640x480_ms},
        {"vision_1920x1080_ms", "picture 1920x1080, encode", "ms", r->vision_1920x1080_ms},
        {"video_frames_s", "clip 640x480, encode", "frames/s", r->video_frames_s},
        {"peak_memory_mib", "peak memory", "MiB", peak_memory_mib()},
        {"weights_mib", "weights", "MiB", weights_bytes / (1 << 20)},
        {"memory_bandwidth_gb_s", "this machine reads", "GB/s", limits->read_gb_s},
        {"f32_peak_gop_s", "its peak in float32", "Gop/s", limits->f32_gop_s},
        {"bf16_peak_gop_s", "its peak in bf16", "Gop/s", limits->bf16_gop_s},
        {"int8_peak_gop_s", "its peak in int8", "Gop/s", limits->int8_gop_s},
        {"decode_bandwidth_share", "decode reads, of what it can", "", read_share},
        {"prefill_512_gop_s", "prefill 512 computes", "Gop/s", r->prefill_512_tok_s * r->prefill_ops / 1e9},
        {"threads", "threads", "", kernels_threads(engine_kernels(e))},
    };
    char device[192];
    name_device(device, sizeof device, engine_kernels(e));
    const size_t n = sizeof rows / sizeof *rows;
    if (as_json) {
        print_json(rows, n, device, engine_weights(e), profiles);
        return;
    }
    print_rows(rows, n, device, engine_weights(e));
    if (profiles) bench_profile_print(profiles, limits);
}

static void on_progress(void *arg, int percent)
{
    terminal_progress("preparing weights: %d %%", percent);
}

static const char *const summary =
    "Measures speed and memory beside the machine's own limits, in one run. With --shape the weights are\n"
    "made up, so nothing needs to be downloaded.";

int cli_bench(int argc, char **argv)
{
    const char *model = NULL, *mmproj = NULL, *shape = NULL, *weights = NULL, *simd = NULL, *only = NULL;
    const char *device = NULL, *clip = NULL;
    int64_t threads = 0;
    bool json = false, quick = false, profiled = false;
    arg_list lora = {0};
    const arg_option options[] = {
        {"shape", 's', ARG_TEXT, &shape, "SIZE", "0.8b, 2b, 4b, 9b or 27b, made-up weights", 0, 0},
        {"model", 'm', ARG_TEXT, &model, "DIR|NAME", "a checkpoint instead", 0, 0},
        {"mmproj", 0, ARG_TEXT, &mmproj, "FILE", "a GGUF model's vision file, or none", 0, 0},
        {"lora", 0, ARG_LIST, &lora, "DIR[:SCALE]", "a LoRA adapter (PEFT); may be given again", 0, 0},
        {"weights", 'w', ARG_TEXT, &weights, "FORM", "auto, stored, bf16, int8, int4 or fp8", 0, 0},
        {"threads", 't', ARG_COUNT, &threads, "N", "default: all processors", 1, 256},
        {"device", 'd', ARG_TEXT, &device, "NAME", "cpu (default), auto, cuda:N, or cuda:N,M", 0, 0},
        {"simd", 0, ARG_TEXT, &simd, "LEVEL", "auto, plain, avx2, avx512, avx512bf16 or neon", 0, 0},
        {"quick", 0, ARG_FLAG, &quick, NULL, "leave out what takes long (depth 4096, 1920x1080)", 0, 0},
        {"only", 'o', ARG_TEXT, &only, "WORKS", "these alone: prefill_512,decode and so on", 0, 0},
        {"clip", 'c', ARG_TEXT, &clip, "FILE", "how soon questions about this clip start, alone", 0, 0},
        {"profile", 'p', ARG_FLAG, &profiled, NULL, "also where the time goes, op by op", 0, 0},
        {"json", 'j', ARG_FLAG, &json, NULL, "as JSON", 0, 0},
    };
    arg_spec spec = {"bench", "", summary, options, sizeof options / sizeof *options};
    int n, status = EXIT_OK;
    if (cli_args(&spec, argc, argv, &n, &status)) return status;

    engine_options eo = engine_options_default();
    eo.model = model;
    eo.mmproj = mmproj;
    eo.lora = lora.items;
    eo.n_lora = lora.n;
    eo.shape = shape ? shape : model ? NULL : "0.8b";
    eo.threads = (int)threads;
    eo.weights.progress = on_progress;
    eo.reuse = clip != NULL;
    sight_err err = shape && model ? sight_fail(SIGHT_E_ARGUMENT, "--shape or --model, not both")
                                   : SIGHT_OK;
    if (!err && weights) err = weights_form_parse(&eo.weights.form, weights);
    if (!err && simd) err = simd_level_parse(&eo.simd, simd);
    if (!err && device) err = engine_options_device(&eo, device, "--device");
    const bool on_device = eo.device.kind != DEVICE_CPU;
    unsigned works = quick ? BENCH_QUICK : on_device ? BENCH_ON_DEVICE : BENCH_ALL;
    if (clip) works = 0;
    if (!err && only) err = bench_parse_works(&works, only);
    machine_limits limits = {0};
    if (!err) err = measure_limits(&limits, (int)threads, eo.device);
    engine *e = NULL;
    bench_result result = {0};
    double start = clock_now_s();
    if (!err) err = engine_open(&e, &eo);
    result.load_s = clock_now_s() - start;
    profile profiles[BENCH_WORKS] = {0};
    if (!err) err = bench_run(e, &result, start, works, profiled ? profiles : NULL);
    if (!err && clip) err = bench_clip(e, &result, clip);
    if (!err) report(e, &limits, &result, profiled ? profiles : NULL, json);
    engine_close(&e);
    return err ? cli_fail(err, sight_error()) : EXIT_OK;
}
