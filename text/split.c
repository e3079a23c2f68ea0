#include "text/split.h"

#include <stdlib.h>
#include <string.h>

// ---- what can be split ----

static sight_err divides(int64_t n, int32_t ranks, const char *what)
{
    if (n % ranks == 0) return SIGHT_OK;
    return sight_fail(SIGHT_E_UNSUPPORTED, "%lld %s do not divide among %d devices", (long long)n, what, ranks);
}

static bool has_layers(const text_config *c, layer_kind kind)
{
    for (int32_t i = 0; i < c->n_layers; i++)
        if (c->layers[i] == kind) return true;
    return false;
}

sight_err split_check(const text_config *c, int32_t ranks)
{
    if (ranks < 1 || ranks > SPLIT_MAX_RANKS) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "a model over %d devices, 1 to %d are possible", ranks,
                          SPLIT_MAX_RANKS);
    }
    sight_err err = divides(c->intermediate, ranks, "inner components of the MLP");
    if (!err) err = divides(c->vocab, ranks, "ids of the vocabulary");
    if (!err && (has_layers(c, LAYER_FULL) || c->mtp_layers > 0)) {
        err = divides(c->heads, ranks, "query heads");
        if (!err) err = divides(c->kv_heads, ranks, "key/value heads");
    }
    if (!err && has_layers(c, LAYER_LINEAR)) {
        err = divides(c->linear_key_heads, ranks, "key heads of linear attention");
        if (!err) err = divides(c->linear_value_heads, ranks, "value heads of linear attention");
        const int32_t tiles = c->linear_value_heads / c->linear_key_heads;
        if (!err && c->tiled_value_heads && tiles + 2 > SPLIT_MAX_RANGES) {
            err = sight_fail(SIGHT_E_UNSUPPORTED, "%d value heads for each key head cannot be split, at most %d",
                             tiles, SPLIT_MAX_RANGES - 2);
        }
    }
    return err;
}

text_config split_config(const text_config *whole, const split *s)
{
    text_config c = *whole; // vocab stays: ids are those of the whole model
    if (s->ranks < 2) return c;
    c.heads /= s->ranks;
    c.kv_heads /= s->ranks;
    c.linear_key_heads /= s->ranks;
    c.linear_value_heads /= s->ranks;
    c.intermediate /= s->ranks;
    return c;
}

// ---- who has what ----

static void add_range(split_ranges *r, int64_t first, int64_t count)
{
    r->at[r->n].first = first;
    r->at[r->n++].count = count;
    r->total += count;
}

// The rank's of `heads` equal pieces that begin at `first`.
static void add_share(split_ranges *r, const split *s, int64_t first, int64_t heads, int64_t width)
{
    const int64_t count = heads / s->ranks * width;
    add_range(r, first + s->rank * count, count);
}

// Value heads go where their key heads go. In order, v / (values / keys) says which; tiled, v % keys.
static void add_values(split_ranges *r, const text_config *c, const split *s, int64_t first, int64_t width)
{
    if (!c->tiled_value_heads) {
        add_share(r, s, first, c->linear_value_heads, width);
        return;
    }
    for (int64_t head = 0; head < c->linear_value_heads; head += c->linear_key_heads) {
        add_share(r, s, first + head * width, c->linear_key_heads, width);
    }
}

static void add_qkv(split_ranges *r, const text_config *c, const split *s)
{
    const int64_t keys = (int64_t)c->linear_key_heads * c->linear_key_dim;
    add_share(r, s, 0, c->linear_key_heads, c->linear_key_dim);
    add_share(r, s, keys, c->linear_key_heads, c->linear_key_dim);
    add_values(r, c, s, 2 * keys, c->linear_value_dim);
}

void split_find(split_ranges *out, const text_config *c, split_role role, const split *s)
{
    const int64_t C = c->head_dim;
    *out = (split_ranges){0};
    switch (role) {
    case SPLIT_WHOLE: break;
    case SPLIT_Q: add_share(out, s, 0, c->heads, c->attention_gate ? 2 * C : C); break;
    case SPLIT_FROM_Q: add_share(out, s, 0, c->heads, C); break;
    case SPLIT_KV: add_share(out, s, 0, c->kv_heads, C); break;
    case SPLIT_QKV: add_qkv(out, c, s); break;
    case SPLIT_VALUES:
    case SPLIT_FROM_VALUES: add_values(out, c, s, 0, c->linear_value_dim); break;
    case SPLIT_GATES: add_values(out, c, s, 0, 1); break;
    case SPLIT_INNER:
    case SPLIT_FROM_INNER: add_share(out, s, 0, c->intermediate, 1); break;
    case SPLIT_VOCAB: add_share(out, s, 0, c->vocab, 1); break;
    }
}

// ---- parts of weights ----

static char *copy_rows(char *to, const char *from, size_t row_bytes, const split_ranges *r)
{
    for (int32_t i = 0; i < r->n; i++) {
        const size_t bytes = (size_t)r->at[i].count * row_bytes;
        memcpy(to, from + (size_t)r->at[i].first * row_bytes, bytes);
        to += bytes;
    }
    return to;
}

sight_err split_matrix(tensor_view *out, void **owned, const tensor_view *whole, split_role role,
                       const split_ranges *r)
{
    const size_t element = tensor_type_bytes(whole->type), row = (size_t)whole->shape[1] * element;
    const bool columns = split_by_columns(role);
    tensor_view part = *whole;
    part.shape[columns] = r->total;
    *owned = NULL;
    if (role == SPLIT_WHOLE) {
        part = *whole;
    } else if (!columns && r->n == 1) {
        part.data = (const char *)whole->data + (size_t)r->at[0].first * row;
    } else {
        const size_t bytes = (size_t)tensor_count(&part) * element;
        char *to = malloc(bytes);
        if (!to) return sight_fail(SIGHT_E_MEMORY, "no memory for %zu MiB of a split weight", bytes >> 20);
        part.data = *owned = to;
        if (!columns) copy_rows(to, whole->data, row, r);
        for (int64_t m = 0; columns && m < whole->shape[0]; m++) {
            to = copy_rows(to, (const char *)whole->data + (size_t)m * row, element, r);
        }
    }
    *out = part;
    return SIGHT_OK;
}

void split_floats(float *x, int64_t width, const split_ranges *r)
{
    float *to = x;
    for (int32_t i = 0; i < r->n; i++) {
        const int64_t floats = r->at[i].count * width;
        memmove(to, x + r->at[i].first * width, (size_t)floats * sizeof *x);
        to += floats;
    }
}
