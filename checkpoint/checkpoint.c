#include "checkpoint/checkpoint.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/expect.h"
#include "checkpoint/form.h"

static bool starts_with(const char *s, const char *start)
{
    return strncmp(s, start, strlen(start)) == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const weight *)a)->name, ((const weight *)b)->name);
}

void checkpoint_finish(checkpoint *c)
{
    qsort(c->weights, c->n, sizeof *c->weights, by_name);
    c->bytes = 0;
    for (size_t i = 0; i < c->n; i++) {
        const tensor_view *v = &c->weights[i].view;
        c->bytes += c->weights[i].stored ? c->weights[i].stored->bytes
                                         : (size_t)tensor_count(v) * tensor_type_bytes(v->type);
    }
}

weight *checkpoint_find_weight(const checkpoint *c, const char *name)
{
    weight key = {.name = (char *)name};
    return c->n ? bsearch(&key, c->weights, c->n, sizeof key, by_name) : NULL;
}

// ---- collecting what the files hold ----

// A text-only export leaves out "language_model.".
static char *published_name(const char *name)
{
    const char *rest = name + strlen("model.");
    bool text_only = starts_with(name, "model.") && !starts_with(rest, "language_model.") &&
                     !starts_with(rest, "visual.");
    if (!text_only) return strdup(name);
    buf b;
    buf_init(&b);
    buf_printf(&b, "model.language_model.%s", rest);
    return buf_take(&b);
}

static sight_err collect_file(checkpoint *c, const safetensors *file, const char *path)
{
    for (size_t i = 0; i < safetensors_count(file); i++) {
        weight *w = &c->weights[c->n];
        w->name = published_name(safetensors_name(file, i));
        if (!w->name) return sight_fail(SIGHT_E_MEMORY, "no memory for the tensors of '%s'", path);
        w->path = path;
        w->dtype = safetensors_dtype(file, i);
        w->has_view = safetensors_view(file, &w->view, i);
        c->n++;
    }
    return SIGHT_OK;
}

// None may stand twice.
static sight_err sort_collected(checkpoint *c)
{
    checkpoint_finish(c);
    for (size_t i = 1; i < c->n; i++) {
        const weight *a = &c->weights[i - 1], *b = &c->weights[i];
        if (strcmp(a->name, b->name)) continue;
        return sight_fail(SIGHT_E_MODEL, "tensor '%s' stands twice, in '%s' and in '%s'", a->name,
                          a->path, b->path);
    }
    return SIGHT_OK;
}

static sight_err collect(checkpoint *c)
{
    size_t total = 0;
    for (size_t i = 0; i < c->files.n; i++) total += safetensors_count(c->files.files[i]);
    c->weights = calloc(total + 1, sizeof *c->weights);
    if (!c->weights) return sight_fail(SIGHT_E_MEMORY, "no memory for the tensors of '%s'", c->dir);
    for (size_t i = 0; i < c->files.n; i++) {
        sight_err err = collect_file(c, c->files.files[i], c->files.paths[i]);
        if (err) return err;
    }
    return sort_collected(c);
}

// ---- comparing with what the config implies ----

static sight_err check_dtype(const weight *w)
{
    tensor_type type = w->view.type;
    if (w->stored) return SIGHT_OK;
    if (w->has_view && (type == TENSOR_F32 || type == TENSOR_BF16 || type == TENSOR_F16)) {
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_UNSUPPORTED,
                      "'%s': tensor '%s' is %s, expected BF16, F16 or F32, or a quantised form that "
                      "config.json names",
                      w->path, w->name, w->dtype);
}

static sight_err check_shape(const weight *w, const expected *e)
{
    bool same = w->view.n_dims == e->n_dims;
    for (int32_t i = 0; i < e->n_dims && same; i++) same = w->view.shape[i] == e->shape[i];
    if (same) return SIGHT_OK;
    char found[EXPECT_SHAPE_TEXT], wanted[EXPECT_SHAPE_TEXT];
    expect_shape_text(found, w->view.shape, w->view.n_dims);
    expect_shape_text(wanted, e->shape, e->n_dims);
    return sight_fail(SIGHT_E_MODEL, "'%s': tensor '%s': expected shape %s, found %s", w->path,
                      w->name, wanted, found);
}

static sight_err fail_missing(const checkpoint *c, const expected *e)
{
    char shape[EXPECT_SHAPE_TEXT];
    expect_shape_text(shape, e->shape, e->n_dims);
    return sight_fail(SIGHT_E_MODEL,
                      "'%s': tensor '%s' is missing: expected shape %s, found none of that name",
                      shards_place(&c->files, e->name, c->dir), e->name, shape);
}

