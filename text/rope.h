// text/rope.h - the table of rotary frequencies with which op_rope_angles makes angles of positions.
//
// Threads: those of the kernels object.
#ifndef SIGHT_TEXT_ROPE_H
#define SIGHT_TEXT_ROPE_H

#include "base/err.h"
#include "checkpoint/config.h"
#include "kernels/ops.h"

// R: how many components of a head are rotated.
static inline int32_t rope_rotary(const text_config *c)
{
    return (int32_t)(c->head_dim * c->rope.partial_rotary_factor);
}

// Its arrays are backend memory. SIGHT_E_MEMORY.
sight_err rope_create(rope_table *out, kernels *k, const text_config *config);
void rope_destroy(rope_table *t, kernels *k); // zeroed is fine; leaves it so

#endif
