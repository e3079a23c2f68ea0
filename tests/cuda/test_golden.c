// The golden cases through the whole pipeline on a device, by the limits that the CPU is held to.
#include "daemon/golden_trace.h"

// Long texts take most of the time where kernels are emulated: one model's stand for all.
#define LONG "text-long"

static engine_options on_gpu(void)
{
    engine_options o = engine_options_exact();
    o.device = (device_id){DEVICE_CUDA, 0};
    return o;
}

static void hybrid(void **state)
{
    trace_model("hybrid", on_gpu(), NULL);
}

static void hybrid_deepstack(void **state)
{
    trace_model("hybrid-deepstack", on_gpu(), LONG);
}

static void hybrid_yarn(void **state)
{
    trace_model("hybrid-yarn", on_gpu(), LONG);
}

static void qwen3vl(void **state)
{
    trace_model("qwen3vl", on_gpu(), LONG);
}

int main(void)
{
    if (device_gpus() == 0) {
        printf("skipped: %s\n", device_without_gpu());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hybrid),
        cmocka_unit_test(hybrid_deepstack),
        cmocka_unit_test(hybrid_yarn),
        cmocka_unit_test(qwen3vl),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
