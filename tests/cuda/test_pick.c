// The k greatest logits as picked on a GPU, against a sort.
#include "cuda/pair.h"

typedef struct wanted {
    int32_t k, n_always;
    bool allowed; // with a list
} wanted;

typedef struct scene {
    const sides *s;
    int64_t N, M;
    pair logits;
    uint8_t *allowed;
    int32_t *always; // different ids
    output_row *rows, **pointers;
} scene;

static scene scene_new(const sides *s, int64_t N, int64_t M, uint64_t seed)
{
    scene c = {.s = s, .N = N, .M = M, .logits = pair_normal(s, N * M, 3, seed, 0)};
    test_random r = {(uint64_t)M + 1}; // the list has the same contents wherever it lies
    c.allowed = malloc((size_t)M);
    c.always = malloc((size_t)M * sizeof *c.always);
    c.rows = calloc((size_t)N, sizeof *c.rows);
    c.pointers = calloc((size_t)N, sizeof *c.pointers);
    assert_true(c.allowed && c.always && c.rows && c.pointers);
    for (int64_t m = 0; m < M; m++) {
        c.allowed[m] = test_random_range(&r, 0, 9) > 0;
        c.always[m] = (int32_t)m;
    }
    for (int64_t m = M - 1; m > 0; m--) {
        const int64_t other = test_random_range(&r, 0, m);
        const int32_t id = c.always[m];
        c.always[m] = c.always[other], c.always[other] = id;
    }
    for (int64_t i = 0; i < N; i++) {
        c.rows[i].ids = malloc((size_t)M * sizeof(int32_t));
        c.rows[i].logits = malloc((size_t)M * sizeof(float));
        assert_true(c.rows[i].ids && c.rows[i].logits);
        c.pointers[i] = &c.rows[i];
    }
    return c;
}

static void scene_free(scene *c)
{
    for (int64_t i = 0; i < c->N; i++) free(c->rows[i].ids), free(c->rows[i].logits);
    pair_free(&c->logits);
    free(c->allowed), free(c->always), free(c->rows), free(c->pointers);
}

static void scene_want(scene *c, int64_t i, const wanted *w)
{
    output_row *row = &c->rows[i];
    row->k = w->k;
    row->allowed = w->allowed ? c->allowed : NULL;
    row->always = w->n_always ? c->always : NULL;
    row->n_always = w->n_always;
}

