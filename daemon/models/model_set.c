#include "daemon/models/model_set.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/settings/options.h"

// ---- what a section may say ----

#define AT(field) offsetof(model_spec, field)

// In the order of --help. What is written as words is read by read_words.
static const setting model_settings[] = {
    {"model", TEXT, AT(model), 0, 0, "FOLDER|FILE|NAME", "the checkpoint"},
    {"mmproj", TEXT, AT(mmproj), 0, 0, "FILE", "a GGUF model's vision file, or none"},
    {"lora", LIST, AT(lora), 0, 0, "FOLDER[:SCALE]", "an adapter; may be given again"},
    {"memory", TEXT, AT(memory), 0, 0, "BYTES|N%", "its share of the machine's memory"},
    {"device", TEXT, AT(device), 0, 0, "WORD", "as --device"},
    {"device-memory", TEXT, AT(device_memory), 0, 0, "BYTES|N%", "its share of the GPU's memory"},
    {"load", TEXT, AT(load), 0, 0, "WHEN", "start (default), or use: with the first request for it"},
    {"unload-after", SECONDS, AT(unload_after_s), 0, NO_LIMIT, "S", "without use; 0: never"},
    {"kv", TEXT, AT(kv), 0, 0, "FORM", "keys and values in bf16, int8 or f32"},
    {"weights", TEXT, AT(weights), 0, 0, "FORM", "auto, stored, bf16, int8, int4, fp8"},
    {"context", INT64, AT(engine.context_tokens), 0, NO_LIMIT, "TOKENS", "0: the model's"},
    {"rope-factor", REAL, AT(engine.rope_factor), 0, 16, "F", "how far positions are stretched"},
    {"step-rows", INT64, AT(engine.step_rows), 0, 65536, "N", "prompt tokens read at once"},
    {"reuse", FLAG, AT(engine.reuse), 0, 0, NULL, "keep what prompts begin with"},
    {"reuse-memory", BYTES, AT(engine.reuse_bytes), 0, NO_LIMIT, "BYTES", "for that"},
    {"feature-memory", BYTES, AT(engine.feature_bytes), 0, NO_LIMIT, "BYTES", "for pictures as encoded"},
};

#define N_MODEL_SETTINGS (sizeof model_settings / sizeof *model_settings)

typedef struct router_values {
    char *models, *rule;
    int32_t first_tokens;
} router_values;

#define FIRST_TOKENS      64
#define FIRST_TOKENS_MOST 4096

static const setting router_settings[] = {
    {"models", TEXT, offsetof(router_values, models), 0, 0, "NAME, NAME...", "in the order asked, smaller ones first"},
    {"rule", TEXT, offsetof(router_values, rule), 0, 0, "RULE", "confidence F: under it the next one is asked"},
    {"max-first-tokens", INT32, offsetof(router_values, first_tokens), 0, FIRST_TOKENS_MOST, "N",
     "of an answer, after which that is decided; 0: at its end"},
};

#define N_ROUTER_SETTINGS (sizeof router_settings / sizeof *router_settings)

