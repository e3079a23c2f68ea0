#include "text/tokenizer_vocab.h"

#include <stdlib.h>
#include <string.h>

#include "text/tokenizer_utf8.h"

void vocab_done(vocab *v)
{
    buf_done(&v->bytes);
    free(v->entries);
    free(v->slots);
    free(v->by_id);
    free(v->merges);
    *v = (vocab){0};
}

static sight_err no_memory(const vocab *v)
{
    return sight_fail(SIGHT_E_MEMORY, "%s: no memory for the vocabulary", v->what);
}

// ---- hash table of bytes ----

static uint32_t hash_bytes(const char *bytes, size_t n)
{
    const uint64_t k = 0x9e3779b97f4a7c15u;
    uint64_t h = n * k, word;
    for (; n >= 8; n -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        h = (h ^ word) * k;
        h ^= h >> 32;
    }
    word = 0;
    memcpy(&word, bytes, n);
    h = (h ^ word) * k;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    return (uint32_t)(h >> 32);
}

static bool same(const vocab *v, const vocab_entry *e, const char *bytes, size_t n, bool literal)
{
    return e->length == n && !(e->flags & VOCAB_LITERAL) == !literal &&
           memcmp(v->bytes.data + e->offset, bytes, n) == 0;
}

static vocab_slot *find_slot(const vocab *v, uint32_t hash, const char *bytes, size_t n,
                             bool literal)
{
    size_t i = hash & v->slot_mask;
    for (;; i = (i + 1) & v->slot_mask) {
        vocab_slot *s = &v->slots[i];
        if (!s->entry) return s;
        if (s->hash == hash && same(v, &v->entries[s->entry - 1], bytes, n, literal)) return s;
    }
}

static bool grow_slots(vocab *v)
{
    size_t n = v->slots ? (v->slot_mask + 1) * 2 : 1024;
    vocab_slot *old = v->slots;
    size_t n_old = old ? v->slot_mask + 1 : 0;
    vocab_slot *slots = calloc(n, sizeof *slots);
    if (!slots) return false;
    for (size_t k = 0; k < n_old; k++) {
        if (!old[k].entry) continue;
        size_t i = old[k].hash & (n - 1);
        while (slots[i].entry) i = (i + 1) & (n - 1);
        slots[i] = old[k];
    }
    free(old);
    v->slots = slots;
    v->slot_mask = n - 1;
    return true;
}

const vocab_entry *vocab_find(const vocab *v, const char *bytes, size_t n, bool literal)
{
    if (!v->slots) return NULL;
    const vocab_slot *s = find_slot(v, hash_bytes(bytes, n), bytes, n, literal);
    return s->entry ? &v->entries[s->entry - 1] : NULL;
}

// The entry's bytes stand at the end of v->bytes already, from `offset` on.
static sight_err push(vocab *v, size_t offset, int32_t id, uint32_t flags)
{
    size_t n = v->bytes.size - offset;
    if (v->n == v->capacity) {
        size_t capacity = v->capacity ? v->capacity * 2 : 1024;
        vocab_entry *entries = realloc(v->entries, capacity * sizeof *entries);
        if (!entries) return no_memory(v);
        v->entries = entries;
        v->capacity = capacity;
    }
    if (!v->slots || v->n * 2 > v->slot_mask) {
        if (!grow_slots(v)) return no_memory(v);
    }
    const char *bytes = buf_text(&v->bytes) + offset;
    uint32_t hash = hash_bytes(bytes, n);
    vocab_slot *slot = find_slot(v, hash, bytes, n, flags & VOCAB_LITERAL);
    if (slot->entry) {
        return sight_fail(SIGHT_E_MODEL, "%s: the token '%.*s' stands in it twice", v->what,
                          (int)(n < 100 ? n : 100), bytes);
    }
    v->entries[v->n++] = (vocab_entry){(uint32_t)offset, (uint32_t)n, id, flags};
    *slot = (vocab_slot){hash, (uint32_t)v->n};
    if (id >= v->size) v->size = id + 1;
    return SIGHT_OK;
}

// ---- GPT-2's characters for bytes ----

// Bytes that are printable in Latin-1 stand for themselves, the others, in order, for U+0100 on.
static bool is_printable(uint32_t c)
{
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 255 && c != 173);
}

// byte_of[c] is the byte + 1 that character c < 324 stands for; 0: none.
static void make_byte_of(uint16_t byte_of[324])
{
    memset(byte_of, 0, 324 * sizeof *byte_of);
    uint32_t next = 256;
    for (uint32_t b = 0; b < 256; b++) byte_of[is_printable(b) ? b : next++] = (uint16_t)(b + 1);
}

