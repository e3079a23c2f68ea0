// text/sampler.h - logits to the next token id.
//
// Order, as transformers' logits processors and vLLM's sampler have it: repetition penalty, presence
// and frequency penalties, temperature, top-k, top-p, min-p, draw. Ids that have no token in the
// tokenizer are never drawn. Threads: one at a time per sampler.
#ifndef SIGHT_TEXT_SAMPLER_H
#define SIGHT_TEXT_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "text/grammar.h"
#include "text/output.h"

typedef struct sampler sampler;

typedef struct sampler_options {
    double temperature;        // 0: greedy; else 0 < t <= 100
    int32_t top_k;             // 0: off
    double top_p;              // (0, 1]; 1: off
    double min_p;              // [0, 1); 0: off
    double presence_penalty;   // [-2, 2], over generated tokens
    double frequency_penalty;  // [-2, 2], over generated tokens
    double repetition_penalty; // > 0; 1: off; over prompt and generated tokens
    uint64_t seed;
    bool scores; // logprob is asked for with every draw, and is that among the ids that may be drawn then
    const int32_t *alike; // [n_alike] ids that mean the same (ends of an answer): of one of them it is that of
    int32_t n_alike;      // all of them. Borrowed
} sampler_options;

// allowed[vocab]: 1 where an id has a token (borrowed; NULL: all).
// SIGHT_E_ARGUMENT names the option and its range. SIGHT_E_MEMORY.
sight_err sampler_create(sampler **out, const sampler_options *options, int32_t vocab,
                         const uint8_t *allowed);
void sampler_destroy(sampler **s); // accepts NULL; leaves NULL

// From now on only what the form allows is drawn: at once (after -1), or once the id `after` was drawn. Borrows form.
// Not after a draw. Errors of the form are those of the next draw.
void sampler_set_form(sampler *s, grammar *form, int32_t after);

// Tells which tokens stand in the prompt (for the repetition penalty).
void sampler_see_prompt(sampler *s, const int32_t *ids, size_t n);

// Draws from logits[vocab] (changed in place) and remembers the id. logprob (NULL: not wanted) is
// the id's under the model, before penalties and temperature: among all ids, or with
// the options' scores among those that the form, and `allowed`, allow. Ties go to the lower id.
// SIGHT_E_INTERNAL when no logit is finite.
sight_err sampler_next(sampler *s, int32_t *id, float *logprob, float *logits);

// The options' scores: what sampler_wants has to be told.
bool sampler_scores(const sampler *s);
// With scores: how many ids could be drawn in the last draw that gave a logprob, those alike as one.
int32_t sampler_choices(const sampler *s);

// Remembers an id that somebody else chose, as if it had been drawn.
void sampler_take(sampler *s, int32_t id);

// Says in row which logits the next draw needs (k, allowed and always, borrowed from the sampler until then);
// the rest of row is left. logprob: whether it will be asked for.
void sampler_wants(sampler *s, output_row *row, bool logprob);
// sampler_next for a row filled as sampler_wants said: the same id, whether candidates or all
// logits are there. Its logits are changed in place.
sight_err sampler_next_of(sampler *s, int32_t *id, float *logprob, output_row *row);

// Guesses: what is drawn after the mark is forgotten by the rewind, the random numbers too, so that
// the next draws from the same logits give the same ids. At most SAMPLER_GUESSES draws between.
#define SAMPLER_GUESSES 16
void sampler_mark(sampler *s);
void sampler_rewind(sampler *s);

#endif
