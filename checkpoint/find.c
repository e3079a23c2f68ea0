// Where other programs keep downloaded models: the caches of huggingface_hub and of modelscope.
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "checkpoint/checkpoint.h"

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
    const char *model;
    buf places; // "'a', 'b'"
    char *found;
    bool failed; // no memory
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

// The newest folder of snapshots/ that holds a config.json.
static char *newest_snapshot(search *s, const char *snapshots)
{
    DIR *d = opendir(snapshots);
    if (!d) return NULL;
    char *best = NULL;
    struct stat st, best_st = {0};
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char *path = join(s, snapshots, e->d_name);
        char *config = path ? join(s, path, "config.json") : NULL;
        if (config && is_file(config) && stat(path, &st) == 0 &&
            (!best || st.st_mtime > best_st.st_mtime)) {
            free(best);
            best = path;
            best_st = st;
            path = NULL;
        }
        free(config);
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
    if (s->found) return;
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
        s->found = main_snapshot(s, repo, snapshots);
        if (!s->found) s->found = newest_snapshot(s, snapshots);
    }
    free(snapshots);
    free(repo);
}

// ---- ModelScope: OWNER/NAME, dots of the name as "___" in most versions ----

static void look_at(search *s, char *path)
{
    if (path && !s->found && is_folder(path)) s->found = path;
    else free(path);
}

static void look_in_modelscope(search *s, const char *place)
{
    if (s->found) return;
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

static sight_err find_named(char **dir, const char *model)
{
    search s = {.model = model};
    buf_init(&s.places);
    look_everywhere(&s);
    sight_err err = SIGHT_OK;
    if (s.failed || buf_failed(&s.places)) {
        err = sight_fail(SIGHT_E_MEMORY, "no memory to look for model '%s'", model);
        free(s.found);
    } else if (s.found) {
        *dir = s.found;
    } else {
        err = sight_fail(SIGHT_E_NOT_FOUND, "model '%s' is neither a folder nor in %s", model,
                         s.places.size ? buf_text(&s.places) : "any cache (HOME is not set)");
    }
    buf_done(&s.places);
    return err;
}

sight_err checkpoint_find(char **dir, const char *model)
{
    if (is_folder(model)) {
        char *copy = strdup(model);
        if (!copy) return sight_fail(SIGHT_E_MEMORY, "no memory to look for model '%s'", model);
        *dir = copy;
        return SIGHT_OK;
    }
    if (is_file(model)) {
        return sight_fail(SIGHT_E_NOT_FOUND, "'%s' is a file, a model folder is expected", model);
    }
    if (!proper_name(model)) {
        return sight_fail(SIGHT_E_NOT_FOUND,
                          "no model folder '%s' (a name in a cache looks like Qwen/Qwen3.5-0.8B)",
                          model);
    }
    return find_named(dir, model);
}