// Appends the bytes that text stands for; false, with nothing appended, when it is not made of
// byte characters. The room must have been reserved.
static bool unmap(buf *out, const uint16_t byte_of[324], const char *text, size_t n)
{
    size_t size = out->size;
    for (size_t i = 0, length; i < n; i += length) {
        uint32_t c = tokenizer_utf8_decode(text + i, &length);
        if (c >= 324 || !byte_of[c]) {
            out->size = size;
            return false;
        }
        out->data[out->size++] = (char)(byte_of[c] - 1);
    }
    return true;
}

// ---- building ----

sight_err vocab_read(vocab *v, tokenizer_json *j)
{
    uint16_t byte_of[324];
    make_byte_of(byte_of);
    bool first = true, more;
    sight_err err = tokenizer_json_enter(j, '{');
    while (!err && !(err = tokenizer_json_next(j, '}', &first, &more)) && more) {
        const char *text;
        size_t n, offset = v->bytes.size;
        int32_t id;
        if ((err = tokenizer_json_string(j, &text, &n))) break;
        if (!buf_reserve(&v->bytes, n)) return no_memory(v);
        uint32_t flags = VOCAB_HAS;
        if (!unmap(&v->bytes, byte_of, text, n)) {
            buf_add(&v->bytes, text, n);
            flags |= VOCAB_LITERAL;
        }
        if ((err = tokenizer_json_colon(j))) break;
        if ((err = tokenizer_json_integer(j, &id, VOCAB_MAX_ID))) break;
        err = push(v, offset, id, flags);
    }
    return err;
}

// Appends the bytes of content, which the caller takes off again when they are not wanted.
static sight_err append(vocab *v, const char *content, size_t n, bool *literal)
{
    uint16_t byte_of[324];
    make_byte_of(byte_of);
    if (!buf_reserve(&v->bytes, n)) return no_memory(v);
    *literal = !unmap(&v->bytes, byte_of, content, n);
    if (*literal) buf_add(&v->bytes, content, n);
    return SIGHT_OK;
}

static const vocab_entry *find_last(const vocab *v, size_t offset, bool literal)
{
    return vocab_find(v, buf_text(&v->bytes) + offset, v->bytes.size - offset, literal);
}

sight_err vocab_known(vocab *v, int32_t *id, const char *content, size_t n)
{
    size_t offset = v->bytes.size;
    bool literal;
    sight_err err = append(v, content, n, &literal);
    if (err) return err;
    const vocab_entry *e = find_last(v, offset, literal);
    v->bytes.size = offset;
    *id = e ? e->id : -1;
    return SIGHT_OK;
}

sight_err vocab_add(vocab *v, const char *content, size_t n, int32_t id, bool special)
{
    uint32_t added = VOCAB_ADDED | (special ? (uint32_t)VOCAB_SPECIAL : 0);
    size_t offset = v->bytes.size;
    bool literal;
    sight_err err = append(v, content, n, &literal);
    if (err) return err;
    const vocab_entry *known = find_last(v, offset, literal);
    if (!known) return push(v, offset, id, VOCAB_HAS | added | (literal ? VOCAB_LITERAL : 0));
    v->bytes.size = offset;
    if (known->id != id) {
        return sight_fail(SIGHT_E_MODEL, "%s: the added token '%.*s' is %d, but %d in the vocab",
                          v->what, (int)(n < 100 ? n : 100), content, (int)id, (int)known->id);
    }
    v->entries[known - v->entries].flags |= added;
    return SIGHT_OK;
}

sight_err vocab_index(vocab *v)
{
    v->by_id = calloc(v->size > 0 ? (size_t)v->size : 1, sizeof *v->by_id);
    if (!v->by_id) return no_memory(v);
    for (size_t i = 0; i < v->n; i++) {
        uint32_t *at = &v->by_id[v->entries[i].id];
        if (*at) {
            return sight_fail(SIGHT_E_MODEL, "%s: two tokens have the id %d", v->what,
                              (int)v->entries[i].id);
        }
        *at = (uint32_t)i + 1;
    }
    for (int b = 0; b < 256; b++) {
        char byte = (char)b;
        const vocab_entry *e = vocab_find(v, &byte, 1, false);
        if (!e) {
            return sight_fail(SIGHT_E_MODEL, "%s: the vocabulary has no token for the byte 0x%02x",
                              v->what, (unsigned)b);
        }
        v->byte_ids[b] = e->id;
    }
    return SIGHT_OK;
}

const vocab_entry *vocab_by_id(const vocab *v, int32_t id)
{
    if (id < 0 || id >= v->size || !v->by_id[id]) return NULL;
    return &v->entries[v->by_id[id] - 1];
}

// ---- merges ----

