// An engine's parts, opened one after the other: names, texts, kernels, weights, models, caches, stores.
#include "daemon/engine_parts.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/lora.h"
#include "checkpoint/prepare.h"
#include "daemon/machine.h"
#include "daemon/store/scope.h"
#include "kernels/memory.h"
#include "text/group.h"
#include "text/planes.h"

#define MIN_CONTEXT   256
#define MIN_STEP_ROWS 64
#define MOST_FEATURES ((int64_t)1 << 30) // bytes for kept ones when nobody says
#define MAX_STEP_ROWS 512
// On a GPU, as far as its memory allows: products of fewer rows wait for the weights.
#define DEVICE_STEP_ROWS 2048
#define DEVICE_ROWS_PART 16 // of all memory, for a step's workspace

static void warn(engine *e, const char *format, ...)
{
    if (e->n_warnings == ENGINE_MAX_WARNINGS) return;
    va_list args;
    va_start(args, format);
    vsnprintf(e->warnings[e->n_warnings++], sizeof e->warnings[0], format, args);
    va_end(args);
}

// What answers call the model: a published name as given, else the folder's own name.
sight_err engine_find_model(char **out_dir, char **out_name, const char *model)
{
    char *dir = NULL;
    sight_err err = checkpoint_find(&dir, model);
    if (err) return err;
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/') dir[--n] = 0;
    // A folder may stand for the GGUF file in it.
    const bool is_path = !strncmp(dir, model, strlen(dir)) || !strncmp(dir, model, strlen(model)) ||
                         model[0] == '/' || model[0] == '.';
    const char *slash = strrchr(dir, '/');
    char *name = strdup(is_path ? (slash && slash[1] ? slash + 1 : dir) : model);
    if (!name) {
        free(dir);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a name");
    }
    *out_dir = dir;
    *out_name = name;
    return SIGHT_OK;
}

static sight_err set_names(engine *e, const engine_options *o)
{
    if (o->shape) {
        e->dir = strdup("");
        e->name = strdup(o->shape);
    } else {
        sight_err err = engine_find_model(&e->dir, &e->name, o->model);
        if (err) return err;
    }
    if (o->name) {
        free(e->name);
        e->name = strdup(o->name);
    }
    return e->dir && e->name ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for a name");
}

static sight_err open_text_side(engine *e)
{
    sight_err err = tokenizer_open(&e->tokens, e->dir);
    if (err) return err;
    bool built_in = false;
    err = chat_open(&e->template, e->dir, e->tokens, &built_in);
    if (!err && built_in) {
        warn(e, "%s has no chat template: the built-in one is used, with thinking on by default",
             e->name);
    }
    return err;
}

static void add_eos(engine *e, int32_t id)
{
    if (id >= 0 && e->n_eos < CONFIG_MAX_EOS && !engine_is_eos(e, id)) e->eos[e->n_eos++] = id;
}

static sight_err set_allowed(engine *e)
{
    const generation_config *g = &e->config.generation;
    for (int32_t i = 0; i < g->n_eos; i++) add_eos(e, g->eos[i]);
    if (e->tokens && e->n_eos == 0) {
        add_eos(e, tokenizer_find(e->tokens, "<|im_end|>"));
        add_eos(e, tokenizer_find(e->tokens, "<|endoftext|>"));
    }
    e->turn_end = e->tokens ? tokenizer_find(e->tokens, "<|im_end|>") : -1;
    const int32_t vocab = e->config.text.vocab;
    e->allowed = malloc((size_t)vocab + 1);
    if (!e->allowed) return sight_fail(SIGHT_E_MEMORY, "no memory for %d ids", vocab);
    for (int32_t id = 0; id < vocab; id++) {
        e->allowed[id] = !e->tokens || tokenizer_has(e->tokens, id);
        // A pad stands for a feature row, which an answer does not have.
        if (e->config.has_vision &&
            (id == e->config.image_token || id == e->config.video_token)) {
            e->allowed[id] = 0;
        }
    }
    return SIGHT_OK;
}

static double mib(int64_t bytes)
{
    return (double)bytes / (1 << 20);
}

