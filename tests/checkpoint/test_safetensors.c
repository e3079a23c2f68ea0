// The file format: round trips, every kind of damage, and writing where it cannot be done.
#include "support/test.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "checkpoint/safetensors.h"

// A file of that header and so many data bytes, as bytes (malloc).
static char *file_of(const char *header, size_t data, size_t *size)
{
    size_t n = strlen(header), padded = (n + 7) / 8 * 8;
    char *bytes = calloc(1, 8 + padded + data + 1);
    memset(bytes + 8, ' ', padded);
    memcpy(bytes + 8, header, n);
    memcpy(bytes, &padded, 8);
    *size = 8 + padded + data;
    return bytes;
}

static void refuse(const char *header, size_t data, const char *sentence)
{
    size_t size;
    char *bytes = file_of(header, data, &size);
    safetensors *s = NULL;
    assert_fails(safetensors_parse(&s, bytes, size, "x.safetensors"), SIGHT_E_MODEL, sentence);
    assert_null(s);
    free(bytes);
}

static void reads_all_forms(void **state)
{
    size_t size;
    const char *header =
        "{\"__metadata__\": {\"format\": \"pt\"},"
        "\"b\": {\"dtype\": \"BF16\", \"shape\": [2, 3], \"data_offsets\": [8, 20]},"
        "\"a\": {\"dtype\": \"I64\", \"shape\": [], \"data_offsets\": [0, 8]},"
        "\"q\": {\"dtype\": \"F8_E4M3\", \"shape\": [3], \"data_offsets\": [20, 23]},"
        "\"n\": {\"dtype\": \"NEW\", \"shape\": [1], \"data_offsets\": [23, 24]},"
        "\"e\": {\"dtype\": \"F32\", \"shape\": [0, 4], \"data_offsets\": [24, 24]}}";
    char *bytes = file_of(header, 24, &size);
    safetensors *s = NULL;
    tensor_view v;
    assert_ok(safetensors_parse(&s, bytes, size, "x"));
    assert_int_equal(safetensors_count(s), 5);
    assert_string_equal(safetensors_name(s, 0), "a");
    assert_string_equal(safetensors_name(s, 4), "q");
    assert_int_equal(safetensors_find(s, "b"), 1);
    assert_int_equal(safetensors_find(s, "c"), -1);
    assert_true(safetensors_view(s, &v, 1));
    assert_int_equal(v.type, TENSOR_BF16);
    assert_int_equal(v.shape[1], 3);
    assert_true(safetensors_view(s, &v, 0));
    assert_int_equal(tensor_count(&v), 1);
    assert_true(safetensors_view(s, &v, 4));
    assert_int_equal(v.type, TENSOR_U8);
    assert_string_equal(safetensors_dtype(s, 4), "F8_E4M3");
    assert_false(safetensors_view(s, &v, 3));
    safetensors_close(&s);
    safetensors_close(&s);
    free(bytes);
}

#define A "\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [0, 8]}"

static void damage(void **state)
{
    refuse("{" A "}", 4, "'x.safetensors' is truncated: tensor 'a' ends at byte");
    refuse("{" A "}", 12, "4 bytes at the end belong to no tensor");
    refuse("{" A ", \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [4, 8]}}", 8,
           "tensors 'a' and 'b' overlap");
    refuse("{" A ", \"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [12, 16]}}", 16,
           "4 bytes in front of tensor 'b' belong to no tensor");
    refuse("{\"a\": {\"dtype\": \"F32\", \"shape\": [3], \"data_offsets\": [0, 8]}}", 8,
           "tensor 'a' spans 8 bytes, its shape and dtype F32 need 12");
    refuse("{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 8]}}", 8,
           "tensor 'a' has an impossible shape");
    refuse("{\"a\": {\"dtype\": \"F32\", \"shape\": [4611686018427387904, 4611686018427387904],"
           " \"data_offsets\": [0, 8]}}", 8, "tensor 'a' has an impossible shape");
    refuse("{\"a\": {\"dtype\": \"F32\", \"shape\": [2], \"data_offsets\": [8, 0]}}", 8,
           "tensor 'a' has no proper dtype");
    refuse("{\"a\": {\"dtype\": \"F32\", \"shape\": [2]}}", 8, "tensor 'a' has no proper dtype");
    refuse("{\"a\": 3}", 8, "tensor 'a' has no proper dtype");
    refuse("{" A ", " A "}", 8, "not valid JSON");
    refuse("{\"a\": ", 8, "not valid JSON");
    refuse("[1, 2]  ", 8, "'x.safetensors' is not a safetensors file");
    refuse("{\"u\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]},"
           " \"a\": {\"dtype\": \"BF16\", \"shape\": [1], \"data_offsets\": [1, 3]}}", 3,
           "tensor 'a' does not start at a multiple of its 2-byte elements");
    safetensors *s = NULL;
    assert_fails(safetensors_parse(&s, "", 0, "x"), SIGHT_E_MODEL, "'x' is empty");
    assert_fails(safetensors_parse(&s, "\377\377\377\377\377\377\377\377{}", 10, "x"),
                 SIGHT_E_MODEL, "'x' is not a safetensors file");
    assert_fails(safetensors_parse(&s, "\200\0\0\0\0\0\0\0{}", 10, "x"), SIGHT_E_MODEL,
                 "'x' is truncated: the header ends at byte 136, the file has 10");
    assert_fails(safetensors_open(&s, "/no/such"), SIGHT_E_NOT_FOUND, "/no/such");
    assert_fails(safetensors_open(&s, "/tmp"), SIGHT_E_IO, "is a folder");
}

