// clients/cli/bench.h - the measurements of `sight bench`.
#ifndef SIGHT_CLI_BENCH_H
#define SIGHT_CLI_BENCH_H

#include <stdbool.h>

#include "base/err.h"
#include "daemon/engine.h"

typedef struct bench_result {
    double load_s;        // opening the engine
    double first_token_s; // from `start` to the first token after a prompt of 16
    double prefill_512_tok_s, prefill_2048_tok_s;
    double decode_tok_s, decode_4096_tok_s, batch8_decode_tok_s;
    double vision_640x480_ms, vision_1920x1080_ms, video_frames_s;
    double decode_bytes; // weights read for one token
    double prefill_ops;  // multiplications and additions of the products for one prompt token
} bench_result;

// start: when opening began (clock_now_s). What a model lacks (vision) and what quick leaves out
// stays 0. Codes of text_model_step and tower_encode, SIGHT_E_MEMORY.
sight_err bench_run(engine *e, bench_result *out, double start, bool quick);

#endif
