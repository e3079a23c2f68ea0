#include "checkpoint/lora.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/expect.h"
#include "checkpoint/lora_parts.h"

#define MAX_NAME 256

static const char start[] = "base_model.model.";
static const char a_end[] = ".lora_A.weight", b_end[] = ".lora_B.weight";

static bool starts_with(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

static bool ends_with(const char *s, const char *end)
{
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

sight_err lora_parse(char **dir, double *scale, const char *text)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    double v = 1;
    size_t n = strlen(text);
    if (colon && colon[1] && strchr("+-.0123456789", colon[1]) && !strchr(colon, '/')) {
        v = strtod(colon + 1, &end);
        if (*end || !isfinite(v)) {
            return sight_fail(SIGHT_E_ARGUMENT, "lora '%s': '%s' is no number", text, colon + 1);
        }
        n = (size_t)(colon - text);
    }
    if (n == 0) return sight_fail(SIGHT_E_ARGUMENT, "lora '%s' names no folder", text);
    char *copy = strndup(text, n);
    if (!copy) return sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", text);
    *dir = copy;
    *scale = v;
    return SIGHT_OK;
}

// ---- whose pair it is ----

// The same module under the names that versions of transformers gave it.
static weight *find_weight(const checkpoint *c, const char *module)
{
    static const char *const renamings[][2] = {
        {"", ""},
        {"model.", "model.language_model."},
        {"language_model.model.", "model.language_model."},
        {"layers.", "model.language_model.layers."},
        {"language_model.", "model.language_model."},
        {"visual.", "model.visual."},
    };
    for (size_t i = 0; i < sizeof renamings / sizeof *renamings; i++) {
        char name[2 * MAX_NAME];
        if (!starts_with(module, renamings[i][0])) continue;
        snprintf(name, sizeof name, "%s%s.weight", renamings[i][1], module + strlen(renamings[i][0]));
        weight *w = checkpoint_find_weight(c, name);
        if (w) return w;
    }
    return NULL;
}

static sight_err refuse_target(const lora_file *f, const char *module, const char *why)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': an adapter of '%s' is not supported (%s)", f->path,
                      module, why);
}

// Products take adapters; tables and convolutions do not.
static sight_err check_target(const lora_file *f, const checkpoint *c, const weight *w,
                              const char *module)
{
    if (!w) {
        return sight_fail(SIGHT_E_MODEL, "'%s': the model has no module '%s'", f->path, module);
    }
    if (w->view.n_dims != 2 || strstr(w->name, "embed")) return refuse_target(f, module, "no product");
    if (c->config.text.tiled_value_heads && strstr(w->name, ".linear_attn.")) {
        return refuse_target(f, module, "a GGUF file keeps its heads in another order");
    }
    return SIGHT_OK;
}

static sight_err check_half(const lora_file *f, const char *name, const tensor_view *v, int64_t rows,
                            int64_t columns)
{
    if (v->n_dims == 2 && v->shape[0] == rows && v->shape[1] == columns) return SIGHT_OK;
    char found[EXPECT_SHAPE_TEXT];
    expect_shape_text(found, v->shape, v->n_dims);
    return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s': expected shape [%lld, %lld], found %s", f->path,
                      name, (long long)rows, (long long)columns, found);
}

static sight_err take_view(const lora_file *f, tensor_view *v, const char *name)
{
    const int64_t i = safetensors_find(f->file, name);
    if (i < 0) {
        return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s' is missing beside its other half", f->path,
                          name);
    }
    if (!safetensors_view(f->file, v, (size_t)i) ||
        (v->type != TENSOR_F32 && v->type != TENSOR_BF16 && v->type != TENSOR_F16)) {
        return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s' is %s, expected BF16, F16 or F32", f->path,
                          name, safetensors_dtype(f->file, (size_t)i));
    }
    const int64_t n = tensor_count(v);
    for (int64_t j = 0; j < n; j++) {
        if (isfinite(tensor_get_f32(v, j))) continue;
        return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s': expected finite numbers, element %lld is not",
                          f->path, name, (long long)j);
    }
    return SIGHT_OK;
}

static sight_err add_pair(lora_file *f, const checkpoint *c, const char *module, double scale)
{
    char a_name[2 * MAX_NAME], b_name[2 * MAX_NAME];
    lora_pair *p = &f->pairs[f->n];
    snprintf(a_name, sizeof a_name, "%s%s%s", start, module, a_end);
    snprintf(b_name, sizeof b_name, "%s%s%s", start, module, b_end);
    p->of = find_weight(c, module);
    sight_err err = check_target(f, c, p->of, module);
    if (!err) err = take_view(f, &p->rank.a, a_name);
    if (!err) err = take_view(f, &p->rank.b, b_name);
    if (err) return err;
    double own;
    const int64_t r = lora_config_rank(f->config, module, &own);
    const int64_t *shape = p->of->view.shape;
    err = check_half(f, a_name, &p->rank.a, r, shape[1]);
    if (!err) err = check_half(f, b_name, &p->rank.b, shape[0], r);
    if (err) return err;
    p->rank.scale = (float)(own * scale);
    f->n++;
    return SIGHT_OK;
}