static bool on_device(const engine *e)
{
    return kernels_on_device(e->k);
}

static sight_err too_little(const engine *e, const char *what, int64_t need)
{
    char of[24] = "memory";
    if (on_device(e)) {
        memcpy(of, "memory of ", 10);
        device_format(of + 10, kernels_device(e->k));
    }
    return sight_fail(SIGHT_E_MEMORY, "%s: %s needs %.0f MiB of %s, %.0f MiB are allowed", e->name, what,
                      mib(need), of, mib(e->memory.budget));
}

// Rows such that a step takes some tenths of a second on two cores: a request can be ended between
// two steps. Depends on the model alone, so that results do not depend on the machine.
static int64_t choose_step_rows(const text_config *t)
{
    const double per_layer = 3.0 * t->hidden * t->intermediate + 6.0 * t->hidden * t->hidden;
    const double rows = 0.3 * 350e9 / (2 * per_layer * t->n_layers);
    int64_t n = (int64_t)(rows / MIN_STEP_ROWS + 0.5) * MIN_STEP_ROWS;
    if (n < MIN_STEP_ROWS) n = MIN_STEP_ROWS;
    return n > MAX_STEP_ROWS ? MAX_STEP_ROWS : n;
}

// What a step's workspace takes of a GPU for each row, about: rows of hidden and intermediate width.
static int64_t row_bytes(const text_config *t)
{
    return (int64_t)sizeof(float) * (16 * (int64_t)t->hidden + 4 * (int64_t)t->intermediate);
}

static int64_t choose_device_rows(const text_config *t, int64_t budget)
{
    const int64_t n = budget / DEVICE_ROWS_PART / row_bytes(t) / MIN_STEP_ROWS * MIN_STEP_ROWS;
    return n < MIN_STEP_ROWS ? MIN_STEP_ROWS : n > DEVICE_STEP_ROWS ? DEVICE_STEP_ROWS : n;
}

// Chooses the form of the weights, refuses what does not fit before any work, and prepares them.
static sight_err open_weights(engine *e, const engine_options *o)
{
    const int64_t budget = on_device(e)      ? engine_ranks_left(&e->ranks)
                           : o->memory_bytes ? o->memory_bytes
                                             : machine_memory_bytes();
    weights_form form = o->weights.form;
    if (form == WEIGHTS_AUTO && o->first) form = checkpoint_form(o->first->weights);
    if (form == WEIGHTS_AUTO) form = weights_choose(e->weights, on_device(e) ? budget * e->ranks.n : budget);
    e->memory.budget = budget;
    e->memory.devices = e->ranks.n;
    text_planes keep;
    prepare_extra planes;
    const size_t n_extras = text_planes_extra(&planes, &keep, e->weights, e->k);
    e->memory.weights = weights_form_bytes(e->weights, form) + (int64_t)lora_bytes(e->weights) +
                        (n_extras ? (int64_t)planes.bytes : 0);
    if (on_device(e)) e->memory.weights = engine_ranks_share(&e->ranks, &e->config.text, e->memory.weights);
    if (e->memory.weights > budget) {
        char what[64];
        snprintf(what, sizeof what, "the model, weights %s,", weights_form_name(form));
        return too_little(e, what, e->memory.weights);
    }
    weights_options wo = o->weights;
    bool unkept = false;
    wo.threads = o->threads;
    sight_err err = weights_prepare(e->weights, form, &wo, &planes, n_extras, &unkept);
    if (err) return err;
    const char *warning = checkpoint_prepare_warning(e->weights);
    if (warning) warn(e, "%s", warning);
    if (unkept) warn(e, "prepared weights are not kept: neither XDG_CACHE_HOME nor HOME is set");
    e->memory.weights = (int64_t)(checkpoint_bytes(e->weights) + lora_bytes(e->weights));
    if (on_device(e)) e->memory.weights = engine_ranks_share(&e->ranks, &e->config.text, e->memory.weights);
    return SIGHT_OK;
}

