// Finding a model by name in caches laid out as huggingface_hub and modelscope do.
#include "support/test.h"

#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

#include "checkpoint/checkpoint.h"

static const char *const variables[] = {"HF_HUB_CACHE", "HF_HOME", "MODELSCOPE_CACHE", "HOME"};

// Each test starts in a world of its own: an empty home, nothing else set.
static const char *fresh_home(void)
{
    const char *home = test_folder();
    for (int i = 0; i < 3; i++) unsetenv(variables[i]);
    setenv("HOME", home, 1);
    return home;
}

// Makes base/path with its parents.
static char *make(const char *base, const char *path)
{
    char whole[2000];
    snprintf(whole, sizeof whole, "%s/%s", base, path);
    for (char *p = whole + strlen(base) + 1;; p++) {
        if (*p && *p != '/') continue;
        char c = *p;
        *p = 0;
        mkdir(whole, 0700);
        *p = c;
        if (!c) return strdup(whole);
    }
}

static void assert_finds(const char *model, const char *expected)
{
    char *dir = NULL;
    assert_ok(checkpoint_find(&dir, model));
    assert_string_equal(dir, expected);
    free(dir);
}

static void folder_as_it_is(void **state)
{
    const char *home = fresh_home();
    assert_finds(home, home);
    assert_finds("/", "/");
}

static void hugging_face(void **state)
{
    const char *home = fresh_home();
    const char *repo = ".cache/huggingface/hub/models--Qwen--Qwen3.5-0.8B";
    char path[500], *dir;
    snprintf(path, sizeof path, "%s/snapshots/aaa", repo);
    char *a = make(home, path);
    snprintf(path, sizeof path, "%s/snapshots/bbb", repo);
    char *b = make(home, path);
    // Neither snapshot is whole, and no ref says which: nothing is found.
    assert_fails(checkpoint_find(&dir, "Qwen/Qwen3.5-0.8B"), SIGHT_E_NOT_FOUND,
                 "model 'Qwen/Qwen3.5-0.8B' is neither a folder nor in '");
    free(test_write(a, "config.json", "{}", 2));
    assert_finds("Qwen/Qwen3.5-0.8B", a); // the only one
    free(test_write(b, "config.json", "{}", 2));
    struct utimbuf old = {1000, 1000};
    assert_int_equal(utime(b, &old), 0);
    assert_finds("Qwen/Qwen3.5-0.8B", a); // the newest
    snprintf(path, sizeof path, "%s/refs", repo);
    char *refs = make(home, path);
    free(test_write(refs, "main", "bbb\n", 4));
    assert_finds("Qwen/Qwen3.5-0.8B", b); // the named one
    free(test_write(refs, "main", "../x", 4));
    assert_finds("Qwen/Qwen3.5-0.8B", a);
    free(refs);
    free(a);
    free(b);
}

static void hugging_face_variables(void **state)
{
    fresh_home();
    const char *cache = test_folder();
    char *a = make(cache, "one/models--o--m/snapshots/x");
    char *b = make(cache, "two/hub/models--o--m/snapshots/x");
    free(test_write(a, "config.json", "{}", 2));
    free(test_write(b, "config.json", "{}", 2));
    char path[1000];
    snprintf(path, sizeof path, "%s/two", cache);
    setenv("HF_HOME", path, 1);
    assert_finds("o/m", b);
    snprintf(path, sizeof path, "%s/one", cache);
    setenv("HF_HUB_CACHE", path, 1);
    assert_finds("o/m", a);
    free(a);
    free(b);
}

static void modelscope(void **state)
{
    const char *home = fresh_home();
    char *a = make(home, ".cache/modelscope/hub/models/Qwen/Qwen3___5-0___8B");
    assert_finds("Qwen/Qwen3.5-0.8B", a);
    free(a);
    a = make(home, ".cache/modelscope/hub/Qwen/Qwen3-VL-2B");
    assert_finds("Qwen/Qwen3-VL-2B", a);
    free(a);
    const char *cache = test_folder();
    setenv("MODELSCOPE_CACHE", cache, 1);
    a = make(cache, "models/Qwen/Qwen3.5-0.8B");
    assert_finds("Qwen/Qwen3.5-0.8B", a);
    free(a);
}

static void not_found(void **state)
{
    const char *home = fresh_home();
    char *dir = NULL, place[600], *file = test_write(home, "file", "x", 1);
    assert_fails(checkpoint_find(&dir, "o/m"), SIGHT_E_NOT_FOUND, "model 'o/m' is neither");
    snprintf(place, sizeof place, "'%s/.cache/huggingface/hub'", home);
    assert_non_null(strstr(sight_error(), place));
    snprintf(place, sizeof place, "'%s/.cache/modelscope/hub/models'", home);
    assert_non_null(strstr(sight_error(), place));
    assert_fails(checkpoint_find(&dir, file), SIGHT_E_NOT_FOUND, "is a file");
    assert_fails(checkpoint_find(&dir, "nothing"), SIGHT_E_NOT_FOUND, "no model folder 'nothing'");
    assert_fails(checkpoint_find(&dir, "../../no-such-name"), SIGHT_E_NOT_FOUND, "no model folder");
    assert_fails(checkpoint_find(&dir, "o/..no"), SIGHT_E_NOT_FOUND, "no model folder");
    assert_fails(checkpoint_find(&dir, ""), SIGHT_E_NOT_FOUND, "no model folder");
    unsetenv("HOME");
    assert_fails(checkpoint_find(&dir, "o/m"), SIGHT_E_NOT_FOUND, "HOME is not set");
    assert_null(dir);
    free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folder_as_it_is),        cmocka_unit_test(hugging_face),
        cmocka_unit_test(hugging_face_variables), cmocka_unit_test(modelscope),
        cmocka_unit_test(not_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
