// Reads tokenizer.json (of a GGUF file: as it would be): the vocabulary and merges by
// text/tokenizer_json.h, the rest by jansson.
// What would change ids and is not done here is refused by name.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "text/marks.h"
#include "text/tokenizer_gguf.h"
#include "text/tokenizer_nfc.h"
#include "text/tokenizer_parts.h"
#include "text/tokenizer_utf8.h"

#define MAX_BYTES       ((size_t)256 << 20)
#define MAX_ADDED_BYTES 1024

typedef struct span {
    const char *text;
    size_t n;
} span;

static sight_err refuse(const char *what, const char *part, const char *name)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s: %s '%s' is not supported", what, part, name);
}

static const char *type_of(const json_t *object)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    return type ? type : "without a type";
}

static bool is_true(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

// ---- finding the long parts ----

// Passes the object at j and notes the values of two of its keys.
static sight_err find_two(tokenizer_json *j, const char *a, span *value_a, const char *b,
                          span *value_b)
{
    bool first = true, more;
    sight_err err = tokenizer_json_enter(j, '{');
    while (!err && !(err = tokenizer_json_next(j, '}', &first, &more)) && more) {
        const char *key;
        size_t n;
        span value;
        if ((err = tokenizer_json_string(j, &key, &n))) break;
        span *to = n == strlen(a) && memcmp(key, a, n) == 0   ? value_a
                   : n == strlen(b) && memcmp(key, b, n) == 0 ? value_b
                                                              : NULL;
        if ((err = tokenizer_json_colon(j))) break;
        err = tokenizer_json_skip(j, &value.text, &value.n);
        if (!err && to) *to = value;
    }
    return err;
}

// The file without vocab and merges, null in their place, as a jansson tree.
static sight_err parse_rest(json_t **out, const char *json, size_t size, span vocabulary,
                            span merges, const char *what)
{
    span one = vocabulary, two = merges;
    if (one.text > two.text) one = merges, two = vocabulary;
    const char *after_one = one.text + one.n, *after_two = two.text + two.n;
    buf rest;
    buf_init(&rest);
    buf_add(&rest, json, (size_t)(one.text - json));
    buf_puts(&rest, "null");
    buf_add(&rest, after_one, (size_t)(two.text - after_one));
    buf_puts(&rest, "null");
    buf_add(&rest, after_two, (size_t)(json + size - after_two));
    sight_err err = SIGHT_OK;
    if (buf_failed(&rest)) err = sight_fail(SIGHT_E_MEMORY, "%s: no memory", what);
    if (!err) err = json_parse(out, buf_text(&rest), rest.size, MAX_BYTES, what, SIGHT_E_MODEL);
    buf_done(&rest);
    return err;
}

// ---- the small parts ----

static sight_err read_normalizer(tokenizer *t, const json_t *root, const char *what)
{
    const json_t *v = json_object_get(root, "normalizer");
    if (!v || json_is_null(v)) return SIGHT_OK;
    if (strcmp(type_of(v), "NFC") != 0) return refuse(what, "the normalizer", type_of(v));
    t->nfc = true;
    return SIGHT_OK;
}

static sight_err check_byte_level(const json_t *v, const char *what)
{
    const json_t *use_regex = json_object_get(v, "use_regex");
    if (is_true(v, "add_prefix_space")) {
        return refuse(what, "the pre_tokenizer's", "ByteLevel with add_prefix_space");
    }
    if (!use_regex || json_is_true(use_regex)) {
        return refuse(what, "the pre_tokenizer's", "ByteLevel with use_regex");
    }
    return SIGHT_OK;
}

static sight_err read_split(tokenizer *t, const json_t *v, const char *what)
{
    const json_t *pattern = json_object_get(v, "pattern");
    const json_t *text = json_object_get(pattern, "Regex");
    const char *behavior = json_string_value(json_object_get(v, "behavior"));
    if (!behavior || strcmp(behavior, "Isolated") != 0) {
        return refuse(what, "the pre_tokenizer's Split behavior", behavior ? behavior : "none");
    }
    if (is_true(v, "invert")) return refuse(what, "the pre_tokenizer's", "Split with invert");
    if (!json_is_string(text)) return refuse(what, "the pre_tokenizer's", "Split without a Regex");
    return regex_compile(&t->split, json_string_value(text), json_string_length(text), what);
}

static sight_err read_pre_tokenizer(tokenizer *t, const json_t *root, const char *what)
{
    const json_t *v = json_object_get(root, "pre_tokenizer");
    if (!json_is_object(v)) return refuse(what, "the pre_tokenizer", "null");
    if (strcmp(type_of(v), "Sequence") != 0) return refuse(what, "the pre_tokenizer", type_of(v));
    const json_t *list = json_object_get(v, "pretokenizers");
    const json_t *split = json_array_get(list, 0), *bytes = json_array_get(list, 1);
    if (json_array_size(list) != 2) {
        return refuse(what, "the pre_tokenizer", "Sequence of other than Split, ByteLevel");
    }
    if (strcmp(type_of(split), "Split") != 0) {
        return refuse(what, "the pre_tokenizer's", type_of(split));
    }
    if (strcmp(type_of(bytes), "ByteLevel") != 0) {
        return refuse(what, "the pre_tokenizer's", type_of(bytes));
    }
    sight_err err = check_byte_level(bytes, what);
    return err ? err : read_split(t, split, what);
}

// One that adds no tokens: none, ByteLevel (offsets only), or a template of the text alone.
static sight_err check_post_processor(const json_t *root, const char *what)
{
    const json_t *v = json_object_get(root, "post_processor");
    if (!v || json_is_null(v) || strcmp(type_of(v), "ByteLevel") == 0) return SIGHT_OK;
    const json_t *single = json_object_get(v, "single");
    bool text_alone = strcmp(type_of(v), "TemplateProcessing") == 0 &&
                      json_array_size(single) == 1 &&
                      json_object_get(json_array_get(single, 0), "Sequence");
    return text_alone ? SIGHT_OK : refuse(what, "the post_processor", type_of(v));
}

static sight_err check_decoder(const json_t *root, const char *what)
{
    const json_t *v = json_object_get(root, "decoder");
    if (strcmp(type_of(v), "ByteLevel") != 0) return refuse(what, "the decoder", type_of(v));
    return SIGHT_OK;
}

static sight_err read_model(tokenizer *t, const json_t *root, const char *what)
{
    static const char *const texts[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *v = json_object_get(root, "model");
    if (strcmp(type_of(v), "BPE") != 0) return refuse(what, "the model", type_of(v));
    for (size_t k = 0; k < 2; k++) {
        const char *text = json_string_value(json_object_get(v, texts[k]));
        if (text && *text) return refuse(what, "the model with", texts[k]);
    }
    if (is_true(v, "byte_fallback")) return refuse(what, "the model with", "byte_fallback");
    if (json_number_value(json_object_get(v, "dropout")) != 0) {
        return refuse(what, "the model with", "dropout");
    }
    t->ignore_merges = is_true(v, "ignore_merges");
    return SIGHT_OK;
}

// ---- added tokens ----

static sight_err insert_added(tokenizer *t, added_token *a)
{
    sight_err err = added_insert(&t->all, a->content, a->n, a->id, a->special);
    if (err || !a->normalized) {
        return err ? err : added_insert(&t->raw, a->content, a->n, a->id, a->special);
    }
    buf content;
    buf_init(&content);
    if (t->nfc) {
        tokenizer_nfc(&content, a->content, a->n);
    } else {
        buf_add(&content, a->content, a->n);
    }
    a->n_normal = content.size;
    a->normal = buf_take(&content);
    if (!a->normal) return sight_fail(SIGHT_E_MEMORY, "no memory for added tokens");
    err = added_insert(&t->normalized, a->normal, a->n_normal, a->id, a->special);
    return err ? err : added_insert(&t->all, a->normal, a->n_normal, a->id, a->special);
}

// The reference decodes a token of the normalised kind to its normalised text.
static sight_err add_to_vocab(tokenizer *t, const added_token *a)
{
    int32_t other = -1;
    sight_err err = SIGHT_OK;
    if (a->normal) err = vocab_known(&t->vocab, &other, a->normal, a->n_normal);
    if (err) return err;
    bool normal = a->normal && (other < 0 || other == a->id);
    return vocab_add(&t->vocab, normal ? a->normal : a->content, normal ? a->n_normal : a->n,
                     a->id, a->special);
}

static sight_err read_added_token(tokenizer *t, const json_t *v, size_t i, const char *what)
{
    static const char *const flags[] = {"single_word", "lstrip", "rstrip"};
    const json_t *content = json_object_get(v, "content"), *id = json_object_get(v, "id");
    size_t n = json_string_length(content);
    if (!json_is_string(content) || n == 0 || n > MAX_ADDED_BYTES || !json_is_integer(id)) {
        return sight_fail(SIGHT_E_MODEL,
                          "%s: added_tokens[%zu] needs an id and a content of 1 to %d bytes", what,
                          i, MAX_ADDED_BYTES);
    }
    const char *text = json_string_value(content);
    json_int_t number = json_integer_value(id);
    if (number < 0 || number > VOCAB_MAX_ID) {
        return sight_fail(SIGHT_E_MODEL, "%s: added_tokens[%zu]: the id %lld is not 0 to %d", what,
                          i, (long long)number, VOCAB_MAX_ID);
    }
    if (memchr(text, 0, n) || strstr(text, MARK)) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "%s: added_tokens[%zu] contains U+%s", what, i,
                          memchr(text, 0, n) ? "0000" : "FDD0");
    }
    for (size_t k = 0; k < 3; k++) {
        if (!is_true(v, flags[k])) continue;
        return sight_fail(SIGHT_E_UNSUPPORTED, "%s: the added token '%s' has %s, not supported",
                          what, text, flags[k]);
    }
    added_token *a = &t->added[t->n_added];
    *a = (added_token){.content = strdup(text), .n = n, .id = (int32_t)number};
    if (!a->content) return sight_fail(SIGHT_E_MEMORY, "%s: no memory for added tokens", what);
    t->n_added++;
    a->special = is_true(v, "special");
    const json_t *normalized = json_object_get(v, "normalized");
    a->normalized = normalized ? json_is_true(normalized) : !a->special;
    sight_err err = insert_added(t, a);
    return err ? err : add_to_vocab(t, a);
}

