// vision/tower_parts.h - what tower.c, tower_load.c and tower_grid.c share.
//
// Letters: N patches, D width of the tower, H heads of width C. Threads: as in tower.h.
#ifndef SIGHT_VISION_TOWER_PARTS_H
#define SIGHT_VISION_TOWER_PARTS_H

#include "vision/tower.h"

#define TOWER_MAX_HEAD 1024 // width of a head
#define TOWER_EPS 1e-6f // of every LayerNorm; no config names it

typedef struct tower_norm {
    float *w, *b;
} tower_norm;

typedef struct tower_block {
    tower_norm norm1, norm2;
    weight qkv, proj, fc1, fc2; // their biases are owned
} tower_block;

typedef struct tower_merger {
    tower_norm norm; // [D], or [D merge^2] for DeepStack's
    weight fc1, fc2;
} tower_merger;

struct tower {
    const vision_config *config; // the checkpoint's
    kernels *k;
    weight patch;     // the Conv3d as a matrix [D, channels temporal_patch patch^2]
    float *positions; // [side, side, D]
    int32_t side;
    tower_block *blocks;
    tower_merger merger, deepstack[CONFIG_MAX_DEEPSTACK];
};

// ---- tower_load.c ----

// What it has filled when it fails, tower_unload frees.
sight_err tower_load(tower *t, const checkpoint *c);
void tower_unload(tower *t);

// ---- tower_grid.c ----

// x [n, D] += the position table, bilinear with aligned corners, at patches first .. first + n - 1
// of pairs of h x w, in merge-block order.
void tower_add_positions(const tower *t, float *x, int64_t first, int64_t n, int32_t h, int32_t w);

// Angles of one frame pair for q, k and v alike: cos, sin [h w, 3, C / 2]; v is not turned.
void tower_angles(const tower *t, float *cos, float *sin, int32_t h, int32_t w);

#endif
