// The registry of models: what is loaded when, and told of it.
#include "model_loader.h"

#define THREE                                                                                      \
    "[model a]\nmodel = /fake/100\n" ON_USE "unload-after = 60\n[model b]\nmodel = /fake/100\n" ON_USE        \
    "[model c]\nmodel = /fake/bad\n" ON_USE

static void models_are_loaded_when_they_are_used(void **state)
{
    loader l;
    assert_ok(create(&l, THREE));
    assert_ok(models_open_first(l.m));
    assert_int_equal(l.opens, 0);
    model_use a, again, none = {0};
    assert_ok(use(&l, &a, NULL)); // the first one
    assert_string_equal(models_name(&a), "a");
    assert_string_equal(((fake *)(void *)a.engine)->model, "100");
    assert_int_equal(l.given, 1000 * MIB / 3);
    assert_ok(use(&l, &again, "/fake/100")); // by its folder
    assert_ptr_equal(again.engine, a.engine);
    assert_int_equal(l.opens, 1);
    assert_int_equal(models_state(l.m, "b"), MODEL_NOT_LOADED);
    assert_fails(models_begin(l.m, &none, "d"), SIGHT_E_NOT_FOUND, "this server has 'a', 'b', 'c'");
    assert_null(none.entry);
    models_end(l.m, &a);
    models_end(l.m, &again);
    models_end(l.m, &none);
    destroy(&l);
    assert_int_equal(l.closes, 1);
}

static void unused_models_age(void **state)
{
    loader l;
    assert_ok(create(&l, THREE));
    model_use a, b;
    assert_ok(use(&l, &a, "a"));
    assert_ok(use(&l, &b, "b"));
    set_now(&l, 1000);
    models_tick(l.m); // in use
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADED);
    models_end(l.m, &a);
    models_end(l.m, &b);
    set_now(&l, 1059);
    models_tick(l.m); // not yet
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADED);
    set_now(&l, 1061);
    models_tick(l.m);
    wait_for(&l, "a", MODEL_NOT_LOADED);
    assert_int_equal(models_state(l.m, "b"), MODEL_LOADED); // which does not
    assert_ok(use(&l, &a, "a")); // comes back
    assert_int_equal(l.opens, 3);
    models_end(l.m, &a);
    destroy(&l);
}

static void a_failed_one_is_tried_again_after_a_pause(void **state)
{
    loader l;
    assert_ok(create(&l, THREE));
    model_use c, b;
    assert_fails(use(&l, &c, "c"), SIGHT_E_MODEL, "'c' cannot be loaded, it is tried again in 30 s: it is damaged");
    models_end(l.m, &c);
    set_now(&l, 120);
    assert_fails(use(&l, &c, "c"), SIGHT_E_MODEL, "in 10 s");
    models_end(l.m, &c);
    assert_int_equal(l.opens, 1);
    set_now(&l, 131);
    assert_fails(use(&l, &c, "c"), SIGHT_E_MODEL, "in 30 s");
    models_end(l.m, &c);
    assert_int_equal(l.opens, 2);
    assert_ok(use(&l, &b, "b")); // others are not concerned
    models_end(l.m, &b);
    destroy(&l);
}

static void who_asks_while_it_loads_waits_for_the_same(void **state)
{
    loader l;
    assert_ok(create(&l, THREE));
    hold(&l, true);
    model_use first, second, left, other;
    assert_ok(models_begin(l.m, &first, "a"));
    wait_until_opening(&l);
    assert_ok(models_begin(l.m, &second, "a"));
    assert_ok(models_begin(l.m, &left, "a"));
    assert_ok(models_take(l.m, &first));
    assert_null(first.engine);
    assert_int_equal(models_state(l.m, "a"), MODEL_LOADING);
    assert_int_equal(models_percent(l.m, &first), 50);
    models_end(l.m, &left); // cancelled while it loads
    // One that nobody waits for any more is not begun.
    assert_ok(models_begin(l.m, &other, "b"));
    models_end(l.m, &other);
    hold(&l, false);
    wait_for(&l, "a", MODEL_LOADED);
    assert_ok(models_take(l.m, &first));
    assert_ok(models_take(l.m, &second));
    assert_non_null(first.engine);
    assert_ptr_equal(first.engine, second.engine);
    assert_int_equal(models_percent(l.m, &first), -1);
    models_end(l.m, &first);
    models_end(l.m, &second);
    assert_int_equal(l.opens, 1);
    destroy(&l);
}

