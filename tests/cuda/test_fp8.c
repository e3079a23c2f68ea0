// A whole model in FP8 on a device: prompts that are read with rows in E4M3, in bf16, and exactly.
//
// What is allowed. A product's rounding of rows is off by 2^-4 / sqrt(3) of its size at most, as independent roundings
// go (kernels/cuda/linear_f8.h). Each layer has two branches of two products one after the other; all of them add up
// in the stream, so what n products leave there, and in the logits, is off by sqrt(n) of that at most: by 18 % of the
// logits' size (root of mean squares, each about its row's mean) with six layers.
#include <math.h>
#include <unistd.h>

#include "checkpoint/safetensors.h"
#include "daemon/engine.h"
#include "daemon/trace.h"
#include "kernels/cuda/device.h"
#include "support/test.h"

#define LAYERS 6

typedef struct logits {
    int64_t n, vocab;
    float *v; // [n, vocab]
} logits;

static logits read_prompt(engine_options o)
{
    static const char text[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"Here is a list of what lies on the table: a red cup, two blue "
        "plates, a green book, three yellow pencils, a grey stone, a white box, four brown coins and a black hat. Which of "
        "them is green, how many coins are there, and what colour is the hat? Answer in one sentence, please.\"}], "
        "\"max_tokens\": 1, \"temperature\": 0}";
    char path[] = "/tmp/sight-test-fp8-XXXXXX";
    const int file = mkstemp(path);
    assert_true(file >= 0);
    close(file);
    engine *e = NULL;
    o.model = TEST_SOURCE_DIR "/models/mini";
    o.weights.form = WEIGHTS_FP8;
    o.weights.cache = "none";
    o.threads = 2;
    assert_ok(engine_open(&e, &o));
    const request_source source = {.json = text, .size = strlen(text), .base_dir = "."};
    const request_limits limits = request_limits_default();
    assert_ok(trace_run(e, &source, &limits, path));
    safetensors *s = NULL;
    tensor_view v;
    assert_ok(safetensors_open(&s, path));
    assert_true(safetensors_view(s, &v, (size_t)safetensors_find(s, "logits")));
    logits l = {v.shape[0], v.shape[1], malloc((size_t)tensor_count(&v) * sizeof(float))};
    for (int64_t i = 0; i < tensor_count(&v); i++) l.v[i] = tensor_get_f32(&v, i);
    safetensors_close(&s);
    unlink(path);
    engine_close(&e);
    return l;
}

// Root of mean squares of b - a over that of a, each less its row's mean.
static double distance(const logits *a, const logits *b)
{
    double off = 0, size = 0;
    assert_true(a->n == b->n && a->vocab == b->vocab);
    for (int64_t r = 0; r < a->n; r++) {
        const float *x = a->v + r * a->vocab, *y = b->v + r * a->vocab;
        double mean = 0, shift = 0;
        for (int64_t i = 0; i < a->vocab; i++) mean += x[i], shift += (double)y[i] - x[i];
        for (int64_t i = 0; i < a->vocab; i++) {
            const double d = (double)y[i] - x[i] - shift / (double)a->vocab, v = x[i] - mean / (double)a->vocab;
            off += d * d;
            size += v * v;
        }
    }
    return sqrt(off / size);
}

static void prompts_are_read_in_fp8(void **state)
{
    engine_options on_gpu = engine_options_default(), off = on_gpu, exact = engine_options_exact();
    on_gpu.device = off.device = (device_id){DEVICE_CUDA, 0};
    on_gpu.device_bytes = off.device_bytes = (int64_t)1 << 30;
    off.no_f8 = true;
    logits truth = read_prompt(exact), rounded = read_prompt(on_gpu), bf16 = read_prompt(off);
    const double in_f8 = distance(&truth, &rounded), in_bf16 = distance(&truth, &bf16);
    const double allowed = sqrt(4 * LAYERS) / 16 / sqrt(3);
    assert_true(truth.n > 64);
    if (!(in_f8 <= allowed)) fail_msg("logits are off by %.3f of their size, not by %.3f at most", in_f8, allowed);
    // Steps of bf16 are 16 times as fine, whatever else differs (keys and values in bf16).
    if (!(in_bf16 <= allowed / 8)) fail_msg("without FP8 logits are off by %.4f of their size", in_bf16);
    // And it is really done, where it can be.
    kernels *k = NULL;
    assert_ok(kernels_create(&k, &(kernels_options){.threads = 1, .device = {DEVICE_CUDA, 0}, .device_bytes = 64 << 20}));
    if (cuda_get_chip(k)->emulated) assert_true(in_f8 > 4 * in_bf16);
    kernels_destroy(&k);
    printf("logits are off by %.4f of their size in FP8, by %.4f in bf16\n", in_f8, in_bf16);
    free(truth.v), free(rounded.v), free(bf16.v);
}

int main(void)
{
    if (device_gpus() == 0) {
        printf("skipped: %s\n", device_without_gpu());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_are_read_in_fp8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
