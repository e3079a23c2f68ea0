// A golden model taken apart in memory, so that a test can change one thing and write it out again.
#ifndef TESTS_CHECKPOINT_MODEL_COPY_H
#define TESTS_CHECKPOINT_MODEL_COPY_H

#include "support/test.h"

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"

#define COPY_MAX_TENSORS 512

typedef struct model_copy {
    char source[1024];
    safetensors *file;
    safetensors_entry entries[COPY_MAX_TENSORS]; // names and data may be replaced
    size_t n;
    void *owned[COPY_MAX_TENSORS]; // what the replacements allocated
    size_t n_owned;
    json_t *config;
} model_copy;

static inline void *copy_own(model_copy *m, void *p)
{
    assert_non_null(p);
    m->owned[m->n_owned++] = p;
    return p;
}

static inline model_copy *copy_load(const char *golden)
{
    model_copy *m = calloc(1, sizeof *m);
    char path[1100];
    snprintf(m->source, sizeof m->source, "%s/%s/model", TEST_GOLDEN_DIR, golden);
    snprintf(path, sizeof path, "%s/model.safetensors", m->source);
    assert_ok(safetensors_open(&m->file, path));
    for (size_t i = 0; i < safetensors_count(m->file); i++) {
        m->entries[m->n].name = safetensors_name(m->file, i);
        assert_true(safetensors_view(m->file, &m->entries[m->n++].view, i));
    }
    snprintf(path, sizeof path, "%s/config.json", m->source);
    assert_ok(json_parse_file(&m->config, path, 1 << 20, SIGHT_E_MODEL));
    return m;
}

static inline void copy_free(model_copy *m)
{
    for (size_t i = 0; i < m->n_owned; i++) free(m->owned[i]);
    safetensors_close(&m->file);
    json_decref(m->config);
    free(m);
}

static inline safetensors_entry *copy_entry(model_copy *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++) {
        if (strcmp(m->entries[i].name, name) == 0) return &m->entries[i];
    }
    fail_msg("no tensor %s", name);
    return NULL;
}

static inline void copy_remove(model_copy *m, const char *name)
{
    safetensors_entry *e = copy_entry(m, name);
    memmove(e, e + 1, (size_t)(m->entries + --m->n - e) * sizeof *e);
}

// Removes every tensor whose name starts so.
static inline void copy_remove_all(model_copy *m, const char *start)
{
    size_t kept = 0;
    for (size_t i = 0; i < m->n; i++) {
        if (strncmp(m->entries[i].name, start, strlen(start))) m->entries[kept++] = m->entries[i];
    }
    m->n = kept;
}

static inline void copy_add(model_copy *m, const char *name, const char *like)
{
    m->entries[m->n] = *copy_entry(m, like);
    m->entries[m->n++].name = name;
}

// A tensor's bytes as a copy that may be written.
static inline void *copy_writable(model_copy *m, safetensors_entry *e)
{
    size_t n = (size_t)tensor_count(&e->view) * tensor_type_bytes(e->view.type);
    void *p = copy_own(m, malloc(n));
    memcpy(p, e->view.data, n);
    e->view.data = p;
    return p;
}

static inline void copy_other_files(const model_copy *m, const char *folder)
{
    static const char *const names[] = {"generation_config.json", "preprocessor_config.json",
                                        "video_preprocessor_config.json", "tokenizer.json"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[1100], *text;
        size_t n;
        snprintf(path, sizeof path, "%s/%s", m->source, names[i]);
        assert_ok(file_read(&text, &n, path, 1 << 24));
        free(test_write(folder, names[i], text, n));
        free(text);
    }
    char *config = json_dumps(m->config, 0);
    free(test_write(folder, "config.json", config, strlen(config)));
    free(config);
}

static inline void copy_write_part(const model_copy *m, const char *folder, const char *name,
                                   size_t begin, size_t end)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_ok(safetensors_write(path, m->entries + begin, end - begin));
}

// A new folder with all of it.
static inline const char *copy_write(const model_copy *m)
{
    const char *folder = test_folder();
    copy_other_files(m, folder);
    copy_write_part(m, folder, "model.safetensors", 0, m->n);
    return folder;
}

#endif
