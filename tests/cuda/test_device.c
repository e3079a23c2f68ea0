// A GPU's memory, arguments, steps, neighbours and faults. What launchers here do are copies: what kernels do is
// tested by area.
#include "support/test.h"

#include "kernels/cuda/state.h"
#include "kernels/memory.h"

#ifdef SIGHT_CUDA_SHIM
#include "shim.h"
#endif

#define MIB ((size_t)1 << 20)

static kernels *open_gpu(void)
{
    kernels *k;
    const kernels_options o = {.threads = 1, .device = {DEVICE_CUDA, 0}, .device_bytes = 192 * MIB};
    assert_ok(kernels_create(&k, &o));
    assert_true(kernels_on_device(k));
    return k;
}

static void *room(kernels *k, size_t bytes)
{
    void *p;
    assert_ok(kernels_alloc(&p, k, bytes, "a test"));
    return p;
}

static unsigned char *random_bytes(uint64_t seed, size_t n)
{
    test_random r = {seed};
    unsigned char *p = malloc(n + 8);
    for (size_t i = 0; i < n; i += 8) {
        const uint64_t bits = test_random_bits(&r);
        memcpy(p + i, &bits, 8);
    }
    return p;
}

// ---- memory ----

static void test_write_and_read(void **state)
{
    static const size_t sizes[] = {1,           15,      16,          17,          4096, CUDA_WRITE_BYTES - 1,
                                   MIB + 1,     2 * MIB, 2 * MIB + 3, 9 * MIB + 5, 30 * MIB};
    kernels *k = open_gpu();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const size_t n = sizes[i];
        unsigned char *host = random_bytes(i + 1, n), *back = malloc(n), *before = malloc(n);
        unsigned char *p = room(k, n), *q = room(k, n);
        memcpy(before, host, n);
        kernels_write(k, p, host, n);
        memset(host, 0xee, n); // it may be reused at once
        op_copy(k, q, p, n);
        op_zero(k, p, n);
        assert_ok(kernels_read(k, back, q, n));
        assert_memory_equal(back, before, n);
        assert_ok(kernels_read(k, back, p, n));
        for (size_t j = 0; j < n; j++) assert_int_equal(back[j], 0);
        kernels_free(k, p);
        kernels_free(k, q);
        free(host);
        free(back);
        free(before);
    }
    assert_ok(kernels_read(k, NULL, NULL, 0));
    assert_ok(kernels_status(k));
    kernels_destroy(&k);
    assert_null(k);
}

static void test_no_room(void **state)
{
    kernels *k = open_gpu();
    void *p = NULL, *q = room(k, 0);
    assert_fails(kernels_alloc(&p, k, 300 * MIB, "dreams"), SIGHT_E_MEMORY, "no memory for 300.0 MiB of dreams");
    assert_null(p);
    assert_ok(kernels_status(k)); // nothing is broken
    p = room(k, 100 * MIB);
    kernels_free(k, p);
    kernels_free(k, q);
    kernels_free(k, NULL);
    assert_int_equal((uintptr_t)room(k, 1) % 256, 0); // left behind: the object takes it along
    kernels_destroy(&k);
}

static void test_floats_are_taken(void **state)
{
    kernels *k = open_gpu();
    float *w = malloc(5 * sizeof *w), back[5], room_for[3];
    for (int i = 0; i < 5; i++) w[i] = (float)i;
    assert_ok(kernels_take_floats(k, &w, 5));
    assert_ok(kernels_read(k, back, w, sizeof back));
    for (int i = 0; i < 5; i++) assert_true(back[i] == (float)i);
    float *staged = room(k, sizeof room_for);
    assert_ptr_equal(kernels_stage(k, staged, back + 2, 3), staged);
    assert_ok(kernels_read(k, room_for, staged, sizeof room_for));
    assert_true(room_for[0] == 2 && room_for[2] == 4);
    kernels_drop_floats(k, &w);
    assert_null(w);
    kernels_destroy(&k);
}

// ---- launches and arguments ----

typedef struct move {
    void *to;
    const void *from;
    uint64_t bytes;
} move;

static void launch_move(cudaStream_t stream, const void *args)
{
    const move *m = args;
    cudaMemcpyAsync(m->to, m->from, m->bytes, cudaMemcpyDeviceToDevice, stream);
}

// to[n] = host[n], by arguments.
static void put(kernels *k, void *to, const void *host, size_t n)
{
    const move m = {to, cuda_args(k, host, n), n};
    if (!cuda_failed(k)) assert_int_equal((uintptr_t)m.from % 16, 0);
    cuda_launch(k, launch_move, &m, sizeof m);
}