sight_err model_kv_parse(tensor_type *out, const char *word, const char *where)
{
    static const char *const words[] = {"bf16", "int8", "f32"};
    static const tensor_type types[] = {TENSOR_BF16, TENSOR_I8, TENSOR_F32};
    for (int i = 0; i < 3; i++) {
        if (strcmp(word, words[i])) continue;
        *out = types[i];
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.40s', must be bf16, int8 or f32", where, word);
}

static sight_err read_load(bool *at_start, const char *word, const char *where)
{
    *at_start = !strcmp(word, "start");
    if (*at_start || !strcmp(word, "use")) return SIGHT_OK;
    return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.40s', must be start or use", where, word);
}

// One value that is written as a word, into what it means. Others are left alone.
static sight_err read_word(model_spec *m, const char *name, const char *word, const char *where)
{
    if (!strcmp(name, "memory")) return settings_share(&m->memory_bytes, &m->memory_percent, word, where);
    if (!strcmp(name, "device-memory")) return settings_share(&m->device_bytes, &m->device_percent, word, where);
    if (!strcmp(name, "device")) return device_check_sets(word, where);
    if (!strcmp(name, "load")) return read_load(&m->at_start, word, where);
    if (!strcmp(name, "kv")) return model_kv_parse(&m->engine.kv_type, word, where);
    if (!strcmp(name, "weights")) return weights_form_parse(&m->engine.weights.form, word);
    return SIGHT_OK;
}

// "confidence 0.6".
static sight_err read_rule(double *confidence, const char *rule, const char *where)
{
    static const char word[] = "confidence ";
    const char *number = rule + sizeof word - 1;
    if (!strncmp(rule, word, sizeof word - 1)) {
        while (*number == ' ') number++;
        *confidence = settings_number(number, REAL);
        if (*confidence >= 0 && *confidence <= 1) return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.80s', must be 'confidence F' with F from 0 to 1", where, rule);
}

// "small, large" one by one.
static sight_err read_names(router_spec *r, const char *list, const char *where)
{
    for (const char *at = list; *at;) {
        at += strspn(at, " \t");
        const size_t n = strcspn(at, ", \t");
        if (n == 0 || n >= MODEL_NAME_SIZE || r->n_models == ROUTER_MODELS_MAX) break;
        memcpy(r->models[r->n_models], at, n);
        r->models[r->n_models++][n] = 0;
        at += n;
        at += strspn(at, " \t");
        if (!*at && r->n_models > 1) return SIGHT_OK;
        if (*at++ != ',') break;
    }
    return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.80s', must be 2 to %d names with commas between", where, list,
                      ROUTER_MODELS_MAX);
}

static sight_err check_router_value(const char *name, const char *value, const char *where)
{
    router_spec scratch = {0};
    double confidence;
    if (!strcmp(name, "models")) return read_names(&scratch, value, where);
    return strcmp(name, "rule") ? SIGHT_OK : read_rule(&confidence, value, where);
}

sight_err model_set_check(section_kind kind, const char *name, const char *value, const char *where)
{
    const bool is_model = kind == SECTION_MODEL;
    const setting *table = is_model ? model_settings : router_settings;
    const size_t size = is_model ? N_MODEL_SETTINGS : N_ROUTER_SETTINGS;
    const setting *s = settings_find(table, size, name, strlen(name));
    if (!s) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s: there is no setting '%.80s' of a %s", where, name,
                          is_model ? "model" : "router");
    }
    model_spec m = {0};
    router_values r = {0};
    sight_err err = settings_set(is_model ? (void *)&m : &r, s, value, where);
    if (!err) err = is_model ? read_word(&m, name, value, where) : check_router_value(name, value, where);
    settings_done(is_model ? (void *)&m : &r, table, size);
    return err;
}

// ---- a model ----

static void point(model_spec *m)
{
    if (m->engine.name) m->engine.name = m->name;
    m->engine.model = m->model;
    m->engine.mmproj = m->mmproj;
    m->engine.lora = (const char *const *)m->lora.items;
    m->engine.n_lora = m->lora.n;
    m->engine.weights.cache = m->cache;
}

void model_spec_done(model_spec *m)
{
    settings_done(m, model_settings, N_MODEL_SETTINGS);
    free(m->cache);
    free(m->key);
    *m = (model_spec){0};
}

static bool copy_text(char **text)
{
    if (*text) *text = strdup(*text);
    return *text;
}

sight_err model_spec_copy(model_spec *out, const model_spec *spec)
{
    model_spec m = *spec;
    bool good = true;
    for (size_t i = 0; i < N_MODEL_SETTINGS; i++) {
        char **at = (char **)((char *)&m + model_settings[i].offset);
        if (model_settings[i].kind == TEXT && *at) good &= copy_text(at);
    }
    for (size_t i = 0; i < m.lora.n; i++) good &= copy_text(&m.lora.items[i]);
    if (m.cache) good &= copy_text(&m.cache);
    if (m.key) good &= copy_text(&m.key);
    if (!good) {
        model_spec_done(&m);
        return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    }
    *out = m;
    point(out); // into itself
    return SIGHT_OK;
}

// All that decides how it is opened and kept.
static sight_err make_key(model_spec *m)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f) return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    for (size_t i = 0; i < N_MODEL_SETTINGS; i++) settings_print(f, m, &model_settings[i]);
    const engine_options *e = &m->engine;
    fprintf(f, "%s %d %d %d %d %d %d %d %lld\n", m->cache ? m->cache : "", e->threads, (int)e->simd, e->exact, e->no_f8,
            (int)e->kv_type, (int)e->weights.form, m->at_start, (long long)e->picture_pixels);
    if (fclose(f)) {
        free(text);
        return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    }
    m->key = text;
    return SIGHT_OK;
}

