// The tensors of GGUF files as a checkpoint's weights: plain ones where the file has them,
// matrices in blocks as `stored`, and the few that the converter changed put back.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/gguf_blocks.h"
#include "checkpoint/gguf_model.h"
#include "checkpoint/gguf_names.h"

static sight_err no_memory(const gguf *g)
{
    return sight_fail(SIGHT_E_MEMORY, "no memory for the tensors of '%s'", gguf_path(g));
}

// Memory that lives as long as the model; NULL: none.
static void *own(gguf_model *m, size_t bytes)
{
    void **owned = realloc(m->owned, (m->n_owned + 1) * sizeof *owned);
    if (!owned) return NULL;
    m->owned = owned;
    void *p = malloc(bytes);
    if (p) m->owned[m->n_owned++] = p;
    return p;
}

static bool plain_type(tensor_type *out, int type_id)
{
    if (type_id == GGUF_F32) *out = TENSOR_F32;
    else if (type_id == GGUF_BF16) *out = TENSOR_BF16;
    else if (type_id == GGUF_F16) *out = TENSOR_F16;
    else return false;
    return true;
}

static void set_shape(tensor_view *v, const gguf_tensor *t)
{
    v->n_dims = t->n_dims;
    memcpy(v->shape, t->shape, (size_t)t->n_dims * sizeof *v->shape);
}

static sight_err set_stored(weight *w, gguf_model *m, const gguf *g, const gguf_tensor *t)
{
    stored s;
    sight_err err = gguf_blocks_stored(&s, t, w->name, w->path);
    if (err) return err;
    stored *kept = own(m, sizeof *kept);
    if (!kept) return no_memory(g);
    *kept = s;
    w->stored = kept;
    w->view.type = TENSOR_U8;
    return SIGHT_OK;
}

// ---- what the converter changed ----

static sight_err unsqueeze(weight *w, const gguf_tensor *t)
{
    if (t->n_dims != 2) return SIGHT_OK; // its shape is then refused with all others
    w->view.n_dims = 3;
    w->view.shape[1] = 1;
    w->view.shape[2] = t->shape[1];
    return SIGHT_OK;
}

// A_log = log(-a), by double: half a last place of what the converter began with, at most.
static sight_err undo_exp(weight *w, gguf_model *m, const gguf *g)
{
    const int64_t n = tensor_count(&w->view);
    float *logs = own(m, (size_t)n * sizeof *logs);
    if (!logs) return no_memory(g);
    for (int64_t i = 0; i < n; i++) {
        const double a = tensor_get_f32(&w->view, i);
        if (!(a < 0) || isinf(a)) {
            return sight_fail(SIGHT_E_MODEL,
                              "'%s': tensor '%s': expected negative numbers, found %g at element "
                              "%lld",
                              w->path, w->name, a, (long long)i);
        }
        logs[i] = (float)log(-a);
    }
    w->view.type = TENSOR_F32;
    w->view.data = logs;
    return SIGHT_OK;
}

// The two frames' kernels [hidden, channels, patch, patch], side by side per channel.
static sight_err join_frames(weight *w, gguf_model *m, const gguf *g, const gguf_tensor *a)
{
    const gguf_tensor *b = gguf_find(g, "v.patch_embd.weight.1");
    if (!b || b->type_id != a->type_id || a->n_dims != 4 || b->n_dims != 4 ||
        memcmp(a->shape, b->shape, sizeof a->shape)) {
        return sight_fail(SIGHT_E_MODEL,
                          "'%s': tensors 'v.patch_embd.weight' and 'v.patch_embd.weight.1' must "
                          "both be there, alike in type and shape [hidden, channels, patch, patch]",
                          w->path);
    }
    unsigned char *joined = own(m, 2 * a->bytes);
    if (!joined) return no_memory(g);
    const size_t kernels = (size_t)(a->shape[0] * a->shape[1]), each = a->bytes / kernels;
    for (size_t i = 0; i < kernels; i++) {
        memcpy(joined + 2 * i * each, a->data + i * each, each);
        memcpy(joined + (2 * i + 1) * each, b->data + i * each, each);
    }
    w->view.n_dims = 5;
    w->view.shape[2] = 2;
    w->view.shape[3] = a->shape[2];
    w->view.shape[4] = a->shape[3];
    w->view.data = joined;
    return SIGHT_OK;
}

// ---- listing ----

static sight_err add(checkpoint *c, gguf_model *m, const gguf *g, const gguf_tensor *t)
{
    char name[EXPECT_MAX_NAME];
    gguf_change change;
    gguf_published_name(name, &change, t->name, &c->config);
    if (change == GGUF_FRAME_1) return SIGHT_OK; // comes with the first
    weight *w = &c->weights[c->n];
    *w = (weight){.name = strdup(name), .path = gguf_path(g), .dtype = t->type, .has_view = true};
    if (!w->name) return no_memory(g);
    c->n++;
    set_shape(&w->view, t);
    if (!plain_type(&w->view.type, t->type_id)) {
        sight_err err = set_stored(w, m, g, t);
        if (err || change == GGUF_AS_IS) return err;
        return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': tensor '%s' is %s, where plain numbers are "
                          "needed", w->path, t->name, t->type);
    }
    w->view.data = t->data;
    switch (change) {
    case GGUF_SQUEEZED: return unsqueeze(w, t);
    case GGUF_NEGATED_EXP: return undo_exp(w, m, g);
    case GGUF_FRAME_0: return join_frames(w, m, g, t);
    default: return SIGHT_OK;
    }
}

static sight_err add_all(checkpoint *c, gguf_model *m, const gguf *g)
{
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < gguf_count(g) && !err; i++) err = add(c, m, g, gguf_at(g, i));
    return err;
}

sight_err gguf_weights(checkpoint *c, gguf_model *m)
{
    size_t total = m->mmproj ? gguf_count(m->mmproj) : 0;
    for (size_t i = 0; i < m->n; i++) total += gguf_count(m->parts[i]);
    c->weights = calloc(total + 1, sizeof *c->weights);
    if (!c->weights) return no_memory(m->parts[0]);
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < m->n && !err; i++) err = add_all(c, m, m->parts[i]);
    if (!err && m->mmproj) err = add_all(c, m, m->mmproj);
    return err;
}
