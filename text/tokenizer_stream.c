// Streaming decode: bytes of tokens to whole characters. What can never become one turns into one
// U+FFFD per maximal subpart (Unicode 15, section 3.9), as in Rust's from_utf8_lossy.
#include "base/buf.h"
#include "text/tokenizer.h"
#include "text/tokenizer_utf8.h"

#define REPLACEMENT 0xfffd

static void push_byte(token_stream *s, buf *out, uint8_t byte)
{
    s->held[s->n_held++] = byte;
    switch (tokenizer_utf8_state_of(s->held, (size_t)s->n_held)) {
    case TOKENIZER_UTF8_PART: return;
    case TOKENIZER_UTF8_WHOLE: buf_add(out, s->held, (size_t)s->n_held); break;
    case TOKENIZER_UTF8_INVALID:
        buf_add_utf8(out, REPLACEMENT);
        if (s->n_held > 1) { // the byte may begin a character itself
            s->n_held = 0;
            push_byte(s, out, byte);
            return;
        }
        break;
    }
    s->n_held = 0;
}

void token_stream_push(token_stream *s, const tokenizer *t, buf *out, int32_t id,
                       bool skip_special)
{
    size_t n;
    const char *bytes = tokenizer_bytes(t, id, &n);
    if (skip_special && tokenizer_is_special(t, id)) return;
    for (size_t i = 0; i < n; i++) push_byte(s, out, (uint8_t)bytes[i]);
}

void token_stream_finish(token_stream *s, buf *out)
{
    if (s->n_held > 0) buf_add_utf8(out, REPLACEMENT);
    s->n_held = 0;
}