static sight_err read_added(tokenizer *t, const json_t *root, const char *what)
{
    const json_t *list = json_object_get(root, "added_tokens");
    size_t n = json_array_size(list);
    if (n == 0) return SIGHT_OK;
    t->added = calloc(n, sizeof *t->added);
    if (!t->added) return sight_fail(SIGHT_E_MEMORY, "%s: no memory for added tokens", what);
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < n && !err; i++)
        err = read_added_token(t, json_array_get(list, i), i, what);
    return err;
}

// ---- the whole ----

// Reads a span with one of vocab's readers, which must use all of it.
static sight_err read_span(tokenizer *t, sight_err (*read)(vocab *, tokenizer_json *), span s,
                           const char *json, const char *what)
{
    tokenizer_json j;
    tokenizer_json_init(&j, s.text, s.n, what);
    j.begin = json;
    sight_err err = read(&t->vocab, &j);
    if (!err && tokenizer_json_peek(&j)) {
        err = sight_fail(SIGHT_E_MODEL, "%s: not valid at byte %zu: expected a comma", what,
                         (size_t)(j.at - json));
    }
    tokenizer_json_done(&j);
    return err;
}

static sight_err find_parts(span *vocabulary, span *merges, const char *json, size_t size,
                            const char *what)
{
    span model = {0}, none = {0};
    tokenizer_json j;
    tokenizer_json_init(&j, json, size, what);
    sight_err err = find_two(&j, "model", &model, "", &none);
    if (!err && !model.text) err = sight_fail(SIGHT_E_MODEL, "%s: no 'model'", what);
    if (!err) {
        j.at = model.text;
        j.end = model.text + model.n;
        if (tokenizer_json_peek(&j) != '{') {
            err = sight_fail(SIGHT_E_MODEL, "%s: 'model' must be an object", what);
        }
    }
    if (!err) err = find_two(&j, "vocab", vocabulary, "merges", merges);
    tokenizer_json_done(&j);
    return err;
}

