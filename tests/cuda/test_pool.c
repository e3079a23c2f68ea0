// The pool against a plain model: a list of extents that may not overlap, and holes found by looking at all of them.
#include "support/test.h"

#include "kernels/cuda/pool.h"

#define UNITS 512
#define BYTES (UNITS * POOL_UNIT)

typedef struct extent {
    uint64_t at, units;
} extent;

typedef struct model {
    bool taken[UNITS];
    extent extents[UNITS];
    int n;
} model;

static uint64_t units_of(uint64_t bytes)
{
    return bytes ? (bytes + POOL_UNIT - 1) / POOL_UNIT : 1;
}

// The smallest hole of at least so many units; 0: none. *largest: of all, *all: their sum.
static uint64_t best_hole(const model *m, uint64_t units, uint64_t *largest, uint64_t *all)
{
    uint64_t best = 0;
    *largest = *all = 0;
    for (int i = 0, j; i < UNITS; i = j) {
        for (j = i; j < UNITS && m->taken[j] == m->taken[i]; j++) {}
        const uint64_t n = (uint64_t)(j - i);
        if (m->taken[i]) continue;
        *all += n;
        if (n > *largest) *largest = n;
        if (n >= units && (!best || n < best)) best = n;
    }
    return best;
}

// The hole around a place.
static uint64_t hole_at(const model *m, uint64_t at)
{
    uint64_t from = at, to = at;
    while (from > 0 && !m->taken[from - 1]) from--;
    while (to < UNITS && !m->taken[to]) to++;
    return to - from;
}

static void take(pool *p, model *m, uint64_t bytes)
{
    uint64_t offset = 1, largest, all;
    const uint64_t units = units_of(bytes), best = best_hole(m, units, &largest, &all);
    assert_int_equal(pool_take(p, &offset, bytes), best != 0);
    if (!best) {
        assert_int_equal(offset, 1); // untouched
        return;
    }
    assert_int_equal(offset % POOL_UNIT, 0);
    const uint64_t at = offset / POOL_UNIT;
    assert_true(at + units <= UNITS);
    assert_int_equal(hole_at(m, at), best);
    for (uint64_t i = at; i < at + units; i++) {
        assert_false(m->taken[i]);
        m->taken[i] = true;
    }
    m->extents[m->n++] = (extent){at, units};
}

static void give(pool *p, model *m, int i)
{
    const extent e = m->extents[i];
    pool_give(p, e.at * POOL_UNIT);
    for (uint64_t j = e.at; j < e.at + e.units; j++) m->taken[j] = false;
    m->extents[i] = m->extents[--m->n];
}

static void check_sums(const pool *p, const model *m)
{
    uint64_t largest, all;
    best_hole(m, 1, &largest, &all);
    assert_int_equal(pool_free_bytes(p), all * POOL_UNIT);
    assert_int_equal(pool_largest_bytes(p), largest * POOL_UNIT);
}

static void test_random_sequences(void **state)
{
    test_random r = {7};
    for (int round = 0; round < 40; round++) {
        pool *p;
        model m = {0};
        const int64_t most = test_random_range(&r, 1, round % 2 ? 4000 : 40000);
        assert_ok(pool_create(&p, BYTES));
        for (int i = 0; i < 600; i++) {
            const bool mostly_take = i / 100 % 2 == 0;
            if (m.n == 0 || test_random_range(&r, 0, 9) < (mostly_take ? 7 : 3)) {
                take(p, &m, (uint64_t)test_random_range(&r, 0, most));
            } else {
                give(p, &m, (int)test_random_range(&r, 0, m.n - 1));
            }
            check_sums(p, &m);
        }
        while (m.n) give(p, &m, (int)test_random_range(&r, 0, m.n - 1));
        assert_int_equal(pool_largest_bytes(p), BYTES);
        pool_destroy(&p);
        assert_null(p);
    }
}

static void test_edges(void **state)
{
    pool *p;
    uint64_t a, b;
    assert_ok(pool_create(&p, 3 * POOL_UNIT + 255)); // three units
    assert_false(pool_take(p, &a, 3 * POOL_UNIT + 1));
    assert_false(pool_take(p, &a, UINT64_MAX));
    assert_true(pool_take(p, &a, 0));
    assert_true(pool_take(p, &b, POOL_UNIT + 1));
    assert_int_equal(a, 0);
    assert_int_equal(b, POOL_UNIT);
    assert_int_equal(pool_free_bytes(p), 0);
    assert_false(pool_take(p, &a, 0));
    pool_give(p, b);
    pool_give(p, a);
    assert_int_equal(pool_largest_bytes(p), 3 * POOL_UNIT);
    pool_destroy(&p);
    pool_destroy(&p);
}

// So many that the books grow, with the same places the second time.
static void test_many(void **state)
{
    enum { N = 20000 };
    static uint64_t first[N];
    pool *p;
    assert_ok(pool_create(&p, (uint64_t)N * 4 * POOL_UNIT));
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++) {
            uint64_t at;
            assert_true(pool_take(p, &at, (uint64_t)(i % 4 + 1) * POOL_UNIT));
            if (round == 0) first[i] = at;
            assert_int_equal(at, first[i]);
        }
        for (int i = 0; i < N; i++) pool_give(p, first[i]);
        assert_int_equal(pool_largest_bytes(p), (uint64_t)N * 4 * POOL_UNIT);
    }
    pool_destroy(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random_sequences), cmocka_unit_test(test_edges),
                                       cmocka_unit_test(test_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
