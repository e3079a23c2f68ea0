// The store of kept pasts: what is found, what goes first, what it counts.
#include "support/test.h"

#include "daemon/store/prefix.h"

static cache_pool *new_pool(void)
{
    text_config c = {
        .n_layers = 2, .kv_heads = 1, .head_dim = 16, .linear_key_heads = 1,
        .linear_value_heads = 1, .linear_key_dim = 16, .linear_value_dim = 16, .conv_width = 4,
        .layers = {LAYER_LINEAR, LAYER_FULL},
    };
    cache_pool *p = NULL;
    const cache_options o = {.kv_type = TENSOR_BF16};
    assert_ok(cache_pool_create(&p, &c, &o));
    return p;
}

enum { N = 1000 };

static int32_t ids[N];

static void number_ids(int32_t seed)
{
    for (int32_t i = 0; i < N; i++) ids[i] = seed + i * 7;
}

// Lets a sequence have read up to `to`.
static void read_to(sequence *s, int64_t to)
{
    const int64_t from = sequence_length(s);
    assert_ok(sequence_reserve(s, from, to - from));
    sequence_advance(s, to - from);
}

// Keeps the past of n tokens of the prompt, read on its own.
static void keep(prefix_store *store, cache_pool *pool, const prefix_prompt *p, int64_t n)
{
    sequence *s;
    assert_ok(sequence_create(&s, pool));
    read_to(s, n);
    prefix_store_keep(store, s, p);
    sequence_drop(&s);
}

static int64_t found(prefix_store *store, const prefix_prompt *p)
{
    sequence *s;
    assert_ok(prefix_store_find(store, &s, p));
    const int64_t n = s ? sequence_length(s) : 0;
    sequence_drop(&s);
    return n;
}

static prefix_store *new_store(cache_pool *pool, int64_t all, int64_t budget)
{
    prefix_store *s;
    const prefix_options o = {.pool = pool, .pool_bytes = all, .budget_bytes = budget};
    assert_ok(prefix_store_create(&s, &o));
    return s;
}

static void the_longest_past_is_found(void **state)
{
    cache_pool *pool = new_pool();
    prefix_store *s = new_store(pool, 1 << 30, 1 << 30);
    number_ids(1);
    const prefix_prompt p = {ids, N, NULL, 0, NULL};
    assert_int_equal(found(s, &p), 0);
    keep(s, pool, &p, 200);
    keep(s, pool, &p, 600);
    keep(s, pool, &p, 600); // is there already
    keep(s, pool, &p, 400);
    assert_int_equal(prefix_store_usage(s).pasts, 3);
    assert_int_equal(found(s, &p), 600);
    const prefix_prompt shorter = {ids, 600, NULL, 0, NULL}; // one token at least is left to read
    assert_int_equal(found(s, &shorter), 400);
    ids[500]++;
    assert_int_equal(found(s, &p), 400);
    ids[0]++;
    assert_int_equal(found(s, &p), 0);
    prefix_store_destroy(&s);
    assert_int_equal(cache_bytes_used(pool), 0);
    cache_pool_destroy(&pool);
}

static void media_must_be_the_same(void **state)
{
    cache_pool *pool = new_pool();
    prefix_store *s = new_store(pool, 1 << 30, 1 << 30);
    number_ids(2);
    prefix_medium media[2] = {{10, 300, {1}}, {400, 500, {2}}};
    const prefix_prompt p = {ids, N, media, 2, NULL};
    keep(s, pool, &p, 350); // after the first
    keep(s, pool, &p, 450); // inside the second
    assert_int_equal(found(s, &p), 450);
    media[1].hash[5] = 1;
    assert_int_equal(found(s, &p), 350);
    media[1].hash[5] = 0;
    media[1].end = 501;
    assert_int_equal(found(s, &p), 350);
    media[0].hash[0] = 3;
    assert_int_equal(found(s, &p), 0);
    media[0].hash[0] = 1;
    const prefix_prompt none = {ids, N, NULL, 0, NULL};
    assert_int_equal(found(s, &none), 0);
    media[1].end = 500;
    prefix_store_forget(s, media[1].hash);
    assert_int_equal(found(s, &p), 350);
    prefix_store_forget(s, media[0].hash);
    assert_int_equal(prefix_store_usage(s).pasts, 0);
    assert_int_equal(prefix_store_usage(s).bytes, 0);
    prefix_store_destroy(&s);
    cache_pool_destroy(&pool);
}

static void shared_pages_count_once(void **state)
{
    cache_pool *pool = new_pool();
    prefix_store *s = new_store(pool, 1 << 30, 1 << 30);
    number_ids(3);
    const prefix_prompt p = {ids, N, NULL, 0, NULL};
    sequence *q;
    assert_ok(sequence_create(&q, pool));
    for (int64_t n = 128; n <= 640; n += 128) {
        read_to(q, n);
        prefix_store_keep(s, q, &p);
    }
    sequence_drop(&q);
    assert_int_equal(prefix_store_usage(s).bytes, cache_bytes_used(pool));
    assert_int_equal(prefix_store_usage(s).bytes,
                     cache_bytes(pool, 640) + 4 * cache_bytes(pool, 0));
    prefix_store_destroy(&s);
    cache_pool_destroy(&pool);
}

