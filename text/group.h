// text/group.h - a split model as one: its ranks behind the text_model of the first.
//
// What is asked of that model (text_model_step, text_model_mtp, text_model_rewind) is done by all ranks together,
// each in a thread of its own, the first in the caller's. Its sequences have those of the other ranks with them, so
// they come from a pool made here. Host memory is written, and features, deepstack and hidden rows are read and written,
// with the first rank alone: they are in its kernels' memory, from where the others get them.
//
// A step that a rank has no room for is taken by none, and says why. Any other failure of a rank is that of all: nothing
// waits for a rank that is gone, and text_model_status tells its sentence from then on.
//
// Threads: the model's. Between calls nothing of the other ranks is under way but what was asked of their devices.
#ifndef SIGHT_TEXT_GROUP_H
#define SIGHT_TEXT_GROUP_H

#include "text/model.h"

// A model over the devices of k [ranks], 2 or more, that outlive it: all on the CPU, or each on another GPU. Codes of
// collective_create and text_model_create_split. text_model_destroy ends it.
sight_err text_group_create(text_model **out, const checkpoint *c, kernels *const *k, int32_t ranks, int64_t max_rows);
// A pool for the sequences of any model: that of all ranks, or of one that is not split. options' k is not looked at.
// Codes of cache_pool_create.
sight_err text_group_pool(cache_pool **out, const text_model *m, const cache_options *options);

int32_t text_group_ranks(const text_model *m); // 1: not split
// Why sums of GPUs go by way of the host; NULL: they do not.
const char *text_group_relayed(const text_model *m);

#endif
