// The folder that outlives the daemon: what is found again, what is not believed, and what goes first.
#include "support/test.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/store/disk.h"

static disk *open_store(const char *folder, int64_t budget)
{
    disk *d;
    assert_ok(disk_open(&d, folder, budget));
    return d;
}

static disk_item item_of(disk_kind kind, uint8_t number, int32_t from, int32_t to)
{
    return (disk_item){.kind = kind, .name = {number, 7}, .scope = {9}, .from = from, .to = to};
}

static void put(disk *d, const disk_item *item, size_t size)
{
    blob *b = blob_create(size);
    assert_non_null(b);
    for (size_t i = 0; i < size; i++) b->data[i] = (unsigned char)(item->name[0] + i * 31);
    disk_put(d, item, b);
    blob_unref(&b);
}

// Its bytes as put, or NULL.
static blob *get(disk *d, const disk_item *item)
{
    disk_load *l = disk_load_begin(d, item, 1 << 20);
    blob *b = NULL;
    if (!l) return NULL;
    while (!disk_load_poll(l, 1000, &b)) continue;
    disk_load_end(&l);
    for (size_t i = 0; b && i < b->size; i++) {
        assert_int_equal(b->data[i], (unsigned char)(item->name[0] + i * 31));
    }
    return b;
}

static bool comes(disk *d, const disk_item *item)
{
    blob *b = get(d, item);
    const bool here = b != NULL;
    blob_unref(&b);
    return here;
}

static void path_of(char out[512], const char *folder, const disk_item *item)
{
    char name[DISK_NAME_SIZE];
    disk_file_name(name, item);
    snprintf(out, 512, "%s/%s", folder, name);
}

static char *new_folder(const char *name)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", test_folder(), name);
    return path;
}

static void things_come_back(void **state)
{
    const char *folder = new_folder("back");
    disk *d = open_store(folder, 1 << 20);
    uint8_t key[SIPHASH_KEY_BYTES];
    memcpy(key, disk_key(d), sizeof key);
    const disk_item pages = item_of(DISK_PAGES, 1, 64, 300), rows = item_of(DISK_ROWS, 1, 0, 0);
    const disk_item empty = item_of(DISK_STATES, 3, 0, 300);
    put(d, &pages, 5000);
    assert_true(comes(d, &pages)); // waiting or written
    put(d, &rows, 100000);
    put(d, &empty, 0);
    assert_false(comes(d, &(disk_item){.kind = DISK_STATES, .name = {1, 7}, .scope = {9}, .from = 64, .to = 300}));
    disk_close(&d);
    struct stat st;
    char path[512];
    path_of(path, folder, &pages);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_size, 5000 + DISK_HEAD_BYTES);
    snprintf(path, sizeof path, "%s/key", folder);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);

    d = open_store(folder, 1 << 20);
    assert_memory_equal(disk_key(d), key, sizeof key);
    int32_t from = 0, *lengths, n;
    assert_true(disk_has(d, DISK_PAGES, pages.name, &from));
    assert_int_equal(from, 64);
    assert_ok(disk_lengths(d, DISK_PAGES, &lengths, &n));
    assert_int_equal(n, 1);
    assert_int_equal(lengths[0], 300);
    free(lengths);
    assert_true(comes(d, &pages) && comes(d, &rows) && comes(d, &empty));
    disk_forget(d, DISK_PAGES, pages.name);
    assert_false(comes(d, &pages));
    assert_null(disk_warning(d));
    disk_close(&d);
    d = open_store(folder, 1 << 20);
    assert_false(comes(d, &pages));
    assert_true(comes(d, &rows));
    disk_close(&d);
}

static void one_daemon_at_a_time(void **state)
{
    const char *folder = new_folder("locked");
    disk *d = open_store(folder, 1000), *second;
    assert_fails(disk_open(&second, folder, 1000), SIGHT_E_BUSY, "in use by another");
    disk_close(&d);
    assert_int_equal(chmod(folder, 0777), 0);
    assert_fails(disk_open(&second, folder, 1000), SIGHT_E_PERMISSION, "writable by nobody else");
    assert_int_equal(chmod(folder, 0700), 0);
    char key[512];
    snprintf(key, sizeof key, "%s/key", folder);
    assert_int_equal(chmod(key, 0644), 0);
    assert_fails(disk_open(&second, folder, 1000), SIGHT_E_PERMISSION, "may be read by others");
    char *file = test_write(test_folder(), "file", "x", 1);
    assert_true(disk_open(&second, file, 1000) != SIGHT_OK);
    free(file);
    assert_true(disk_open(&second, "/nonexistent/store", 1000) != SIGHT_OK);
}

