// text/marks.h - keeps a user's text from turning into special tokens.
//
// Before a chat template runs, every added token's text inside a client's strings is broken by a
// mark (U+FDD0, a noncharacter) after its first character; a mark that the client wrote itself is
// doubled. The rendered prompt then holds real special tokens only where the template wrote them.
// The tokenizer (TOKENIZER_PROMPT) takes marks out of ordinary text after it has found the added
// tokens. Threads: any.
#ifndef SIGHT_TEXT_MARKS_H
#define SIGHT_TEXT_MARKS_H

#include <stdbool.h>
#include <stddef.h>

struct buf;
struct tokenizer;

#define MARK      "\xef\xb7\x90" // U+FDD0
#define MARK_SIZE 3

// Appends text with marks. special_only: leaves added tokens that are not special (<think>,
// <tool_call>) whole, for an assistant's earlier turns, which templates read them from.
void marks_add(struct buf *out, const char *text, size_t n, const struct tokenizer *t,
               bool special_only);
// Appends text without its marks (a doubled one becomes one).
void marks_remove(struct buf *out, const char *text, size_t n);

#endif
