// Made-up weights of a published size, for benchmarks. Rooms above see an ordinary checkpoint.
//
// Sizes: the table of docs/MODEL.md; 27b is that of the published Qwen3.5-27B model card.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/threads.h"
#include "checkpoint/checkpoint_parts.h"
#include "checkpoint/expect.h"

#define PIECE ((int64_t)1 << 19) // elements that one thread fills at a time
#define ALIGN 64                 // bytes, of every tensor's start

typedef struct shape_row {
    const char *name;
    int hidden, intermediate, layers, heads, kv_heads, key_heads, value_heads;
    int vision_depth, vision_hidden, vision_heads, vision_intermediate;
    bool tied;
} shape_row;

static const shape_row rows[] = {
    {"0.8b", 1024, 3584, 24, 8, 2, 16, 16, 12, 768, 12, 3072, true},
    {"2b", 2048, 6144, 24, 8, 2, 16, 16, 24, 1024, 16, 4096, true},
    {"4b", 2560, 9216, 32, 16, 4, 16, 32, 24, 1024, 16, 4096, true},
    {"9b", 4096, 12288, 32, 16, 4, 16, 32, 27, 1152, 16, 4304, false},
    {"27b", 5120, 17408, 64, 24, 4, 16, 48, 27, 1152, 16, 4304, false},
};

// The config.json that such a checkpoint comes with, so that it is read and checked as one.
static sight_err made_up_config(model_config *out, const shape_row *r)
{
    char text[2048];
    int n = snprintf(
        text, sizeof text,
        "{\"model_type\": \"qwen3_5\", \"tie_word_embeddings\": %s, \"text_config\": {"
        "\"hidden_size\": %d, \"intermediate_size\": %d, \"num_hidden_layers\": %d, "
        "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"head_dim\": 256, "
        "\"linear_num_key_heads\": %d, \"linear_num_value_heads\": %d, \"vocab_size\": 248320, "
        "\"max_position_embeddings\": 262144, \"eos_token_id\": 248044, "
        "\"mtp_num_hidden_layers\": 1, \"rope_parameters\": {\"rope_type\": \"default\", "
        "\"rope_theta\": 10000000, \"partial_rotary_factor\": 0.25, "
        "\"mrope_section\": [11, 11, 10]}}, \"vision_config\": {\"depth\": %d, "
        "\"hidden_size\": %d, \"num_heads\": %d, \"intermediate_size\": %d, "
        "\"out_hidden_size\": %d}}",
        r->tied ? "true" : "false", r->hidden, r->intermediate, r->layers, r->heads, r->kv_heads,
        r->key_heads, r->value_heads, r->vision_depth, r->vision_hidden, r->vision_heads,
        r->vision_intermediate, r->hidden);
    config_files files = {.config = {text, (size_t)n}};
    return config_parse(out, &files);
}

// ---- numbers ----

// splitmix64 at position i: any piece of a tensor can be filled on its own.
static inline uint64_t bits_at(uint64_t key, uint64_t i)
{
    uint64_t z = key + (i + 1) * 0x9e3779b97f4a7c15ULL;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
    return z ^ z >> 31;
}

static uint64_t key_of(const char *name, uint64_t seed)
{
    uint64_t h = 1469598103934665603ULL; // FNV-1a
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211ULL;
    return bits_at(h, seed);
}

// Matrices: sign and mantissa random, the exponent fixed, so that a word of random bits is four
// elements. Magnitudes are uniform in [s, 2s), of root mean square 1.5275 s: s is the power of two
// next to 1 / (1.5275 sqrt(fan in)), which keeps activations of order 1.
static void fill_matrix(uint16_t *to, int64_t begin, int64_t end, double fan_in, uint64_t key)
{
    int exponent = (int)lrint(log2(1 / (1.5275 * sqrt(fan_in)))) + 127;
    uint64_t set = 0x0001000100010001ULL * (uint64_t)((unsigned)exponent << 7);
    for (int64_t i = begin; i < end; i += 4) {
        uint64_t word = (bits_at(key, (uint64_t)i / 4) & 0x807f807f807f807fULL) | set;
        memcpy(to + i, &word, (size_t)(end - i < 4 ? end - i : 4) * sizeof *to);
    }
}