static void flip(const char *path, off_t at)
{
    const int fd = open(path, O_RDWR);
    unsigned char c = 0;
    assert_true(fd >= 0 && pread(fd, &c, 1, at) == 1);
    c ^= 4;
    assert_int_equal(pwrite(fd, &c, 1, at), 1);
    close(fd);
}

static void check_unbelieved(const char *folder, const disk_item *item, int expect_damage)
{
    disk *d = open_store(folder, 1 << 20);
    assert_false(comes(d, item));
    assert_false(disk_has(d, item->kind, item->name, NULL));
    char *line = disk_warning(d), *more = disk_warning(d);
    assert_int_equal(line != NULL, expect_damage);
    assert_null(more);
    if (line) assert_non_null(strstr(line, "damaged"));
    free(line);
    assert_int_equal(disk_get_usage(d).damaged, expect_damage);
    put(d, item, 3000); // and made again
    disk_close(&d);
}

static void damage_is_noticed(void **state)
{
    const char *folder = new_folder("damage");
    const disk_item item = item_of(DISK_PAGES, 5, 0, 100);
    char path[512];
    path_of(path, folder, &item);
    disk *d = open_store(folder, 1 << 20);
    put(d, &item, 3000);
    disk_close(&d);
    for (off_t at = 0; at < DISK_HEAD_BYTES; at += 3) { // every field of the head
        flip(path, at);
        check_unbelieved(folder, &item, 1);
    }
    static const off_t places[] = {DISK_HEAD_BYTES, DISK_HEAD_BYTES + 1500, DISK_HEAD_BYTES + 2999};
    for (size_t i = 0; i < 3; i++) {
        flip(path, places[i]);
        check_unbelieved(folder, &item, 1);
    }
    static const off_t sizes[] = {0, 10, DISK_HEAD_BYTES, 2000, 3000 + DISK_HEAD_BYTES + 1};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        assert_int_equal(truncate(path, sizes[i]), 0);
        check_unbelieved(folder, &item, 1);
    }
    // Another item's file under this name.
    const disk_item other = item_of(DISK_PAGES, 6, 0, 100);
    char from[512];
    d = open_store(folder, 1 << 20);
    put(d, &other, 3000);
    disk_close(&d);
    path_of(from, folder, &other);
    assert_int_equal(rename(from, path), 0);
    check_unbelieved(folder, &item, 1);
    // A pipe, a link, a folder: not even a file.
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    d = open_store(folder, 1 << 20);
    assert_false(comes(d, &item));
    char *line = disk_warning(d);
    assert_non_null(line);
    assert_non_null(strstr(line, "not its own"));
    free(line);
    disk_close(&d);
    assert_int_equal(unlink(path), 0);
    // Without its key nothing is believed.
    d = open_store(folder, 1 << 20);
    put(d, &item, 3000);
    disk_close(&d);
    snprintf(from, sizeof from, "%s/key", folder);
    assert_int_equal(truncate(from, 3), 0);
    check_unbelieved(folder, &item, 1);
}

static void strangers_are_left_alone(void **state)
{
    const char *folder = new_folder("strangers");
    disk *d = open_store(folder, 1 << 20);
    disk_close(&d);
    static const char *const names[] = {
        "README", "0123.pages", "00000000000000000000000000000001-0-5.page", "new-x",
        "00000000000000000000000000000001-5-1.pages", "00000000000000000000000000000001--1-5.pages",
        "00000000000000000000000000000001-00-5.pages", "0000000000000000000000000000000G-0-5.pages",
    };
    const int n = sizeof names / sizeof *names;
    for (int i = 0; i < n; i++) free(test_write(folder, names[i], "hello", 5));
    d = open_store(folder, 1 << 20);
    assert_int_equal(disk_get_usage(d).items, 0);
    char *line = disk_warning(d);
    assert_non_null(line);
    assert_non_null(strstr(line, "holds 7 files"));
    free(line);
    disk_close(&d);
    for (int i = 0; i < n; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        assert_int_equal(access(path, F_OK) == 0, strncmp(names[i], "new-", 4) != 0);
    }
}

