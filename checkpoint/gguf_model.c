#include "checkpoint/gguf_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "checkpoint/gguf_find.h"

// ---- the text model's parts ----

static sight_err add_part(gguf_model *m, const char *path)
{
    gguf **parts = realloc(m->parts, (m->n + 1) * sizeof *parts);
    if (!parts) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", path);
    m->parts = parts;
    sight_err err = gguf_open(&m->parts[m->n], path);
    if (!err) m->n++;
    return err;
}

// "...-00001-of-00003.gguf" has the numbers there.
static sight_err open_rest(gguf_model *m, const char *path, int64_t count)
{
    const size_t n = strlen(path), tail = strlen("-00001-of-00003.gguf");
    char last[32];
    snprintf(last, sizeof last, "-00001-of-%05d.gguf", (int)count);
    if (n <= tail || strcmp(path + n - tail, last)) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is part 1 of %lld, its name should end in '%s'",
                          path, (long long)count, last);
    }
    for (int64_t i = 2; i <= count; i++) {
        buf b;
        buf_init(&b);
        buf_add(&b, path, n - tail);
        buf_printf(&b, "-%05d-of-%05d.gguf", (int)i, (int)count);
        sight_err err = buf_failed(&b) ? sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", path)
                                       : add_part(m, buf_text(&b));
        if (err == SIGHT_E_NOT_FOUND) {
            err = sight_fail(SIGHT_E_MODEL, "'%s' is missing, part %lld of %lld", buf_text(&b),
                             (long long)i, (long long)count);
        }
        buf_done(&b);
        if (err) return err;
    }
    return SIGHT_OK;
}

static sight_err open_parts(gguf_model *m, const char *path)
{
    int64_t count = 1, number = 0;
    sight_err err = add_part(m, path);
    if (!err) err = gguf_get_int(m->parts[0], &count, "split.count", 0, GGUF_MAX_PARTS);
    if (!err) err = gguf_get_int(m->parts[0], &number, "split.no", 0, GGUF_MAX_PARTS);
    if (!err && number > 0) {
        err = sight_fail(SIGHT_E_ARGUMENT, "'%s' is part %lld of %lld, give the first one", path,
                         (long long)number + 1, (long long)count);
    }
    return err || count <= 1 ? err : open_rest(m, path, count);
}

// ---- the vision tower's file ----

// The text model's width, which the tower's must equal; 0: unknown.
static int64_t width_of(const gguf *g)
{
    int64_t width = 0;
    const char *keys[] = {"qwen35.embedding_length", "qwen3vl.embedding_length"};
    for (int i = 0; i < 2; i++) {
        if (gguf_get_int(g, &width, keys[i], 0, INT32_MAX)) return 0;
    }
    return width;
}

static bool fits(const char *path, int64_t width)
{
    gguf *g = NULL;
    int64_t found = -1;
    gguf_text arch = {"", 0};
    if (gguf_open(&g, path)) return false;
    bool ok = !gguf_get_text(g, &arch, "general.architecture") && gguf_text_is(arch, "clip") &&
              !gguf_get_int(g, &found, "clip.vision.projection_dim", 0, INT32_MAX) &&
              found == width;
    gguf_close(&g);
    return ok;
}

// The one file beside path that can be its tower; *out stays NULL when there is none.
static sight_err find_beside(char **out, const gguf_model *m, const char *path)
{
    gguf_list list = {0};
    sight_err err = gguf_list_mmproj(&list, path);
    const int64_t width = width_of(m->parts[0]);
    size_t kept = 0;
    for (size_t i = 0; i < list.n && !err; i++) {
        if (fits(list.paths[i], width)) {
            char *path_i = list.paths[i];
            list.paths[i] = list.paths[kept];
            list.paths[kept++] = path_i;
        }
    }
    if (!err && kept == 1) {
        *out = strdup(list.paths[0]);
        if (!*out) err = sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", path);
    } else if (!err && kept > 1) {
        err = gguf_list_fail(&list, kept, "several mmproj files fit", "give one with --mmproj");
    }
    gguf_list_done(&list);
    return err;
}

static sight_err open_mmproj(gguf_model *m, const char *path, const char *mmproj)
{
    char *found = NULL;
    gguf_text arch = {"without a name", 14};
    if (mmproj && strcmp(mmproj, "none") == 0) return SIGHT_OK;
    sight_err err = mmproj ? SIGHT_OK : find_beside(&found, m, path);
    if (!err && (mmproj || found)) err = gguf_open(&m->mmproj, mmproj ? mmproj : found);
    free(found);
    if (err || !m->mmproj) return err;
    err = gguf_get_text(m->mmproj, &arch, "general.architecture");
    if (err || gguf_text_is(arch, "clip")) return err;
    return sight_fail(SIGHT_E_MODEL, "'%s' is no mmproj file: its architecture is '%.*s'",
                      gguf_path(m->mmproj), (int)(arch.n < 60 ? arch.n : 60), arch.data);
}

sight_err gguf_model_open(gguf_model *out, const char *path, const char *mmproj)
{
    gguf_model m = {0};
    sight_err err = open_parts(&m, path);
    if (!err) err = open_mmproj(&m, path, mmproj);
    if (err) gguf_model_close(&m);
    else *out = m;
    return err;
}

void gguf_model_close(gguf_model *m)
{
    for (size_t i = 0; i < m->n; i++) gguf_close(&m->parts[i]);
    for (size_t i = 0; i < m->n_owned; i++) free(m->owned[i]);
    free(m->parts);
    free(m->owned);
    gguf_close(&m->mmproj);
    *m = (gguf_model){0};
}
