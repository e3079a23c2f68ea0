// The vocabulary for grammars: tokens sorted by their bytes, and a trie over them that knows of each branch which tokens are in
// it, which kinds of bytes and how many characters.
#include <stdlib.h>
#include <string.h>

#include "text/grammar_parts.h"

int grammar_byte_kind(int b)
{
    if (b >= 0x80) return KIND_OTHERS;
    if (b == '"') return 1;
    if (b == '\\') return 2;
    if (b == '\n' || b == '\r') return 3;
    if (b == '\t') return 4;
    if (b < 0x20 || b == 0x7f) return 5;
    if (b == ' ') return 6;
    if (b >= '0' && b <= '9') return 7;
    if (b >= 'a' && b <= 'f') return 8;
    if (b >= 'A' && b <= 'F') return 9;
    if (b >= 'g' && b <= 'z') return 10;
    if (b >= 'G' && b <= 'Z') return 11;
    if (b == ',' || b == ':') return 12;
    if (b == '-' || b == '.' || b == '+') return 13;
    return 14;
}

// ---- order ----

typedef struct entry {
    const char *bytes;
    size_t n;
    int32_t id;
} entry;

static int by_bytes(const void *a, const void *b)
{
    const entry *x = a, *y = b;
    const size_t n = x->n < y->n ? x->n : y->n;
    const int order = memcmp(x->bytes, y->bytes, n);
    if (order) return order;
    if (x->n != y->n) return x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static int32_t gather(entry *entries, const tokenizer *t)
{
    int32_t n = 0;
    for (int32_t id = 0; id < tokenizer_size(t); id++) {
        entry e = {.id = id};
        if (!tokenizer_has(t, id) || tokenizer_is_added(t, id)) continue;
        e.bytes = tokenizer_bytes(t, id, &e.n);
        if (e.n > 0) entries[n++] = e;
    }
    qsort(entries, (size_t)n, sizeof *entries, by_bytes);
    return n;
}

// ---- the trie ----

static size_t shared(const entry *a, const entry *b)
{
    size_t n = 0;
    while (n < a->n && n < b->n && a->bytes[n] == b->bytes[n]) n++;
    return n;
}

static int64_t count_nodes(const entry *entries, int32_t n)
{
    int64_t count = 1;
    for (int32_t i = 0; i < n; i++) {
        count += (int64_t)(entries[i].n - (i ? shared(&entries[i - 1], &entries[i]) : 0));
    }
    return count;
}

// Whether a byte may be the i-th after `lead`, as in grammar_json.c's form_others.
static bool goes_on(uint8_t lead, int i, uint8_t b)
{
    if (i > 1) return b >= 0x80 && b <= 0xbf;
    const uint8_t least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const uint8_t most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    return b >= least && b <= most;
}

static bool is_odd(const entry *e)
{
    for (size_t i = 0; i < e->n;) {
        const uint8_t lead = (uint8_t)e->bytes[i];
        if (lead >= 0x80 && (lead < 0xc2 || lead > 0xf4)) return true;
        const int more = lead < 0x80 ? 0 : lead < 0xe0 ? 1 : lead < 0xf0 ? 2 : 3;
        i++;
        for (int k = 1; k <= more && i < e->n; k++, i++) {
            if (!goes_on(lead, k, (uint8_t)e->bytes[i])) return true;
        }
    }
    return false;
}

static bool begins_character(uint8_t b)
{
    return b < 0x80 || b >= 0xc0;
}

// Entries first .. end - 1 share `depth` bytes, which lead to node `at`.
static void fill(grammar_vocabulary *v, const entry *entries, int32_t first, int32_t end, size_t depth)
{
    const int32_t at = v->n_nodes++;
    trie_node *node = &v->nodes[at];
    *node = (trie_node){.tokens = first, .n_tokens = end - first,
                        .byte = depth ? (uint8_t)entries[first].bytes[depth - 1] : 0};
    while (first < end && entries[first].n == depth) {
        node->kinds |= (uint16_t)(v->kinds[entries[first++].id] & 1 << KIND_ODD);
        node->n_here++;
    }
    while (first < end) {
        const uint8_t byte = (uint8_t)entries[first].bytes[depth];
        int32_t next = first;
        while (next < end && (uint8_t)entries[next].bytes[depth] == byte) next++;
        const trie_node *child = &v->nodes[v->n_nodes];
        fill(v, entries, first, next, depth + 1);
        node->kinds |= child->kinds | (uint16_t)(1 << grammar_byte_kind(byte));
        const int longest = child->longest + begins_character(byte);
        if (longest > node->longest) node->longest = (uint8_t)(longest > 255 ? 255 : longest);
        first = next;
    }
    node->skip = v->n_nodes;
}

static void describe(grammar_vocabulary *v, const entry *e)
{
    uint16_t kinds = (uint16_t)(is_odd(e) << KIND_ODD);
    int characters = 0;
    for (size_t i = 0; i < e->n; i++) {
        kinds |= (uint16_t)(1 << grammar_byte_kind((uint8_t)e->bytes[i]));
        characters += begins_character((uint8_t)e->bytes[i]);
    }
    v->kinds[e->id] = kinds;
    v->characters[e->id] = (uint8_t)(characters > 255 ? 255 : characters);
}

#define LONGEST_TOKEN 1024 // bytes: how deep the trie may be

static sight_err build(grammar_vocabulary *v, entry *entries)
{
    int32_t n = gather(entries, v->tokens), kept = 0;
    for (int32_t i = 0; i < n; i++) { // longer ones just never come
        if (entries[i].n <= LONGEST_TOKEN) entries[kept++] = entries[i];
    }
    v->order = malloc((size_t)(kept + 1) * sizeof *v->order);
    v->nodes = malloc((size_t)count_nodes(entries, kept) * sizeof *v->nodes);
    v->kinds = malloc(((size_t)v->size + 1) * sizeof *v->kinds);
    v->characters = malloc((size_t)v->size + 1);
    if (!v->order || !v->nodes || !v->kinds || !v->characters) return sight_fail(SIGHT_E_MEMORY, "no memory for the tokens' trie");
    memset(v->kinds, 0xff, (size_t)v->size * sizeof *v->kinds);
    memset(v->characters, 0xff, (size_t)v->size);
    for (int32_t i = 0; i < kept; i++) {
        v->order[i] = entries[i].id;
        describe(v, &entries[i]);
    }
    fill(v, entries, 0, kept, 0);
    return SIGHT_OK;
}

sight_err grammar_vocabulary_create(grammar_vocabulary **out, const tokenizer *t, int32_t size,
                                    const int32_t *ends, int32_t n_ends)
{
    grammar_vocabulary *v = calloc(1, sizeof *v);
    entry *entries = malloc((size_t)(tokenizer_size(t) + 1) * sizeof *entries);
    int32_t *copy = malloc(((size_t)n_ends + 1) * sizeof *copy);
    sight_err err = SIGHT_OK;
    if (!v || !entries || !copy) {
        err = sight_fail(SIGHT_E_MEMORY, "no memory for the tokens' trie");
        free(copy);
    } else {
        v->tokens = t;
        v->size = size > tokenizer_size(t) ? size : tokenizer_size(t);
        v->ends = copy;
        for (int32_t i = 0; i < n_ends; i++) {
            if (ends[i] >= 0 && ends[i] < v->size) copy[v->n_ends++] = ends[i];
        }
        err = build(v, entries);
    }
    free(entries);
    if (err) grammar_vocabulary_destroy(&v);
    else *out = v;
    return err;
}

void grammar_vocabulary_destroy(grammar_vocabulary **pv)
{
    grammar_vocabulary *v = *pv;
    if (!v) return;
    free(v->ends);
    free(v->kinds);
    free(v->characters);
    free(v->order);
    free(v->nodes);
    free(v);
    *pv = NULL;
}
