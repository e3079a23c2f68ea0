#include "text/stop.h"

#include <stdlib.h>
#include <string.h>

sight_err stop_init(stop *s, const char *const *strings, size_t n)
{
    if (n > STOP_MAX_STRINGS) {
        return sight_fail(SIGHT_E_ARGUMENT, "stop: %zu strings, at most %d", n, STOP_MAX_STRINGS);
    }
    stop made = {.n = 0};
    buf_init(&made.held);
    for (size_t i = 0; i < n; i++) {
        size_t length = strlen(strings[i]);
        if (length == 0 || length > STOP_MAX_BYTES) {
            stop_done(&made);
            return sight_fail(SIGHT_E_ARGUMENT, "stop: string %zu has %zu bytes, must have 1 to %d",
                              i, length, STOP_MAX_BYTES);
        }
        made.strings[i] = strdup(strings[i]);
        if (!made.strings[i]) {
            stop_done(&made);
            return sight_fail(SIGHT_E_MEMORY, "stop: no memory");
        }
        made.n++;
    }
    *s = made;
    return SIGHT_OK;
}

void stop_done(stop *s)
{
    for (size_t i = 0; i < s->n; i++) free(s->strings[i]);
    buf_done(&s->held);
    *s = (stop){.n = 0};
}

// The longest stop string that the first n bytes of what is held end with; 0: none.
static size_t ending(const stop *s, size_t n)
{
    size_t best = 0;
    for (size_t i = 0; i < s->n; i++) {
        size_t length = strlen(s->strings[i]);
        if (length <= best || length > n) continue;
        if (memcmp(s->held.data + n - length, s->strings[i], length) == 0) best = length;
    }
    return best;
}

// Where what is held may begin a stop string whose end has not come yet; its size: nowhere.
static size_t open_end(const stop *s)
{
    size_t n = s->held.size;
    for (size_t at = n < STOP_MAX_BYTES ? 0 : n - STOP_MAX_BYTES + 1; at < n; at++)
        for (size_t i = 0; i < s->n; i++)
            if (strncmp(s->strings[i], s->held.data + at, n - at) == 0) return at;
    return n;
}

// As if bytes came singly: the stop string that ends first counts, and of those that end together
// the longest. So the answer does not depend on how the text was cut.
bool stop_push(stop *s, buf *out, const char *text, size_t n)
{
    if (s->n == 0) {
        buf_add(out, text, n);
        return false;
    }
    size_t seen = s->held.size;
    buf_add(&s->held, text, n);
    if (buf_failed(&s->held)) {
        out->failed = true;
        return false;
    }
    while (seen < s->held.size) {
        size_t length = ending(s, ++seen);
        if (length == 0) continue;
        buf_add(out, s->held.data, seen - length);
        buf_clear(&s->held);
        return true;
    }
    size_t sure = s->held.size ? open_end(s) : 0;
    buf_add(out, s->held.data, sure);
    if (sure > 0) memmove(s->held.data, s->held.data + sure, s->held.size - sure);
    s->held.size -= sure;
    return false;
}

void stop_flush(stop *s, buf *out)
{
    buf_add(out, s->held.data, s->held.size);
    buf_clear(&s->held);
}
