#include "support/test.h"
#include "text/cache.h"

static text_config config(void)
{
    text_config c = {
        .n_layers = 4,
        .kv_heads = 2,
        .head_dim = 32,
        .linear_key_heads = 2,
        .linear_value_heads = 4,
        .linear_key_dim = 16,
        .linear_value_dim = 8,
        .conv_width = 4,
        .layers = {LAYER_LINEAR, LAYER_FULL, LAYER_LINEAR, LAYER_FULL},
    };
    return c;
}

static cache_pool *pool(int64_t budget, int32_t mtp_layers)
{
    text_config c = config();
    c.mtp_layers = mtp_layers;
    cache_pool *p = NULL;
    const cache_options o = {.kv_type = TENSOR_F32, .budget_bytes = budget};
    assert_ok(cache_pool_create(&p, &c, &o));
    return p;
}

// Bytes of a page of one layer.
enum { PAGE = 2 * 2 * CACHE_PAGE_ROWS * 32 * 4 };

// Appends n rows; every page from the first touched on gets `mark` in each layer's first byte.
static sight_err append(sequence *s, int64_t n, int mark)
{
    int64_t first = sequence_length(s);
    sight_err err = sequence_reserve(s, first, n);
    if (err) return err;
    for (int32_t l = 0; l < 2; l++) {
        kv_view kv = sequence_kv(s, l);
        for (int64_t p = first / CACHE_PAGE_ROWS; p * CACHE_PAGE_ROWS < first + n; p++) {
            memset(kv_page(&kv, p), mark + l, PAGE);
        }
    }
    sequence_advance(s, n);
    return SIGHT_OK;
}

static void *page_of(const sequence *s, int32_t layer, int64_t page)
{
    const kv_view kv = sequence_kv(s, layer);
    return kv_page(&kv, page);
}

static int mark_at(const sequence *s, int32_t layer, int64_t page)
{
    const unsigned char *data = page_of(s, layer, page);
    assert_int_equal(data[0], data[PAGE - 1]);
    return data[0];
}

static void accounts(void **state)
{
    (void)state;
    cache_pool *p = pool(0, 0);
    sequence *s = NULL;
    int64_t empty = cache_bytes(p, 0), page = cache_bytes(p, 1) - empty;
    assert_true(empty > 0 && page >= 2 * PAGE);
    assert_int_equal(cache_bytes(p, 64), empty + page);
    assert_int_equal(cache_bytes(p, 65), empty + 2 * page);
    assert_int_equal(cache_bytes_used(p), 0);
    assert_ok(sequence_create(&s, p));
    assert_int_equal(cache_bytes_used(p), empty);
    assert_ok(append(s, 200, 10));
    assert_int_equal(sequence_length(s), 200);
    assert_int_equal(cache_bytes_used(p), cache_bytes(p, 200));
    sequence_drop(&s);
    assert_null(s);
    sequence_drop(&s);
    assert_int_equal(cache_bytes_used(p), 0);
    cache_pool_destroy(&p);
    assert_null(p);
    cache_pool_destroy(&p);
}

static void layers_do_not_overlap(void **state)
{
    (void)state;
    cache_pool *p = pool(0, 1);
    sequence *s = NULL;
    assert_ok(sequence_create(&s, p));
    assert_true(sequence_has_mtp(s));
    assert_ok(append(s, 1000, 10));
    for (int64_t i = 0; i < 16; i++) {
        assert_int_equal(mark_at(s, 0, i), 10);
        assert_int_equal(mark_at(s, 1, i), 11);
        memset(page_of(s, 2, i), 99, PAGE);
        assert_int_equal(mark_at(s, 1, i), 11);
    }
    // A tail is 3 rows of 2 * 2 * 16 + 4 * 8 channels, a state 4 * 16 * 8.
    for (int32_t l = 0; l < 2; l++) {
        for (int i = 0; i < 3 * 96; i++) {
            assert_true(sequence_conv(s, l)[i] == 0);
            sequence_conv(s, l)[i] = (float)(1 + l);
        }
        for (int i = 0; i < 512; i++) {
            assert_true(sequence_delta(s, l)[i] == 0);
            sequence_delta(s, l)[i] = (float)(3 + l);
        }
    }
    assert_true(sequence_conv(s, 0)[3 * 96 - 1] == 1 && sequence_delta(s, 0)[511] == 3);
    sequence_drop(&s);
    assert_ok(sequence_create(&s, p)); // reused memory is as new
    assert_true(sequence_conv(s, 0)[0] == 0 && sequence_delta(s, 1)[511] == 0);
    sequence_drop(&s);
    cache_pool_destroy(&p);
}