// More than the ring holds several times, of all sizes.
static void test_arguments(void **state)
{
    enum { N = 90 };
    kernels *k = open_gpu();
    test_random r = {3};
    unsigned char *p[N], *host[N], *back = malloc(2 * MIB);
    size_t sizes[N], sum = 0;
    for (int i = 0; i < N; i++) {
        sizes[i] = (size_t)(i % 3 ? test_random_range(&r, 1, 300) : test_random_range(&r, 1, 2 * MIB));
        sum += sizes[i];
        host[i] = random_bytes((uint64_t)i + 1, sizes[i]);
        unsigned char *own = malloc(sizes[i]);
        memcpy(own, host[i], sizes[i]);
        p[i] = room(k, sizes[i]);
        put(k, p[i], own, sizes[i]);
        free(own); // it was copied
    }
    assert_true(sum > CUDA_MAX_STEP_ARGS * CUDA_RING_PARTS);
    for (int i = 0; i < N; i++) {
        assert_ok(kernels_read(k, back, p[i], sizes[i]));
        assert_memory_equal(back, host[i], sizes[i]);
        free(host[i]);
    }
    free(back);
    kernels_destroy(&k);
}

static void test_too_many_arguments(void **state)
{
    kernels *k = open_gpu();
    unsigned char *host = calloc(1, CUDA_MAX_STEP_ARGS + 16);
    assert_non_null(cuda_args(k, host, CUDA_MAX_STEP_ARGS));
    assert_ok(kernels_status(k));
    assert_null(cuda_args(k, host, CUDA_MAX_STEP_ARGS + 1));
    assert_fails(kernels_status(k), SIGHT_E_LIMIT, "cuda:0: arguments of");
    kernels_destroy(&k);

    k = open_gpu(); // in a step all of them together
    kernels_step_begin(k);
    assert_non_null(cuda_args(k, host, CUDA_MAX_STEP_ARGS - 16));
    assert_non_null(cuda_args(k, host, 16));
    assert_null(cuda_args(k, host, 1));
    assert_fails(kernels_step_end(k), SIGHT_E_LIMIT, "a step's arguments are over 8 MiB");
    kernels_destroy(&k);
    free(host);
}

static void test_scratch(void **state)
{
    kernels *k = open_gpu();
    void *a = cuda_scratch(k, 0, 1000), *b = cuda_scratch(k, 1, 1000);
    assert_true(a && b && a != b);
    assert_ptr_equal(cuda_scratch(k, 0, 1000), a);
    assert_ptr_equal(cuda_scratch(k, 0, 10), a);
    a = cuda_scratch(k, 0, 5 * MIB);
    assert_non_null(a);
    assert_ptr_equal(cuda_scratch(k, 1, 1000), b);
    assert_null(cuda_scratch(k, 2, 400 * MIB));
    assert_fails(kernels_status(k), SIGHT_E_MEMORY, "no memory for 400.0 MiB of scratch");
    kernels_destroy(&k);
}

// What is kept for scratch is not given to anybody else.
static void test_room(void **state)
{
    kernels *k = open_gpu();
    const kernels_room before = kernels_get_room(k);
    void *p, *more;
    assert_int_equal(before.all, 192 * MIB);
    assert_true(before.left > 100 * (int64_t)MIB && before.left < before.all);
    assert_true(kernels_alloc(&p, k, (size_t)before.left + 256, "too much") == SIGHT_E_MEMORY);
    p = room(k, (size_t)before.left / 256 * 256 - 256);
    assert_true(kernels_get_room(k).left <= 512);
    assert_true(kernels_alloc(&more, k, MIB, "more") == SIGHT_E_MEMORY);
    assert_non_null(cuda_scratch(k, 0, 8 * MIB));
    kernels_free(k, p);
    assert_ok(kernels_status(k));
    kernels_destroy(&k);
}

// ---- steps ----

typedef struct stepper {
    kernels *k;
    unsigned char *out;
    uint64_t sum;
} stepper;

enum { PLACES = CUDA_MAX_GRAPHS + 32, EACH = 100 };

