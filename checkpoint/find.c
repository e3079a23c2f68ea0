// Where other programs keep downloaded models: the caches of huggingface_hub, of modelscope and of
// llama.cpp.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_find.h"

#define CACHE_DEPTH 1 // big files stand in folders of their own ("BF16/...-00001-of-00002.gguf")

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
}

// The search: what was found, and every place looked in.
typedef struct search {
    const char *model; // "OWNER/NAME"
    const char *tag;   // "Q4_K_M": only GGUF files with that in their names; NULL: any form
    buf places;        // "'a', 'b'"
    char *found;
    bool failed;   // no memory
    sight_err err; // found, but not clear which file; ends the search
} search;

static char *text_of(buf *b, search *s)
{
    char *text = buf_take(b);
    if (!text) s->failed = true;
    return text;
}

static char *join(search *s, const char *a, const char *b)
{
    buf out;
    buf_init(&out);
    buf_printf(&out, "%s/%s", a, b);
    return text_of(&out, s);
}

static bool over(const search *s)
{
    return s->found || s->failed || s->err;
}

// ---- a folder: itself, or the GGUF file in it ----

static bool holds_safetensors(const char *dir)
{
    static const char end[] = ".safetensors";
    DIR *d = opendir(dir);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));) {
        const size_t n = strlen(e->d_name), m = sizeof end - 1;
        found = n > m && strcmp(e->d_name + n - m, end) == 0;
    }
    if (d) closedir(d);
    return found;
}

// The one file of the list; SIGHT_OK and NULL for none.
static sight_err only_one(char **out, const gguf_list *l, const char *where)
{
    char what[512];
    *out = NULL;
    if (l->n == 0) return SIGHT_OK;
    if (l->n > 1) {
        snprintf(what, sizeof what, "'%.400s' holds several models", where);
        return gguf_list_fail(l, l->n, what, "give one of the files, or a tag (NAME:Q4_K_M)");
    }
    *out = strdup(l->paths[0]);
    return *out ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", where);
}

// What a folder stands for: a folder as published is itself; else the GGUF file in it (so many
// levels deep), if there is one. With a tag only files count, and *out is NULL when none fits.
static sight_err settle(char **out, const char *dir, int depth, const char *tag)
{
    gguf_list l = {0};
    *out = NULL;
    if (tag || !holds_safetensors(dir)) {
        sight_err err = gguf_list_models(&l, dir, depth, NULL, tag);
        if (!err) err = only_one(out, &l, dir);
        gguf_list_done(&l);
        if (err || *out || tag) return err;
    }
    *out = strdup(dir);
    return *out ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", dir);
}

// Takes a folder that was found.
static void take(search *s, char *dir)
{
    if (dir && !over(s)) s->err = settle(&s->found, dir, CACHE_DEPTH, s->tag);
    free(dir);
}

static void note_place(search *s, const char *place)
{
    buf quoted;
    buf_init(&quoted);
    buf_printf(&quoted, "'%s'", place);
    if (!strstr(buf_text(&s->places), buf_text(&quoted))) { // two variables may name one place
        buf_printf(&s->places, "%s%s", s->places.size ? ", " : "", buf_text(&quoted));
    }
    if (buf_failed(&quoted)) s->failed = true;
    buf_done(&quoted);
}

// ---- Hugging Face: models--OWNER--NAME/snapshots/COMMIT, refs/main names the commit ----

static bool holds_model(search *s, const char *dir)
{
    gguf_list l = {0};
    char *config = join(s, dir, "config.json");
    bool found = config && is_file(config);
    free(config);
    if (!found && gguf_list_models(&l, dir, CACHE_DEPTH, NULL, NULL)) s->failed = true;
    found = found || l.n > 0;
    gguf_list_done(&l);
    return found;
}

// The newest folder of snapshots/ that holds a model.
static char *newest_snapshot(search *s, const char *snapshots)
{
    DIR *d = opendir(snapshots);
    if (!d) return NULL;
    char *best = NULL;
    struct stat st, best_st = {0};
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char *path = join(s, snapshots, e->d_name);
        if (path && holds_model(s, path) && stat(path, &st) == 0 &&
            (!best || st.st_mtime > best_st.st_mtime)) {
            free(best);
            best = path;
            best_st = st;
            path = NULL;
        }
        free(path);
    }
    closedir(d);
    return best;
}

static char *main_snapshot(search *s, const char *repo, const char *snapshots)
{
    char *ref = join(s, repo, "refs/main"), *commit = NULL, *path = NULL;
    size_t n;
    if (ref && file_read(&commit, &n, ref, 4096) == SIGHT_OK) {
        commit[strcspn(commit, "\r\n/ ")] = 0;
        path = join(s, snapshots, commit);
        if (path && (!*commit || *commit == '.' || !is_folder(path))) {
            free(path);
            path = NULL;
        }
    }
    free(commit);
    free(ref);
    return path;
}

static void look_in_hugging_face(search *s, const char *hub)
{
    if (over(s)) return;
    note_place(s, hub);
    buf b;
    buf_init(&b);
    buf_printf(&b, "%s/models--", hub);
    for (const char *p = s->model; *p; p++) {
        if (*p == '/') buf_puts(&b, "--");
        else buf_putc(&b, *p);
    }
    char *repo = text_of(&b, s);
    char *snapshots = repo ? join(s, repo, "snapshots") : NULL;
    if (snapshots && is_folder(snapshots)) {
        take(s, main_snapshot(s, repo, snapshots));
        if (!over(s)) take(s, newest_snapshot(s, snapshots));
    }
    free(snapshots);
    free(repo);
}