static sight_err fail_left_over(const weight *w)
{
    char shape[EXPECT_SHAPE_TEXT];
    expect_shape_text(shape, w->view.shape, w->view.n_dims);
    return sight_fail(SIGHT_E_MODEL,
                      "'%s': tensor '%s' is left over: expected none of that name by config.json, "
                      "found %s %s",
                      w->path, w->name, w->dtype, shape);
}

// Both lists are sorted by name. A missing tensor is reported before a left-over one.
static sight_err compare(const checkpoint *c, const expect_list *list)
{
    const weight *left_over = NULL;
    size_t i = 0, j = 0;
    while (i < list->n || j < c->n) {
        int order = i == list->n ? 1 : j == c->n ? -1
                                                 : strcmp(list->items[i].name, c->weights[j].name);
        if (order < 0) return fail_missing(c, &list->items[i]);
        if (order > 0) {
            if (!left_over) left_over = &c->weights[j];
            j++;
            continue;
        }
        sight_err err = check_shape(&c->weights[j++], &list->items[i++]);
        if (err) return err;
    }
    return left_over ? fail_left_over(left_over) : SIGHT_OK;
}

// Norms, biases and the like: one bad value there spoils every token.
static sight_err check_finite(const weight *w)
{
    int64_t n = tensor_count(&w->view);
    for (int64_t i = 0; i < n; i++) {
        float v = tensor_get_f32(&w->view, i);
        if (isfinite(v)) continue;
        return sight_fail(SIGHT_E_MODEL,
                          "'%s': tensor '%s': expected finite numbers, found %s at element %lld",
                          w->path, w->name, isnan(v) ? "NaN" : "infinity", (long long)i);
    }
    return SIGHT_OK;
}

static bool same_values(const tensor_view *a, const tensor_view *b)
{
    if (!a->data || !b->data) return false; // in a quantised form
    int64_t n = tensor_count(a);
    size_t bytes = (size_t)n * tensor_type_bytes(a->type);
    if (a->type == b->type) return memcmp(a->data, b->data, bytes) == 0;
    for (int64_t i = 0; i < n; i++) {
        if (tensor_get_f32(a, i) != tensor_get_f32(b, i)) return false;
    }
    return true;
}

// A file may keep a copy of a tied output layer. As in transformers (modeling_utils.py,
// tie_weights): equal to the embedding it is dropped, different it is used and nothing is tied.
static void settle_head(checkpoint *c, bool config_tied)
{
    weight *head = checkpoint_find_weight(c, "lm_head.weight");
    if (!config_tied || !head) return;
    const weight *embedding = checkpoint_find_weight(c, "model.language_model.embed_tokens.weight");
    if (!same_values(&head->view, &embedding->view)) return;
    c->config.text.tied = true;
    free(head->name);
    c->n--;
    memmove(head, head + 1, (size_t)(c->weights + c->n - head) * sizeof *head);
    checkpoint_finish(c);
}

static sight_err check(checkpoint *c)
{
    bool tied = c->config.text.tied, mtp = false;
    for (size_t i = 0; i < c->n; i++) {
        if (starts_with(c->weights[i].name, "mtp.")) mtp = true;
        if (starts_with(c->weights[i].name, "lm_head.")) c->config.text.tied = false;
    }
    if (!mtp) c->config.text.mtp_layers = 0; // exported without its drafting block
    expect_list list = {0};
    sight_err err = expect_init(&list, &c->config);
    if (!err) err = forms_apply(c, &list);
    for (size_t i = 0; i < c->n && !err; i++) err = check_dtype(&c->weights[i]);
    if (!err) err = compare(c, &list);
    for (size_t i = 0; i < c->n && !err; i++) {
        if (c->weights[i].view.n_dims == 1) err = check_finite(&c->weights[i]);
    }
    expect_done(&list);
    if (!err) settle_head(c, tied);
    return err;
}

// ---- opening ----

static sight_err check_folder(const char *dir)
{
    struct stat st;
    if (stat(dir, &st)) return file_fail("open the model folder", dir, errno);
    if (!S_ISDIR(st.st_mode)) {
        return sight_fail(SIGHT_E_MODEL, "'%s' is a file, a model folder is expected", dir);
    }
    return SIGHT_OK;
}

// Not read here; but a folder without it is a broken copy, and better said before 50 GB are read.
static sight_err check_tokenizer(const char *dir)
{
    char *path = shards_path(dir, "tokenizer.json");
    if (!path) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", dir);
    struct stat st;
    sight_err err = SIGHT_OK;
    if (stat(path, &st)) {
        err = errno == ENOENT ? sight_fail(SIGHT_E_MODEL, "'%s' is missing", path)
                              : file_fail("open", path, errno);
    } else if (st.st_size == 0) {
        err = sight_fail(SIGHT_E_MODEL, "'%s' is empty (unfinished download?)", path);
    }
    free(path);
    return err;
}

