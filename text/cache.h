// text/cache.h - what a sequence has seen: KV pages and delta-rule states.
//
// A pool owns all memory of one model's sequences, within a byte budget fixed at creation. Pages
// are shared between forks and snapshots by count and copied when written.
// Pages, states and records are backend memory (kernels/memory.h). Threads: the engine's only.
#ifndef SIGHT_TEXT_CACHE_H
#define SIGHT_TEXT_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "checkpoint/config.h"
#include "kernels/ops.h"

typedef struct cache_pool cache_pool;
typedef struct sequence sequence;

#define CACHE_PAGE_ROWS 64

typedef struct cache_options {
    tensor_type kv_type;  // TENSOR_BF16, TENSOR_I8 or TENSOR_F32 (trace)
    int64_t budget_bytes; // pages and states together; 0: no limit
    bool without_mtp;     // keep no KV for the MTP block's layer
    kernels *k; // of a device: all lies in its memory, and k outlives the pool. Else not used
} cache_options;

// A checkpoint with an MTP block also gets KV for that block's layer.
// SIGHT_E_ARGUMENT (kv_type), SIGHT_E_MEMORY.
sight_err cache_pool_create(cache_pool **out, const text_config *config,
                            const cache_options *options);
void cache_pool_destroy(cache_pool **p); // after its sequences; accepts NULL; leaves NULL

// The pools of a split model's ranks, n of them, as one: *out is the first rank's, and owns the others. What is done
// to a sequence of it from outside a step (created, forked, dropped, set aside for rewinding, kept as bytes) is done on
// every rank; a step works on the one of its rank (sequence_of_rank). configs: how each rank looks to itself; budget and
// bytes are one rank's. k [n] replaces options->k, and of no other rank may anything be under way in it meanwhile.
#define CACHE_MAX_PEERS 15
sight_err cache_pool_create_ranks(cache_pool **out, const text_config *const *configs, kernels *const *k, int32_t n,
                                  const cache_options *options);
sequence *sequence_of_rank(sequence *s, int32_t rank); // s itself for the first

// What a sequence of n tokens takes, and what is in use now.
int64_t cache_bytes(const cache_pool *p, int64_t n_tokens);
int64_t cache_bytes_used(const cache_pool *p);

// An empty sequence. SIGHT_E_MEMORY.
sight_err sequence_create(sequence **out, cache_pool *p);
void sequence_drop(sequence **s); // accepts NULL; leaves NULL
// A second sequence with the same past: pages shared, states copied. A snapshot is a fork that is
// kept and forked again. SIGHT_E_MEMORY.
sight_err sequence_fork(sequence **out, const sequence *s);
int64_t sequence_length(const sequence *s); // tokens seen
// From the first token on, how many rows lie in pages that both hold, of two of one pool.
int64_t sequence_shared_rows(const sequence *a, const sequence *b);

// A sequence that is kept for others: from now on what it holds, pages that no other kept one holds and its
// states, is what is returned, in bytes. Once for a sequence, which must not be written to before
// sequence_unkeep returns what is set free by that. sequence_drop does not undo it.
int64_t sequence_keep(sequence *s);
int64_t sequence_unkeep(sequence *s);

// Rows that the MTP block has seen, and forgetting the last of them (rejected drafts). Its KV can
// be cut, unlike the main model's states.
int64_t sequence_mtp_length(const sequence *s);
void sequence_cut_mtp(sequence *s, int64_t length); // length <= sequence_mtp_length

// ---- taking back rows of the last step (cache_rewind.c; text_model_rewind does the whole) ----

// Room for taking back a step of up to max_rows rows: a second set of states, and records of the
// rows. More than before: what could be taken back no longer can. A fork has no such room of its own.
// SIGHT_E_MEMORY.
sight_err sequence_allow_rewind(sequence *s, int32_t max_rows);
int32_t sequence_rewind_rows(const sequence *s); // 0: none
void sequence_forbid_rewind(sequence *s);        // gives that room back

// ---- for text/model.c: what a step writes to ----

// Makes rows first .. first + n - 1 of every layer this sequence's own to write: adds pages and
// copies shared ones. What the sequence holds does not change. SIGHT_E_MEMORY.
sight_err sequence_reserve(sequence *s, int64_t first, int64_t n);
// Gives back pages past the last row that was written, after a step that will not happen.
void sequence_trim(sequence *s);
void sequence_advance(sequence *s, int64_t n);
void sequence_advance_mtp(sequence *s, int64_t n);

bool sequence_has_mtp(const sequence *s);
// layer counts full-attention layers; that of the MTP block comes after the last of them.
// Valid until the next reserve or trim. On a device its table of blocks lies there too.
kv_view sequence_kv(const sequence *s, int32_t layer);
// layer counts linear-attention layers: the convolution's tail [conv_width - 1, channels], and the
// delta rule's state [value_heads, key_dim, value_dim].
float *sequence_conv(sequence *s, int32_t layer);
float *sequence_delta(sequence *s, int32_t layer);

// A step begins. With `rewindable` its states are written to the second set, which holds nothing yet: a
// layer begins with its part of the states before.
void sequence_mark(sequence *s, bool rewindable);
bool sequence_marked(const sequence *s); // the last step can be taken back
int64_t sequence_mark_length(const sequence *s); // before it
// Takes the whole step back; the records of its rows stay.
void sequence_return(sequence *s);
// A linear-attention layer's states before that step.
const float *sequence_conv_before(const sequence *s, int32_t layer);
const float *sequence_delta_before(const sequence *s, int32_t layer);

// What the rows of a step that can be taken back put into a linear-attention layer.
typedef struct layer_record {
    float *x;        // [rows, channels], into the convolution
    float *g, *beta; // [rows, value_heads]
} layer_record;

layer_record sequence_record(sequence *s, int32_t layer);

#endif