// Several launches with arguments of this round; `shape` makes another list. What is at `out` is right afterwards.
static sight_err step(stepper *s, int shape, uint64_t round)
{
    const int n = 1 + shape % PLACES;
    unsigned char *host = random_bytes(round, PLACES * EACH);
    unsigned char *back = malloc(PLACES * EACH);
    kernels_step_begin(s->k);
    for (int i = 0; i < n; i++) put(s->k, s->out + i * EACH, host + i * EACH, EACH);
    op_copy(s->k, s->out + PLACES * EACH, s->out, EACH);
    kernels_write(s->k, s->out, host + EACH, EACH); // in its place: after the copy above
    op_zero(s->k, s->out + (PLACES + 1) * EACH, EACH);
    sight_err err = kernels_step_end(s->k);
    if (!err) err = kernels_read(s->k, back, s->out + PLACES * EACH, EACH);
    if (!err) assert_memory_equal(back, host, EACH);
    if (!err) err = kernels_read(s->k, back, s->out, (size_t)n * EACH);
    if (!err) {
        assert_memory_equal(back, host + EACH, EACH);
        assert_memory_equal(back + EACH, host + EACH, (size_t)(n - 1) * EACH);
    }
    free(host);
    free(back);
    return err;
}

static stepper open_stepper(void)
{
    stepper s = {.k = open_gpu()};
    s.out = room(s.k, (PLACES + 2) * EACH);
    return s;
}

static void test_like_steps_are_one_graph(void **state)
{
    stepper s = open_stepper();
    for (uint64_t i = 0; i < 6; i++) {
        assert_ok(step(&s, 40, i + 1));
        assert_int_equal(s.k->cuda->step.graphs_made, i > 0); // the first time they are launched as they are
    }
    for (uint64_t i = 0; i < 3; i++) assert_ok(step(&s, 41, i + 1));
    assert_int_equal(s.k->cuda->step.graphs_made, 2);
    assert_ok(step(&s, 40, 99));
    assert_int_equal(s.k->cuda->step.graphs_made, 2);
#ifdef SIGHT_CUDA_SHIM
    const long long before = shim_get_counts().graph_launches;
    for (uint64_t i = 0; i < 5; i++) assert_ok(step(&s, 40, i + 1));
    assert_int_equal(shim_get_counts().graph_launches - before, 5);
#endif
    kernels_destroy(&s.k);
}

// Also between launches outside steps, which move the ring on.
static void test_steps_among_others(void **state)
{
    stepper s = open_stepper();
    test_random r = {5};
    unsigned char *host = random_bytes(9, 3 * MIB), *p = room(s.k, 3 * MIB), back[64];
    for (uint64_t i = 0; i < 30; i++) {
        const size_t n = (size_t)test_random_range(&r, 64, 3 * MIB);
        put(s.k, p, host, n);
        assert_ok(step(&s, (int)(i % 3), i + 1));
        kernels_write(s.k, p, host + 64, n - 64);
    }
    assert_int_equal(s.k->cuda->step.graphs_made, 3);
    assert_ok(kernels_read(s.k, back, p, sizeof back));
    assert_memory_equal(back, host + 64, sizeof back);
    free(host);
    kernels_destroy(&s.k);
}

static int kept_graphs(const kernels *k)
{
    int n = 0;
    for (int i = 0; i < CUDA_MAX_GRAPHS; i++) n += k->cuda->step.graphs[i].exec != NULL;
    return n;
}

static void test_graphs_are_bounded(void **state)
{
    stepper s = open_stepper();
    for (int i = 0; i < PLACES; i++) {
        for (uint64_t round = 1; round <= 3; round++) assert_ok(step(&s, i, round));
    }
    assert_int_equal(kept_graphs(s.k), CUDA_MAX_GRAPHS);
    assert_int_equal(s.k->cuda->step.graphs_made, PLACES);
    assert_ok(step(&s, PLACES - 1, 1)); // still there
    assert_int_equal(s.k->cuda->step.graphs_made, PLACES);
    for (uint64_t round = 1; round <= 2; round++) assert_ok(step(&s, 0, round)); // gone, and made again
    assert_int_equal(s.k->cuda->step.graphs_made, PLACES + 1);
    kernels_destroy(&s.k);
}

static void test_empty_steps(void **state)
{
    kernels *k = open_gpu();
    for (int i = 0; i < 3; i++) {
        kernels_step_begin(k);
        assert_true(cuda_in_step(k));
        if (i == 2) assert_non_null(cuda_args(k, "abc", 3));
        assert_ok(kernels_step_end(k));
        assert_false(cuda_in_step(k));
    }
    assert_ok(kernels_step_end(k));
    assert_int_equal(k->cuda->step.graphs_made, 0);
    kernels_destroy(&k);
}

