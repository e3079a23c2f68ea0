#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "text/marks.h"
#include "text/tokenizer_bpe.h"
#include "text/tokenizer_nfc.h"
#include "text/tokenizer_parts.h"
#include "text/tokenizer_utf8.h"

#define MAX_TEXT ((size_t)1 << 29) // NFC at most triples it; pieces are counted in int32

// ---- lists of ids ----

void token_list_done(token_list *l)
{
    free(l->ids);
    *l = (token_list){0};
}

sight_err token_list_add(token_list *l, int32_t id)
{
    if (l->n == l->capacity) {
        size_t capacity = l->capacity ? l->capacity * 2 : 64;
        int32_t *ids = realloc(l->ids, capacity * sizeof *ids);
        if (!ids) return sight_fail(SIGHT_E_MEMORY, "no memory for %zu token ids", capacity);
        l->ids = ids;
        l->capacity = capacity;
    }
    l->ids[l->n++] = id;
    return SIGHT_OK;
}

// ---- encoding ----

typedef struct encoder {
    const tokenizer *t;
    token_list *out;
    bpe bpe;
    regex_match *match;
    buf unmarked, normal;
    tokenizer_mode mode;
} encoder;

static sight_err no_memory(void)
{
    return sight_fail(SIGHT_E_MEMORY, "no memory to tokenize");
}

static sight_err encode_piece(encoder *e, const char *text, size_t n)
{
    return bpe_encode(&e->bpe, e->out, &e->t->vocab, e->t->ignore_merges, text, n);
}

// Normalised text without added tokens. What the regex leaves between two matches is a piece too,
// and an empty match cuts.
static sight_err encode_split(encoder *e, const char *text, size_t n)
{
    size_t done = 0, from = 0;
    while (from < n) {
        bool found;
        size_t begin, end;
        sight_err err = regex_find(e->match, &found, &begin, &end, text, n, from);
        if (err) return err;
        if (!found) break;
        if (begin > done && (err = encode_piece(e, text + done, begin - done))) return err;
        if ((err = encode_piece(e, text + begin, end - begin))) return err;
        done = from = end;
        if (begin == end && from < n) from += tokenizer_utf8_length(text[from]);
    }
    return encode_piece(e, text + done, n - done);
}

static sight_err encode_normal(encoder *e, const char *text, size_t n)
{
    if (!e->t->nfc || tokenizer_nfc_surely(text, n)) return encode_split(e, text, n);
    buf_clear(&e->normal);
    tokenizer_nfc(&e->normal, text, n);
    if (buf_failed(&e->normal)) return no_memory();
    return encode_split(e, buf_text(&e->normal), e->normal.size);
}

static sight_err encode_ordinary(encoder *e, const char *text, size_t n)
{
    if (e->mode != TOKENIZER_PROMPT) return encode_normal(e, text, n);
    buf_clear(&e->unmarked);
    marks_remove(&e->unmarked, text, n);
    if (buf_failed(&e->unmarked)) return no_memory();
    return encode_normal(e, buf_text(&e->unmarked), e->unmarked.size);
}

typedef sight_err encode_fn(encoder *e, const char *text, size_t n);

// Cuts text at the tokens of a trie; what stands between them goes to rest.
static sight_err encode_around(encoder *e, const added_trie *trie, encode_fn *rest,
                               const char *text, size_t n)
{
    size_t done = 0;
    added_match m;
    while (added_find(trie, &m, text, n, done, e->mode == TOKENIZER_PROMPT)) {
        sight_err err = rest(e, text + done, m.begin - done);
        if (!err) err = token_list_add(e->out, m.id);
        if (err) return err;
        done = m.end;
    }
    return rest(e, text + done, n - done);
}

// Text between added tokens of the raw kind. The reference looks for the other kind in normalised
// text. In a prompt that would find them in a client's text, where the marks have to go before
// normalising: there they are looked for in the marked text as it stands.
static sight_err encode_between(encoder *e, const char *text, size_t n)
{
    const added_trie *trie = &e->t->normalized;
    if (trie->n == 0) return encode_ordinary(e, text, n);
    if (e->mode == TOKENIZER_PROMPT) return encode_around(e, trie, encode_ordinary, text, n);
    if (!e->t->nfc) return encode_around(e, trie, encode_split, text, n);
    buf normal;
    buf_init(&normal);
    tokenizer_nfc(&normal, text, n);
    sight_err err = buf_failed(&normal) ? no_memory() : SIGHT_OK;
    if (!err) err = encode_around(e, trie, encode_split, buf_text(&normal), normal.size);
    buf_done(&normal);
    return err;
}

sight_err tokenizer_encode(const tokenizer *t, token_list *out, const char *text, size_t n,
                           tokenizer_mode mode)
{
    if (n > MAX_TEXT) {
        return sight_fail(SIGHT_E_ARGUMENT, "a text of %zu bytes, at most %zu can be tokenized", n,
                          MAX_TEXT);
    }
    size_t valid = tokenizer_utf8_valid(text, n);
    if (valid < n) return sight_fail(SIGHT_E_ARGUMENT, "the text is not UTF-8 at byte %zu", valid);
    encoder e = {.t = t, .out = out, .mode = mode};
    size_t n_before = out->n;
    sight_err err = regex_match_create(&e.match, t->split);
    if (err) return err;
    if (mode == TOKENIZER_PLAIN) {
        err = encode_normal(&e, text, n);
    } else {
        err = encode_around(&e, &t->raw, encode_between, text, n);
    }
    if (err) out->n = n_before;
    regex_match_destroy(&e.match);
    bpe_done(&e.bpe);
    buf_done(&e.unmarked);
    buf_done(&e.normal);
    return err;
}

// ---- looking up ----

int32_t tokenizer_find(const tokenizer *t, const char *text)
{
    size_t n = strlen(text);
    for (size_t i = 0; i < t->n_added; i++)
        if (strcmp(t->added[i].content, text) == 0) return t->added[i].id;
    const vocab_entry *e = vocab_find(&t->vocab, text, n, false);
    if (!e) e = vocab_find(&t->vocab, text, n, true);
    return e ? e->id : -1;
}

int32_t tokenizer_size(const tokenizer *t)
{
    return t->vocab.size;
}

bool tokenizer_has(const tokenizer *t, int32_t id)
{
    return vocab_by_id(&t->vocab, id) != NULL;
}

bool tokenizer_is_added(const tokenizer *t, int32_t id)
{
    const vocab_entry *e = vocab_by_id(&t->vocab, id);
    return e && (e->flags & VOCAB_ADDED);
}

bool tokenizer_is_special(const tokenizer *t, int32_t id)
{
    const vocab_entry *e = vocab_by_id(&t->vocab, id);
    return e && (e->flags & VOCAB_SPECIAL);
}

const char *tokenizer_bytes(const tokenizer *t, int32_t id, size_t *n)
{
    const vocab_entry *e = vocab_by_id(&t->vocab, id);
    *n = e ? e->length : 0;
    return e ? buf_text(&t->vocab.bytes) + e->offset : "";
}

const char *tokenizer_added(const tokenizer *t, size_t i, bool *special)
{
    if (i >= t->n_added) return NULL;
    if (special) *special = t->added[i].special;
    return t->added[i].content;
}
