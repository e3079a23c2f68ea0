// daemon/trace.h - one request with every number on the way kept, for comparing with the reference.
//
// Threads: nobody else uses the engine meanwhile.
#ifndef SIGHT_DAEMON_TRACE_H
#define SIGHT_DAEMON_TRACE_H

#include "base/err.h"
#include "daemon/engine.h"
#include "daemon/request.h"

// Runs the request greedily for exactly its max_tokens (default 16), whatever ids come, and writes
// a safetensors file (L prompt tokens, V vocabulary, D width, N patches, M visual tokens):
//   input_ids [L] i32, position_ids [3, L] i32, output_ids [n] i32, logits [L, V] f32,
//   mtp_logits [L, V] f32 (with an MTP block; row t pairs hidden t with token t + 1, the last with
//   the greedy next token), and per kind of medium, image_ and video_ alike:
//   image_grid_thw [n, 3] i32, pixel_values [N, row] f32 (clips: pixel_values_videos),
//   image_features [M, D] f32, image_deepstack_i [M, D] f32.
// source->base_dir is where relative media paths start. Open the engine with
// engine_options_exact. The file is written whole or not at all.
// Codes of request_parse, task_create and pipeline_run; SIGHT_E_IO (disk full), SIGHT_E_PERMISSION.
sight_err trace_run(engine *e, const request_source *source, const request_limits *limits,
                    const char *out_path);

#endif
