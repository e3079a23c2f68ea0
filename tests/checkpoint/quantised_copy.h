// Golden models with some matrices in a quantised form: golden/hybrid, and from golden/quantised/CASE the
// quantization_config and a second file of weights, each of which a test may change first.
#ifndef TESTS_CHECKPOINT_QUANTISED_COPY_H
#define TESTS_CHECKPOINT_QUANTISED_COPY_H

#include "checkpoint/model_copy.h"

typedef struct quantised_copy {
    model_copy *m;
    char *weights; // weights.safetensors
    size_t n_weights;
    json_t *quantisation; // borrowed from m->config
} quantised_copy;

static inline void quantised_path(char *path, size_t size, const char *name, const char *file)
{
    snprintf(path, size, "%s/quantised/%s/%s", TEST_GOLDEN_DIR, name, file);
}

// The published names of a file's matrices, taken out of the plain copy.
static inline void quantised_remove_plain(quantised_copy *q, const char *path)
{
    safetensors *s = NULL;
    assert_ok(safetensors_open(&s, path));
    for (size_t i = 0; i < safetensors_count(s); i++) copy_remove(q->m, safetensors_name(s, i));
    safetensors_close(&s);
}

static inline quantised_copy quantised_load(const char *name)
{
    char path[1100];
    quantised_copy q = {.m = copy_load("hybrid")};
    quantised_path(path, sizeof path, name, "expected.safetensors");
    quantised_remove_plain(&q, path);
    quantised_path(path, sizeof path, name, "weights.safetensors");
    assert_ok(file_read(&q.weights, &q.n_weights, path, 1 << 24));
    quantised_path(path, sizeof path, name, "config.json");
    assert_ok(json_parse_file(&q.quantisation, path, 1 << 20, SIGHT_E_MODEL));
    json_object_set_new(q.m->config, "quantization_config", q.quantisation);
    return q;
}

static inline void quantised_free(quantised_copy *q)
{
    copy_free(q->m);
    free(q->weights);
}

// Another text of the same length in the header of the second file: a name, a dtype, a shape.
static inline void quantised_edit(quantised_copy *q, const char *from, const char *to)
{
    const size_t n = strlen(from);
    assert_int_equal(n, strlen(to));
    for (size_t i = 0; i + n <= q->n_weights; i++) {
        if (memcmp(q->weights + i, from, n)) continue;
        memcpy(q->weights + i, to, n);
        return;
    }
    fail_msg("no '%s' in the weights", from);
}

// Where a tensor's bytes lie in the second file.
static inline unsigned char *quantised_data(quantised_copy *q, const char *name)
{
    safetensors *s = NULL;
    tensor_view v;
    assert_ok(safetensors_parse(&s, q->weights, q->n_weights, "weights"));
    const int64_t i = safetensors_find(s, name);
    assert_true(i >= 0 && safetensors_view(s, &v, (size_t)i));
    safetensors_close(&s);
    return (unsigned char *)v.data;
}

static inline const char *quantised_write(const quantised_copy *q)
{
    const char *folder = test_folder();
    copy_other_files(q->m, folder);
    copy_write_part(q->m, folder, "model-00001-of-00002.safetensors", 0, q->m->n);
    free(test_write(folder, "model-00002-of-00002.safetensors", q->weights, q->n_weights));
    return folder;
}

#endif