// ---- ModelScope: OWNER/NAME, dots of the name as "___" in most versions ----

static void look_at(search *s, char *path)
{
    if (path && is_folder(path)) take(s, path);
    else free(path);
}

static void look_in_modelscope(search *s, const char *place)
{
    if (over(s)) return;
    note_place(s, place);
    look_at(s, join(s, place, s->model));
    buf b;
    buf_init(&b);
    buf_printf(&b, "%s/", place);
    for (const char *p = s->model; *p; p++) {
        if (*p == '.') buf_puts(&b, "___");
        else buf_putc(&b, *p);
    }
    look_at(s, text_of(&b, s));
}

// ---- llama.cpp: OWNER_NAME_FILE.gguf side by side; newer ones keep Hugging Face's folders ----

static void look_in_llama(search *s, const char *place)
{
    if (over(s)) return;
    note_place(s, place);
    gguf_list l = {0};
    buf b;
    buf_init(&b);
    for (const char *p = s->model; *p; p++) buf_putc(&b, *p == '/' ? '_' : *p);
    buf_putc(&b, '_');
    char *prefix = text_of(&b, s);
    if (prefix) s->err = gguf_list_models(&l, place, 0, prefix, s->tag);
    if (prefix && !s->err) s->err = only_one(&s->found, &l, place);
    gguf_list_done(&l);
    free(prefix);
}

// ---- places ----

// A folder of the environment, or NULL.
static const char *from_environment(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static void look_below(search *s, const char *base, const char *rest,
                       void (*look)(search *, const char *))
{
    if (!base) return;
    char *place = *rest ? join(s, base, rest) : strdup(base);
    if (place) look(s, place);
    else s->failed = true;
    free(place);
}

static void look_everywhere(search *s)
{
    const char *home = from_environment("HOME");
    const char *modelscope = from_environment("MODELSCOPE_CACHE");
    look_below(s, from_environment("HF_HUB_CACHE"), "", look_in_hugging_face);
    look_below(s, from_environment("HF_HOME"), "hub", look_in_hugging_face);
    look_below(s, home, ".cache/huggingface/hub", look_in_hugging_face);
    look_below(s, from_environment("LLAMA_CACHE"), "", look_in_hugging_face);
    look_below(s, from_environment("LLAMA_CACHE"), "", look_in_llama);
    look_below(s, home, ".cache/llama.cpp", look_in_llama);
    look_below(s, modelscope, "models", look_in_modelscope);
    look_below(s, modelscope, "hub/models", look_in_modelscope);
    look_below(s, modelscope, "", look_in_modelscope);
    look_below(s, home, ".cache/modelscope/hub/models", look_in_modelscope);
    look_below(s, home, ".cache/modelscope/hub", look_in_modelscope);
}

// "OWNER/NAME" of plain characters: nothing that could lead out of a cache.
static bool proper_name(const char *model)
{
    const char *slash = strchr(model, '/');
    if (!slash || slash == model || !slash[1] || strchr(slash + 1, '/')) return false;
    if (model[0] == '.' || slash[1] == '.' || strlen(model) > 200) return false;
    for (const char *p = model; *p; p++) {
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/", *p)) {
            return false;
        }
    }
    return true;
}

static sight_err search_result(char **path, search *s, const char *model)
{
    if (s->failed || buf_failed(&s->places)) {
        free(s->found);
        return sight_fail(SIGHT_E_MEMORY, "no memory to look for model '%s'", model);
    }
    if (s->err) return s->err;
    if (!s->found) {
        return sight_fail(SIGHT_E_NOT_FOUND, "model '%s' is neither a folder nor in %s", model,
                          s->places.size ? buf_text(&s->places) : "any cache (HOME is not set)");
    }
    *path = s->found;
    return SIGHT_OK;
}

static sight_err find_named(char **path, const char *model)
{
    search s = {0};
    char name[256];
    snprintf(name, sizeof name, "%s", model);
    char *colon = strchr(name, ':');
    if (colon) *colon = 0;
    if (strlen(model) >= sizeof name || !proper_name(name) || (colon && !colon[1])) {
        return sight_fail(SIGHT_E_NOT_FOUND,
                          "no model folder '%s' (a name in a cache looks like Qwen/Qwen3.5-0.8B)",
                          model);
    }
    s.model = name;
    s.tag = colon ? colon + 1 : NULL;
    buf_init(&s.places);
    look_everywhere(&s);
    sight_err err = search_result(path, &s, model);
    buf_done(&s.places);
    return err;
}

bool checkpoint_is_gguf(const char *path)
{
    char magic[4] = {0};
    struct stat st;
    if (stat(path, &st) || !S_ISREG(st.st_mode)) return false;
    if (gguf_named(path)) return true;
    FILE *f = fopen(path, "rb"); // a file in a cache may be named by its hash
    const size_t n = f ? fread(magic, 1, sizeof magic, f) : 0;
    if (f) fclose(f);
    return n == sizeof magic && memcmp(magic, "GGUF", sizeof magic) == 0;
}

sight_err checkpoint_find(char **path, const char *model)
{
    if (is_folder(model)) return settle(path, model, 0, NULL);
    if (!is_file(model)) return find_named(path, model);
    if (!checkpoint_is_gguf(model)) {
        return sight_fail(SIGHT_E_NOT_FOUND,
                          "'%s' is a file, a model folder is expected (or a file in .gguf)", model);
    }
    *path = strdup(model);
    return *path ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory to look for model '%s'", model);
}
