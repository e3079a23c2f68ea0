// daemon/models/confidence.h - how sure a model was of what it answered, as one number.
//
// Each token of an answer (not of thinking, and not one that was given: the end of thinking, the opening of a call) was
// drawn with a probability: the model's own, before penalties and at temperature 1, among the ids that could be drawn
// there (those that have a token, and that the answer's form allows; tokens that end an answer count as one). Tokens that a form left no choice for say nothing and are
// left out.
//
//     mean    the geometric mean of these, for texts
//     product of all of them, for choices: the probability of the choice
//
// It says how alone the answer stood among those that the model could have begun to give, not whether it is true.
//
// Threads: one belongs to the answer's thread. Zeroed: nothing was answered yet.
#ifndef SIGHT_DAEMON_CONFIDENCE_H
#define SIGHT_DAEMON_CONFIDENCE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct confidence {
    double log_sum; // of the probabilities
    int32_t counted; // tokens with a choice
    int32_t tokens;  // of the answer
    bool product;
} confidence;

void confidence_add(confidence *c, double logprob, int32_t choices);
// 0 to 1; NAN: nothing was answered.
double confidence_value(const confidence *c);

#endif
