#include "support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "daemon/media/roots.h"

// base/media is allowed, base/secret is not:
//   media/a.txt, media/sub/b.txt, secret/s.txt
typedef struct place {
    char base[160], media[200], secret[200];
    roots *roots;
} place;

static char *under(const char *folder, const char *rest)
{
    static char kept[8][512];
    static int next;
    char *s = kept[next++ % 8];
    snprintf(s, sizeof kept[0], "%s/%s", folder, rest);
    return s;
}

static roots *allow(const char *folder)
{
    roots *r = NULL;
    assert_ok(roots_create(&r, &folder, 1, "media-root"));
    return r;
}

static int set_up(void **state)
{
    static place p;
    snprintf(p.base, sizeof p.base, "%s", test_folder());
    snprintf(p.media, sizeof p.media, "%s/media", p.base);
    snprintf(p.secret, sizeof p.secret, "%s/secret", p.base);
    assert_int_equal(mkdir(p.media, 0700) | mkdir(p.secret, 0700) | mkdir(under(p.media, "sub"), 0700), 0);
    free(test_write(p.media, "a.txt", "inside", 6));
    free(test_write(p.media, "sub/b.txt", "deeper", 6));
    free(test_write(p.secret, "s.txt", "secret", 6));
    p.roots = allow(p.media);
    *state = &p;
    return 0;
}

static int tear_down(void **state)
{
    place *p = *state;
    roots_destroy(&p->roots);
    roots_destroy(&p->roots);
    return 0;
}

typedef sight_err opening(const roots *r, int *fd, const char *path);

static void reads(opening *by, const roots *r, const char *path, const char *wanted)
{
    int fd = -1;
    char *text;
    size_t size;
    assert_ok(by(r, &fd, path));
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_ok(file_read_fd(&text, &size, fd, path, 100));
    assert_string_equal(text, wanted);
    free(text);
    close(fd);
}

static void refused(opening *by, const roots *r, const char *path, sight_err code, const char *says)
{
    int fd = -7;
    assert_fails(by(r, &fd, path), code, says);
    assert_int_equal(fd, -7);
}

static void outside(opening *by, const roots *r, const char *path)
{
    refused(by, r, path, SIGHT_E_PERMISSION, "is not below a folder that this server reads media from (media-root: ");
    assert_non_null(strstr(sight_error(), path));
}

static opening *const both[] = {roots_open, roots_open_by_steps};

static void what_lies_below_is_read_however_it_is_written(void **state)
{
    const place *p = *state;
    for (int i = 0; i < 2; i++) {
        reads(both[i], p->roots, under(p->media, "a.txt"), "inside");
        reads(both[i], p->roots, under(p->media, "sub/b.txt"), "deeper");
        reads(both[i], p->roots, under(p->media, "/.//sub/./b.txt"), "deeper");
        reads(both[i], p->roots, under(p->secret, "../media/a.txt"), "inside"); // a base_dir that lies elsewhere
        char begun[300]; // elsewhere, at a folder that is not there
        snprintf(begun, sizeof begun, "/nonexistent/..%s/a.txt", p->media);
        reads(both[i], p->roots, begun, "inside");
        refused(both[i], p->roots, under(p->media, "no.txt"), SIGHT_E_NOT_FOUND, "media/no.txt': No such file");
        refused(both[i], p->roots, under(p->media, "a.txt/b"), SIGHT_E_NOT_FOUND, "Not a directory");
    }
    reads(roots_open, p->roots, under(p->media, "sub/../a.txt"), "inside");
}

static void nothing_is_said_of_what_lies_outside(void **state)
{
    const place *p = *state;
    for (int i = 0; i < 2; i++) {
        const char *paths[] = {
            under(p->secret, "s.txt"), under(p->secret, "no.txt"), under(p->media, "../secret/s.txt"),
            under(p->media, "../secret/no.txt"), under(p->media, "sub/../../secret/s.txt"), "/etc/passwd",
        };
        for (size_t k = 0; k < sizeof paths / sizeof *paths; k++) outside(both[i], p->roots, paths[k]);
        outside(both[i], p->roots, p->media); // the folder itself
        outside(both[i], p->roots, "relative");
        outside(both[i], p->roots, "");
    }
    char like[300]; // a name that only begins alike
    snprintf(like, sizeof like, "%s-2", p->media);
    assert_int_equal(mkdir(like, 0700), 0);
    char *file = test_write(like, "a.txt", "x", 1);
    outside(roots_open, p->roots, file);
    free(file);
}