// Scratch that grows in a step: what was noted with the old one still runs with it.
static void test_scratch_grows_in_a_step(void **state)
{
    kernels *k = open_gpu();
    char back[8];
    char *out = room(k, 16);
    for (int i = 0; i < 3; i++) {
        const size_t bytes = (size_t)(i + 1) * 2 * MIB;
        kernels_step_begin(k);
        char *old = cuda_scratch(k, 0, 1000);
        put(k, old, "old one", 8);
        char *grown = cuda_scratch(k, 0, bytes), *other = cuda_scratch(k, 3, bytes + 1000);
        put(k, grown, "new one", 8);
        put(k, other, "another", 8);
        op_copy(k, out, old, 8);
        op_copy(k, out + 8, grown, 8);
        assert_ok(kernels_step_end(k));
        assert_ok(kernels_read(k, back, out, 8));
        assert_string_equal(back, i == 0 || grown != old ? "old one" : "new one");
        assert_ok(kernels_read(k, back, out + 8, 8));
        assert_string_equal(back, "new one");
    }
    kernels_destroy(&k);
}

// ---- beside each other ----

static void test_beside(void **state)
{
    kernels *k = open_gpu(), *eyes;
    unsigned char back[64];
    assert_ok(kernels_create_beside(&eyes, k));
    assert_ptr_not_equal(eyes, k);
    assert_true(cuda_stream(eyes) != cuda_stream(k));
    unsigned char *a = room(k, 64), *b = room(eyes, 64);
    for (int i = 0; i < 20; i++) {
        unsigned char host[64];
        memset(host, i, sizeof host);
        kernels_write(eyes, a, host, sizeof host);
        kernels_after(k, eyes);
        op_copy(k, b, a, sizeof host);
        kernels_after(eyes, k);
        op_zero(eyes, a, sizeof host);
        assert_ok(kernels_read(k, back, b, sizeof back));
        assert_memory_equal(back, host, sizeof host);
    }
    kernels_after(k, k);
    // What one gives back and the other takes is not written before the first is done with it.
    for (int i = 0; i < 20; i++) {
        unsigned char host[64], others[64];
        memset(host, i, sizeof host);
        memset(others, 0xaa, sizeof others);
        unsigned char *p = room(k, 64);
        kernels_write(k, p, host, sizeof host);
        op_copy(k, b, p, sizeof host);
        kernels_free(k, p);
        unsigned char *q = room(eyes, 64);
        kernels_write(eyes, q, others, sizeof others);
        assert_ok(kernels_read(eyes, back, q, sizeof back));
        assert_ok(kernels_read(k, back, b, sizeof back));
        assert_memory_equal(back, host, sizeof host);
        kernels_free(eyes, q);
    }
    kernels_destroy_beside(&eyes, k);
    assert_null(eyes);
    assert_ok(kernels_status(k));
    kernels_destroy(&k);
}

static void test_many_beside(void **state)
{
    kernels *k = open_gpu(), *beside[CUDA_MAX_BESIDE], *more = NULL;
    for (int i = 1; i < CUDA_MAX_BESIDE; i++) assert_ok(kernels_create_beside(&beside[i], k));
    assert_fails(kernels_create_beside(&more, k), SIGHT_E_LIMIT, "at most 4 objects beside each other");
    for (int i = 1; i < CUDA_MAX_BESIDE; i++) kernels_destroy_beside(&beside[i], k);
    assert_ok(kernels_create_beside(&more, k));
    kernels_destroy_beside(&more, k);
    kernels_destroy(&k);
}

// ---- what an area keeps ----

static void count_end(void *p)
{
    ++*(int *)p;
}

static void test_kept(void **state)
{
    kernels *k = open_gpu();
    int ends = 0;
    assert_null(cuda_keep(k, CUDA_KEPT_LINEAR)->p);
    *cuda_keep(k, CUDA_KEPT_LINEAR) = (cuda_kept){&ends, count_end};
    assert_ptr_equal(cuda_keep(k, CUDA_KEPT_LINEAR)->p, &ends);
    assert_null(cuda_keep(k, CUDA_KEPT_PICK)->p);
    kernels_destroy(&k);
    assert_int_equal(ends, 1);
}

// ---- faults ----

static void test_bad_options(void **state)
{
    kernels *k = NULL;
    kernels_options o = {.threads = 1, .device = {DEVICE_CUDA, 0}, .device_bytes = 1000};
    assert_fails(kernels_create(&k, &o), SIGHT_E_MEMORY, "64 MiB are needed");
    o.device_bytes = (int64_t)1 << 50;
    assert_fails(kernels_create(&k, &o), SIGHT_E_MEMORY, "MiB of memory free, 1073741824 MiB are needed");
    o.device.index = -1;
    assert_fails(kernels_create(&k, &o), SIGHT_E_UNSUPPORTED, "there is no cuda:-1");
    assert_null(k);
}

