#include "checkpoint/shards.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/json.h"

#define MAX_SHARDS      10000
#define MAX_INDEX_BYTES ((size_t)64 << 20)

char *shards_path(const char *dir, const char *name)
{
    buf b;
    buf_init(&b);
    buf_printf(&b, "%s/%s", dir, name);
    return buf_take(&b);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

char *shards_unfinished(const char *dir)
{
    static const char *const ends[] = {".incomplete", ".part", ".crdownload", ".aria2", ".tmp"};
    DIR *d = opendir(dir);
    if (!d) return NULL;
    char *found = NULL;
    for (struct dirent *e; !found && (e = readdir(d));) {
        for (size_t i = 0; i < sizeof ends / sizeof *ends && !found; i++) {
            if (ends_with(e->d_name, ends[i])) found = strdup(e->d_name);
        }
    }
    closedir(d);
    return found;
}

// A sentence about what is not there, with the trace of a broken-off download if there is one.
static sight_err fail_incomplete(const char *dir, const char *what)
{
    char *rest = shards_unfinished(dir);
    sight_err err = rest ? sight_fail(SIGHT_E_MODEL, "'%s': %s; '%s' is an unfinished download",
                                      dir, what, rest)
                         : sight_fail(SIGHT_E_MODEL, "'%s': %s", dir, what);
    free(rest);
    return err;
}

// Opens one more file. `missing` says in an error what names it.
static sight_err add_file(shards *s, const char *dir, const char *name, const char *missing)
{
    char *path = shards_path(dir, name);
    char **paths = realloc(s->paths, (s->n + 1) * sizeof *paths);
    if (paths) s->paths = paths;
    safetensors **files = realloc(s->files, (s->n + 1) * sizeof *files);
    if (files) s->files = files;
    if (!path || !paths || !files) {
        free(path);
        return sight_fail(SIGHT_E_MEMORY, "no memory to open the weights of '%s'", dir);
    }
    sight_err err = safetensors_open(&s->files[s->n], path);
    if (err) {
        free(path);
        if (err != SIGHT_E_NOT_FOUND) return err;
        char what[512];
        snprintf(what, sizeof what, "shard '%.200s'%s is missing", name, missing);
        return fail_incomplete(dir, what);
    }
    s->paths[s->n++] = path;
    return SIGHT_OK;
}

// ---- by index ----

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

// The distinct file names of a weight_map, sorted (malloc; strings borrowed).
static sight_err index_names(const char ***out, size_t *n, const json_t *map, const char *path)
{
    const char **names = malloc((json_object_size(map) + 1) * sizeof *names);
    if (!names) return sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", path);
    size_t all = 0, distinct = 0;
    json_t *v;
    const char *tensor;
    json_object_foreach((json_t *)map, tensor, v) {
        const char *name = json_string_value(v);
        if (!name || !*name || strchr(name, '/') || !ends_with(name, ".safetensors")) {
            free(names);
            return sight_fail(SIGHT_E_MODEL, "'%s': weight_map of '%s' is no safetensors file name",
                              path, tensor);
        }
        names[all++] = name;
    }
    qsort(names, all, sizeof *names, by_text);
    for (size_t i = 0; i < all; i++) {
        if (i == 0 || strcmp(names[i], names[i - 1])) names[distinct++] = names[i];
    }
    *out = names;
    *n = distinct;
    return SIGHT_OK;
}

static sight_err read_index(json_t **out, const char *path)
{
    json_t *whole;
    sight_err err = json_parse_file(&whole, path, MAX_INDEX_BYTES, SIGHT_E_MODEL);
    if (err) return err;
    json_t *map = json_object_get(whole, "weight_map");
    if (json_object_size(map) == 0) {
        err = sight_fail(SIGHT_E_MODEL, "'%s' has no weight_map", path);
    } else {
        *out = json_incref(map);
    }
    json_decref(whole);
    return err;
}

static sight_err open_indexed(shards *s, const char *dir, const char *path)
{
    const char **names = NULL;
    size_t n = 0;
    sight_err err = read_index(&s->index, path);
    if (!err) err = index_names(&names, &n, s->index, path);
    if (!err && n > MAX_SHARDS) {
        err = sight_fail(SIGHT_E_MODEL, "'%s' names more than %d files", path, MAX_SHARDS);
    }
    for (size_t i = 0; i < n && !err; i++) {
        err = add_file(s, dir, names[i], " named in model.safetensors.index.json");
    }
    free(names);
    return err;
}

// ---- by number ----

// "x-00001-of-00002.safetensors": the part before the numbers (malloc) and the total.
static bool numbered(const char *name, char **stem, int *total)
{
    static const char pattern[] = "-00000-of-00000.safetensors";
    size_t n = strlen(name), m = sizeof pattern - 1;
    if (n <= m) return false;
    const char *end = name + n - m;
    for (size_t i = 0; i < m; i++) {
        bool digit = end[i] >= '0' && end[i] <= '9';
        if (pattern[i] == '0' ? !digit : end[i] != pattern[i]) return false;
    }
    *total = atoi(end + 10);
    *stem = strndup(name, n - m);
    return *total > 0 && *total <= MAX_SHARDS;
}

// The stem and total of the folder's numbered set; *stem stays NULL when there is none.
static sight_err find_set(char **stem, int *total, const char *dir)
{
    DIR *d = opendir(dir);
    if (!d) return SIGHT_OK;
    sight_err err = SIGHT_OK;
    for (struct dirent *e; !err && (e = readdir(d));) {
        char *other = NULL;
        int count = 0;
        if (numbered(e->d_name, &other, &count) && other) {
            if (!*stem) {
                *stem = other;
                *total = count;
                continue;
            }
            if (strcmp(*stem, other) || *total != count) {
                err = sight_fail(SIGHT_E_MODEL,
                                 "'%s' holds two sets of shards ('%s', %d files and '%s', %d "
                                 "files) and no index",
                                 dir, *stem, *total, other, count);
            }
        }
        free(other);
    }
    closedir(d);
    return err;
}

static sight_err open_numbered(shards *s, const char *dir)
{
    char *stem = NULL;
    int total = 0;
    sight_err err = find_set(&stem, &total, dir);
    if (!err && !stem) {
        err = fail_incomplete(dir, "no weights: no model.safetensors, model.safetensors.index.json "
                                   "or numbered shards");
    }
    for (int i = 1; i <= total && !err; i++) {
        char name[512];
        snprintf(name, sizeof name, "%.400s-%05d-of-%05d.safetensors", stem, i, total);
        err = add_file(s, dir, name, "");
    }
    free(stem);
    return err;
}

static sight_err open_all(shards *s, const char *dir)
{
    char *single = shards_path(dir, "model.safetensors");
    char *index = shards_path(dir, "model.safetensors.index.json");
    sight_err err;
    if (!single || !index) err = sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", dir);
    else if (access(single, F_OK) == 0) err = add_file(s, dir, "model.safetensors", "");
    else if (access(index, F_OK) == 0) err = open_indexed(s, dir, index);
    else err = open_numbered(s, dir);
    free(single);
    free(index);
    return err;
}

sight_err shards_open(shards *out, const char *dir)
{
    shards s = {0};
    sight_err err = open_all(&s, dir);
    if (err) shards_close(&s);
    else *out = s;
    return err;
}

void shards_close(shards *s)
{
    for (size_t i = 0; i < s->n; i++) {
        safetensors_close(&s->files[i]);
        free(s->paths[i]);
    }
    free(s->files);
    free(s->paths);
    json_decref(s->index);
    *s = (shards){0};
}

const char *shards_place(const shards *s, const char *name, const char *dir)
{
    if (s->n == 1) return s->paths[0];
    const char *file = json_string_value(json_object_get(s->index, name));
    for (size_t i = 0; file && i < s->n; i++) {
        if (strcmp(s->paths[i] + strlen(dir) + 1, file) == 0) return s->paths[i];
    }
    return dir;
}
