// Words for devices, in every build: without CUDA, with GPUs (the shim pretends to have one), and without a GPU.
#include "support/test.h"

#include "kernels/memory.h"

static void test_words(void **state)
{
    device_id id = {DEVICE_CUDA, 7};
    assert_ok(device_parse(&id, "cpu", "device"));
    assert_int_equal(id.kind, DEVICE_CPU);
    assert_int_equal(id.index, 0);
    id = (device_id){DEVICE_CUDA, 7};
    static const char *const wrong[] = {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cuda: 1",
                                        "cuda:99999", "cuda 0", "cpu:0", "auto,cpu"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_fails(device_parse(&id, wrong[i], "--device"), SIGHT_E_ARGUMENT,
                     "must be auto, cpu, cuda or cuda:N");
        assert_non_null(strstr(sight_error(), "--device is '"));
        assert_int_equal(id.index, 7);
    }
}

static void test_gpus(void **state)
{
    device_id id;
    char text[16];
    const int n = device_gpus();
    assert_int_equal(n == 0, device_without_gpu() != NULL);
    assert_ok(device_parse(&id, "auto", "device"));
    if (n == 0) {
        assert_int_equal(id.kind, DEVICE_CPU);
        assert_fails(device_parse(&id, "cuda", "device"), SIGHT_E_UNSUPPORTED, device_without_gpu());
        assert_fails(device_parse(&id, "cuda:0", "device"), SIGHT_E_UNSUPPORTED, device_without_gpu());
        return;
    }
    assert_ok(device_parse(&id, "cuda", "device"));
    assert_int_equal(id.kind, DEVICE_CUDA);
    device_format(text, id);
    assert_string_equal(text, "cuda:0");
    assert_ok(device_parse(&id, "cuda:0", "device"));
    assert_fails(device_parse(&id, "cuda:99", "device"), SIGHT_E_UNSUPPORTED, "the last one here is cuda:");
}

static void test_lists(void **state)
{
    device_list list = {.n = -1};
    assert_ok(device_parse_list(&list, "cpu", "device"));
    assert_int_equal(list.n, 1);
    assert_int_equal(list.at[0].kind, DEVICE_CPU);
    static const char *const wrong[] = {"cuda:0,", "cuda:,1", "cuda:0,0", "cuda:0,1,0", "cuda:0 ,1", "cuda:0,x",
                                        "cuda:all,1", "cuda:0,-1", "cuda:0,99999", "cpu,cpu", "cuda:0;1", "cuda:0,1 ",
                                        "cuda:0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_fails(device_parse_list(&list, wrong[i], "--device"), SIGHT_E_ARGUMENT, "cuda:N,M or cuda:all");
        assert_fails(device_check_word(wrong[i], "--device"), SIGHT_E_ARGUMENT, "--device is '");
        assert_int_equal(list.n, 1);
    }
    assert_ok(device_check_word("cuda:3,1,15", "device"));
    assert_ok(device_check_word("cuda:all", "device"));
    device_id id;
    assert_fails(device_parse(&id, "cuda:0,1", "device"), SIGHT_E_ARGUMENT, "a single device");
    if (device_gpus() == 0) {
        assert_fails(device_parse_list(&list, "cuda:all", "device"), SIGHT_E_UNSUPPORTED, device_without_gpu());
        assert_fails(device_parse_list(&list, "cuda:0,1", "device"), SIGHT_E_UNSUPPORTED, device_without_gpu());
        return;
    }
    assert_fails(device_parse_list(&list, "cuda:0,99", "device"), SIGHT_E_UNSUPPORTED, "the last one here is cuda:");
    assert_int_equal(list.at[0].kind, DEVICE_CPU);
    assert_ok(device_parse_list(&list, "cuda:all", "device"));
    assert_int_equal(list.n, device_gpus());
    assert_ok(device_parse_list(&list, "cuda", "device"));
    assert_int_equal(list.n, 1);
    if (device_gpus() < 2) return;
    assert_ok(device_parse_list(&list, "cuda:1,0", "device"));
    assert_int_equal(list.n, 2);
    assert_int_equal(list.at[0].index, 1);
    assert_int_equal(list.at[1].index, 0);
}

