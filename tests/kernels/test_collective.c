// Sums and gathers over ranks that are threads of this process, on CPUs.
#include <pthread.h>

#include "kernels/collective.h"
#include "kernels/memory.h"
#include "support/test.h"

enum { MOST = 5, ROUNDS = 40, FLOATS = 10007, ROWS = 7, WIDTH = 33 };

typedef struct rank {
    collective *c;
    int32_t index, ranks;
    float *x;                       // [FLOATS]
    float *to, *room, *part;        // [ROWS, ranks * WIDTH] twice, [ROWS, WIDTH]
    int agreed[ROUNDS];             // 1 or 0
    int gives_up;                   // before this round; 0: never
    sight_err status;
    pthread_t thread;
} rank;

typedef struct group {
    collective *c;
    kernels *k[MOST];
    rank r[MOST];
    int32_t n;
} group;

static float *floats(int64_t n, uint64_t seed)
{
    test_random r = {seed};
    float *p = malloc((size_t)n * sizeof *p);
    assert_non_null(p);
    for (int64_t i = 0; i < n; i++) p[i] = test_random_normal(&r);
    return p;
}

static void open_group(group *g, int32_t n)
{
    *g = (group){.n = n};
    for (int32_t i = 0; i < n; i++) {
        const kernels_options o = {.threads = 1 + i % 2, .simd = SIMD_PLAIN};
        assert_ok(kernels_create(&g->k[i], &o));
    }
    assert_ok(collective_create(&g->c, g->k, n));
    assert_int_equal(collective_ranks(g->c), n);
    for (int32_t i = 0; i < n; i++) {
        g->r[i] = (rank){.c = g->c, .index = i, .ranks = n,
                         .x = floats(FLOATS, 10 + (uint64_t)i),
                         .to = floats(ROWS * n * WIDTH, 20),
                         .room = floats(ROWS * n * WIDTH, 21),
                         .part = floats(ROWS * WIDTH, 30 + (uint64_t)i)};
    }
}

static void close_group(group *g)
{
    for (int32_t i = 0; i < g->n; i++) {
        free(g->r[i].x), free(g->r[i].to), free(g->r[i].room), free(g->r[i].part);
    }
    collective_destroy(&g->c);
    collective_destroy(&g->c);
    for (int32_t i = 0; i < g->n; i++) kernels_destroy(&g->k[i]);
}

static void *run_rank(void *arg)
{
    rank *r = arg;
    for (int round = 0; round < ROUNDS; round++) {
        if (r->gives_up && round == r->gives_up) {
            collective_end(r->c);
            break;
        }
        r->agreed[round] = collective_agree(r->c, r->index, round % 3 || r->index != round % r->ranks);
        // Halved, so that sums of sums stay small.
        collective_add(r->c, r->index, r->x, FLOATS - round);
        for (int64_t i = 0; i < FLOATS; i++) r->x[i] /= (float)r->ranks;
        collective_gather(r->c, r->index, r->to, r->room, r->part, 1 + round % ROWS, WIDTH);
    }
    r->status = collective_status(r->c, r->index);
    return NULL;
}

static void run_group(group *g)
{
    for (int32_t i = 0; i < g->n; i++) {
        assert_int_equal(pthread_create(&g->r[i].thread, NULL, run_rank, &g->r[i]), 0);
    }
    for (int32_t i = 0; i < g->n; i++) pthread_join(g->r[i].thread, NULL);
}

// What the ranks hold after all rounds: sums in their order, bit for bit.
static void expect_sums(float *all, int32_t n)
{
    float *x[MOST];
    for (int32_t i = 0; i < n; i++) x[i] = floats(FLOATS, 10 + (uint64_t)i);
    for (int round = 0; round < ROUNDS; round++) {
        for (int64_t j = 0; j < FLOATS; j++) {
            float sum = x[0][j];
            for (int32_t i = 1; i < n; i++) sum += x[i][j];
            for (int32_t i = 0; i < n; i++) x[i][j] = (j < FLOATS - round ? sum : x[i][j]) / (float)n;
        }
    }
    for (int32_t i = 0; i < n; i++) {
        memcpy(all + i * FLOATS, x[i], FLOATS * sizeof *all);
        free(x[i]);
    }
}

static void check_gather(const group *g)
{
    const int64_t rows = 1 + (ROUNDS - 1) % ROWS, width = g->n * WIDTH;
    for (int32_t i = 0; i < g->n; i++) {
        for (int64_t j = 0; j < rows * width; j++) {
            const int64_t row = j / width, from = j % width / WIDTH, column = j % WIDTH;
            assert_memory_equal(&g->r[i].to[j], &g->r[from].part[row * WIDTH + column], sizeof(float));
        }
    }
}

static void ranks_get_the_same(void **state)
{
    for (int32_t n = 1; n <= MOST; n++) {
        group g;
        float *want = malloc((size_t)n * FLOATS * sizeof *want);
        assert_non_null(want);
        open_group(&g, n);
        run_group(&g);
        expect_sums(want, n);
        for (int32_t i = 0; i < n; i++) {
            assert_int_equal(g.r[i].status, SIGHT_OK);
            assert_memory_equal(g.r[i].x, want + i * FLOATS, FLOATS * sizeof *want);
            for (int round = 0; round < ROUNDS; round++) assert_int_equal(g.r[i].agreed[round], round % 3 != 0);
        }
        check_gather(&g);
        free(want);
        close_group(&g);
    }
}

static void one_that_gives_up_ends_the_others(void **state)
{
    for (int round = 1; round < ROUNDS; round += 11) {
        group g;
        open_group(&g, 3);
        g.r[1].gives_up = round;
        run_group(&g); // comes back
        for (int i = 0; i < 3; i++) {
            assert_int_equal(g.r[i].status, SIGHT_E_INTERNAL);
            assert_int_equal(g.r[i].agreed[ROUNDS - 1], 0);
        }
        assert_fails(collective_status(g.c, 0), SIGHT_E_INTERNAL, "has given up");
        close_group(&g);
    }
}

static void impossible_groups_are_refused(void **state)
{
    collective *c = NULL;
    kernels *k[COLLECTIVE_MAX_RANKS + 1] = {0};
    const kernels_options o = {.threads = 1, .simd = SIMD_PLAIN};
    assert_ok(kernels_create(&k[0], &o));
    k[1] = k[0];
    assert_fails(collective_create(&c, k, 0), SIGHT_E_ARGUMENT, "a group of 0");
    assert_fails(collective_create(&c, k, COLLECTIVE_MAX_RANKS + 1), SIGHT_E_ARGUMENT, "a group of 17");
    assert_fails(collective_create(&c, k, 2), SIGHT_E_ARGUMENT, "same device");
    assert_null(c);
    kernels_destroy(&k[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_get_the_same),
        cmocka_unit_test(one_that_gives_up_ends_the_others),
        cmocka_unit_test(impossible_groups_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