static void links_may_not_lead_out(void **state)
{
    const place *p = *state;
    const struct {
        const char *name, *to, *path, *inside; // inside: what is read where links are followed, NULL: leads out
    } links[] = {
        {"near", "a.txt", "near", "inside"},
        {"up", "sub/../sub/b.txt", "up", "deeper"},
        {"folder", "sub", "folder/b.txt", "deeper"},
        {"out", "../secret/s.txt", "out", NULL},
        {"gone", "../secret/no.txt", "gone", NULL},
        {"far", "/etc/passwd", "far", NULL},
        {"else", "../secret", "else/s.txt", NULL},
        {"back", "../media/a.txt", "back", NULL}, // a step outside, though it comes back
        {"top", "/", "top/etc/passwd", NULL},
    };
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        assert_int_equal(symlink(links[i].to, under(p->media, links[i].name)), 0);
        const char *path = under(p->media, links[i].path);
        outside(roots_open_by_steps, p->roots, path);
        if (links[i].inside) reads(roots_open, p->roots, path, links[i].inside);
        else outside(roots_open, p->roots, path);
    }
    assert_int_equal(symlink("round", under(p->media, "round")), 0);
    refused(roots_open, p->roots, under(p->media, "round"), SIGHT_E_PERMISSION, "too many symbolic links");
    outside(roots_open_by_steps, p->roots, under(p->media, "round"));
}

static void a_root_has_two_names_when_it_is_a_link(void **state)
{
    const place *p = *state;
    const char *name = under(p->base, "linked");
    assert_int_equal(symlink("media", name), 0);
    roots *r = allow(name);
    reads(roots_open, r, under(p->base, "linked/a.txt"), "inside");
    reads(roots_open, r, under(p->media, "a.txt"), "inside");
    outside(roots_open, r, under(p->secret, "s.txt"));
    roots_destroy(&r);
}

static void a_root_stays_the_folder_that_it_was(void **state)
{
    const place *p = *state;
    char *moved = strdup(under(p->base, "moved"));
    char *own = strdup(under(p->base, "own"));
    assert_int_equal(mkdir(own, 0700), 0);
    free(test_write(own, "a.txt", "mine", 4));
    roots *r = allow(own);
    assert_int_equal(rename(own, moved), 0);
    assert_int_equal(symlink(p->secret, own), 0);
    outside(roots_open, r, moved);
    refused(roots_open, r, under(own, "s.txt"), SIGHT_E_NOT_FOUND, "s.txt");
    reads(roots_open, r, under(own, "a.txt"), "mine");
    roots_destroy(&r);
    free(moved);
    free(own);
}

static void a_way_may_stay_below_another_root(void **state)
{
    const place *p = *state;
    char *inner = strdup(under(p->media, "inner"));
    assert_int_equal(mkdir(inner, 0700), 0);
    assert_int_equal(symlink("../a.txt", under(inner, "link")), 0);
    const char *paths[] = {inner, p->media};
    roots *r = NULL;
    assert_ok(roots_create(&r, paths, 2, "media-root"));
    reads(roots_open, r, under(inner, "link"), "inside");
    reads(roots_open, r, under(p->media, "a.txt"), "inside");
    outside(roots_open, r, under(p->secret, "s.txt"));
    assert_non_null(strstr(sight_error(), "inner, "));
    roots_destroy(&r);
    r = allow(inner);
    outside(roots_open, r, under(inner, "link"));
    roots_destroy(&r);
    free(inner);
}

static void only_files_are_opened(void **state)
{
    const place *p = *state;
    assert_int_equal(mkfifo(under(p->media, "pipe"), 0600), 0);
    roots *dev = allow("/dev");
    for (int i = 0; i < 2; i++) {
        refused(both[i], p->roots, under(p->media, "pipe"), SIGHT_E_IO, "pipe' is a device or pipe, not a file");
        refused(both[i], p->roots, under(p->media, "sub"), SIGHT_E_IO, "sub' is a folder, not a file");
        refused(both[i], dev, "/dev/null", SIGHT_E_IO, "is a device or pipe");
    }
    refused(roots_open, NULL, under(p->media, "pipe"), SIGHT_E_IO, "is a device or pipe");
    refused(roots_open, NULL, "/dev/null", SIGHT_E_IO, "is a device or pipe");
    roots_destroy(&dev);
}

static void what_the_kernel_makes_up_is_none(void **state)
{
    roots *all = allow("/"), *proc = allow("/proc");
    refused(roots_open, all, "/proc/self/environ", SIGHT_E_PERMISSION, "made up by the kernel");
    refused(roots_open, proc, "/proc/self/maps", SIGHT_E_PERMISSION, "made up by the kernel");
    refused(roots_open, NULL, "/proc/self/environ", SIGHT_E_PERMISSION, "made up by the kernel");
    refused(roots_open, all, "/proc/self/exe", SIGHT_E_PERMISSION, "one of /proc"); // leads anywhere
    refused(roots_open_by_steps, all, "/proc/self/exe", SIGHT_E_PERMISSION, "is not below");
    refused(roots_open, all, "/", SIGHT_E_PERMISSION, "is not below");
    roots_destroy(&all);
    roots_destroy(&proc);
}