// On a GPU weights are as large as its products want them: what is gone of its memory says how much. Of several, that
// with the least left counts.
static void count_device_weights(engine *e)
{
    if (!on_device(e)) return;
    const int64_t left = engine_ranks_left(&e->ranks);
    for (int32_t i = 0; i < e->ranks.n; i++) {
        if (kernels_get_room(e->ranks.k[i]).left == left) e->memory.budget = e->ranks.budget[i];
    }
    e->memory.weights = e->memory.budget - left - e->memory.text_workspace;
}

static sight_err open_models(engine *e, const engine_options *o)
{
    const text_config *t = &e->config.text;
    const int64_t rows = o->step_rows   ? o->step_rows
                         : o->first     ? text_model_max_rows(o->first->text) // borders of pieces depend on it
                         : on_device(e) ? choose_device_rows(t, e->memory.budget)
                                        : choose_step_rows(t);
    if (on_device(e) && e->memory.weights + rows * row_bytes(t) > e->memory.budget) {
        return too_little(e, "the model with its workspace", e->memory.weights + rows * row_bytes(t));
    }
    sight_err err = e->ranks.n > 1 ? text_group_create(&e->text, e->weights, e->ranks.k, e->ranks.n, rows)
                                   : text_model_create(&e->text, e->weights, e->k, rows);
    if (err) return err;
    const char *relayed = text_group_relayed(e->text);
    if (relayed) warn(e, "the GPUs' sums go by way of the processor's memory, which is slow: no NCCL (%s)", relayed);
    e->memory.text_workspace = text_model_workspace_bytes(e->text);
    if (e->config.has_vision) err = tower_create(&e->eyes, e->weights, e->beside);
    if (!err) count_device_weights(e);
    return err ? err : engine_status(e);
}

// The longest context, up to `want`, whose cache fits into `room`.
static int64_t context_that_fits(const cache_pool *p, int64_t want, int64_t room)
{
    int64_t low = 0, high = want;
    while (low < high) {
        int64_t mid = low + (high - low + 1) / 2;
        if (cache_bytes(p, mid) <= room) low = mid;
        else high = mid - 1;
    }
    return low;
}

// The widest picture's workspace: a square one at the bound on pixels. On a GPU its features lie there too.
static int64_t vision_bytes(const engine *e, const engine_options *o)
{
    if (!e->eyes) return 0;
    const vision_config *v = &e->config.vision;
    const int32_t unit = v->patch * v->merge;
    int64_t pixels = e->config.image.max_pixels;
    if (o->picture_pixels && o->picture_pixels < pixels) pixels = o->picture_pixels;
    const int32_t side = (int32_t)(sqrt((double)pixels) / unit) * v->merge;
    const vision_grid grid = {1, side > 0 ? side : v->merge, side > 0 ? side : v->merge};
    const int64_t tokens = (int64_t)grid.h * grid.w / (v->merge * v->merge);
    const int64_t features = tokens * v->out_hidden * (1 + v->n_deepstack) * (int64_t)sizeof(float);
    return tower_workspace_bytes(e->eyes, &grid) + (on_device(e) ? features : 0);
}

// What must be free beside weights and caches: the process's memory grows as pictures need it, a GPU's is divided
// once.
static int64_t workspace_bytes(const engine *e)
{
    return e->memory.text_workspace + e->memory.reserved;
}

// Nothing is left for caches.
static sight_err refuse_model(const engine *e)
{
    const engine_memory *m = &e->memory;
    char what[160];
    if (!m->reserved) return too_little(e, "the model with its workspace", m->weights + workspace_bytes(e));
    snprintf(what, sizeof what, "the model (weights %.0f MiB, workspace %.0f, the largest picture %.0f)",
             mib(m->weights), mib(m->text_workspace), mib(m->reserved));
    return too_little(e, what, m->weights + workspace_bytes(e));
}

