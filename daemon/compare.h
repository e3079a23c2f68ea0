// daemon/compare.h - how far two engines' next-token distributions are apart, over given prompts.
//
// Both read the same tokens, so the difference is that of the weights and the arithmetic alone: for
// every prompt token that a text token follows, KL(first || second) in nats over the whole vocabulary,
// and whether the likeliest token is the same. Threads: one, which both engines belong to.
#ifndef SIGHT_DAEMON_COMPARE_H
#define SIGHT_DAEMON_COMPARE_H

#include <stdint.h>

#include "base/err.h"
#include "daemon/engine.h"
#include "daemon/request.h"

typedef struct compared {
    double *kl; // [n], in order of the prompts
    int64_t n, capacity;
    int64_t same; // of n, with the same likeliest token
    // Surprise of the prompts' own next tokens, summed, in nats: perplexity is exp(surprise / n).
    double first_surprise, second_surprise;
} compared;

// Adds one request's prompt to *c (zeroed before the first; compared_done frees it). Answers within
// the messages are part of the prompt. Codes of task_create and stages_run; SIGHT_E_ARGUMENT when the
// two engines make different tokens of it; SIGHT_E_MEMORY.
sight_err compare_add(compared *c, engine *first, engine *second, const request_source *source,
                      const request_limits *limits);
void compared_done(compared *c);

typedef struct compare_summary {
    double mean, median, p99, largest; // of kl
    double same;                       // share with the same likeliest token
    double first_perplexity, second_perplexity;
} compare_summary;

// Sorts c->kl. All zero when nothing was added.
compare_summary compare_sum_up(compared *c);

#endif
