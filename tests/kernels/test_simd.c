#include "support/test.h"

#include "kernels/ops.h"

static void names_are_read_back(void **state)
{
    for (int i = 0; i < SIMD_COUNT; i++) {
        simd_level level = SIMD_COUNT;
        assert_ok(simd_level_parse(&level, simd_level_name((simd_level)i)));
        assert_int_equal(level, i);
    }
    simd_level level = SIMD_AVX2;
    assert_fails(simd_level_parse(&level, "sse2"), SIGHT_E_ARGUMENT, "'sse2'");
    assert_int_equal(level, SIMD_AVX2);
    assert_string_equal(simd_level_name(SIMD_COUNT), "unknown");
}

static void auto_takes_a_level_that_runs(void **state)
{
    for (int exact = 0; exact <= 1; exact++) {
        kernels *k = NULL;
        assert_ok(kernels_create(&k, &(kernels_options){.threads = 1, .exact = exact}));
        assert_int_not_equal(kernels_simd(k), SIMD_AUTO);
        if (exact) assert_int_not_equal(kernels_simd(k), SIMD_AVX512BF16);
        assert_int_equal(kernels_threads(k), 1);
        kernels_destroy(&k);
        assert_null(k);
        kernels_destroy(&k);
    }
}

static void what_cannot_be_is_refused(void **state)
{
    kernels *k = NULL;
    assert_fails(kernels_create(&k, &(kernels_options){.simd = SIMD_COUNT}), SIGHT_E_ARGUMENT,
                 "SIMD level");
    assert_fails(kernels_create(&k, &(kernels_options){.threads = -2}), SIGHT_E_ARGUMENT, "-2");
#if defined(__x86_64__)
    assert_fails(kernels_create(&k, &(kernels_options){.simd = SIMD_NEON}), SIGHT_E_UNSUPPORTED,
                 "no neon");
#endif
    assert_null(k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_back),
        cmocka_unit_test(auto_takes_a_level_that_runs),
        cmocka_unit_test(what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