// Reads one merge, "a b" or ["a", "b"]: the bytes of both, one after the other, in pair.
static sight_err read_merge(tokenizer_json *j, const uint16_t byte_of[324], buf *pair,
                            size_t *n_left)
{
    const char *text, *space;
    size_t n;
    bool first = true, more, good;
    buf_clear(pair);
    bool array = tokenizer_json_peek(j) == '[';
    sight_err err = array ? tokenizer_json_enter(j, '[') : SIGHT_OK;
    if (array && !err) err = tokenizer_json_next(j, ']', &first, &more);
    if (!err) err = tokenizer_json_string(j, &text, &n);
    if (err) return err;
    if (!buf_reserve(pair, n)) return sight_fail(SIGHT_E_MEMORY, "%s: no memory", j->what);
    if (array) {
        good = unmap(pair, byte_of, text, n);
        *n_left = pair->size;
        err = tokenizer_json_next(j, ']', &first, &more);
        if (!err) err = tokenizer_json_string(j, &text, &n);
        if (err) return err;
        if (!buf_reserve(pair, n)) return sight_fail(SIGHT_E_MEMORY, "%s: no memory", j->what);
        good = good && unmap(pair, byte_of, text, n);
        err = tokenizer_json_next(j, ']', &first, &more);
        if (!err) good = good && !more;
    } else {
        space = memchr(text, ' ', n);
        size_t k = space ? (size_t)(space - text) : 0;
        good = space && unmap(pair, byte_of, text, k);
        *n_left = pair->size;
        good = good && unmap(pair, byte_of, space + 1, n - k - 1);
    }
    if (!err && !good) {
        err = sight_fail(SIGHT_E_MODEL, "%s: the merge before byte %zu is not two byte strings",
                         j->what, (size_t)(j->at - j->begin));
    }
    return err;
}

static sight_err resolve_merge(const vocab *v, vocab_merge *m, const buf *pair, size_t n_left)
{
    const char *bytes = buf_text(pair);
    const vocab_entry *left = vocab_find(v, bytes, n_left, false);
    const vocab_entry *right = vocab_find(v, bytes + n_left, pair->size - n_left, false);
    const vocab_entry *both = vocab_find(v, bytes, pair->size, false);
    if (!left || !right || !both) {
        return sight_fail(SIGHT_E_MODEL, "%s: the merge %u ('%.*s' and '%.*s') is not of tokens",
                          v->what, (unsigned)m->rank, (int)(n_left < 100 ? n_left : 100), bytes,
                          (int)(pair->size - n_left < 100 ? pair->size - n_left : 100),
                          bytes + n_left);
    }
    m->left = (uint32_t)left->id;
    m->right = (uint32_t)right->id;
    m->id = both->id;
    return SIGHT_OK;
}

// The last of two merges of one pair counts, as in the reference.
static sight_err build_merges(vocab *v, const vocab_merge *list, size_t n)
{
    size_t slots = 1024;
    while (slots < n * 2) slots *= 2;
    v->merges = malloc(slots * sizeof *v->merges);
    if (!v->merges) return no_memory(v);
    v->merge_mask = slots - 1;
    for (size_t i = 0; i < slots; i++) v->merges[i].left = UINT32_MAX;
    for (size_t k = 0; k < n; k++) {
        size_t i = vocab_pair_hash(list[k].left, list[k].right) & v->merge_mask;
        while (v->merges[i].left != UINT32_MAX &&
               (v->merges[i].left != list[k].left || v->merges[i].right != list[k].right)) {
            i = (i + 1) & v->merge_mask;
        }
        v->merges[i] = list[k];
    }
    return SIGHT_OK;
}

sight_err vocab_read_merges(vocab *v, tokenizer_json *j)
{
    uint16_t byte_of[324];
    make_byte_of(byte_of);
    vocab_merge *list = NULL;
    size_t n = 0, capacity = 0, n_left = 0;
    bool first = true, more;
    buf pair;
    buf_init(&pair);
    sight_err err = tokenizer_json_enter(j, '[');
    while (!err && !(err = tokenizer_json_next(j, ']', &first, &more)) && more) {
        if (n == capacity) {
            capacity = capacity ? capacity * 2 : 1024;
            vocab_merge *grown = realloc(list, capacity * sizeof *list);
            if (!grown) {
                err = no_memory(v);
                break;
            }
            list = grown;
        }
        list[n].rank = (uint32_t)n;
        err = read_merge(j, byte_of, &pair, &n_left);
        if (!err) err = resolve_merge(v, &list[n], &pair, n_left);
        n++;
    }
    if (!err) err = build_merges(v, list, n);
    free(list);
    buf_done(&pair);
    return err;
}
