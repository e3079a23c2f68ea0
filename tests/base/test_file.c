#include "support/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

static void a_file_is_read_whole(void **state)
{
    char *path = test_write(test_folder(), "f", "a\0b", 3), *data = NULL;
    size_t n = 0;
    assert_ok(file_read(&data, &n, path, 3));
    assert_int_equal(n, 3);
    assert_memory_equal(data, "a\0b", 4);
    free(data);
    file_map m;
    assert_ok(file_map_open(&m, path));
    assert_int_equal(m.size, 3);
    assert_memory_equal(m.data, "a\0b", 3);
    file_map_close(&m);
    file_map_close(&m);
    free(path);
}

static void what_is_no_file_is_named(void **state)
{
    const char *folder = test_folder();
    char path[256], *data = NULL;
    size_t n;
    snprintf(path, sizeof path, "%s/none", folder);
    assert_fails(file_read(&data, &n, path, 10), SIGHT_E_NOT_FOUND, path);
    assert_fails(file_read(&data, &n, folder, 10), SIGHT_E_IO, "is a folder, not a file");
    assert_fails(file_read(&data, &n, "/dev/zero", 10), SIGHT_E_IO, "is a device or pipe");
    snprintf(path, sizeof path, "%s/fifo", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_fails(file_read(&data, &n, path, 10), SIGHT_E_IO, "is a device or pipe");
    char *big = test_write(folder, "big", "0123456789", 10);
    assert_fails(file_read(&data, &n, big, 9), SIGHT_E_LIMIT, "has 10 bytes, the limit is 9");
    free(big);
    assert_null(data);
}

static void an_empty_file_maps_to_nothing(void **state)
{
    char *path = test_write(test_folder(), "empty", "", 0);
    file_map m;
    assert_ok(file_map_open(&m, path));
    assert_int_equal(m.size, 0);
    file_map_close(&m);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_whole),
        cmocka_unit_test(what_is_no_file_is_named),
        cmocka_unit_test(an_empty_file_maps_to_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