static void it_ends_while_one_loads(void **state)
{
    loader l;
    assert_ok(create(&l, THREE));
    hold(&l, true);
    model_use a;
    assert_ok(models_begin(l.m, &a, "a"));
    wait_until_opening(&l);
    models_end(l.m, &a);
    destroy(&l); // though held
    assert_int_equal(l.opens, 1);
    assert_int_equal(l.closes, 0);
}

// 1,000 MiB: two of 450 fit, three do not.
static void another_configuration_is_taken_over(void **state)
{
    loader l;
    assert_ok(create(&l, BIG("a", "100") BIG("b", "100") BIG("c", "100")));
    model_use a, b, c, waits;
    assert_ok(use(&l, &a, "a"));
    assert_ok(use(&l, &b, "b"));
    assert_ok(use(&l, &c, "c"));
    models_end(l.m, &a);
    models_end(l.m, &c);
    const engine *same = b.engine;
    model_set set;
    read_set(&set, "[model b]\nmodel=/fake/100\nload = use\n[model c]\nmodel = /fake/150\nload = use\n"
                   "[model n]\nmodel = /fake/200\nload = use\n[router r]\nmodels = b, c\nrule = confidence 0.5\n");
    assert_ok(models_apply(l.m, &set));
    assert_fails(models_begin(l.m, &waits, "a"), SIGHT_E_NOT_FOUND, "has 'b', 'c', 'n', 'r'");
    model_use again;
    assert_ok(use(&l, &again, "b")); // unchanged, and still in use
    assert_ptr_equal(again.engine, same);
    models_end(l.m, &again);
    assert_ok(use(&l, &c, "c"));
    assert_string_equal(((fake *)(void *)c.engine)->model, "150");
    models_end(l.m, &c);
    router_spec r;
    assert_true(models_router(l.m, &r, "r"));
    assert_false(models_router(l.m, &r, NULL));
    // One of those that are loaded at start is, without a use.
    model_set_done(&set);
    read_set(&set, "[model b]\nmodel=/fake/100\nload = use\n[model n]\nmodel = /fake/200\nload = use\n"
                   "[model s]\nmodel = /fake/50\n");
    assert_ok(models_apply(l.m, &set));
    wait_for(&l, "s", MODEL_LOADED);
    // One that is in use when it goes serves to its end.
    assert_ok(use(&l, &c, "n"));
    model_set_done(&set);
    read_set(&set, "[model b]\nmodel=/fake/100\nload = use\n");
    assert_ok(models_apply(l.m, &set));
    assert_string_equal(((fake *)(void *)c.engine)->model, "200");
    assert_string_equal(models_name(&c), "n");
    models_end(l.m, &c);
    // What does not fit changes nothing.
    model_set_done(&set);
    read_set(&set, "[model x]\nmodel=/fake/1\nmemory = 2000M\n");
    assert_fails(models_apply(l.m, &set), SIGHT_E_MEMORY, "2000 MiB");
    assert_ok(use(&l, &again, "b"));
    assert_ptr_equal(again.engine, same);
    models_end(l.m, &again);
    models_end(l.m, &b);
    model_set_done(&set);
    destroy(&l);
    assert_int_equal(l.opens, l.closes);
}

static void what_there_is_is_told(void **state)
{
    loader l;
    assert_ok(create(&l, THREE "[router r]\nmodels = a, b\nrule = confidence 0.5\n"));
    model_use a, c;
    assert_ok(use(&l, &a, "a"));
    assert_int_equal(use(&l, &c, "c"), SIGHT_E_MODEL);
    models_end(l.m, &c);
    json_t *list = models_describe(l.m), *routers = models_describe_routers(l.m);
    const char *states[] = {"loaded", "not loaded", "failed"};
    assert_int_equal(json_array_size(list), 3);
    for (size_t i = 0; i < 3; i++) {
        const json_t *about = json_array_get(list, i);
        assert_string_equal(json_string_value(json_object_get(about, "state")), states[i]);
    }
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "fake")), "100");
    assert_int_equal(json_integer_value(json_object_get(json_array_get(list, 0), "users")), 1);
    assert_string_equal(json_string_value(json_object_get(json_array_get(list, 2), "error")), "it is damaged");
    assert_int_equal(json_array_size(routers), 1);
    json_decref(list);
    json_decref(routers);
    models_end(l.m, &a);
    destroy(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_are_loaded_when_they_are_used),
        cmocka_unit_test(unused_models_age),
        cmocka_unit_test(a_failed_one_is_tried_again_after_a_pause),
        cmocka_unit_test(who_asks_while_it_loads_waits_for_the_same),
        cmocka_unit_test(it_ends_while_one_loads),
        cmocka_unit_test(another_configuration_is_taken_over),
        cmocka_unit_test(what_there_is_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
