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

// What depends on a grid's size alone, in backend memory. Counted: jobs borrow it, and the tower keeps the last one,
// since pieces of a clip are alike.
typedef struct tower_tables {
    int refs;
    int32_t h, w;
    int64_t pairs;    // that rows and weights are for
    char *memory;     // the one allocation, which the rest points into
    float *cos, *sin; // [h w, 3, C / 2]: angles of one pair for q, k and v alike; v is not turned
    // Which rows of the position table are added to the patches of so many pairs, in merge-block order, and by
    // what weights: bilinear with aligned corners.
    int32_t *rows;    // [pairs h w, 4]
    float *weights;   // [pairs h w, 4]
} tower_tables;

struct tower {
    const vision_config *config; // the checkpoint's
    kernels *k;
    weight patch;     // the Conv3d as a matrix [D, channels temporal_patch patch^2]
    float *positions; // [side, side, D]
    int32_t side;
    tower_tables *tables; // of the last grid; NULL: none yet
    void *frequencies; // the memory that rope points into
    rope_table rope;   // of C / 2 frequencies: the first half turns with the row, the other with the column
    tower_block *blocks;
    tower_merger merger, deepstack[CONFIG_MAX_DEEPSTACK];
};

// ---- tower_load.c ----

// Brings weights where the tower's ops read them. What it has filled when it fails, tower_unload frees.
sight_err tower_load(tower *t, const checkpoint *c);
void tower_unload(tower *t);

// ---- tower_grid.c ----

// Fills frequencies and rope.
sight_err tower_make_frequencies(tower *t);

int64_t tower_tables_bytes(const tower *t, int64_t pairs, int32_t h, int32_t w);
// Those for that many pairs or more, made where the last ones do not do. SIGHT_E_MEMORY.
sight_err tower_tables_take(tower *t, tower_tables **out, int64_t pairs, int32_t h, int32_t w);
void tower_tables_drop(tower *t, tower_tables **tables); // accepts NULL; leaves NULL

#endif