static sight_err open_folder(checkpoint *c, const char *dir)
{
    c->dir = strdup(dir);
    if (!c->dir) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", dir);
    sight_err err = check_folder(dir);
    if (!err) err = config_load(&c->config, dir);
    if (!err) err = quant_config_load(&c->quant, dir);
    if (!err) err = check_tokenizer(dir);
    if (!err) err = shards_open(&c->files, dir);
    if (!err) err = collect(c);
    if (!err) err = check(c);
    return err;
}

static sight_err open_gguf(checkpoint *c, const char *path, const char *mmproj)
{
    c->dir = strdup(path);
    if (!c->dir) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", path);
    sight_err err = gguf_model_open(&c->gguf, path, mmproj);
    if (!err) err = gguf_config(&c->config, &c->gguf);
    if (!err) err = gguf_weights(c, &c->gguf);
    if (!err) err = sort_collected(c);
    return err ? err : check(c);
}

static sight_err check_mmproj(const char *path, const char *mmproj)
{
    if (!mmproj || checkpoint_is_gguf(path)) return SIGHT_OK;
    return sight_fail(SIGHT_E_ARGUMENT, "an mmproj file goes with a GGUF model, '%s' is none", path);
}

sight_err checkpoint_open_with(checkpoint **out, const char *path, const char *mmproj)
{
    sight_err err = check_mmproj(path, mmproj);
    if (err) return err;
    checkpoint *c = calloc(1, sizeof *c);
    if (!c) return sight_fail(SIGHT_E_MEMORY, "no memory to open '%s'", path);
    err = checkpoint_is_gguf(path) ? open_gguf(c, path, mmproj) : open_folder(c, path);
    if (err) checkpoint_close(&c);
    else *out = c;
    return err;
}

sight_err checkpoint_open(checkpoint **out, const char *path)
{
    return checkpoint_open_with(out, path, NULL);
}

sight_err checkpoint_load_config(model_config *out, const char *path, const char *mmproj)
{
    sight_err err = check_mmproj(path, mmproj);
    if (err || !checkpoint_is_gguf(path)) return err ? err : config_load(out, path);
    gguf_model m = {0};
    err = gguf_model_open(&m, path, mmproj);
    if (!err) err = gguf_config(out, &m);
    gguf_model_close(&m);
    return err;
}

void checkpoint_close(checkpoint **p)
{
    if (!p || !*p) return;
    checkpoint *c = *p;
    for (size_t i = 0; i < c->n; i++) free(c->weights[i].name);
    free(c->weights);
    forms_free(c);
    lora_free(c);
    prepared_free(&c->prepared);
    shards_close(&c->files);
    gguf_model_close(&c->gguf);
    if (c->memory) munmap(c->memory, c->memory_bytes);
    free(c->dir);
    free(c);
    *p = NULL;
}

// ---- reading ----

const model_config *checkpoint_config(const checkpoint *c)
{
    return &c->config;
}

sight_err checkpoint_stretch(checkpoint *c, int64_t context, double factor)
{
    return config_stretch(&c->config.text, context, factor);
}

const char *checkpoint_dir(const checkpoint *c)
{
    return c->dir;
}

size_t checkpoint_bytes(const checkpoint *c)
{
    return c->bytes;
}

sight_err checkpoint_tensor(const checkpoint *c, tensor_view *out, const char *name)
{
    const weight *w = checkpoint_find_weight(c, name);
    if (!w) return sight_fail(SIGHT_E_MODEL, "'%s' has no tensor '%s'", c->dir, name);
    if (w->stored) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': tensor '%s' is %s, where plain numbers are needed",
                          w->path, name, w->dtype);
    }
    *out = w->view;
    return SIGHT_OK;
}

sight_err checkpoint_matrix(const checkpoint *c, tensor_view *view, const packed **p,
                            const char *name)
{
    const weight *w = checkpoint_find_weight(c, name);
    if (!w) return sight_fail(SIGHT_E_MODEL, "'%s' has no tensor '%s'", c->dir, name);
    if (w->stored && !w->packed) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': tensor '%s' is %s and was not prepared",
                          w->path, name, w->dtype);
    }
    *view = w->view;
    if (w->packed) view->data = NULL;
    *p = w->packed;
    return SIGHT_OK;
}

sight_err checkpoint_copy_f32(const checkpoint *c, float **out, const char *name, float add)
{
    tensor_view v;
    sight_err err = checkpoint_tensor(c, &v, name);
    if (err) return err;
    int64_t n = tensor_count(&v);
    float *copy = malloc((size_t)n * sizeof *copy);
    if (!copy) return sight_fail(SIGHT_E_MEMORY, "no memory for a copy of tensor '%s'", name);
    for (int64_t i = 0; i < n; i++) copy[i] = tensor_get_f32(&v, i) + add;
    *out = copy;
    return SIGHT_OK;
}
