// sight bench: what guessing ahead brings, against the same answers without.
#include <stdlib.h>

#include "base/clock.h"
#include "clients/cli/bench.h"
#include "text/draft.h"

#define PROMPT 32
#define TOKENS 40 // of an answer
#define ROUNDS 2

// An answer of TOKENS to a made-up prompt, greedily.
typedef struct answerer {
    engine *e;
    sequence *seq;
    sampler *sampler;
    draft *draft;
    float *logits; // [vocab], of the prompt's last row
} answerer;

static sight_err answerer_init(answerer *a, engine *e, int32_t depth)
{
    const sampler_options greedy = {.top_p = 1, .repetition_penalty = 1};
    const draft_options o = {.depth = depth};
    const int32_t vocab = engine_config(e)->text.vocab;
    *a = (answerer){.e = e};
    a->logits = malloc(sizeof *a->logits * (size_t)vocab);
    if (!a->logits) return sight_fail(SIGHT_E_MEMORY, "no memory for logits");
    sight_err err = sequence_create(&a->seq, engine_pool(e));
    if (!err) err = sampler_create(&a->sampler, &greedy, vocab, NULL);
    if (!err) err = draft_create(&a->draft, engine_text(e), a->seq, a->sampler, &o);
    return err;
}

static void answerer_done(answerer *a)
{
    draft_destroy(&a->draft);
    sampler_destroy(&a->sampler);
    sequence_drop(&a->seq);
    free(a->logits);
}

static sight_err read_prompt(answerer *a, int32_t round)
{
    const int32_t vocab = engine_config(a->e)->text.vocab;
    int32_t ids[PROMPT], positions[3 * PROMPT];
    for (int32_t i = 0; i < PROMPT; i++) {
        ids[i] = (int32_t)((uint32_t)(i + round * PROMPT) * 2654435761u % (uint32_t)vocab);
        for (int axis = 0; axis < 3; axis++) positions[axis * PROMPT + i] = i;
    }
    const segment s = {.seq = a->seq, .n = PROMPT, .ids = ids, .positions = positions,
                       .position_stride = PROMPT, .n_logits = 1, .logits = a->logits};
    return draft_read(a->draft, &s, 0);
}

static sight_err answer(answerer *a)
{
    output_row *next = NULL;
    for (int32_t i = 0; i < TOKENS; i++) {
        int32_t id;
        sight_err err = next ? sampler_next_of(a->sampler, &id, NULL, next)
                             : sampler_next(a->sampler, &id, NULL, a->logits);
        if (!err) err = draft_advance(a->draft, &next, id, PROMPT + i, TOKENS - i);
        if (err) return err;
    }
    return SIGHT_OK;
}

static sight_err time_answer(engine *e, int32_t depth, int32_t round, double *seconds,
                             draft_usage *usage)
{
    answerer a;
    sight_err err = answerer_init(&a, e, depth);
    if (!err) err = read_prompt(&a, round);
    const double start = clock_now_s();
    if (!err) err = answer(&a);
    *seconds += clock_now_s() - start;
    if (!err && usage) {
        const draft_usage u = draft_get_usage(a.draft);
        usage->guessed += u.guessed;
        usage->right += u.right;
    }
    answerer_done(&a);
    return err;
}

sight_err bench_drafts(engine *e, bench_result *out)
{
    double with = 0, without = 0, ignored = 0;
    draft_usage usage = {0};
    sight_err err = time_answer(e, 0, 0, &ignored, NULL); // warms what only answers touch
    for (int32_t round = 0; round < ROUNDS && !err; round++) {
        err = time_answer(e, 0, round, &without, NULL);
        if (!err) err = time_answer(e, DRAFT_AUTO, round, &with, &usage);
    }
    if (err) return err;
    out->draft_decode_tok_s = ROUNDS * TOKENS / with;
    out->draft_speedup = without / with;
    out->draft_acceptance = usage.guessed ? (double)usage.right / usage.guessed : 0;
    return SIGHT_OK;
}
