// tests/daemon/stores.h - prompts read with and without what the stores keep, told apart to the last bit.
#ifndef SIGHT_TESTS_DAEMON_STORES_H
#define SIGHT_TESTS_DAEMON_STORES_H

#include "tasks.h"

#include "daemon/pipeline.h"
#include "daemon/stages.h"

#define SYSTEM(text)   "{\"role\": \"system\", \"content\": \"" text "\"}"
#define ANSWERED(text) "{\"role\": \"assistant\", \"content\": \"" text "\"}"

// A prompt that was read: the logits after it, and what was spared.
typedef struct reading {
    float *logits; // [vocab]
    stages_reuse spared;
    int32_t encoded; // frame pairs
    int32_t tokens;
} reading;

static inline void count_pairs(void *arg, const feed_piece *piece)
{
    ((reading *)arg)->encoded += piece->n_pairs;
}

static inline task *make_task(engine *e, const char *messages, const identity *who)
{
    char json[16384];
    snprintf(json, sizeof json, "{\"messages\": [%s], \"max_tokens\": 12, \"temperature\": 0, "
             "\"enable_thinking\": false}", messages);
    task *t;
    assert_ok(task_try(&t, e, json, who, NULL));
    return t;
}

static inline void read_task(reading *out, engine *e, const task *t, bool reuse)
{
    *out = (reading){.logits = calloc((size_t)engine_config(e)->text.vocab, sizeof *out->logits)};
    assert_non_null(out->logits);
    output_row all = {.logits = out->logits};
    stages_options o = {.reuse = reuse, .last = &all};
    o.watch = (stage_watch){.piece = count_pairs, .arg = out};
    stages *s;
    assert_ok(stages_create(&s, t, &o));
    assert_ok(stages_run(s));
    out->spared = stages_reused(s);
    out->tokens = t->prompt.n;
    stages_destroy(&s);
}

// Reads messages with what the stores have, and once more without; fails unless the logits are the same bits.
static inline reading read_as(engine *e, const char *messages, const identity *who)
{
    reading with, without;
    task *t = make_task(e, messages, who);
    read_task(&with, e, t, true);
    read_task(&without, e, t, false);
    assert_int_equal(without.spared.tokens + without.spared.features, 0);
    assert_memory_equal(with.logits, without.logits,
                        (size_t)engine_config(e)->text.vocab * sizeof *with.logits);
    free(without.logits);
    free(with.logits);
    with.logits = NULL;
    task_destroy(&t);
    return with;
}

#endif