static void forks_share_until_written(void **state)
{
    (void)state;
    cache_pool *p = pool(0, 0);
    sequence *a = NULL, *b = NULL, *c = NULL;
    assert_ok(sequence_create(&a, p));
    assert_ok(append(a, 130, 10));
    sequence_delta(a, 1)[5] = 7;
    int64_t before = cache_bytes_used(p), empty = cache_bytes(p, 0);
    int64_t page = cache_bytes(p, 1) - empty;
    assert_ok(sequence_fork(&b, a));
    assert_int_equal(sequence_length(b), 130);
    assert_int_equal(cache_bytes_used(p), before + empty);
    assert_true(sequence_delta(b, 1)[5] == 7);
    sequence_delta(b, 1)[5] = 8;
    assert_true(sequence_delta(a, 1)[5] == 7);

    assert_ok(append(b, 1, 50)); // the tail page is copied, those before stay shared
    assert_int_equal(cache_bytes_used(p), before + empty + page);
    assert_ptr_equal(page_of(a, 0, 1), page_of(b, 0, 1));
    assert_ptr_not_equal(page_of(a, 0, 2), page_of(b, 0, 2));
    assert_int_equal(mark_at(a, 0, 2), 10);
    assert_int_equal(mark_at(b, 0, 2), 50);
    assert_int_equal(mark_at(b, 1, 2), 51);

    assert_ok(sequence_fork(&c, b));
    sequence_drop(&a);
    assert_int_equal(mark_at(c, 0, 0), 10);
    sequence_drop(&b);
    assert_ok(append(c, 1, 60)); // nobody shares it any more
    assert_int_equal(cache_bytes_used(p), cache_bytes(p, 132));
    sequence_drop(&c);
    assert_int_equal(cache_bytes_used(p), 0);
    cache_pool_destroy(&p);
}

static void budget_is_kept(void **state)
{
    (void)state;
    cache_pool *p = pool(0, 0);
    int64_t two = cache_bytes(p, 128), empty = cache_bytes(p, 0);
    cache_pool_destroy(&p);
    p = pool(two + empty, 0);
    sequence *a = NULL, *b = NULL, *c = NULL;
    assert_ok(sequence_create(&a, p));
    assert_ok(append(a, 100, 1));
    int64_t before = cache_bytes_used(p);
    assert_fails(sequence_reserve(a, 100, 100), SIGHT_E_MEMORY, "budget");
    assert_int_equal(cache_bytes_used(p), before);
    assert_int_equal(sequence_length(a), 100);
    assert_int_equal(mark_at(a, 0, 1), 1);
    assert_ok(sequence_fork(&b, a));
    assert_fails(sequence_fork(&c, a), SIGHT_E_MEMORY, "budget");
    assert_fails(sequence_create(&c, p), SIGHT_E_MEMORY, "budget");
    assert_null(c);
    assert_fails(sequence_reserve(b, 100, 1), SIGHT_E_MEMORY, "budget"); // no room for the copy
    assert_int_equal(mark_at(b, 0, 1), 1);
    sequence_drop(&a);
    assert_ok(append(b, 1, 2));
    sequence_drop(&b);
    assert_int_equal(cache_bytes_used(p), 0);
    cache_pool_destroy(&p);
}

// Memory that one kind has freed serves the other within the same budget.
static void freed_memory_changes_kind(void **state)
{
    (void)state;
    cache_pool *p = pool(0, 0);
    int64_t budget = cache_bytes(p, 64 * 20), empty = cache_bytes(p, 0);
    cache_pool_destroy(&p);
    p = pool(budget, 0);
    for (int round = 0; round < 3; round++) {
        sequence *a = NULL, *many[64] = {NULL};
        assert_ok(sequence_create(&a, p));
        assert_ok(append(a, 64 * 20, 1));
        sequence_drop(&a);
        int64_t n = budget / empty < 64 ? budget / empty : 64;
        for (int64_t i = 0; i < n; i++) assert_ok(sequence_create(&many[i], p));
        for (int64_t i = 0; i < n; i++) sequence_drop(&many[i]);
    }
    cache_pool_destroy(&p);
}

static void mtp_rows_are_counted_apart(void **state)
{
    (void)state;
    cache_pool *p = pool(0, 1);
    sequence *s = NULL;
    assert_ok(sequence_create(&s, p));
    assert_ok(append(s, 64, 1));
    assert_ok(sequence_reserve(s, 0, 70));
    sequence_advance_mtp(s, 70);
    assert_int_equal(sequence_length(s), 64);
    assert_int_equal(sequence_mtp_length(s), 70);
    assert_int_equal(cache_bytes_used(p), cache_bytes(p, 70));
    sequence_cut_mtp(s, 63);
    assert_int_equal(sequence_mtp_length(s), 63);
    assert_int_equal(cache_bytes_used(p), cache_bytes(p, 64));
    sequence_drop(&s);
    cache_pool_destroy(&p);

    text_config c = config();
    c.mtp_layers = 1;
    const cache_options without = {.kv_type = TENSOR_BF16, .without_mtp = true};
    assert_ok(cache_pool_create(&p, &c, &without));
    assert_ok(sequence_create(&s, p));
    assert_false(sequence_has_mtp(s));
    sequence_drop(&s);
    cache_pool_destroy(&p);
}

