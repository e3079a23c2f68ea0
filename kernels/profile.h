// kernels/profile.h - where time goes: what each op took, moved and computed.
//
// Off unless asked for; then every op_* notes its time (two readings of the clock, some 50 ns), the
// bytes that it must move (weights, states and cache once, activations in and out) and its
// operations (a multiply-add counts two; what softmax, norms and gates compute besides is left out).
//
// Threads: that of the kernels object.
#ifndef SIGHT_KERNELS_PROFILE_H
#define SIGHT_KERNELS_PROFILE_H

#include <stdint.h>

#include "kernels/ops.h"

#define PROFILE_MAX_ROWS 32

typedef struct profile_row {
    const char *op; // static: "products bf16"
    int64_t calls;
    double seconds, bytes, operations;
} profile_row;

typedef struct profile {
    profile_row rows[PROFILE_MAX_ROWS]; // in order of first use
    int n;
    double seconds; // of the whole, by whoever measures: what the rows leave is outside of ops
} profile;

// From now on ops add to *p (NULL: to nothing), which is zeroed or continued, and outlives its use.
void kernels_set_profile(kernels *k, profile *p);

// Ops beyond PROFILE_MAX_ROWS names are added to the last row.
void profile_add(profile *p, const char *op, double seconds, double bytes, double operations);

// Rows in order of falling time.
void profile_sort(profile *p);

// What a product with w is called there.
const char *profile_product_name(const weight *w);
// Bytes that reading w once takes.
double profile_weight_bytes(const weight *w);

#endif
