// Rules for names are those of llama.cpp's common/download.cpp.
#include "checkpoint/gguf_find.h"

#include <ctype.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/buf.h"

#define MAX_FILES 4096

bool gguf_named(const char *name)
{
    const size_t n = strlen(name);
    return n > 5 && strcasecmp(name + n - 5, ".gguf") == 0;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static bool is_model(const char *name)
{
    static const char *const others[] = {"mmproj", "imatrix", "mtp-", "eagle3-", "dflash-",
                                         "dspark-"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strstr(name, others[i])) return false;
    }
    return gguf_named(name);
}

// Part 2 and on of "x-00001-of-00003.gguf".
static bool is_later_part(const char *name)
{
    static const char pattern[] = "-00000-of-00000.gguf";
    const size_t n = strlen(name), m = sizeof pattern - 1;
    if (n <= m) return false;
    const char *end = name + n - m;
    for (size_t i = 0; i < m; i++) {
        if (pattern[i] == '0' ? !isdigit((unsigned char)end[i]) : end[i] != pattern[i]) {
            return false;
        }
    }
    return strncmp(end, "-00001", 6) != 0;
}

static bool has_tag(const char *path, const char *tag)
{
    const size_t n = strlen(tag);
    for (const char *p = path; *p; p++) {
        if (strncasecmp(p, tag, n) == 0 && (p[n] == '.' || p[n] == '-')) return true;
    }
    return false;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void gguf_list_done(gguf_list *l)
{
    for (size_t i = 0; i < l->n; i++) free(l->paths[i]);
    free(l->paths);
    *l = (gguf_list){0};
}

// Takes path.
static bool add(gguf_list *l, char *path)
{
    char **paths = path ? realloc(l->paths, (l->n + 1) * sizeof *paths) : NULL;
    if (!paths) {
        free(path);
        return false;
    }
    l->paths = paths;
    l->paths[l->n++] = path;
    return true;
}

static char *join(const char *dir, const char *name)
{
    buf b;
    buf_init(&b);
    buf_printf(&b, "%s/%s", dir, name);
    return buf_take(&b);
}

typedef struct wanted {
    const char *prefix, *tag;
    bool mmproj;
    size_t root; // bytes of the folder's own path: a tag counts after them
} wanted;

static bool matches(const wanted *w, const char *name, const char *path)
{
    if (w->mmproj) return gguf_named(name) && strstr(name, "mmproj");
    return is_model(name) && !is_later_part(name) &&
           (!w->prefix || strncmp(name, w->prefix, strlen(w->prefix)) == 0) &&
           (!w->tag || has_tag(path + w->root, w->tag));
}

// false: no memory.
static bool walk(gguf_list *l, const char *dir, const wanted *w, int depth)
{
    DIR *d = opendir(dir);
    if (!d) return true;
    bool ok = true;
    for (struct dirent *e; ok && l->n < MAX_FILES && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        struct stat st;
        char *path = join(dir, e->d_name);
        ok = path != NULL;
        const bool there = ok && stat(path, &st) == 0;
        if (there && S_ISDIR(st.st_mode) && depth > 0) {
            ok = walk(l, path, w, depth - 1);
        } else if (there && S_ISREG(st.st_mode) && matches(w, e->d_name, path)) {
            ok = add(l, path);
            continue;
        }
        free(path);
    }
    closedir(d);
    return ok;
}

static sight_err list(gguf_list *out, const char *dir, const wanted *w, int depth)
{
    gguf_list l = {0};
    if (!walk(&l, dir, w, depth)) {
        gguf_list_done(&l);
        return sight_fail(SIGHT_E_MEMORY, "no memory for the files of '%s'", dir);
    }
    if (l.n) qsort(l.paths, l.n, sizeof *l.paths, by_text);
    *out = l;
    return SIGHT_OK;
}

sight_err gguf_list_models(gguf_list *out, const char *dir, int depth, const char *prefix,
                           const char *tag)
{
    const wanted w = {.prefix = prefix, .tag = tag, .root = strlen(dir)};
    return list(out, dir, &w, depth);
}

// Whether what stands before "mmproj" in its name is a beginning of the model's.
static bool shares_prefix(const char *path, const char *model)
{
    const char *name = base_name(path);
    const size_t n = (size_t)(strstr(name, "mmproj") - name);
    return n > 0 && strncmp(name, base_name(model), n) == 0;
}

// ".../snapshots/COMMIT/FOLDER", where a repository keeps the parts of a big model.
static bool below_snapshot(const char *dir)
{
    static const char parent[] = "snapshots";
    const char *end = strrchr(dir, '/');
    for (int i = 0; i < 2 && end; i++) {
        const char *slash = end;
        while (slash > dir && slash[-1] != '/') slash--;
        if (i == 1) {
            return (size_t)(end - slash) == sizeof parent - 1 &&
                   strncmp(slash, parent, sizeof parent - 1) == 0;
        }
        end = slash > dir ? slash - 1 : NULL;
    }
    return false;
}

sight_err gguf_list_mmproj(gguf_list *out, const char *model)
{
    const wanted w = {.mmproj = true};
    const char *name = base_name(model);
    const size_t n = (size_t)(name - model); // with the slash
    char *dir = n == 0 ? strdup(".") : strndup(model, n > 1 ? n - 1 : 1);
    if (!dir) return sight_fail(SIGHT_E_MEMORY, "no memory for the files beside '%s'", model);
    gguf_list l = {0};
    sight_err err = list(&l, dir, &w, 0);
    if (!err && l.n == 0 && below_snapshot(dir)) {
        *strrchr(dir, '/') = 0;
        err = list(&l, dir, &w, 0);
    }
    free(dir);
    if (err) return err;
    size_t shared = 0;
    for (size_t i = 0; i < l.n; i++) shared += shares_prefix(l.paths[i], model);
    for (size_t i = 0; shared && i < l.n;) {
        if (shares_prefix(l.paths[i], model)) {
            i++;
            continue;
        }
        free(l.paths[i]);
        memmove(l.paths + i, l.paths + i + 1, (--l.n - i) * sizeof *l.paths);
    }
    *out = l;
    return SIGHT_OK;
}

sight_err gguf_list_fail(const gguf_list *l, size_t n, const char *what, const char *advice)
{
    buf b;
    buf_init(&b);
    for (size_t i = 0; i < n && i < 12; i++) buf_printf(&b, "%s'%s'", i ? ", " : "", l->paths[i]);
    if (n > 12) buf_puts(&b, ", ...");
    sight_err err = buf_failed(&b)
                        ? sight_fail(SIGHT_E_MEMORY, "no memory to say which files there are")
                        : sight_fail(SIGHT_E_ARGUMENT, "%s: %s; %s", what, buf_text(&b), advice);
    buf_done(&b);
    return err;
}