// Bytes and a scale for 64 of them, in every layer, that of the MTP block too.
static void int8_pages_take_half(void **state)
{
    (void)state;
    text_config c = config();
    c.mtp_layers = 1;
    c.head_dim = 256;
    int64_t page[2];
    for (int i = 0; i < 2; i++) {
        const cache_options o = {.kv_type = i ? TENSOR_I8 : TENSOR_BF16};
        cache_pool *p = NULL;
        sequence *s = NULL;
        assert_ok(cache_pool_create(&p, &c, &o));
        page[i] = cache_bytes(p, 64) - cache_bytes(p, 0);
        assert_ok(sequence_create(&s, p));
        assert_ok(sequence_reserve(s, 0, 65));
        for (int32_t l = 0; l < 3; l++) {
            const kv_view kv = sequence_kv(s, l);
            const int64_t bytes = kv_page_bytes(kv.type, kv.page_rows, c.kv_heads, c.head_dim);
            assert_int_equal(kv.type, o.kv_type);
            memset(kv_page(&kv, 0), 10 + l, (size_t)bytes);
            memset(kv_page(&kv, 1), 20 + l, (size_t)bytes);
        }
        for (int32_t l = 0; l < 3; l++) { // none overlaps another
            const kv_view kv = sequence_kv(s, l);
            const int64_t bytes = kv_page_bytes(kv.type, kv.page_rows, c.kv_heads, c.head_dim);
            for (int b = 0; b < 2; b++) {
                const unsigned char *data = kv_page(&kv, b);
                assert_true(data[0] == 10 * (b + 1) + l && data[bytes - 1] == 10 * (b + 1) + l);
            }
        }
        sequence_drop(&s);
        cache_pool_destroy(&p);
    }
    assert_int_equal(page[0], 3 * 2 * 2 * 64 * 256 * 2);
    assert_int_equal(page[1], 3 * 2 * 2 * 64 * (256 + 4 * 4));
}

static void options_are_checked(void **state)
{
    (void)state;
    text_config c = config();
    cache_pool *p = NULL;
    const cache_options type = {.kv_type = TENSOR_I64}, budget = {.budget_bytes = -1};
    assert_fails(cache_pool_create(&p, &c, &type), SIGHT_E_ARGUMENT, "f32, bf16 or int8");
    assert_fails(cache_pool_create(&p, &c, &budget), SIGHT_E_ARGUMENT, "budget");
    assert_null(p);
}

// Random forks, appends and drops: every page keeps what was written through its own sequence.
static void random_life(void **state)
{
    (void)state;
    enum { N = 6, MOST = 20 };
    cache_pool *p = pool(0, 0);
    sequence *s[N] = {NULL};
    int marks[N][MOST] = {{0}};
    test_random r = {99};
    for (int step = 0; step < 3000; step++) {
        int i = (int)test_random_range(&r, 0, N - 1), j = (int)test_random_range(&r, 0, N - 1);
        if (!s[i]) {
            assert_ok(sequence_create(&s[i], p));
        } else if (!s[j]) {
            assert_ok(sequence_fork(&s[j], s[i]));
            memcpy(marks[j], marks[i], sizeof marks[i]);
        } else if (sequence_length(s[i]) > CACHE_PAGE_ROWS * (MOST - 3) || step % 17 == 0) {
            sequence_drop(&s[i]);
        } else {
            int64_t first = sequence_length(s[i]), n = test_random_range(&r, 1, 130);
            int mark = (int)test_random_range(&r, 1, 200);
            assert_ok(append(s[i], n, mark));
            for (int64_t b = first / 64; b * 64 < first + n; b++) marks[i][b] = mark;
        }
        for (int q = 0; q < N; q++) {
            for (int64_t b = 0; s[q] && b * 64 < sequence_length(s[q]); b++) {
                assert_int_equal(mark_at(s[q], 0, b), marks[q][b]);
            }
        }
    }
    for (int i = 0; i < N; i++) sequence_drop(&s[i]);
    assert_int_equal(cache_bytes_used(p), 0);
    cache_pool_destroy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accounts),
        cmocka_unit_test(layers_do_not_overlap),
        cmocka_unit_test(forks_share_until_written),
        cmocka_unit_test(budget_is_kept),
        cmocka_unit_test(freed_memory_changes_kind),
        cmocka_unit_test(mtp_rows_are_counted_apart),
        cmocka_unit_test(int8_pages_take_half),
        cmocka_unit_test(options_are_checked),
        cmocka_unit_test(random_life),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
