// text/tokenizer_gguf.h - a GGUF file's tokenizer.ggml.* as the tokenizer.json they were made
// from.
//
// llama.cpp keeps tokens, their kinds and the merges, and names the split regex. What it does not
// keep is put back as the published Qwen files have it: NFC, and which tokens are special.
// Threads: any.
#ifndef SIGHT_TEXT_TOKENIZER_GGUF_H
#define SIGHT_TEXT_TOKENIZER_GGUF_H

#include "base/buf.h"
#include "checkpoint/gguf.h"

// Appends the JSON. SIGHT_E_MODEL, SIGHT_E_UNSUPPORTED (a tokenizer.ggml.model, pre or kind of
// token that is not read here, by name), SIGHT_E_MEMORY.
sight_err tokenizer_gguf_json(buf *out, const gguf *g);

#endif
