#include "daemon/engine_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/prepare.h"
#include "kernels/memory.h"

engine_options engine_options_default(void)
{
    return (engine_options){.simd = SIMD_AUTO, .kv_type = TENSOR_BF16};
}

engine_options engine_options_exact(void)
{
    return (engine_options){.simd = SIMD_AUTO, .exact = true, .kv_type = TENSOR_F32,
                            .weights.form = WEIGHTS_STORED};
}

sight_err engine_options_device(engine_options *o, const char *word, const char *what)
{
    device_list list;
    sight_err err = device_parse_list(&list, word, what);
    if (err) return err;
    o->device = list.at[0];
    o->n_others = list.n - 1;
    memcpy(o->others, list.at + 1, (size_t)o->n_others * sizeof *o->others);
    return SIGHT_OK;
}

sight_err engine_options_fp8(engine_options *o, const char *word, const char *what)
{
    const bool off = strcmp(word, "off") == 0;
    if (!off && strcmp(word, "auto")) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.40s', must be auto or off", what, word);
    }
    o->no_f8 = off;
    return SIGHT_OK;
}

sight_err engine_open(engine **out, const engine_options *options)
{
    if (!options->model == !options->shape) {
        return sight_fail(SIGHT_E_ARGUMENT, "give a model folder or a shape, one of the two");
    }
    engine *e = calloc(1, sizeof *e);
    if (!e) return sight_fail(SIGHT_E_MEMORY, "no memory for a model");
    pthread_mutex_init(&e->forms_lock, NULL);
    e->metrics = options->metrics;
    e->index = options->index;
    e->replica = options->replica;
    sight_err err = engine_open_parts(e, options);
    if (err) engine_close(&e);
    else *out = e;
    return err;
}

void engine_close(engine **p)
{
    engine *e = *p;
    if (!e) return;
    if (!e->features_shared) feature_store_destroy(&e->features);
    prefix_store_destroy(&e->prefix);
    cache_pool_destroy(&e->pool);
    tower_destroy(&e->eyes);
    text_model_destroy(&e->text);
    kernels_destroy_beside(&e->beside, e->k);
    engine_ranks_close(&e->ranks);
    kernels_destroy(&e->k);
    chat_close(&e->template);
    grammar_vocabulary_destroy(&e->forms);
    pthread_mutex_destroy(&e->forms_lock);
    tokenizer_close(&e->tokens);
    checkpoint_close(&e->weights);
    free(e->allowed);
    free(e->dir);
    free(e->name);
    free(e);
    *p = NULL;
}

// ---- asking ----

const model_config *engine_config(const engine *e)
{
    return &e->config;
}

const tokenizer *engine_tokenizer(const engine *e)
{
    return e->tokens;
}

const chat *engine_chat(const engine *e)
{
    return e->template;
}

const checkpoint *engine_checkpoint(const engine *e)
{
    return e->weights;
}

kernels *engine_kernels(engine *e)
{
    return e->k;
}

text_model *engine_text(engine *e)
{
    return e->text;
}

tower *engine_tower(engine *e)
{
    return e->eyes;
}

cache_pool *engine_pool(engine *e)
{
    return e->pool;
}

prefix_store *engine_prefix(const engine *e)
{
    return e->prefix;
}

feature_store *engine_features(const engine *e)
{
    return e->features;
}

struct disk *engine_disk(const engine *e)
{
    return e->disk;
}

metrics *engine_metrics(const engine *e)
{
    return e->metrics;
}

int engine_index(const engine *e)
{
    return e->index;
}

int engine_replica(const engine *e)
{
    return e->replica;
}

struct measured *engine_measured(engine *e)
{
    return &e->measured;
}

void engine_agree(engine *e, const engine *other)
{
    engine_memory *m = &e->memory;
    if (other->context < e->context) {
        e->context = other->context;
        m->cache = cache_bytes(e->pool, e->context);
    }
    if (other->memory.cache_budget < m->cache_budget) m->cache_budget = other->memory.cache_budget;
}

device_id engine_device(const engine *e, int32_t i)
{
    return kernels_device(e->ranks.k[i]);
}

