// text/chat_messages.h - a client's messages and tools as a chat template may see them.
//
// Copies with marks (text/marks.h) in every text, so that nothing a client wrote becomes a special
// token; media parts reduced to their kind; arguments of tool calls given as JSON text parsed.
// Threads: any.
#ifndef SIGHT_TEXT_CHAT_MESSAGES_H
#define SIGHT_TEXT_CHAT_MESSAGES_H

#include <jansson.h>

#include "base/err.h"
#include "text/tokenizer.h"

// *out is new (json_decref). SIGHT_E_ARGUMENT names the message and field; SIGHT_E_MEMORY.
sight_err chat_messages(json_t **out, const json_t *messages, const tokenizer *t);
// tools NULL or null gives a JSON null.
sight_err chat_tools(json_t **out, const json_t *tools, const tokenizer *t);

#endif