static void the_oldest_goes_first(void **state)
{
    cache_pool *pool = new_pool();
    const int64_t one = cache_bytes(pool, 200);
    prefix_store *s = new_store(pool, 10 * one, 3 * one);
    prefix_prompt p = {ids, N, NULL, 0, NULL};
    for (int32_t i = 0; i < 3; i++) {
        number_ids(100 * i);
        keep(s, pool, &p, 200);
    }
    number_ids(0);
    assert_int_equal(found(s, &p), 200); // used: younger than the others now
    number_ids(300);
    keep(s, pool, &p, 200);
    number_ids(100);
    assert_int_equal(found(s, &p), 0);
    number_ids(0);
    assert_int_equal(found(s, &p), 200);
    assert_int_equal(prefix_store_usage(s).pasts, 3);
    assert_true(prefix_store_usage(s).bytes <= 3 * one);
    // What does not fit at all drives nothing out.
    number_ids(500);
    keep(s, pool, &p, 990);
    assert_int_equal(prefix_store_usage(s).pasts, 3);
    // Running requests come first.
    prefix_store_promise(s, 8 * one);
    assert_int_equal(prefix_store_usage(s).pasts, 2);
    number_ids(0);
    assert_int_equal(found(s, &p), 200);
    prefix_store_promise(s, 2 * one);
    assert_int_equal(prefix_store_usage(s).pasts, 0);
    keep(s, pool, &p, 200);
    assert_int_equal(prefix_store_usage(s).pasts, 0);
    prefix_store_release(s, 10 * one);
    keep(s, pool, &p, 200);
    assert_int_equal(prefix_store_usage(s).pasts, 1);
    prefix_store_destroy(&s);
    assert_int_equal(cache_bytes_used(pool), 0);
    cache_pool_destroy(&pool);
}

// Thousands of short pasts: each is found, by its own prompt alone.
static void many_pasts_are_told_apart(void **state)
{
    cache_pool *pool = new_pool();
    enum { MANY = 3000 };
    prefix_store *s = new_store(pool, (int64_t)1 << 40, (int64_t)1 << 40);
    const prefix_prompt p = {ids, N, NULL, 0, NULL};
    for (int32_t i = 0; i < MANY; i++) {
        number_ids(i);
        keep(s, pool, &p, 20 + i % 7);
    }
    assert_int_equal(prefix_store_usage(s).pasts, MANY);
    assert_int_equal(prefix_store_usage(s).bytes, cache_bytes_used(pool));
    for (int32_t i = 0; i < MANY; i += 13) {
        number_ids(i);
        assert_int_equal(found(s, &p), 20 + i % 7);
    }
    number_ids(MANY);
    assert_int_equal(found(s, &p), 0);
    prefix_store_destroy(&s);
    assert_int_equal(cache_bytes_used(pool), 0);
    cache_pool_destroy(&pool);
}

// A name says where media begin and end, not only which ids and hashes there are.
static void names_say_everything(void **state)
{
    static const uint8_t key[SIPHASH_KEY_BYTES] = {7}, scopes[2][SIPHASH_BYTES] = {{0}, {1}};
    number_ids(9);
    prefix_medium media[3][1] = {{{4, 8, {1}}}, {{4, 9, {1}}}, {{5, 8, {1}}}};
    uint8_t names[6][SIPHASH_BYTES];
    for (int i = 0; i < 6; i++) {
        const prefix_prompt p = {ids, N, i < 3 ? media[i] : media[0], i != 3, NULL};
        prefix_names n;
        prefix_names_init(&n, key, scopes[i == 4], &p);
        prefix_names_at(&n, names[i], i == 5 ? 19 : 20);
        for (int j = 0; j < i; j++) assert_memory_not_equal(names[i], names[j], sizeof names[i]);
    }
    // In one go or on the way: the same.
    const prefix_prompt p = {ids, N, media[0], 1, NULL};
    prefix_names n;
    uint8_t name[SIPHASH_BYTES];
    prefix_names_init(&n, key, scopes[0], &p);
    for (int32_t at = 1; at <= 20; at++) prefix_names_at(&n, name, at);
    assert_memory_equal(name, names[0], sizeof name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_longest_past_is_found),
        cmocka_unit_test(media_must_be_the_same),
        cmocka_unit_test(shared_pages_count_once),
        cmocka_unit_test(the_oldest_goes_first),
        cmocka_unit_test(many_pasts_are_told_apart),
        cmocka_unit_test(names_say_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
