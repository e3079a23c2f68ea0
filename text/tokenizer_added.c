#include "text/tokenizer_added.h"

#include <stdlib.h>
#include <string.h>

#include "text/marks.h"
#include "text/tokenizer_utf8.h"

void added_done(added_trie *t)
{
    free(t->nodes);
    *t = (added_trie){0};
}

static sight_err push(added_trie *t, uint8_t byte, int32_t *index)
{
    if (t->n == t->capacity) {
        size_t capacity = t->capacity ? t->capacity * 2 : 64;
        added_node *nodes = realloc(t->nodes, capacity * sizeof *nodes);
        if (!nodes) return sight_fail(SIGHT_E_MEMORY, "no memory for added tokens");
        t->nodes = nodes;
        t->capacity = capacity;
    }
    *index = (int32_t)t->n;
    t->nodes[t->n++] = (added_node){.id = -1, .byte = byte};
    return SIGHT_OK;
}

static int32_t child_of(const added_trie *t, int32_t node, uint8_t byte)
{
    int32_t c = t->nodes[node].child;
    while (c && t->nodes[c].byte != byte) c = t->nodes[c].next;
    return c;
}

sight_err added_insert(added_trie *t, const char *content, size_t n, int32_t id, bool special)
{
    int32_t node = 0;
    if (t->n == 0) {
        sight_err err = push(t, 0, &node);
        if (err) return err;
    }
    for (size_t i = 0; i < n; i++) {
        int32_t child = child_of(t, node, (uint8_t)content[i]);
        if (!child) {
            sight_err err = push(t, (uint8_t)content[i], &child);
            if (err) return err;
            t->nodes[child].next = t->nodes[node].child;
            t->nodes[node].child = child;
        }
        node = child;
        t->nodes[node].special_below |= special;
    }
    t->nodes[node].id = id;
    t->nodes[node].special |= special;
    return SIGHT_OK;
}

static bool longest(const added_trie *t, added_match *m, const char *text, size_t n, size_t at)
{
    bool found = false;
    int32_t node = 0;
    for (size_t i = at; i < n && (node = child_of(t, node, (uint8_t)text[i])); i++) {
        if (t->nodes[node].id < 0) continue;
        *m = (added_match){at, i + 1, t->nodes[node].id};
        found = true;
    }
    return found;
}

static bool after_odd_marks(const char *text, size_t at)
{
    size_t run = 0;
    while (at >= MARK_SIZE && memcmp(text + at - MARK_SIZE, MARK, MARK_SIZE) == 0) {
        at -= MARK_SIZE;
        run++;
    }
    return run % 2;
}

bool added_find(const added_trie *t, added_match *m, const char *text, size_t n, size_t from,
                bool marks)
{
    if (t->n == 0) return false;
    bool begins[256] = {false};
    for (int32_t c = t->nodes[0].child; c; c = t->nodes[c].next) begins[t->nodes[c].byte] = true;
    for (size_t i = from; i < n; i++) {
        if (!begins[(uint8_t)text[i]] || !longest(t, m, text, n, i)) continue;
        if (!marks || !after_odd_marks(text, i)) return true;
    }
    return false;
}

int added_touches(const added_trie *t, const char *text, size_t n, bool special_only)
{
    if (t->n == 0 || n == 0) return 0;
    size_t first = tokenizer_utf8_length(text[0]);
    int flags = 0;
    int32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        node = child_of(t, node, (uint8_t)text[i]);
        if (!node) break;
        bool ends = t->nodes[node].id >= 0 && (!special_only || t->nodes[node].special);
        bool part = i + 1 == n && (!special_only || t->nodes[node].special_below);
        if (ends || part) flags |= i < first ? ADDED_ONE_CHARACTER : ADDED_LONGER;
    }
    return flags;
}
