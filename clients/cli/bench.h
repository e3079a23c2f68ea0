// clients/cli/bench.h - the measurements of `sight bench`.
#ifndef SIGHT_CLI_BENCH_H
#define SIGHT_CLI_BENCH_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "daemon/engine.h"
#include "kernels/profile.h"

typedef struct bench_result {
    double load_s;        // opening the engine
    double first_token_s; // from `start` to the first token after a prompt of 16
    double prefill_512_tok_s, prefill_2048_tok_s, prefill_8192_tok_s;
    double decode_tok_s, decode_4096_tok_s, batch8_decode_tok_s, batch32_decode_tok_s;
    // Answers with drafts, where the model has an MTP block: tokens, guesses that were right (made-up
    // weights guess at random), and the speed against answers without.
    double draft_decode_tok_s, draft_acceptance, draft_speedup;
    // Seconds to the first token of questions about a clip: the first one, another one, one without any clip.
    double clip_first_s, clip_again_s, text_question_s, clip_reused_tokens;
    double vision_640x480_ms, vision_1920x1080_ms, video_frames_s;
    double decode_bytes; // weights read for one token
    double prefill_ops;  // multiplications and additions of the products for one prompt token
} bench_result;

typedef enum bench_work {
    BENCH_PREFILL,      // 512 tokens
    BENCH_LONG_PREFILL, // 2048
    BENCH_VERY_LONG_PREFILL, // 8192
    BENCH_DECODE,       // at depth 0
    BENCH_DEEP_DECODE,  // at depth 4096
    BENCH_BATCH,        // 8 sequences
    BENCH_LARGE_BATCH,  // 32
    BENCH_DRAFTS,       // answers with drafts and without
    BENCH_PICTURE,      // 640x480
    BENCH_BIG_PICTURE,  // 1920x1080
    BENCH_WORKS
} bench_work;

#define BENCH_ON_DEVICE ((1u << BENCH_WORKS) - 1)
// A processor would take minutes for the largest.
#define BENCH_ALL (BENCH_ON_DEVICE & ~(1u << BENCH_VERY_LONG_PREFILL | 1u << BENCH_LARGE_BATCH))
#define BENCH_QUICK                                                                                \
    (BENCH_ALL & ~(1u << BENCH_DEEP_DECODE | 1u << BENCH_DRAFTS | 1u << BENCH_BIG_PICTURE))

// works: a bit per bench_work. start: when opening began (clock_now_s). profiles [BENCH_WORKS],
// zeroed: what the ops of each work took; NULL: not wanted. What a model lacks (vision) and what
// is not asked for stays 0. Codes of text_model_step and tower_encode, SIGHT_E_MEMORY.
sight_err bench_run(engine *e, bench_result *out, double start, unsigned works, profile *profiles);

// "decode,prefill_512": names as in bench_profile_json. SIGHT_E_ARGUMENT names the unknown one.
sight_err bench_parse_works(unsigned *works, const char *names);

// ---- bench_drafts.c ----

// Fills what bench_result says of drafts. Codes of draft_advance.
sight_err bench_drafts(engine *e, bench_result *out);

// ---- bench_clip.c ----

// Fills what bench_result says of a clip. e keeps pasts (engine_options.reuse). Codes of task_media_open and stages_run.
sight_err bench_clip(engine *e, bench_result *out, const char *path);

// ---- bench_profile.c ----

// The share of each op in each work, and what it reached of the limits measured in the same run.
void bench_profile_print(const profile *profiles, const machine_limits *limits);
// {"prefill_512": {"seconds", "ops": [{"op", "calls", "share", "gb_s", "gop_s"}]}, ...}; NULL: no memory.
json_t *bench_profile_json(const profile *profiles);

#endif