static sight_err fail_left_over(const lora_file *f, const char *name)
{
    static const char *const known[][2] = {{"lora_magnitude_vector", "DoRA"},
                                           {"lora_embedding_", "an adapter of an embedding"},
                                           {"modules_to_save", "a saved module"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!strstr(name, known[i][0])) continue;
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': tensor '%s': %s is not supported", f->path, name,
                          known[i][1]);
    }
    return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s' is left over: expected %s...%s or %s", f->path,
                      name, start, a_end, b_end);
}

// The module between the fixed parts of a name; false when it is no half of a pair.
static bool module_of(char module[MAX_NAME], const char *name)
{
    if (!starts_with(name, start) || (!ends_with(name, a_end) && !ends_with(name, b_end)) ||
        strlen(name) >= MAX_NAME) {
        return false;
    }
    snprintf(module, MAX_NAME, "%.*s", (int)(strlen(name) - strlen(start) - strlen(a_end)),
             name + strlen(start));
    return true;
}

// A pair is read where its A stands; of a B without one, that one is looked for in vain.
static sight_err read_half(lora_file *f, const checkpoint *c, const char *name, double scale)
{
    char module[MAX_NAME], a_name[2 * MAX_NAME];
    tensor_view v;
    module_of(module, name);
    if (ends_with(name, a_end)) return add_pair(f, c, module, scale);
    snprintf(a_name, sizeof a_name, "%s%s%s", start, module, a_end);
    return safetensors_find(f->file, a_name) < 0 ? take_view(f, &v, a_name) : SIGHT_OK;
}

static sight_err read_pairs(lora_file *f, const checkpoint *c, double scale)
{
    const size_t n = safetensors_count(f->file);
    char module[MAX_NAME];
    f->pairs = calloc(n + 1, sizeof *f->pairs);
    if (!f->pairs) return sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", f->path);
    for (size_t i = 0; i < n; i++) {
        const char *name = safetensors_name(f->file, i);
        if (!module_of(module, name)) return fail_left_over(f, name);
    }
    for (size_t i = 0; i < n; i++) {
        sight_err err = read_half(f, c, safetensors_name(f->file, i), scale);
        if (err) return err;
    }
    if (f->n == 0) return sight_fail(SIGHT_E_MODEL, "'%s' holds no adapter", f->path);
    return SIGHT_OK;
}

static sight_err check_once(const lora_file *f)
{
    for (size_t i = 0; i < f->n; i++) {
        for (size_t j = 0; j < i; j++) {
            if (f->pairs[i].of != f->pairs[j].of) continue;
            return sight_fail(SIGHT_E_MODEL, "'%s' adapts '%s' twice", f->path, f->pairs[i].of->name);
        }
    }
    return SIGHT_OK;
}

// ---- the folder ----

static void file_free(lora_file *f)
{
    if (!f) return;
    free(f->pairs);
    safetensors_close(&f->file);
    lora_config_free(&f->config);
    free(f->path);
    free(f);
}

static sight_err open_files(lora_file *f, const char *dir)
{
    char *path = shards_path(dir, "adapter_config.json");
    f->path = shards_path(dir, "adapter_model.safetensors");
    sight_err err = path && f->path ? lora_config_load(&f->config, path)
                                    : sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", dir);
    if (!err) err = safetensors_open(&f->file, f->path);
    free(path);
    return err;
}

// Behind those that are there: results do not depend on anything but the order they were given in.
static void link_pairs(lora_file *f)
{
    for (size_t i = 0; i < f->n; i++) {
        const low_rank **at = &f->pairs[i].of->lora;
        while (*at) at = (const low_rank **)&((low_rank *)*at)->next;
        *at = &f->pairs[i].rank;
    }
}

sight_err lora_add(checkpoint *c, const char *dir, double scale)
{
    lora_file *f = calloc(1, sizeof *f);
    if (!f) return sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", dir);
    sight_err err = open_files(f, dir);
    if (!err) err = read_pairs(f, c, scale);
    if (!err) err = check_once(f);
    if (err) {
        file_free(f);
        return err;
    }
    link_pairs(f);
    f->next = c->loras;
    c->loras = f;
    return SIGHT_OK;
}

const low_rank *lora_find(const checkpoint *c, const char *name)
{
    const weight *w = c->loras ? checkpoint_find_weight(c, name) : NULL;
    return w ? w->lora : NULL;
}

static size_t view_bytes(const tensor_view *v)
{
    return (size_t)tensor_count(v) * tensor_type_bytes(v->type);
}

size_t lora_bytes(const checkpoint *c)
{
    size_t bytes = 0;
    for (const lora_file *f = c->loras; f; f = f->next) {
        for (size_t i = 0; i < f->n; i++) {
            bytes += view_bytes(&f->pairs[i].rank.a) + view_bytes(&f->pairs[i].rank.b);
        }
    }
    return bytes;
}

void lora_free(checkpoint *c)
{
    while (c->loras) {
        lora_file *f = c->loras;
        c->loras = f->next;
        file_free(f);
    }
}