// As the daemon's settings have it, without what it is.
static sight_err inherit(model_spec *m, const options *o)
{
    *m = (model_spec){.device = o->device, .cache = o->cache, .engine = o->engine, .at_start = true};
    m->engine.picture_pixels = o->limits.max_pixels;
    m->engine.memory_bytes = m->engine.device_bytes = 0;
    m->engine.device_percent = 0;
    m->engine.lora = NULL;
    m->engine.n_lora = 0;
    m->engine.model = m->engine.mmproj = NULL;
    bool good = true; // both are copies, or nothing, from here on
    if (m->device) good &= copy_text(&m->device);
    if (m->cache) good &= copy_text(&m->cache);
    if (good) return SIGHT_OK;
    model_spec_done(m);
    return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
}

static sight_err finish(model_spec *m)
{
    point(m);
    return make_key(m);
}

static sight_err make_model(model_spec *m, const model_section *s, const options *o)
{
    sight_err err = inherit(m, o);
    if (err) return err;
    memcpy(m->name, s->name, sizeof m->name);
    for (size_t i = 0; i < s->n && !err; i++) {
        const section_value *v = &s->values[i];
        const setting *of = settings_find(model_settings, N_MODEL_SETTINGS, v->name, strlen(v->name));
        err = settings_set(m, of, v->value, v->name);
        if (!err) err = read_word(m, v->name, v->value, v->name);
    }
    if (!err && !m->model) {
        err = sight_fail(SIGHT_E_ARGUMENT, "[model %s] needs a 'model': a folder, a file or a published name", m->name);
    }
    m->engine.name = m->name;
    return err ? err : finish(m);
}

// The one without a section.
static sight_err make_own(model_spec *m, const options *o)
{
    sight_err err = inherit(m, o);
    if (err) return err;
    if (o->model) m->model = strdup(o->model);
    else err = options_bundled_model(&m->model);
    if (o->mmproj) m->mmproj = strdup(o->mmproj);
    for (size_t i = 0; i < o->lora.n; i++) m->lora.items[m->lora.n++] = strdup(o->lora.items[i]);
    bool good = m->model && (m->mmproj || !o->mmproj);
    for (size_t i = 0; i < m->lora.n; i++) good &= m->lora.items[i] != NULL;
    if (!err && !good) err = sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    char *dir = NULL, *name = NULL;
    // What is not found says so when it is to be opened.
    if (!err && !engine_find_model(&dir, &name, m->model)) snprintf(m->name, sizeof m->name, "%s", name);
    else if (!err) snprintf(m->name, sizeof m->name, "%s", m->model);
    free(dir);
    free(name);
    return err ? err : finish(m);
}

// ---- a router ----

static sight_err make_router(router_spec *r, const model_section *s)
{
    *r = (router_spec){.confidence = -1, .first_tokens = FIRST_TOKENS};
    memcpy(r->name, s->name, sizeof r->name);
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < s->n && !err; i++) {
        const section_value *v = &s->values[i];
        if (!strcmp(v->name, "models")) {
            r->n_models = 0;
            err = read_names(r, v->value, v->name);
        } else if (!strcmp(v->name, "rule")) {
            err = read_rule(&r->confidence, v->value, v->name);
        } else {
            r->first_tokens = (int32_t)settings_number(v->value, INT32);
        }
    }
    if (!err && (!r->n_models || r->confidence < 0)) {
        err = sight_fail(SIGHT_E_ARGUMENT, "[router %s] needs 'models' and a 'rule'", r->name);
    }
    return err;
}

static bool has_model(const model_set *set, const char *name)
{
    for (int i = 0; i < set->n_models; i++) {
        if (!strcmp(set->models[i].name, name)) return true;
    }
    return false;
}

static bool has_router(const model_set *set, const char *name)
{
    for (int i = 0; i < set->n_routers; i++) {
        if (!strcmp(set->routers[i].name, name)) return true;
    }
    return false;
}