static void what_was_opened_is_what_is_read(void **state)
{
    const place *p = *state;
    char *path = test_write(p->media, "now.txt", "first", 5), *text;
    size_t size;
    int fd;
    assert_ok(roots_open(p->roots, &fd, path));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(symlink(under(p->secret, "s.txt"), path), 0);
    for (int i = 0; i < 2; i++) { // wherever its offset is
        assert_ok(file_read_fd(&text, &size, fd, path, 100));
        assert_string_equal(text, "first");
        free(text);
        lseek(fd, 3, SEEK_SET);
    }
    assert_fails(file_read_fd(&text, &size, fd, path, 4), SIGHT_E_LIMIT, "has 5 bytes, the limit is 4");
    close(fd);
    outside(roots_open, p->roots, path);
    free(path);
}

typedef struct swapping {
    const place *place;
    atomic_bool stop;
} swapping;

// "turn" is a folder inside, or a link to the secret one, in turns.
static void *swap(void *arg)
{
    swapping *s = arg;
    char *turn = strdup(under(s->place->media, "turn")), *other = strdup(under(s->place->media, "other"));
    while (!atomic_load(&s->stop)) {
        rename(turn, other);
        if (symlink("../secret", turn)) break;
        unlink(turn);
        rename(other, turn);
    }
    free(turn);
    free(other);
    return NULL;
}

static void a_race_does_not_lead_out(void **state)
{
    const place *p = *state;
    swapping s = {.place = p};
    pthread_t thread;
    char *turn = strdup(under(p->media, "turn")), *path = strdup(under(turn, "s.txt"));
    assert_int_equal(mkdir(turn, 0700), 0);
    free(test_write(turn, "s.txt", "inside", 6));
    assert_int_equal(pthread_create(&thread, NULL, swap, &s), 0);
    int right = 0;
    for (int i = 0; i < 4000; i++) {
        int fd;
        char *text;
        size_t size;
        sight_err err = both[i % 2](p->roots, &fd, path);
        if (err) {
            assert_true(err == SIGHT_E_PERMISSION || err == SIGHT_E_NOT_FOUND);
            continue;
        }
        assert_ok(file_read_fd(&text, &size, fd, path, 100));
        assert_string_equal(text, "inside");
        free(text);
        close(fd);
        right++;
    }
    atomic_store(&s.stop, true);
    pthread_join(thread, NULL);
    print_message("%d of 4000 openings found the folder in place\n", right);
    free(turn);
    free(path);
}

static void without_roots_nothing_or_anything(void **state)
{
    const place *p = *state;
    roots *none = NULL;
    assert_ok(roots_create(&none, NULL, 0, "media-root"));
    refused(roots_open, none, under(p->media, "a.txt"), SIGHT_E_PERMISSION, "names no folder");
    refused(roots_open, none, "/nonexistent", SIGHT_E_PERMISSION, "names no folder");
    roots_destroy(&none);
    reads(roots_open, NULL, under(p->secret, "s.txt"), "secret");
    refused(roots_open, NULL, "/nonexistent/a", SIGHT_E_NOT_FOUND, "/nonexistent/a");
    refused(roots_open, NULL, p->media, SIGHT_E_IO, "is a folder");
}

static void roots_that_are_none_are_refused(void **state)
{
    const place *p = *state;
    const struct {
        const char *path, *says;
    } wrong[] = {
        {"media", "media-root 'media' must be an absolute path"},
        {"", "media-root '' must be an absolute path"},
        {"/nonexistent/x", "media-root '/nonexistent/x' cannot be opened: No such file"},
        {under(p->media, "a.txt"), "cannot be opened: Not a directory"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *paths[] = {p->media, wrong[i].path};
        roots *r = NULL;
        assert_fails(roots_create(&r, paths, 2, "media-root"), SIGHT_E_ARGUMENT, wrong[i].says);
        assert_null(r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_lies_below_is_read_however_it_is_written),
        cmocka_unit_test(nothing_is_said_of_what_lies_outside),
        cmocka_unit_test(links_may_not_lead_out),
        cmocka_unit_test(a_root_has_two_names_when_it_is_a_link),
        cmocka_unit_test(a_root_stays_the_folder_that_it_was),
        cmocka_unit_test(a_way_may_stay_below_another_root),
        cmocka_unit_test(only_files_are_opened),
        cmocka_unit_test(what_the_kernel_makes_up_is_none),
        cmocka_unit_test(what_was_opened_is_what_is_read),
        cmocka_unit_test(a_race_does_not_lead_out),
        cmocka_unit_test(without_roots_nothing_or_anything),
        cmocka_unit_test(roots_that_are_none_are_refused),
    };
    return cmocka_run_group_tests_name("daemon/media/roots", tests, set_up, tear_down);
}
