// text/chat.h - messages to prompt text, by the checkpoint's own chat template.
//
// Threads: any, once open.
#ifndef SIGHT_TEXT_CHAT_H
#define SIGHT_TEXT_CHAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "text/tokenizer.h"

typedef struct chat chat;

// Reads dir's chat_template.jinja, or chat_template in tokenizer_config.json, or (dir is a GGUF file)
// tokenizer.chat_template, or takes the built-in one (thinking on by default; *built_in says so, for a
// warning). Borrows t.
sight_err chat_open(chat **out, const char *dir, const tokenizer *t, bool *built_in);
void chat_close(chat **c); // accepts NULL; leaves NULL

typedef struct chat_options {
    int enable_thinking; // -1: the template's own default
    bool add_vision_id;  // "Picture 1: " before each
    bool no_generation_prompt;
} chat_options;

// messages: an array in the common chat format (role, content as a string or parts of type text,
// image, video, image_url, video_url; tool_calls, reasoning_content); tools: an array or NULL.
// *prompt is malloced, with marks (text/marks.h); special tokens stand only where the template put
// them. Media stand as the template writes them (vision_start, one pad, vision_end).
// SIGHT_E_ARGUMENT with the template's or our own sentence.
sight_err chat_render(const chat *c, char **prompt, size_t *size, const json_t *messages,
                      const json_t *tools, const chat_options *options);

// Whether an answer to such a prompt begins inside a thinking block.
bool chat_prompt_opens_thinking(const char *prompt, size_t size);

#endif
