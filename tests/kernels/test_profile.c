#include <math.h>
#include <string.h>

#include "kernels/profile.h"
#include "support/test.h"

static void notes_what_ops_take(void **state)
{
    (void)state;
    kernels *k = NULL;
    const kernels_options o = {.threads = 1, .simd = SIMD_PLAIN};
    assert_ok(kernels_create(&k, &o));
    float table[4 * 8] = {0}, x[2 * 8] = {0}, y[2 * 4], ones[8];
    for (int i = 0; i < 8; i++) ones[i] = 1;
    const weight w = {.w = {table, TENSOR_F32, 2, {4, 8}}};
    profile p = {0};
    op_linear(k, y, x, &w, 2); // before: not noted
    kernels_set_profile(k, &p);
    op_linear(k, y, x, &w, 2);
    op_linear(k, y, x, &w, 1);
    op_rms_norm(k, x, x, ones, 2, 8, 1e-6f);
    op_rms_norm(k, x, x, ones, 0, 8, 1e-6f); // no rows: no call
    kernels_set_profile(k, NULL);
    op_linear(k, y, x, &w, 2);
    assert_int_equal(p.n, 2);
    assert_string_equal(p.rows[0].op, "products f32");
    assert_int_equal(p.rows[0].calls, 2);
    assert_true(p.rows[0].operations == 2.0 * 3 * 4 * 8);
    // the weights twice, three rows in, three out
    assert_true(p.rows[0].bytes == 4.0 * (2 * 32 + 3 * 8 + 3 * 4));
    assert_true(p.rows[0].seconds > 0);
    assert_int_equal(p.rows[1].calls, 1);
    kernels_destroy(&k);
}

static void names_beyond_the_last_row_meet_there(void **state)
{
    (void)state;
    static const char names[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    char text[sizeof names][2] = {{0}};
    profile p = {0};
    for (size_t i = 0; i + 1 < sizeof names; i++) {
        text[i][0] = names[i];
        profile_add(&p, text[i], 1, 0, 0);
    }
    assert_int_equal(p.n, PROFILE_MAX_ROWS);
    assert_int_equal(p.rows[PROFILE_MAX_ROWS - 1].calls, 36 - PROFILE_MAX_ROWS + 1);
    profile_sort(&p);
    assert_true(p.rows[0].seconds > p.rows[1].seconds);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(notes_what_ops_take),
        cmocka_unit_test(names_beyond_the_last_row_meet_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