static void test_sets(void **state)
{
    device_sets sets = {.n = -1};
    static const char *const wrong[][2] = {
        {"cpu/", "missing beside"},       {"/cpu", "missing beside"},          {"cpu//cpu", "missing beside"},
        {"/", "missing beside"},          {"cuda:0/cpu", "all on the CPU"},    {"cpu/cuda:1", "all on the CPU"},
        {"cuda:0/cuda:1,2", "as many"},   {"auto/cpu", "each named"},          {"cuda:0/cuda:all", "each named"},
        {"cuda:each/cpu", "each named"},  {"cuda:0/cuda:x", "must be auto"},   {"gpu/gpu", "must be auto"},
        {"cpu/cpu/cpu/cpu/cpu/cpu/cpu/cpu/cpu/cpu/cpu/cpu/cpu/cpu/cpu/cpu/cpu", "16 replicas"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_fails(device_check_sets(wrong[i][0], "--device"), SIGHT_E_ARGUMENT, wrong[i][1]);
        assert_fails(device_parse_sets(&sets, wrong[i][0], "--device"), SIGHT_E_ARGUMENT, wrong[i][1]);
    }
    assert_int_equal(sets.n, -1);
    assert_ok(device_check_sets("cuda:0,1/cuda:2,3", "device"));
    assert_ok(device_check_sets("cuda:each", "device"));
    assert_ok(device_check_sets("auto", "device"));
    assert_ok(device_parse_sets(&sets, "cpu", "device"));
    assert_int_equal(sets.n, 1);
    assert_ok(device_parse_sets(&sets, "cpu/cpu/cpu", "device"));
    assert_int_equal(sets.n, 3);
    assert_int_equal(sets.at[2].n, 1);
    assert_int_equal(sets.at[2].at[0].kind, DEVICE_CPU);
    if (device_gpus() == 0) {
        assert_fails(device_parse_sets(&sets, "cuda:each", "device"), SIGHT_E_UNSUPPORTED, device_without_gpu());
        assert_fails(device_parse_sets(&sets, "cuda:0/cuda:1", "device"), SIGHT_E_UNSUPPORTED, device_without_gpu());
        return;
    }
    assert_fails(device_parse_sets(&sets, "cuda:0/cuda:0", "device"), SIGHT_E_ARGUMENT, "named twice");
    assert_ok(device_parse_sets(&sets, "cuda:each", "device"));
    assert_int_equal(sets.n, device_gpus());
    assert_int_equal(sets.at[sets.n - 1].n, 1);
    if (device_gpus() < 2) return;
    assert_ok(device_parse_sets(&sets, "cuda:1/cuda:0", "device"));
    assert_int_equal(sets.n, 2);
    assert_int_equal(sets.at[0].at[0].index, 1);
    assert_int_equal(sets.at[1].at[0].index, 0);
    assert_fails(device_parse_sets(&sets, "cuda:0,1/cuda:1,0", "device"), SIGHT_E_ARGUMENT, "named twice");
}

static void test_format(void **state)
{
    char text[16];
    device_format(text, (device_id){DEVICE_CPU, 0});
    assert_string_equal(text, "cpu");
    device_format(text, (device_id){DEVICE_CUDA, 12});
    assert_string_equal(text, "cuda:12");
}

static void test_describe(void **state)
{
    device_info info = {.major = -1};
    assert_true(device_describe(&info, (device_id){DEVICE_CPU, 0}) == SIGHT_E_UNSUPPORTED);
    assert_true(device_describe(&info, (device_id){DEVICE_CUDA, 99}) == SIGHT_E_UNSUPPORTED);
    assert_int_equal(info.major, -1);
    if (device_gpus() == 0) return;
    assert_ok(device_describe(&info, (device_id){DEVICE_CUDA, 0}));
    assert_true(info.name[0] && info.major > 0 && info.processors > 0);
    assert_true(info.free_bytes >= 0 && info.free_bytes <= info.total_bytes);
}

static void test_no_such_object(void **state)
{
    kernels *k = NULL;
    const kernels_options o = {.threads = 1, .device = {DEVICE_CUDA, 99}};
    assert_fails(kernels_create(&k, &o), SIGHT_E_UNSUPPORTED, "cuda:99");
    assert_null(k);
}

// With the CPU all of kernels/memory.h is there too, and does the plain thing.
static void test_memory_of_the_cpu(void **state)
{
    kernels *k, *beside;
    const kernels_options o = {.threads = 1};
    char here[100], there[100];
    void *p;
    assert_ok(kernels_create(&k, &o));
    assert_false(kernels_on_device(k));
    assert_ok(kernels_create_beside(&beside, k));
    assert_ptr_equal(beside, k);
    assert_ok(kernels_alloc(&p, k, sizeof here, "a test"));
    memset(here, 5, sizeof here);
    kernels_step_begin(k);
    kernels_write(k, p, here, sizeof here);
    op_zero(k, p, 10);
    op_copy(k, (char *)p + 50, p, 20);
    assert_ok(kernels_step_end(k));
    kernels_after(k, beside);
    assert_ok(kernels_read(k, there, p, sizeof there));
    memset(here, 0, 10);
    memcpy(here + 50, here, 20);
    assert_memory_equal(here, there, sizeof here);
    assert_ok(kernels_read(k, NULL, NULL, 0));
    assert_ok(kernels_status(k));
    kernels_free(k, p);
    kernels_free(k, NULL);
    kernels_destroy_beside(&beside, k);
    assert_null(beside);
    kernels_destroy(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_words),          cmocka_unit_test(test_gpus),
                                       cmocka_unit_test(test_lists), cmocka_unit_test(test_sets), cmocka_unit_test(test_format),         cmocka_unit_test(test_describe),
                                       cmocka_unit_test(test_no_such_object), cmocka_unit_test(test_memory_of_the_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