static double uniform(uint64_t key, int64_t i, double low, double high)
{
    return low + (high - low) * (double)(bits_at(key, (uint64_t)i) >> 11) / 9007199254740992.0;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

// Vectors, by what they mean: decays between slow and fast, norms near one, biases near zero.
static void fill_vector(uint16_t *to, int64_t n, const char *name, uint64_t key)
{
    bool log_decay = ends_with(name, ".A_log");
    bool norm = strstr(name, "norm") && ends_with(name, ".weight");
    bool plain = strstr(name, "model.visual.") || ends_with(name, "linear_attn.norm.weight");
    double centre = norm && plain ? 1 : 0; // others are stored as w - 1
    double spread = ends_with(name, ".dt_bias") ? 0.5 : 0.1;
    for (int64_t i = 0; i < n; i++) {
        double v = log_decay ? log(uniform(key, i, 0.02, 4))
                             : uniform(key, i, centre - spread, centre + spread);
        to[i] = f32_to_bf16((float)v);
    }
}

typedef struct filling {
    const weight *of;
    int64_t begin, end;
    uint64_t key;
} filling;

static void fill_pieces(void *arg, int64_t first, int64_t last, int worker)
{
    (void)worker;
    const filling *f = arg;
    const tensor_view *v = &f->of->view;
    uint16_t *to = (uint16_t *)v->data; // our own memory until the checkpoint is handed out
    const double fan_in = (double)tensor_count(v) / (double)v->shape[0];
    for (int64_t i = first; i < last; i++) {
        const int64_t begin = f->begin + i * PIECE;
        const int64_t end = begin + PIECE < f->end ? begin + PIECE : f->end;
        fill_matrix(to, begin, end, fan_in, f->key);
    }
}

// begin is a multiple of 4: a word of random bits is four elements.
void made_up_fill(const checkpoint *c, const weight *w, int64_t begin, int64_t end, threads *pool)
{
    const filling f = {w, begin, end, key_of(w->name, c->seed)};
    if (w->view.n_dims == 1) fill_vector((uint16_t *)w->view.data, w->view.shape[0], w->name, f.key);
    else threads_for(pool, (end - begin + PIECE - 1) / PIECE, 1, fill_pieces, (void *)&f);
}

static sight_err fill(checkpoint *c)
{
    threads *pool = NULL;
    sight_err err = threads_create(&pool, 0);
    for (size_t i = 0; i < c->n && !err; i++) {
        const weight *w = &c->weights[i];
        if (c->lazy && w->view.n_dims > 1) continue;
        made_up_fill(c, w, 0, tensor_count(&w->view), pool);
    }
    threads_destroy(&pool);
    return err;
}

// ---- memory ----

// Anonymous memory for all weights, refused by number where the machine does not have it.
static sight_err map_memory(checkpoint *c, size_t bytes)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t mib = bytes >> 20;
    if (!c->lazy && pages > 0 && page > 0 && bytes > (size_t)pages * (size_t)page) {
        return sight_fail(SIGHT_E_MEMORY,
                          "made-up weights take %zu MiB, this machine has %zu MiB of memory", mib,
                          (size_t)pages * (size_t)page >> 20);
    }
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (c->lazy ? MAP_NORESERVE : 0);
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (p == MAP_FAILED) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for %zu MiB of made-up weights", mib);
    }
    c->memory = p;
    c->memory_bytes = bytes;
    madvise(p, bytes, MADV_HUGEPAGE); // only a wish: fewer page faults while filling
    return SIGHT_OK;
}

static size_t padded_bytes(const expected *e)
{
    size_t n = sizeof(uint16_t);
    for (int32_t i = 0; i < e->n_dims; i++) n *= (size_t)e->shape[i];
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static sight_err lay_out(checkpoint *c, const expect_list *list)
{
    size_t bytes = 0, at = 0;
    for (size_t i = 0; i < list->n; i++) bytes += padded_bytes(&list->items[i]);
    c->weights = calloc(list->n, sizeof *c->weights);
    if (!c->weights) return sight_fail(SIGHT_E_MEMORY, "no memory for made-up weights");
    sight_err err = map_memory(c, bytes);
    for (size_t i = 0; i < list->n && !err; i++) {
        const expected *e = &list->items[i];
        weight *w = &c->weights[i];
        w->name = strdup(e->name);
        if (!w->name) return sight_fail(SIGHT_E_MEMORY, "no memory for made-up weights");
        w->path = "";
        w->dtype = "BF16";
        w->has_view = true;
        w->view = (tensor_view){(char *)c->memory + at, TENSOR_BF16, e->n_dims, {0}};
        memcpy(w->view.shape, e->shape, sizeof w->view.shape);
        at += padded_bytes(e);
        c->n++;
    }
    return err;
}

static sight_err make(checkpoint *c, const shape_row *r)
{
    expect_list list = {0};
    c->dir = strdup("");
    if (!c->dir) return sight_fail(SIGHT_E_MEMORY, "no memory for made-up weights");
    sight_err err = made_up_config(&c->config, r);
    if (!err) err = expect_init(&list, &c->config);
    if (!err) err = lay_out(c, &list);
    if (!err) err = fill(c);
    if (!err) checkpoint_finish(c);
    if (!err && !c->lazy) mprotect(c->memory, c->memory_bytes, PROT_READ); // as the mapped files are
    expect_done(&list);
    return err;
}

static sight_err make_up(checkpoint **out, const char *shape, uint64_t seed, bool lazy)
{
    const shape_row *row = NULL;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].name, shape) == 0) row = &rows[i];
    }
    if (!row) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "no shape '%s', there are 0.8b, 2b, 4b, 9b and 27b", shape);
    }
    checkpoint *c = calloc(1, sizeof *c);
    if (!c) return sight_fail(SIGHT_E_MEMORY, "no memory for made-up weights");
    c->lazy = lazy;
    c->seed = seed;
    sight_err err = make(c, row);
    if (err) checkpoint_close(&c);
    else *out = c;
    return err;
}

sight_err checkpoint_made_up(checkpoint **out, const char *shape, uint64_t seed)
{
    return make_up(out, shape, seed, false);
}

sight_err checkpoint_made_up_lazy(checkpoint **out, const char *shape, uint64_t seed)
{
    return make_up(out, shape, seed, true);
}