#ifdef SIGHT_CUDA_SHIM
// Everything once, the results read. The first error, which then stays.
static sight_err use_all(kernels *k, kernels *eyes)
{
    unsigned char back[100], host[100] = {1};
    void *p, *q;
    sight_err err = kernels_alloc(&p, k, 100, "a test");
    if (!err) err = kernels_alloc(&q, eyes, 100, "a test");
    if (err) return kernels_status(k) || kernels_status(eyes) ? SIGHT_E_INTERNAL : err;
    kernels_write(k, p, host, sizeof host);
    for (int i = 0; i < 3; i++) {
        kernels_step_begin(k);
        put(k, p, host, sizeof host);
        cuda_scratch(k, 0, 1000);
        op_zero(k, p, 50);
        kernels_step_end(k);
    }
    put(k, p, host, sizeof host);
    kernels_after(eyes, k);
    op_copy(eyes, q, p, sizeof host);
    memset(back, 7, sizeof back);
    const sight_err read = kernels_read(eyes, back, q, sizeof back);
    if (read) assert_int_equal(back[0], 7); // untouched
    else assert_memory_equal(back, host, sizeof host);
    err = kernels_read(k, back, p, sizeof back);
    if (!err) err = read;
    kernels_free(k, p);
    kernels_free(eyes, q);
    return err;
}

static void test_faults(void **state)
{
    static const cudaError_t errors[] = {cudaErrorIllegalAddress, cudaErrorLaunchFailure,
                                         cudaErrorECCUncorrectable};
    int failed = 0;
    for (int n = 0; n < 60; n++) {
        kernels *k = open_gpu(), *eyes;
        assert_ok(kernels_create_beside(&eyes, k));
        shim_fail_after(n, errors[n % 3]);
        const sight_err err = use_all(k, eyes);
        if (err) {
            failed++;
            const sight_err status = kernels_status(k) ? kernels_status(k) : kernels_status(eyes);
            assert_int_equal(status, SIGHT_E_INTERNAL);
            assert_non_null(strstr(sight_error(), "cuda:0: "));
            assert_true(use_all(k, eyes) != SIGHT_OK); // it stays
        }
        kernels_destroy_beside(&eyes, k);
        kernels_destroy(&k);
        shim_mend();
        assert_int_equal(shim_used_memory(0), 0);
    }
    assert_true(failed > 10);
    kernels *k = open_gpu(); // as if nothing had been
    assert_ok(use_all(k, k));
    kernels_destroy(&k);
}

// Without a number the next smaller block is taken where the largest is not to be had.
static void test_nearly_all_is_taken(void **state)
{
    kernels *k, *first;
    const kernels_options o = {.threads = 1, .device = {DEVICE_CUDA, 0}};
    assert_ok(kernels_create(&first, &o));
    const int64_t most = kernels_get_room(first).all;
    kernels_destroy(&first);
    shim_fail_malloc_after(0);
    assert_ok(kernels_create(&k, &o));
    shim_fail_malloc_after(-1);
    assert_true(kernels_get_room(k).all < most && kernels_get_room(k).all > most / 10 * 9);
    kernels_destroy(&k);
    assert_int_equal(shim_used_memory(0), 0);
}

static void test_opening_without_memory(void **state)
{
    for (int n = 0; n < 4; n++) {
        kernels *k = NULL;
        const kernels_options o = {.threads = 1, .device = {DEVICE_CUDA, 0}, .device_bytes = 192 * MIB};
        shim_fail_malloc_after(n);
        sight_err err = kernels_create(&k, &o);
        shim_fail_malloc_after(-1);
        if (err) {
            assert_int_equal(err, SIGHT_E_MEMORY);
            assert_non_null(strstr(sight_error(), "cuda:0"));
        } else {
            kernels_destroy(&k);
        }
        assert_int_equal(shim_used_memory(0), 0);
        shim_mend();
    }
}
#endif

int main(void)
{
    if (device_gpus() == 0) {
        printf("skipped: %s\n", device_without_gpu());
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_and_read),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_floats_are_taken),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_too_many_arguments),
        cmocka_unit_test(test_scratch),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_like_steps_are_one_graph),
        cmocka_unit_test(test_steps_among_others),
        cmocka_unit_test(test_graphs_are_bounded),
        cmocka_unit_test(test_empty_steps),
        cmocka_unit_test(test_scratch_grows_in_a_step),
        cmocka_unit_test(test_beside),
        cmocka_unit_test(test_many_beside),
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_bad_options),
#ifdef SIGHT_CUDA_SHIM
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_opening_without_memory),
        cmocka_unit_test(test_nearly_all_is_taken),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