static int falls(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

static bool is_wanted(const output_row *row, int64_t id)
{
    for (int32_t i = 0; i < row->n_always; i++)
        if (row->always[i] == id) return true;
    return false;
}

static bool takes_part(const output_row *row, const float *logits, int64_t id)
{
    return isfinite(logits[id]) && (!row->allowed || row->allowed[id]) && !is_wanted(row, id);
}

// The ids that must come, rising. Returns how many; M: all logits must.
static int64_t expected(int32_t *ids, const output_row *row, const float *logits, int64_t M)
{
    float *sorted = malloc((size_t)M * sizeof *sorted);
    assert_non_null(sorted);
    int64_t n = 0, taken = 0, equal = 0;
    for (int64_t m = 0; m < M; m++)
        if (takes_part(row, logits, m)) sorted[n++] = logits[m];
    qsort(sorted, (size_t)n, sizeof *sorted, falls);
    const float floor = n > row->k && row->k > 0 ? sorted[row->k - 1] : -INFINITY;
    free(sorted);
    if (row->k == 0 || row->k > 1024) return M;
    for (int64_t m = 0; m < M; m++) {
        const bool takes = takes_part(row, logits, m);
        equal += takes && logits[m] == floor;
        if (is_wanted(row, m) || (takes && logits[m] >= floor)) ids[taken++] = (int32_t)m;
    }
    return equal > 4096 ? M : taken;
}

static void check_row(const scene *c, int64_t i)
{
    const output_row *row = &c->rows[i];
    const float *logits = c->logits.plain + i * c->M;
    int32_t *ids = malloc((size_t)c->M * sizeof *ids);
    assert_non_null(ids);
    const int64_t n = expected(ids, row, logits, c->M);
    const bool all = row->n == c->M;
    if (row->n != n && !(all && row->k + row->n_always >= c->M)) {
        fail_msg("row %lld of %lld, k %d, %d besides: %d ids, not %lld", (long long)i, (long long)c->M, row->k,
                 row->n_always, row->n, (long long)n);
    }
    if (!all) assert_memory_equal(row->ids, ids, (size_t)n * sizeof *ids);
    for (int64_t j = 0; j < row->n; j++) {
        assert_memory_equal(&row->logits[j], &logits[all ? j : ids[j]], sizeof *logits);
    }
    free(ids);
}

static void scene_check(scene *c)
{
    pair_send(&c->logits);
    for (int64_t i = 0; i < c->N; i++) {
        c->rows[i].n = -9;
        memset(c->rows[i].ids, 0xff, (size_t)c->M * sizeof(int32_t));
    }
    assert_ok(op_pick_logits(c->s->gpu, c->logits.device, c->pointers, c->N, c->M));
    for (int64_t i = 0; i < c->N; i++) check_row(c, i);
}

static const wanted kinds[] = {
    {1, 0, false}, {1, 0, true}, {20, 0, true},  {64, 5, false}, {1024, 0, true},
    {1, 3, true},  {0, 0, true}, {1025, 0, true}, {20, 40, true},
};
#define N_KINDS (int)(sizeof kinds / sizeof *kinds)

static void picks_agree_with_a_sort(void **state)
{
    static const int64_t sizes[] = {1, 2, 31, 100, 2047, 2048, 2049, 5003, 9000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        scene c = scene_new(*state, 1, sizes[i], 5 + 10 * i);
        for (int kind = 0; kind < N_KINDS; kind++) {
            if (kinds[kind].n_always > c.M) continue;
            scene_want(&c, 0, &kinds[kind]);
            scene_check(&c);
        }
        scene_free(&c);
    }
}

static void rows_go_together(void **state)
{
    for (int64_t N = 2; N <= 5; N++) {
        scene c = scene_new(*state, N, 3001 + N, 70 + (uint64_t)N);
        for (int kind = 0; kind < N_KINDS; kind++) {
            for (int64_t i = 0; i < N; i++) scene_want(&c, i, &kinds[(kind + i) % N_KINDS]);
            scene_check(&c);
            for (int64_t i = 0; i < N; i++) scene_want(&c, i, &kinds[kind]);
            scene_check(&c);
        }
        scene_free(&c);
    }
}

static void many_rows_go_in_groups(void **state)
{
    scene c = scene_new(*state, 67, 130, 9);
    for (int64_t i = 0; i < c.N; i++) scene_want(&c, i, &(wanted){i % 3 == 0 ? 1 : (int32_t)i, 0, i % 2});
    scene_check(&c);
    for (int64_t i = 0; i < c.N; i++) scene_want(&c, i, &(wanted){1, 0, false});
    scene_check(&c);
    scene_free(&c);
}

static void check_kinds(scene *c)
{
    for (int kind = 0; kind < N_KINDS; kind++) {
        scene_want(c, 0, &kinds[kind]);
        scene_check(c);
    }
}

static void equals_come_together(void **state)
{
    scene c = scene_new(*state, 1, 9000, 4);
    float *x = c.logits.plain;
    for (int64_t m = 0; m < c.M; m++) x[m] = roundf(x[m]); // a few values, with -0
    check_kinds(&c);
    for (int64_t m = 0; m < c.M; m++) x[m] = m % 2 ? 0.0f : -0.0f; // one value
    check_kinds(&c);
    for (int64_t m = 0; m < c.M; m++) x[m] = m < 4096 ? 1 : -1; // as many equals as may come
    scene_want(&c, 0, &(wanted){7, 0, false});
    scene_check(&c);
    x[5000] = 1;
    scene_check(&c);
    x[6000] = 2;
    scene_want(&c, 0, &(wanted){1, 0, false});
    scene_check(&c);
    scene_free(&c);
}

// Keys that differ in their last digits alone: all levels are needed.
static void near_equals_are_told_apart(void **state)
{
    scene c = scene_new(*state, 2, 20000, 4);
    test_random r = {8};
    for (int64_t i = 0; i < c.N * c.M; i++) {
        const uint32_t near = i < c.M ? 1u << 16 : 1u << 8; // the second row: only the last level tells
        const uint32_t bits = 0x40800000u + (uint32_t)(test_random_bits(&r) % near);
        memcpy(&c.logits.plain[i], &bits, sizeof bits);
    }
    for (int kind = 0; kind < N_KINDS; kind++) {
        scene_want(&c, 0, &kinds[kind]), scene_want(&c, 1, &kinds[kind]);
        scene_check(&c);
    }
    for (int64_t i = 0; i < c.N * c.M; i++) c.logits.plain[i] *= -1;
    scene_check(&c);
    scene_free(&c);
}

static void what_is_not_finite_is_left_out(void **state)
{
    scene c = scene_new(*state, 1, 3000, 6);
    float *x = c.logits.plain;
    for (int64_t m = 0; m < c.M; m += 3) x[m] = m % 2 ? -INFINITY : m % 4 ? INFINITY : NAN;
    check_kinds(&c);
    for (int64_t m = 0; m < c.M; m++) x[m] = m == 1234 ? -FLT_MAX : m == 77 ? FLT_TRUE_MIN : -INFINITY;
    check_kinds(&c);
    for (int64_t m = 0; m < c.M; m++) x[m] = NAN;
    check_kinds(&c);
    scene_free(&c);
}

// More lists of allowed ids than are kept, each used again later.
static void lists_of_allowed_ids_are_kept(void **state)
{
    enum { LISTS = 70, M = 100 };
    scene c = scene_new(*state, 1, M, 2);
    static uint8_t lists[LISTS][M];
    test_random r = {3};
    for (int i = 0; i < LISTS * M; i++) lists[i / M][i % M] = test_random_range(&r, 0, 1) > 0;
    for (int i = 0; i < 2 * LISTS + 9; i++) {
        scene_want(&c, 0, &(wanted){4, 0, false});
        c.rows[0].allowed = lists[i * 7 % LISTS];
        scene_check(&c);
    }
    scene_free(&c);
}

static void many_ids_besides(void **state)
{
    scene c = scene_new(*state, 2, 9000, 12);
    static const int32_t many[] = {3071, 3072, 3073, 8990};
    for (int i = 0; i < 4; i++) {
        scene_want(&c, 0, &(wanted){1024, many[i], true});
        scene_want(&c, 1, &(wanted){30, 2, true});
        pair_send(&c.logits);
        assert_ok(op_pick_logits(c.s->gpu, c.logits.device, c.pointers, c.N, c.M));
        if (many[i] <= 3072) check_row(&c, 0);
        else assert_int_equal(c.rows[0].n, c.M);
        check_row(&c, 1);
    }
    scene_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(picks_agree_with_a_sort),        cmocka_unit_test(rows_go_together),
        cmocka_unit_test(many_rows_go_in_groups),         cmocka_unit_test(equals_come_together),
        cmocka_unit_test(near_equals_are_told_apart),     cmocka_unit_test(lists_of_allowed_ids_are_kept),
        cmocka_unit_test(what_is_not_finite_is_left_out), cmocka_unit_test(many_ids_besides),
    };
    return sides_run(tests);
}
