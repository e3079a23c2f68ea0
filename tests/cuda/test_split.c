// A model over two GPUs. With the shim its sums go through the relay; with real GPUs through NCCL, where there are two
// of them.
#include "kernels/cuda/nccl.h"
#include "kernels/cuda/relay.h"
#include "text/ranks.h"

#ifdef SIGHT_CUDA_SHIM
#include "shim.h"

// ---- the relay, with a link that fails when it is told to ----

static int fails_with; // 0: no failure

static int failing_reduce(const void *from, void *to, size_t n, int type, int op, nccl_comm *comm, cudaStream_t stream)
{
    const int result = relay_calls()->all_reduce(from, to, n, type, op, comm, stream);
    return result ? result : fails_with;
}

static const char *failing_error(int result)
{
    return result == fails_with ? "the link is down" : relay_calls()->error(result);
}

static nccl_calls failing;
static const nccl_calls *const calls = &failing;

static void make_calls(void)
{
    failing = *relay_calls();
    failing.all_reduce = failing_reduce;
    failing.error = failing_error;
}
#else
static const nccl_calls *const calls = NULL;
#endif

// ---- two GPUs beside the CPU ----

#define GREEDY 6 // tokens after the prompt

static void open_gpus(device *d, collective **group, const checkpoint *c, const golden_case *g)
{
    kernels *k[RANKS];
    for (int32_t i = 0; i < RANKS; i++) {
        const kernels_options o = {.threads = 1, .exact = true, .device = {DEVICE_CUDA, i},
                                   .device_bytes = (int64_t)512 << 20};
        d[i] = (device){.c = c, .g = g, .rank = i};
        assert_ok(kernels_create(&d[i].k, &o));
        k[i] = d[i].k;
    }
    assert_ok(collective_create_with(group, k, RANKS, calls));
    for (int32_t i = 0; i < RANKS; i++) d[i].group = *group;
}

static void check_case(const char *model, const char *name)
{
    checkpoint *c = golden_open(model);
    collective *group = NULL;
    golden_case g;
    device d[RANKS], alone = {.c = c, .g = &g, .k = golden_kernels(1, true)};
    golden_load(&g, model, name, checkpoint_config(c)); // text alone: no features
    if (g.n_greedy > GREEDY) g.n_greedy = GREEDY;
    open_gpus(d, &group, c, &g);
    run_device(&alone);
    run_devices(d);
    check_devices(d, &alone, &g, 1e-4); // as tests/text/test_model.c has it
    for (int i = 0; i < RANKS; i++) assert_ok(kernels_status(d[i].k));
    collective_destroy(&group);
    for (int i = 0; i < RANKS; i++) close_device(&d[i]);
    close_device(&alone);
    golden_free(&g);
    checkpoint_close(&c);
}

static void two_gpus_answer_as_the_cpu(void **state)
{
    check_case("hybrid", "text");
    check_case("qwen3vl", "text");
}

// ---- as one model ----

static void open_group(device *d, const checkpoint *c, const golden_case *g)
{
    kernels_options o = {.threads = 1, .exact = true, .device = {DEVICE_CUDA, 0},
                         .device_bytes = (int64_t)512 << 20};
    *d = (device){.c = c, .g = g};
    assert_ok(kernels_create(&d->k, &o));
    o.device.index = 1;
    assert_ok(kernels_create(&d->second, &o));
}

static void a_group_of_gpus_answers_as_the_cpu(void **state)
{
    checkpoint *c = golden_open("hybrid");
    golden_case g;
    device d, alone = {.c = c, .g = &g, .k = golden_kernels(1, true)};
    golden_load(&g, "hybrid", "text", checkpoint_config(c));
    if (g.n_greedy > GREEDY) g.n_greedy = GREEDY;
    open_group(&d, c, &g);
    run_device(&alone);
    run_device(&d);
    check_group(&d, &alone, &g, 1e-4);
    assert_ok(text_model_status(d.m));
    close_device(&d);
    close_device(&alone);
    golden_free(&g);
    checkpoint_close(&c);
}

#ifdef SIGHT_CUDA_SHIM
// A case on GPUs that are one rank each.
typedef struct ranks {
    checkpoint *c;
    golden_case g;
    collective *group;
    device d[RANKS];
} ranks;

static void open_ranks(ranks *r)
{
    *r = (ranks){.c = golden_open("hybrid")};
    golden_load(&r->g, "hybrid", "text", checkpoint_config(r->c));
    open_gpus(r->d, &r->group, r->c, &r->g);
}

static void close_ranks(ranks *r)
{
    collective_destroy(&r->group);
    for (int i = 0; i < RANKS; i++) close_device(&r->d[i]);
    golden_free(&r->g);
    checkpoint_close(&r->c);
}

static void what_a_link_says_is_told(void **state)
{
    ranks r;
    open_ranks(&r);
    fails_with = 3;
    run_devices(r.d);
    fails_with = 0;
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(r.d[i].err, SIGHT_E_INTERNAL);
        assert_non_null(strstr(r.d[i].error, "the link is down"));
        assert_int_equal(sequence_length(r.d[i].s), 0);
    }
    close_ranks(&r);
}

static void after_an_end_nothing_is_asked(void **state)
{
    ranks r;
    open_ranks(&r);
    collective_end(r.group);
    run_devices(r.d);
    for (int i = 0; i < RANKS; i++) assert_int_equal(r.d[i].err, SIGHT_E_INTERNAL);
    close_ranks(&r);
}

// Wherever a GPU fails, everybody hears of it: no rank waits for another, and what failed first is told.
static void a_gpu_that_fails_ends_the_group(void **state)
{
    checkpoint *c = golden_open("hybrid");
    golden_case g;
    golden_load(&g, "hybrid", "text", checkpoint_config(c));
    g.n_greedy = 2;
    int failed = 0;
    for (int n = 0; n < 4200; n += 311) {
        device d;
        open_group(&d, c, &g);
        shim_fail_after(n, cudaErrorIllegalAddress);
        run_device(&d);
        failed += d.err != SIGHT_OK;
        if (d.err && (d.err != SIGHT_E_INTERNAL || !strstr(d.error, "illegal memory access"))) fail_msg("%s", d.error);
        if (d.err && d.m) assert_int_equal(text_model_status(d.m), SIGHT_E_INTERNAL);
        close_device(&d);
        shim_mend();
        for (int i = 0; i < RANKS; i++) assert_int_equal(shim_used_memory(i), 0);
    }
    printf("%d failed\n", failed);
    assert_true(failed > 3);
    golden_free(&g);
    checkpoint_close(&c);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_gpus_answer_as_the_cpu),
        cmocka_unit_test(a_group_of_gpus_answers_as_the_cpu),
#ifdef SIGHT_CUDA_SHIM
        cmocka_unit_test(what_a_link_says_is_told),
        cmocka_unit_test(after_an_end_nothing_is_asked),
        cmocka_unit_test(a_gpu_that_fails_ends_the_group),
#endif
    };
#ifdef SIGHT_CUDA_SHIM
    shim_set_devices(RANKS);
    make_calls();
#endif
    if (device_gpus() < RANKS) {
        printf("skipped: a model over two GPUs needs two\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
