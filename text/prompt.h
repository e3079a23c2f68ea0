// text/prompt.h - prompt text and planned media to token ids and positions.
//
// A picture's pad becomes one pad per merged patch; a video's start-pad-end becomes, per frame pair,
// "<T seconds>" + start + pads + end (docs/MODEL.md). Positions are the three of MRoPE.
// Threads: any.
#ifndef SIGHT_TEXT_PROMPT_H
#define SIGHT_TEXT_PROMPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/config.h"
#include "text/tokenizer.h"

typedef struct prompt_media {
    bool video;
    int32_t t, h, w;       // merged grid: tokens are t * h * w
    const double *times_s; // [t], video only: the mean time of each pair
} prompt_media;

// What the model reads. Owned by prompt_done.
typedef struct prompt {
    int32_t n;
    int32_t *ids;       // [n]
    int32_t *positions; // [3, n]: t, h, w
    uint8_t *visual;    // [n]: 1 where a feature row stands
    int32_t n_visual;
    int32_t next_position; // of the first generated token, in all three
} prompt;

// text: from chat_render. media: in order of appearance.
// SIGHT_E_ARGUMENT: the number or kinds of pads do not match media. SIGHT_E_MEMORY.
sight_err prompt_build(prompt *out, const tokenizer *t, const char *text, size_t size,
                       const prompt_media *media, int32_t n_media, const model_config *config);
void prompt_done(prompt *p);

#endif