static sight_err read_parts(tokenizer *t, const char *json, size_t size, const char *what)
{
    span vocabulary = {0}, merges = {0};
    sight_err err = find_parts(&vocabulary, &merges, json, size, what);
    if (err) return err;
    if (!vocabulary.text || !merges.text) {
        return refuse(what, "a model without", vocabulary.text ? "merges" : "vocab");
    }
    json_t *root = NULL;
    if ((err = parse_rest(&root, json, size, vocabulary, merges, what))) return err;
    err = read_model(t, root, what);
    if (!err) err = read_normalizer(t, root, what);
    if (!err) err = read_pre_tokenizer(t, root, what);
    if (!err) err = check_post_processor(root, what);
    if (!err) err = check_decoder(root, what);
    if (!err) err = read_span(t, vocab_read, vocabulary, json, what);
    if (!err) err = read_added(t, root, what);
    if (!err) err = vocab_index(&t->vocab);
    if (!err) err = read_span(t, vocab_read_merges, merges, json, what);
    json_decref(root);
    return err;
}

sight_err tokenizer_parse(tokenizer **out, const char *json, size_t size, const char *what)
{
    if (size > MAX_BYTES) {
        return sight_fail(SIGHT_E_MODEL, "%s: %zu bytes, the limit is %zu", what, size, MAX_BYTES);
    }
    size_t valid = tokenizer_utf8_valid(json, size);
    if (valid < size) {
        return sight_fail(SIGHT_E_MODEL, "%s: not UTF-8 at byte %zu", what, valid);
    }
    tokenizer *t = calloc(1, sizeof *t);
    if (!t) return sight_fail(SIGHT_E_MEMORY, "%s: no memory", what);
    t->vocab.what = what;
    sight_err err = read_parts(t, json, size, what);
    t->vocab.what = NULL; // the caller's
    if (err) {
        tokenizer_close(&t);
        return err;
    }
    *out = t;
    return SIGHT_OK;
}

