// text/chat_builtin.h - the chat template for checkpoints that bring none.
//
// The same text as models/mini/chat_template.jinja but for one line: thinking is on by default
// here, as in the larger checkpoints. A test holds the two together.
#ifndef SIGHT_TEXT_CHAT_BUILTIN_H
#define SIGHT_TEXT_CHAT_BUILTIN_H

extern const char chat_builtin_template[];

#endif