// A context that was asked for by number and does not fit.
static sight_err refuse_context(const engine *e, int64_t want, int64_t fits)
{
    const engine_memory *m = &e->memory;
    const int64_t cache = cache_bytes(e->pool, want);
    return sight_fail(SIGHT_E_MEMORY,
                      "%s: a context of %lld tokens needs %.0f MiB (weights %.0f, workspace %.0f, "
                      "keys and values %.0f, states %.0f), %.0f MiB are allowed; %lld tokens fit",
                      e->name, (long long)want, mib(m->weights + workspace_bytes(e) + cache),
                      mib(m->weights), mib(workspace_bytes(e)), mib(cache - m->states),
                      mib(m->states), mib(m->budget), (long long)fits);
}

// Whether what one computes has the very bits of the other.
static bool computes_alike(const engine *a, const engine *b)
{
    device_info x, y;
    const device_id on = kernels_device(a->k), other = kernels_device(b->k);
    if (kernels_simd(a->k) != kernels_simd(b->k) || on.kind != other.kind) return false;
    if (on.kind == DEVICE_CPU) return true;
    return !device_describe(&x, on) && !device_describe(&y, other) && !strcmp(x.name, y.name) && x.major == y.major &&
           x.minor == y.minor;
}

// Bytes for kept features, which are this process's memory: with the CPU they come out of the same budget as the
// caches, unasked only out of what a whole context leaves of it.
static sight_err find_features(int64_t *bytes, const engine *e, const engine_options *o)
{
    const engine_memory *m = &e->memory;
    const int64_t spare = on_device(e) ? machine_memory_bytes() / 4 : m->cache_budget - m->cache;
    int64_t features = o->feature_bytes;
    if (!features) features = spare / 4 < MOST_FEATURES ? spare / 4 : MOST_FEATURES;
    if (!e->eyes) features = 0;
    if (features > spare) {
        return sight_fail(SIGHT_E_MEMORY, "%s: feature-memory is %.0f MiB, %.0f MiB are left beside the model and "
                          "a context of %lld tokens", e->name, mib(features), mib(spare), (long long)e->context);
    }
    *bytes = features;
    return SIGHT_OK;
}

// What earlier requests leave for later ones.
static sight_err open_stores(engine *e, const engine_options *o)
{
    engine_memory *m = &e->memory;
    uint8_t scope[SIPHASH_BYTES] = {0};
    int64_t features = 0;
    e->features_shared = o->first && computes_alike(e, o->first);
    if (o->first && !e->features_shared) {
        warn(e, "this replica's GPU is of another kind than the first one's: answers may differ in their last bits");
    }
    sight_err err = e->features_shared ? SIGHT_OK : find_features(&features, e, o);
    if (err) return err;
    if (!on_device(e)) m->cache_budget -= features;
    e->disk = o->disk;
    if (e->disk && scope_of(scope, e, o, disk_key(e->disk))) {
        warn(e, "nothing is kept on disk: %s", sight_error());
        e->disk = NULL;
    }
    const prefix_options po = {.pool = e->pool,
                               .key = o->first && o->first->prefix ? prefix_store_key(o->first->prefix) : NULL,
                               .disk = e->disk,
                               .scope = scope,
                               .pool_bytes = m->cache_budget,
                               .budget_bytes = o->reuse_bytes ? o->reuse_bytes : m->cache_budget / 4};
    err = prefix_store_create(&e->prefix, &po);
    if (err || !e->eyes) return err;
    if (e->features_shared) {
        e->features = o->first->features;
        return SIGHT_OK;
    }
    const feature_options fo = {.budget_bytes = features,
                                .key = prefix_store_key(e->prefix),
                                .scope = scope,
                                .disk = e->disk};
    return feature_store_create(&e->features, &fo);
}