// ---- writing ----

static const float floats[] = {1, 2, 3, 4, 5, 6};
static const uint8_t bytes3[] = {7, 8, 9};
static const int64_t longs[] = {-1};

static const safetensors_entry entries[] = {
    {"third", {bytes3, TENSOR_U8, 1, {3}}},
    {"first \"quoted\"", {floats, TENSOR_F32, 2, {2, 3}}},
    {"second", {longs, TENSOR_I64, 0, {0}}},
};

static char *path_in(const char *folder, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return strdup(path);
}

static int files_in(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; (e = readdir(d));) n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void round_trip(void **state)
{
    const char *folder = test_folder();
    char *path = path_in(folder, "out.safetensors");
    safetensors *s = NULL;
    tensor_view v;
    for (int i = 0; i < 2; i++) { // the second time it replaces the first
        assert_ok(safetensors_write(path, entries + i, 3 - (size_t)i));
        assert_int_equal(files_in(folder), 1);
    }
    assert_ok(safetensors_write(path, entries, 3));
    assert_ok(safetensors_open(&s, path));
    assert_int_equal(safetensors_count(s), 3);
    int64_t i = safetensors_find(s, "first \"quoted\"");
    assert_true(i >= 0 && safetensors_view(s, &v, (size_t)i));
    assert_int_equal(v.shape[1], 3);
    assert_memory_equal(v.data, floats, sizeof floats);
    assert_true(safetensors_view(s, &v, (size_t)safetensors_find(s, "third")));
    assert_memory_equal(v.data, bytes3, 3);
    safetensors_close(&s);
    assert_ok(safetensors_write(path, NULL, 0));
    assert_ok(safetensors_open(&s, path));
    assert_int_equal(safetensors_count(s), 0);
    assert_int_equal(safetensors_find(s, "a"), -1);
    safetensors_close(&s);
    free(path);
}

static void cannot_write(void **state)
{
    const char *folder = test_folder();
    char *missing = path_in(folder, "none/out.safetensors");
    assert_fails(safetensors_write(missing, entries, 3), SIGHT_E_NOT_FOUND, missing);
    assert_fails(safetensors_write(folder, entries, 3), SIGHT_E_IO, "it is a folder");
    free(missing);
    const safetensors_entry twice[] = {entries[0], entries[0]};
    char *path = path_in(folder, "out.safetensors");
    assert_fails(safetensors_write(path, twice, 2), SIGHT_E_INTERNAL, "written twice");
    if (geteuid()) {
        assert_int_equal(chmod(folder, 0500), 0);
        assert_fails(safetensors_write(path, entries, 3), SIGHT_E_PERMISSION, path);
        assert_int_equal(chmod(folder, 0700), 0);
    }
    assert_int_equal(files_in(folder), 0);
    free(path);
}

static void full_device(void **state)
{
    struct stat before, after;
    if (stat("/dev/full", &before) || !S_ISCHR(before.st_mode)) skip();
    assert_fails(safetensors_write("/dev/full", entries, 3), SIGHT_E_IO,
                 "cannot write '/dev/full': No space left on device");
    assert_int_equal(stat("/dev/full", &after), 0);
    assert_true(S_ISCHR(after.st_mode) && before.st_ino == after.st_ino); // not replaced
    assert_ok(safetensors_write("/dev/null", entries, 3));
}

// A limit on the file's size stands for a disk that fills up half way.
static void disk_full(void **state)
{
    const char *folder = test_folder();
    char *path = path_in(folder, "out.safetensors"), *text;
    char *zeros = calloc(1, 100000);
    const safetensors_entry big = {"big", {zeros, TENSOR_U8, 1, {100000}}};
    struct rlimit old, small;
    size_t n;
    free(test_write(folder, "out.safetensors", "before", 6));
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = (struct rlimit){20000, old.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    sight_err err = safetensors_write(path, &big, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(err, SIGHT_E_IO);
    assert_non_null(strstr(sight_error(), path));
    assert_int_equal(files_in(folder), 1); // no temporary left, the old file is whole
    assert_ok(file_read(&text, &n, path, 100));
    assert_string_equal(text, "before");
    free(text);
    free(path);
    free(zeros);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_all_forms), cmocka_unit_test(damage),
        cmocka_unit_test(round_trip),      cmocka_unit_test(cannot_write),
        cmocka_unit_test(full_device),     cmocka_unit_test(disk_full),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
