// Keys and kinds of tokens: gguf-py's constants.py. Regexes: the published tokenizer.json files, as
// llama.cpp's llama-vocab.cpp quotes them.
#include "text/tokenizer_gguf.h"

#include <string.h>

#include "text/tokenizer_utf8.h"

enum { KIND_NORMAL = 1, KIND_CONTROL = 3, KIND_ADDED = 4, KIND_UNUSED = 5 };

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"

// tokenizer.ggml.pre, and the regex it stands for (in JSON's spelling).
static const struct {
    const char *pre, *regex;
} splits[] = {
    {"qwen2", CONTRACTIONS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}|"
              " ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|"
              "\\\\s+(?!\\\\S)|\\\\s+"},
    {"qwen35", CONTRACTIONS "|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?[\\\\p{L}\\\\p{M}]+|\\\\p{N}|"
               " ?[^\\\\s\\\\p{L}\\\\p{M}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|"
               "\\\\s+(?!\\\\S)|\\\\s+"},
};

typedef struct source {
    const gguf *g;
    const char *regex;
    gguf_array tokens, kinds, merges;
} source;

static sight_err refuse(const gguf *g, const char *key, gguf_text found, const char *only)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': %s '%.*s' is not supported, only %s",
                      gguf_path(g), key, (int)(found.n < 60 ? found.n : 60), found.data, only);
}

static sight_err find_split(source *s)
{
    gguf_text pre = {"without a name", 14};
    sight_err err = gguf_get_text(s->g, &pre, "tokenizer.ggml.pre");
    if (err) return err;
    for (size_t i = 0; i < sizeof splits / sizeof *splits; i++) {
        if (gguf_text_is(pre, splits[i].pre)) s->regex = splits[i].regex;
    }
    return s->regex ? SIGHT_OK : refuse(s->g, "tokenizer.ggml.pre", pre, "qwen2 and qwen35");
}

static sight_err find_arrays(source *s)
{
    static const char *const keys[] = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type",
                                       "tokenizer.ggml.merges"};
    sight_err err = SIGHT_OK;
    for (int i = 0; i < 3 && !err; i++) err = gguf_need(s->g, keys[i]);
    if (!err) err = gguf_get_texts(s->g, &s->tokens, keys[0]);
    if (!err) err = gguf_get_ints(s->g, &s->kinds, keys[1]);
    if (!err) err = gguf_get_texts(s->g, &s->merges, keys[2]);
    if (err || s->kinds.n == s->tokens.n) return err;
    return sight_fail(SIGHT_E_MODEL, "'%s': %zu tokens have %zu kinds (tokenizer.ggml.token_type)",
                      gguf_path(s->g), s->tokens.n, s->kinds.n);
}

static sight_err open_source(source *s, const gguf *g)
{
    gguf_text model = {"without a name", 14};
    *s = (source){.g = g};
    sight_err err = gguf_get_text(g, &model, "tokenizer.ggml.model");
    if (!err && !gguf_text_is(model, "gpt2")) {
        return refuse(g, "tokenizer.ggml.model", model, "gpt2");
    }
    if (!err) err = find_split(s);
    return err ? err : find_arrays(s);
}

// ---- writing ----

static void put_string(buf *out, gguf_text t)
{
    size_t from = 0;
    buf_putc(out, '"');
    for (size_t i = 0; i < t.n; i++) {
        const unsigned char c = (unsigned char)t.data[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        buf_add(out, t.data + from, i - from);
        from = i + 1;
        if (c < 0x20) buf_printf(out, "\\u%04x", c);
        else buf_printf(out, "\\%c", c);
    }
    buf_add(out, t.data + from, t.n - from);
    buf_putc(out, '"');
}

static sight_err check_utf8(const source *s, gguf_text t, const char *what, size_t i)
{
    if (tokenizer_utf8_valid(t.data, t.n) == t.n) return SIGHT_OK;
    return sight_fail(SIGHT_E_MODEL, "'%s': %s %zu is not UTF-8", gguf_path(s->g), what, i);
}

// Tokens that look special, which is why the converter marks them so, and are not.
static bool only_looks_special(gguf_text t)
{
    static const char *const names[] = {"<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>",
                                        "<|fim_pad|>",    "<|repo_name|>",  "<|file_sep|>"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (gguf_text_is(t, names[i])) return true;
    }
    return false;
}

static sight_err put_vocab(buf *out, const source *s)
{
    gguf_array tokens = s->tokens, kinds = s->kinds;
    sight_err err = SIGHT_OK;
    const char *comma = "";
    for (size_t id = 0; id < tokens.n && !err; id++) {
        const gguf_text t = gguf_array_text(&tokens);
        const int64_t kind = gguf_array_int(&kinds);
        if (kind == KIND_UNUSED || kind == KIND_CONTROL || kind == KIND_ADDED) continue;
        if (kind != KIND_NORMAL) {
            return sight_fail(SIGHT_E_UNSUPPORTED, "'%s': token %zu is of kind %lld, not supported",
                              gguf_path(s->g), id, (long long)kind);
        }
        err = check_utf8(s, t, "token", id);
        buf_puts(out, comma);
        put_string(out, t);
        buf_printf(out, ":%zu", id);
        comma = ",";
    }
    return err;
}

static sight_err put_merges(buf *out, const source *s)
{
    gguf_array merges = s->merges;
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < merges.n && !err; i++) {
        const gguf_text t = gguf_array_text(&merges);
        err = check_utf8(s, t, "merge", i);
        if (i) buf_putc(out, ',');
        put_string(out, t);
    }
    return err;
}

static sight_err put_added(buf *out, const source *s)
{
    gguf_array tokens = s->tokens, kinds = s->kinds;
    sight_err err = SIGHT_OK;
    const char *comma = "";
    for (size_t id = 0; id < tokens.n && !err; id++) {
        const gguf_text t = gguf_array_text(&tokens);
        const int64_t kind = gguf_array_int(&kinds);
        if (kind != KIND_CONTROL && kind != KIND_ADDED) continue;
        err = check_utf8(s, t, "token", id);
        buf_printf(out, "%s{\"id\":%zu,\"content\":", comma, id);
        put_string(out, t);
        buf_printf(out, ",\"normalized\":false,\"special\":%s}",
                   kind == KIND_CONTROL && !only_looks_special(t) ? "true" : "false");
        comma = ",";
    }
    return err;
}

sight_err tokenizer_gguf_json(buf *out, const gguf *g)
{
    source s;
    sight_err err = open_source(&s, g);
    if (err) return err;
    buf_puts(out, "{\"normalizer\":{\"type\":\"NFC\"},\"added_tokens\":[");
    err = put_added(out, &s);
    buf_puts(out, "],\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
                  "{\"type\":\"Split\",\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":\"");
    buf_puts(out, s.regex);
    buf_puts(out, "\"}},{\"type\":\"ByteLevel\",\"use_regex\":false}]},"
                  "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{");
    if (!err) err = put_vocab(out, &s);
    buf_puts(out, "},\"merges\":[");
    if (!err) err = put_merges(out, &s);
    buf_puts(out, "]}}");
    if (!err && buf_failed(out)) {
        err = sight_fail(SIGHT_E_MEMORY, "no memory for the tokenizer of '%s'", gguf_path(g));
    }
    return err;
}