static sight_err open_cache(engine *e, const engine_options *o)
{
    engine_memory *m = &e->memory;
    m->vision = vision_bytes(e, o);
    m->reserved = on_device(e) ? m->vision : 0;
    const int64_t beside = m->weights + workspace_bytes(e), room = m->budget - beside;
    if (room <= 0) return refuse_model(e);
    m->cache_budget = room;
    const cache_options co = {.kv_type = o->kv_type, .budget_bytes = room};
    sight_err err = text_group_pool(&e->pool, e->text, &co);
    if (err) return err;
    m->states = cache_bytes(e->pool, 0);
    m->per_token = (cache_bytes(e->pool, CACHE_PAGE_ROWS) - m->states) / CACHE_PAGE_ROWS;
    const int64_t want = e->context;
    e->context = context_that_fits(e->pool, want, room);
    if (e->context < want && o->context_tokens) return refuse_context(e, want, e->context);
    if (e->context < want && e->context < MIN_CONTEXT) {
        return too_little(e, "the model with a context of 256 tokens",
                          beside + cache_bytes(e->pool, MIN_CONTEXT));
    }
    if (e->context < want) {
        warn(e, "the context is %lld tokens instead of %lld: more does not fit into %.0f MiB",
             (long long)e->context, (long long)want, mib(m->budget));
    }
    m->cache = cache_bytes(e->pool, e->context);
    return o->reuse ? open_stores(e, o) : SIGHT_OK;
}

// Settles the length of the context, and stretches positions where it is past the native one.
static sight_err set_context(engine *e, const engine_options *o)
{
    const int64_t native = e->config.text.max_positions;
    const bool had_yarn = e->config.text.rope.yarn;
    sight_err err = SIGHT_OK;
    if (o->context_tokens < 0) {
        err = sight_fail(SIGHT_E_ARGUMENT, "context is %lld, must be 1 or more",
                         (long long)o->context_tokens);
    } else if (e->weights) {
        err = checkpoint_stretch(e->weights, o->context_tokens, o->rope_factor);
        if (!err) e->config = *checkpoint_config(e->weights);
    } else {
        err = config_stretch(&e->config.text, o->context_tokens, o->rope_factor);
    }
    if (err) return err;
    const text_config *t = &e->config.text;
    if (t->rope.yarn && !had_yarn) {
        warn(e, "positions are stretched %g times (YaRN) for contexts past %lld tokens; this costs "
             "some quality on shorter ones", t->rope.factor, (long long)native);
    }
    e->context = o->context_tokens ? o->context_tokens : t->max_positions;
    return SIGHT_OK;
}

static sight_err open_kernels(engine *e, const engine_options *o)
{
    sight_err err = engine_ranks_kernels(&e->k, o, o->device, true);
    if (!err) err = kernels_create_beside(&e->beside, e->k);
    if (!err) err = engine_ranks_open(&e->ranks, e->k, &e->config.text, o);
    if (err) return err;
    const kernels_room room = kernels_get_room(e->k);
    e->memory.spare = room.all - room.left;
    return SIGHT_OK;
}

static sight_err add_adapters(engine *e, const engine_options *o)
{
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < o->n_lora && !err; i++) {
        char *dir = NULL;
        double scale;
        err = lora_parse(&dir, &scale, o->lora[i]);
        if (!err) err = lora_add(e->weights, dir, scale);
        free(dir);
    }
    return err;
}

sight_err engine_open_parts(engine *e, const engine_options *o)
{
    sight_err err = set_names(e, o);
    if (err) return err;
    if (o->text_side_only) {
        err = checkpoint_load_config(&e->config, e->dir, o->mmproj);
        // A tokenizer by itself is enough for its texts and prompts.
        if (err == SIGHT_E_NOT_FOUND) err = SIGHT_OK;
    } else {
        err = o->shape ? checkpoint_made_up_lazy(&e->weights, o->shape, o->seed)
                       : checkpoint_open_with(&e->weights, e->dir, o->mmproj);
        if (!err) err = add_adapters(e, o);
        if (!err) e->config = *checkpoint_config(e->weights);
    }
    if (!err) err = set_context(e, o);
    if (!err && checkpoint_is_gguf(e->dir) && !e->config.has_vision && !o->mmproj) {
        warn(e, "%s has no mmproj file beside it that fits: it answers about text only", e->name);
    }
    if (!err && !o->shape) err = open_text_side(e);
    if (!err) err = set_allowed(e);
    if (err || o->text_side_only) return err;
    err = open_kernels(e, o);
    if (!err) err = open_weights(e, o);
    if (!err) err = open_models(e, o);
    return err ? err : open_cache(e, o);
}
