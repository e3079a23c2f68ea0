// The registry of models: who gets how much memory, who makes room for whom, and replicas that divide it.
#include "model_loader.h"

static void the_one_unused_for_longest_makes_room(void **state)
{
    loader l;
    assert_ok(create(&l, BIG("a", "450") BIG("b", "450") BIG("c", "450")));
    model_use a, b, c;
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.given, 1000 * MIB / 3 * 2); // its third was too small
    models_end(l.m, &a);
    assert_ok(use(&l, &b, "b"));
    assert_int_equal(models_state(l.m, "a"), MODEL_NOT_LOADED); // had too much of it
    models_end(l.m, &b);
    destroy(&l);
    assert_ok(create(&l, BIG("a", "300") BIG("b", "300") BIG("c", "600")));
    assert_ok(use(&l, &a, "a"));
    assert_ok(use(&l, &b, "b"));
    models_end(l.m, &b);
    set_now(&l, 200);
    models_end(l.m, &a);
    assert_ok(use(&l, &c, "c"));
    assert_int_equal(models_state(l.m, "b"), MODEL_NOT_LOADED); // left earlier
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADED);
    models_end(l.m, &c);
    destroy(&l);
    assert_ok(create(&l, BIG("a", "300") BIG("b", "1200")));
    assert_fails(use(&l, &b, "b"), SIGHT_E_MEMORY, "it needs 1200 MiB");
    models_end(l.m, &b);
    destroy(&l);
}

// A model in use, and another begun that there is no memory for beside it.
static void begin_beside(loader *l, model_use *a, model_use *b)
{
    assert_ok(create(l, BIG("a", "600") BIG("b", "600")));
    assert_ok(use(l, a, "a"));
    assert_ok(models_begin(l->m, b, "b"));
}

static void one_in_use_stays_and_who_waits_for_it_goes_first(void **state)
{
    loader l;
    model_use a, b, late;
    begin_beside(&l, &a, &b);
    // The registry has seen that it has to wait when a request that came later is told to.
    for (;;) {
        assert_ok(models_begin(l.m, &late, "a"));
        assert_ok(models_take(l.m, &late));
        if (!late.engine) break;
        models_end(l.m, &late);
    }
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADED);
    models_end(l.m, &a);
    wait_for(&l, "b", MODEL_LOADED);
    assert_ok(models_take(l.m, &late));
    assert_null(late.engine);
    assert_ok(models_take(l.m, &b)); // is not let go for the later one before it was used
    assert_non_null(b.engine);
    models_end(l.m, &b);
    wait_for(&l, "a", MODEL_LOADED);
    assert_ok(models_take(l.m, &late));
    assert_non_null(late.engine);
    models_end(l.m, &late);
    destroy(&l);
}

static void who_gives_up_waiting_for_memory_is_in_nobodys_way(void **state)
{
    loader l;
    model_use a, b, late;
    begin_beside(&l, &a, &b);
    models_end(l.m, &b);
    assert_ok(use(&l, &late, "a"));
    models_end(l.m, &late);
    models_end(l.m, &a);
    destroy(&l);
}

