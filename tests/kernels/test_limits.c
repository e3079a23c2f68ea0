#include "support/test.h"

#include "kernels/ops.h"

static void every_level_has_limits(void **state)
{
    for (int level = SIMD_PLAIN; level < SIMD_COUNT; level++) {
        kernels *k = NULL;
        sight_err err = kernels_create(
            &k, &(kernels_options){.threads = 2, .simd = (simd_level)level, .exact = true});
        if (err == SIGHT_E_UNSUPPORTED) continue;
        assert_ok(err);
        machine_limits limits = {-1, -1, -1, -1};
        kernels_measure_limits(k, &limits);
        assert_true(limits.read_gb_s > 0 && limits.read_gb_s < 1e5);
        assert_true(limits.f32_gop_s > 0 && limits.f32_gop_s < 1e6);
        assert_true(limits.bf16_gop_s >= 0 && limits.int8_gop_s >= 0);
        kernels_destroy(&k);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_level_has_limits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