static sight_err open_gguf(tokenizer **out, const char *path)
{
    gguf *g = NULL;
    buf json;
    buf_init(&json);
    sight_err err = gguf_open(&g, path);
    if (!err) err = tokenizer_gguf_json(&json, g);
    gguf_close(&g);
    if (!err) err = tokenizer_parse(out, buf_text(&json), json.size, path);
    buf_done(&json);
    return err;
}

sight_err tokenizer_open(tokenizer **out, const char *dir)
{
    char path[4096];
    if (checkpoint_is_gguf(dir)) return open_gguf(out, dir);
    if (snprintf(path, sizeof path, "%s/tokenizer.json", dir) >= (int)sizeof path) {
        return sight_fail(SIGHT_E_NOT_FOUND, "the path '%.100s...' is too long", dir);
    }
    file_map map;
    sight_err err = file_map_open(&map, path);
    if (err) return err;
    err = tokenizer_parse(out, map.size ? (const char *)map.data : "", map.size, path);
    file_map_close(&map);
    return err;
}

void tokenizer_close(tokenizer **t)
{
    if (!*t) return;
    tokenizer *x = *t;
    vocab_done(&x->vocab);
    for (size_t i = 0; i < x->n_added; i++) {
        free(x->added[i].content);
        free(x->added[i].normal);
    }
    free(x->added);
    added_done(&x->raw);
    added_done(&x->normalized);
    added_done(&x->all);
    regex_destroy(&x->split);
    free(x);
    *t = NULL;
}