static sight_err check_router(const model_set *set, const router_spec *r)
{
    for (int i = 0; i < r->n_models; i++) {
        if (!has_model(set, r->models[i])) {
            return sight_fail(SIGHT_E_ARGUMENT, "[router %s]: there is no model '%s'", r->name, r->models[i]);
        }
        for (int j = 0; j < i; j++) {
            if (strcmp(r->models[i], r->models[j])) continue;
            return sight_fail(SIGHT_E_ARGUMENT, "[router %s]: '%s' is named twice", r->name, r->models[i]);
        }
    }
    return SIGHT_OK;
}

// ---- the whole ----

// Sections' names differ; that of the model without one is its folder's.
static sight_err check(model_set *set, const options *o)
{
    sight_err err = SIGHT_OK;
    for (int i = 0; i < set->n_models && !err; i++) {
        bool twice = has_router(set, set->models[i].name);
        for (int j = 0; j < i; j++) twice |= !strcmp(set->models[i].name, set->models[j].name);
        if (twice) err = sight_fail(SIGHT_E_ARGUMENT, "two models or routers are called '%s'", set->models[i].name);
    }
    for (int i = 0; i < set->n_routers && !err; i++) err = check_router(set, &set->routers[i]);
    const char *first = o->default_model ? o->default_model : set->models[0].name;
    if (!err && !has_model(set, first) && !has_router(set, first)) {
        err = sight_fail(SIGHT_E_ARGUMENT, "default-model is '%.80s', which is no model and no router", first);
    }
    if (!err) memcpy(set->first, first, strlen(first) + 1);
    return err;
}

static sight_err make_all(model_set *set, const options *o)
{
    const model_sections *s = &o->sections;
    size_t models = 0;
    for (size_t i = 0; i < s->n; i++) models += s->items[i].kind == SECTION_MODEL;
    set->models = calloc(s->n + 1, sizeof *set->models);
    set->routers = calloc(s->n + 1, sizeof *set->routers);
    if (!set->models || !set->routers) return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    sight_err err = SIGHT_OK;
    if (o->model || models == 0) err = make_own(&set->models[set->n_models++], o);
    for (size_t i = 0; i < s->n && !err; i++) {
        err = s->items[i].kind == SECTION_MODEL ? make_model(&set->models[set->n_models++], &s->items[i], o)
                                                : make_router(&set->routers[set->n_routers++], &s->items[i]);
    }
    return err ? err : check(set, o);
}

sight_err model_set_make(model_set *out, const options *o)
{
    model_set set = {.memory_bytes = o->engine.memory_bytes, .device_bytes = o->engine.device_bytes,
                     .device_percent = o->engine.device_percent};
    sight_err err = make_all(&set, o);
    if (err) model_set_done(&set);
    else *out = set;
    return err;
}

sight_err model_set_copy(model_set *out, const model_set *from)
{
    model_set set = *from;
    set.n_models = 0;
    set.models = calloc((size_t)from->n_models + 1, sizeof *set.models);
    set.routers = calloc((size_t)from->n_routers + 1, sizeof *set.routers);
    sight_err err = set.models && set.routers ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    for (int i = 0; i < from->n_models && !err; i++) {
        err = model_spec_copy(&set.models[i], &from->models[i]);
        set.n_models += !err;
    }
    if (!err && from->n_routers) memcpy(set.routers, from->routers, (size_t)from->n_routers * sizeof *set.routers);
    if (err) model_set_done(&set);
    else *out = set;
    return err;
}

void model_set_done(model_set *set)
{
    for (int i = 0; i < set->n_models; i++) model_spec_done(&set->models[i]);
    free(set->models);
    free(set->routers);
    *set = (model_set){0};
}

static void print_help(FILE *to, const setting *table, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char head[64];
        snprintf(head, sizeof head, "%s = %s", table[i].name, table[i].value ? table[i].value : "yes|no");
        fprintf(to, "    %-30s %s\n", head, table[i].help);
    }
}

void model_set_print_help(FILE *to)
{
    fputs("\nSeveral models: sections of the file, or --model NAME=WHERE again and again.\n  [model NAME]\n", to);
    print_help(to, model_settings, N_MODEL_SETTINGS);
    fputs("  [router NAME]\n", to);
    print_help(to, router_settings, N_ROUTER_SETTINGS);
}