static void shares_are_kept_and_must_fit(void **state)
{
    loader l;
    assert_fails(create(&l, "[model a]\nmodel=/fake/1\nmemory = 60%\n[model b]\nmodel=/fake/1\nmemory=500M\n"),
                 SIGHT_E_MEMORY, "come to 1100 MiB (a 600, b 500), 1000 MiB are there");
    destroy(&l);
    assert_fails(create(&l, "memory = 800M\n[model a]\nmodel=/fake/1\nmemory = 100%\n[model b]\nmodel=/fake/1\n"),
                 SIGHT_E_MEMORY, "leave nothing of 800 MiB to 'b'");
    destroy(&l);
    assert_fails(create(&l, "[model a]\nmodel=/fake/1\ndevice=cuda:1\ndevice-memory=60%\n[model b]\nmodel=/fake/1\n"
                            "device=cuda:1\ndevice-memory=41%\n"),
                 SIGHT_E_MEMORY, "shares of the memory of cuda:1 come to");
    destroy(&l);
    assert_ok(create(&l, "[model a]\nmodel=/fake/100\nmemory=40%\n" ON_USE "[model b]\nmodel=/fake/100\n" ON_USE
                         "[model c]\nmodel=/fake/550\n" ON_USE "[model d]\nmodel=/fake/1\ndevice=cuda:0\n" ON_USE));
    model_use a, b, c, d;
    assert_ok(use(&l, &b, "b"));
    assert_int_equal(l.given, 300 * MIB);
    models_end(l.m, &b);
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.given, 400 * MIB);
    models_end(l.m, &a);
    assert_ok(use(&l, &c, "c"));
    assert_int_equal(l.given, 600 * MIB); // of 300
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADED); // unused, but it has a share
    assert_int_equal(models_state(l.m, "b"), MODEL_NOT_LOADED);
    assert_ok(use(&l, &d, "d")); // alone on its device: what is free
    assert_int_equal(l.given, 0);
    models_end(l.m, &c);
    models_end(l.m, &d);
    destroy(&l);
}

// One over two GPUs takes a part of each.
static void models_over_several_devices_share_each(void **state)
{
    loader l;
    assert_ok(create(&l, "device-memory = 900M\n[model both]\nmodel=/fake/100\ndevice=cuda:0,1\ndevice-memory=600M\n" ON_USE
                         "[model one]\nmodel=/fake/100\ndevice=cuda:1\n" ON_USE
                         "[model two]\nmodel=/fake/700\ndevice=cuda:0\n" ON_USE));
    model_use both, one, two;
    assert_ok(use(&l, &one, "one"));
    assert_int_equal(l.given, 300 * MIB);
    assert_ok(use(&l, &both, "both"));
    assert_int_equal(l.given, 600 * MIB);
    assert_fails(use(&l, &two, "two"), SIGHT_E_MEMORY, "it needs 700 MiB");
    assert_int_equal(l.given, 300 * MIB);
    models_end(l.m, &one);
    models_end(l.m, &both);
    models_end(l.m, &two);
    destroy(&l);
    assert_fails(create(&l, "[model a]\nmodel=/fake/1\ndevice=cuda:0,1\ndevice-memory=60%\n[model b]\nmodel=/fake/1\n"
                            "device=cuda:1\ndevice-memory=41%\n"),
                 SIGHT_E_MEMORY, "of the memory of cuda:1 come to");
    destroy(&l);
}

static void models_that_start_together_must_fit_together(void **state)
{
    loader l;
    assert_ok(create(&l, "[model a]\nmodel=/fake/600\n[model b]\nmodel=/fake/600\n[model c]\nmodel=/fake/1\n" ON_USE));
    assert_fails(models_open_first(l.m), SIGHT_E_MEMORY, "'b' does not fit beside those loaded before it: it needs 600 MiB");
    destroy(&l);
    assert_ok(create(&l, "[model a]\nmodel=/fake/300\n[model b]\nmodel=/fake/300\n[model c]\nmodel=/fake/1\n" ON_USE));
    assert_ok(models_open_first(l.m));
    assert_int_equal(l.opens, 2);
    destroy(&l);
    assert_ok(create(&l, "[model a]\nmodel=/fake/bad\n"));
    assert_fails(models_open_first(l.m), SIGHT_E_MODEL, "it is damaged");
    destroy(&l);
}

