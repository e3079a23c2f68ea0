// vision/tower.h - the vision encoder: patches to features for the text model.
//
// Conv3d as one product, position table, blocks with 2-d rotary attention inside each frame pair,
// merger and DeepStack mergers (docs/MODEL.md). Every frame pair is independent of the others.
// Threads: one at a time, the one that uses the kernels object.
#ifndef SIGHT_VISION_TOWER_H
#define SIGHT_VISION_TOWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/checkpoint.h"
#include "kernels/ops.h"
#include "vision/plan.h"

typedef struct tower tower;

// Borrows c and k, which must outlive it. SIGHT_E_MODEL, SIGHT_E_MEMORY.
sight_err tower_create(tower **out, const checkpoint *c, kernels *k);
void tower_destroy(tower **t); // accepts NULL; leaves NULL
kernels *tower_kernels(const tower *t); // the k it was made with

// An encode under way: some frame pairs of one grid size, run a slice at a time so that other work can
// go between. A slice takes at most some tens of milliseconds on two cores (a picture of over 10,000
// patches: a head's attention, in the time that takes).
typedef struct tower_job tower_job;

// patches [pairs * grid.h * grid.w, row], host memory (borrowed until the job is destroyed);
// grid->t = pairs. features [pairs * grid.h * grid.w / merge^2, out_hidden] and deepstack[i] alike are
// backend memory, written by the time the job is done (as kernels/memory.h means it); they belong to
// the caller. SIGHT_E_MEMORY, SIGHT_E_ARGUMENT (a grid that cannot be).
sight_err tower_job_create(tower_job **out, tower *t, const float *patches,
                           const vision_grid *grid, float *features, float *const *deepstack);
// The same for patches that are in backend memory already.
sight_err tower_job_create_placed(tower_job **out, tower *t, const float *patches,
                                  const vision_grid *grid, float *features,
                                  float *const *deepstack);
// Runs at least one slice, and more until about most_ops arithmetic operations are done; *done says
// when features are complete. They are the same bits however the work is cut.
sight_err tower_job_run(tower_job *job, double most_ops, bool *done);
void tower_job_destroy(tower_job **job); // accepts NULL; leaves NULL

// All at once.
sight_err tower_encode(tower *t, const float *patches, const vision_grid *grid, float *features,
                       float *const *deepstack);
sight_err tower_encode_placed(tower *t, const float *patches, const vision_grid *grid,
                              float *features, float *const *deepstack);

// Bytes of backend memory for the workspace that an encode of that grid takes at its peak, for plans.
int64_t tower_workspace_bytes(const tower *t, const vision_grid *grid);

#endif
