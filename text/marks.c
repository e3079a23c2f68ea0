#include "text/marks.h"

#include <string.h>

#include "base/buf.h"
#include "text/tokenizer_parts.h"
#include "text/tokenizer_utf8.h"

// Whether text begins with the rest of a token from its second byte on, or is itself the beginning
// of such a rest.
static bool continues(const char *content, size_t size, const char *text, size_t n)
{
    for (size_t k = 1; k < size; k++) {
        size_t rest = size - k;
        if (memcmp(content + k, text, rest < n ? rest : n) == 0) return true;
    }
    return false;
}

// Whether text begins with what could complete a token begun by the text before it.
static bool continues_token(const tokenizer *t, const char *text, size_t n, bool special_only)
{
    for (size_t i = 0; i < t->n_added; i++) {
        const added_token *a = &t->added[i];
        if (special_only && !a->special) continue;
        if (continues(a->content, a->n, text, n)) return true;
        if (a->normal && continues(a->normal, a->n_normal, text, n)) return true;
    }
    return false;
}

// A token's text is broken after its first character; one that is a single character (or of which
// only that stands here, at the end) is disarmed by a mark before it. So every mark of ours stands
// before a character of the same text, and a run of marks is odd exactly when ours ends it.
void marks_add(buf *out, const char *text, size_t n, const tokenizer *t, bool special_only)
{
    bool mark = n > 0 && continues_token(t, text, n, special_only);
    for (size_t i = 0, length; i < n; i += length) {
        length = tokenizer_utf8_length(text[i]);
        if (length > n - i) length = n - i;
        int touches = added_touches(&t->all, text + i, n - i, special_only);
        if (mark || (touches & ADDED_ONE_CHARACTER)) buf_add(out, MARK, MARK_SIZE);
        if (length == MARK_SIZE && memcmp(text + i, MARK, MARK_SIZE) == 0) {
            buf_add(out, MARK, MARK_SIZE);
        }
        buf_add(out, text + i, length);
        mark = touches & ADDED_LONGER;
    }
}

void marks_remove(buf *out, const char *text, size_t n)
{
    size_t i = 0, done = 0;
    while (i + MARK_SIZE <= n) {
        const char *lead = memchr(text + i, MARK[0], n - i - (MARK_SIZE - 1));
        if (!lead) break;
        i = (size_t)(lead - text);
        if (memcmp(lead, MARK, MARK_SIZE) != 0) {
            i++;
            continue;
        }
        buf_add(out, text + done, i - done);
        i += MARK_SIZE;
        done = i;
        if (n - i >= MARK_SIZE && memcmp(text + i, MARK, MARK_SIZE) == 0) i += MARK_SIZE;
    }
    buf_add(out, text + done, n - done);
}