static void replicas_are_opened_together(void **state)
{
    loader l;
    assert_ok(create(&l, "[model a]\nmodel = /fake/100\nload = use\nunload-after = 60\ndevice = cuda:0/cuda:1\n"
                         "[model b]\nmodel = /fake/100\nload = use\ndevice = cuda:1\n"
                         "[model odd]\nmodel = /fake/odd\nload = use\ndevice = cuda:2/cuda:3\n"));
    model_use a, other;
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.opens, 2);
    assert_int_equal(l.given, 500 * MIB); // what is left on the second GPU, of each
    assert_int_equal(models_replicas(l.m, &a), 2);
    assert_ptr_equal(models_replica(l.m, &a, 0), a.engine);
    assert_non_null(models_replica(l.m, &a, 1));
    assert_ptr_not_equal(models_replica(l.m, &a, 1), a.engine);
    assert_null(models_replica(l.m, &a, 2));
    assert_null(models_replica(l.m, &a, -1));
    // None without the others.
    assert_fails(use(&l, &other, "odd"), SIGHT_E_MODEL, "the second is damaged");
    assert_int_equal(l.closes, 1);
    models_end(l.m, &other);
    json_t *list = models_describe(l.m), *first = json_array_get(list, 0);
    assert_int_equal(json_array_size(json_object_get(first, "replicas")), 2);
    assert_null(json_object_get(json_array_get(list, 1), "replicas"));
    json_decref(list);
    models_end(l.m, &a);
    set_now(&l, 1000);
    models_tick(l.m);
    wait_for(&l, "a", MODEL_NOT_LOADED);
    assert_int_equal(l.closes, 3);
    destroy(&l);
}

static void a_lost_replica_is_not_given_out(void **state)
{
    loader l;
    assert_ok(create(&l, "[model a]\nmodel = /fake/100\nload = use\nunload-after = 60\ndevice = cuda:0/cuda:1\n"));
    model_use a;
    bool news;
    assert_ok(use(&l, &a, "a"));
    engine *second = models_replica(l.m, &a, 1);
    assert_int_equal(models_lose(l.m, &a, 0, &news), 1);
    assert_true(news);
    assert_int_equal(models_lose(l.m, &a, 0, &news), 1);
    assert_false(news);
    assert_null(models_replica(l.m, &a, 0));
    assert_ptr_equal(models_replica(l.m, &a, 1), second);
    models_end(l.m, &a);
    // Nor is it opened again.
    set_now(&l, 1000);
    models_tick(l.m);
    wait_for(&l, "a", MODEL_NOT_LOADED);
    l.lone = true;
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.opens, 3);
    assert_null(models_replica(l.m, &a, 0));
    assert_ptr_equal(models_replica(l.m, &a, 1), a.engine);
    assert_int_equal(models_lose(l.m, &a, 1, &news), 0);
    models_end(l.m, &a);
    destroy(&l);
}

static void replicas_in_one_memory_divide_it(void **state)
{
    loader l;
    model_use a, b;
    assert_ok(create(&l, "[model a]\nmodel = /fake/100\nload = use\ndevice = cpu/cpu\n"));
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.given, 500 * MIB);
    models_end(l.m, &a);
    destroy(&l);
    assert_ok(create(&l, "memory = 1000M\n[model a]\nmodel = /fake/100\nload = use\ndevice = cpu/cpu/cpu\nmemory = 60%\n"
                         "[model b]\nmodel = /fake/100\nload = use\ndevice = cpu\n"));
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(l.given, 200 * MIB);
    assert_ok(use(&l, &b, "b"));
    assert_int_equal(l.given, 400 * MIB); // what is left
    models_end(l.m, &a);
    models_end(l.m, &b);
    destroy(&l);
    assert_fails(create(&l, "memory = 1000M\n[model a]\nmodel = /fake/100\ndevice = cpu/cpu\nmemory = 600M\n"
                            "[model b]\nmodel = /fake/100\ndevice = cpu\nmemory = 500M\n"), SIGHT_E_MEMORY, "a 600, b 500");
    destroy(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_one_unused_for_longest_makes_room),
        cmocka_unit_test(one_in_use_stays_and_who_waits_for_it_goes_first),
        cmocka_unit_test(who_gives_up_waiting_for_memory_is_in_nobodys_way),
        cmocka_unit_test(shares_are_kept_and_must_fit),
        cmocka_unit_test(models_over_several_devices_share_each),
        cmocka_unit_test(models_that_start_together_must_fit_together),
        cmocka_unit_test(replicas_are_opened_together),
        cmocka_unit_test(a_lost_replica_is_not_given_out),
        cmocka_unit_test(replicas_in_one_memory_divide_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