const char *engine_model_dir(const engine *e)
{
    return e->dir;
}

const char *engine_model_name(const engine *e)
{
    return e->name;
}

int64_t engine_context(const engine *e)
{
    return e->context;
}

const char *engine_warning(const engine *e, int i)
{
    return i >= 0 && i < e->n_warnings ? e->warnings[i] : NULL;
}

const uint8_t *engine_allowed(const engine *e)
{
    return e->allowed;
}

const int32_t *engine_ends(const engine *e, int32_t *n)
{
    *n = e->n_eos;
    return e->eos;
}

bool engine_is_eos(const engine *e, int32_t id)
{
    for (int32_t i = 0; i < e->n_eos; i++) {
        if (e->eos[i] == id) return true;
    }
    return false;
}

int32_t engine_turn_end(const engine *e)
{
    return e->turn_end;
}

sight_err engine_forms(engine *e, grammar_vocabulary **out)
{
    if (!e->tokens) return sight_fail(SIGHT_E_UNSUPPORTED, "made-up weights have no tokenizer to write with");
    pthread_mutex_lock(&e->forms_lock);
    sight_err err = SIGHT_OK;
    if (!e->forms) {
        err = grammar_vocabulary_create(&e->forms, e->tokens, e->config.text.vocab, e->eos, e->n_eos);
    }
    *out = e->forms;
    pthread_mutex_unlock(&e->forms_lock);
    return err;
}

const char *engine_weights(const engine *e)
{
    return weights_form_name(checkpoint_form(e->weights));
}

engine_memory engine_get_memory(const engine *e)
{
    return e->memory;
}

sight_err engine_status(engine *e)
{
    sight_err err = text_model_status(e->text);
    return err || e->beside == e->k ? err : kernels_status(e->beside);
}

// "cuda:0,1"
static void format_devices(char *text, const engine *e)
{
    device_format(text, kernels_device(e->k));
    for (int32_t i = 1; i < e->ranks.n; i++) {
        text += strlen(text);
        snprintf(text, 6, ",%d", kernels_device(e->ranks.k[i]).index);
    }
}

json_t *engine_describe(const engine *e)
{
    const text_config *t = &e->config.text;
    const engine_memory *m = &e->memory;
    json_t *memory = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)m->weights,
        "text_workspace", (json_int_t)m->text_workspace, "cache", (json_int_t)m->cache, "states",
        (json_int_t)m->states, "per_token", (json_int_t)m->per_token, "vision",
        (json_int_t)m->vision, "total",
        (json_int_t)(m->weights + m->text_workspace + m->cache + m->vision), "cache_budget",
        (json_int_t)m->cache_budget, "budget", (json_int_t)m->budget);
    if (memory && m->spare) json_object_set_new(memory, "spare", json_integer(m->spare));
    if (memory && m->devices > 1) json_object_set_new(memory, "devices", json_integer(m->devices));
    json_t *about = json_pack("{s:s, s:s, s:s, s:I, s:b, s:i, s:i, s:i, s:i, s:s, s:o}", "name", e->name,
                     "dir", e->dir, "family",
                     e->config.family == MODEL_QWEN3_VL ? "qwen3_vl" : "qwen3_5", "context",
                     (json_int_t)e->context, "vision", e->config.has_vision, "layers", t->n_layers,
                     "hidden", t->hidden, "vocab", t->vocab, "threads",
                     e->k ? kernels_threads(e->k) : 0, "simd",
                     e->k ? simd_level_name(kernels_simd(e->k)) : "none", "memory", memory);
    if (about && e->k) {
        char device[16 + 5 * DEVICE_LIST_MAX];
        format_devices(device, e);
        json_object_set_new(about, "device", json_string(device));
    }
    if (about && e->weights) {
        const char *file = checkpoint_prepared_file(e->weights);
        json_object_set_new(about, "weights", json_string(engine_weights(e)));
        json_object_set_new(about, "prepared", file ? json_string(file) : json_null());
    }
    if (about && t->rope.yarn) {
        json_object_set_new(about, "rope_factor", json_real(t->rope.factor));
    }
    return about;
}