static void the_budget_holds_over_restarts(void **state)
{
    const char *folder = new_folder("budget");
    const int64_t one = 1000 + DISK_HEAD_BYTES;
    disk *d = open_store(folder, 3 * one);
    disk_item items[5];
    for (int i = 0; i < 5; i++) items[i] = item_of(DISK_ROWS, (uint8_t)(10 + i), 0, 0);
    for (int i = 0; i < 3; i++) {
        put(d, &items[i], 1000);
        disk_settle(d);
        char path[512]; // times of change may be alike where the clock is coarse
        path_of(path, folder, &items[i]);
        const struct timespec times[2] = {{.tv_sec = 1000 + i}, {.tv_sec = 1000 + i}};
        assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    }
    assert_true(comes(d, &items[0])); // used: younger than the others now
    const disk_item large = item_of(DISK_ROWS, 99, 0, 0);
    put(d, &large, 4000); // fits nowhere, and drives nothing out
    disk_settle(d);
    assert_int_equal(disk_get_usage(d).items, 3);
    disk_close(&d);

    d = open_store(folder, 3 * one);
    assert_int_equal(disk_get_usage(d).bytes, 3 * one);
    put(d, &items[3], 1000);
    disk_settle(d);
    assert_false(comes(d, &items[1]));
    assert_true(comes(d, &items[0]) && comes(d, &items[2]) && comes(d, &items[3]));
    assert_int_equal(disk_get_usage(d).evicted, 1);
    disk_close(&d);

    d = open_store(folder, one); // a smaller budget than there is
    assert_int_equal(disk_get_usage(d).items, 1);
    assert_true(comes(d, &items[3]));
    disk_close(&d);
}

// The limit on a file's size stands for a full disk.
static void a_full_disk_is_a_warning(void **state)
{
    const char *folder = new_folder("full");
    disk *d = open_store(folder, 1 << 20);
    const disk_item small = item_of(DISK_ROWS, 20, 0, 0), large = item_of(DISK_ROWS, 21, 0, 0);
    struct rlimit before, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 10000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    put(d, &large, 50000);
    put(d, &small, 1000);
    disk_settle(d);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_false(comes(d, &large));
    assert_true(comes(d, &small));
    char *line = disk_warning(d);
    assert_non_null(line);
    assert_non_null(strstr(line, "cannot write"));
    free(line);
    assert_int_equal(disk_get_usage(d).failed, 1);
    put(d, &large, 50000); // there is room again
    disk_settle(d);
    assert_true(comes(d, &large));
    assert_null(disk_warning(d));
    disk_close(&d);
    d = open_store(folder, 1 << 20);
    assert_int_equal(disk_get_usage(d).items, 2);
    assert_null(disk_warning(d));
    disk_close(&d);
}

static void loads_may_be_given_up(void **state)
{
    const char *folder = new_folder("given-up");
    disk *d = open_store(folder, 1 << 22);
    const disk_item item = item_of(DISK_ROWS, 30, 0, 0);
    put(d, &item, 100000);
    disk_settle(d);
    for (int i = 0; i < 50; i++) {
        disk_load *l = disk_load_begin(d, &item, 1 << 20);
        assert_non_null(l);
        disk_load_end(&l);
    }
    disk_load *l = disk_load_begin(d, &item, 1000); // more than wanted: not had
    blob *b = NULL;
    while (!disk_load_poll(l, 1000, &b)) continue;
    disk_load_end(&l);
    assert_null(b);
    disk_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(things_come_back),
        cmocka_unit_test(one_daemon_at_a_time),
        cmocka_unit_test(damage_is_noticed),
        cmocka_unit_test(strangers_are_left_alone),
        cmocka_unit_test(the_budget_holds_over_restarts),
        cmocka_unit_test(a_full_disk_is_a_warning),
        cmocka_unit_test(loads_may_be_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
