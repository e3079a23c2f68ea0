// kernels/output.h - the output layer in planes: a coarse look at every row, a finer one at some.
//
// The head [M, K] is kept a second time in 8 bits, cut in two: the high halves of the codes, which
// a scan over all rows streams, and the low halves, read only for rows that the scan could not rule out. Both
// looks give a value and how far it may be off from what op_linear gives for the stored head: a
// bound, not an estimate (docs/KERNELS.md, "The output layer").
//
// An element of row m and input k, in its group of 32 inputs g:
//
//     w[m, k] = unit[m] * scale[m, g] * (16 high[m, k] + low[m, k]) + rest
//
// high and low are -8 to 7, kept plus 8; scale is -127 to 127. In memory:
//   high   panels of 16 rows as in kernels/packed.h: a 64-byte line holds two quads of inputs of 16 rows, the
//          first in the low halves of its bytes
//   scale  [panel][groups][16]
//   unit   [rows]
//   slack  [rows] two bf16: what the bound takes per unit of the input's norm (upper half) and of
//          its rounding (lower half), at the first look
//   low    a record of each row: lines of 64 bytes, the first 64 of 128 inputs in the low halves; the row's scales;
//          then float unit, and slack of the second look
//
// Threads: planes are plain data; the ops as in kernels/ops.h.
#ifndef SIGHT_KERNELS_OUTPUT_H
#define SIGHT_KERNELS_OUTPUT_H

#include "kernels/ops.h"

#define OUTPUT_PANEL 16
#define OUTPUT_GROUP 32
#define OUTPUT_LINE 128   // inputs in a line of the low plane; K counts as the next multiple
#define OUTPUT_MAX_ROWS 8 // of x in one scan

typedef struct output_planes {
    int64_t M, K;
    const uint8_t *high;
    const int8_t *scale;
    const float *unit;
    const uint32_t *slack;
    const uint8_t *low;
} output_planes;

// What stands behind the codes and scales of a low record.
typedef struct output_tail {
    float unit;
    float norm_slack, error_slack;
} output_tail;

static inline int64_t output_width(int64_t K)
{
    return (K + OUTPUT_LINE - 1) / OUTPUT_LINE * OUTPUT_LINE;
}

static inline int64_t output_groups(int64_t K) // a multiple of 4
{
    return output_width(K) / OUTPUT_GROUP;
}

static inline int64_t output_panels(int64_t M)
{
    return (M + OUTPUT_PANEL - 1) / OUTPUT_PANEL;
}

static inline int64_t output_rows(int64_t M) // with the padding of the last panel
{
    return output_panels(M) * OUTPUT_PANEL;
}

static inline int64_t output_record_bytes(int64_t K)
{
    const int64_t bytes = output_width(K) / 2 + output_groups(K) + (int64_t)sizeof(output_tail);
    return (bytes + 63) / 64 * 64;
}

// Bytes of the block that holds the planes of a head [M, K]; 64-byte aligned.
size_t output_planes_bytes(int64_t M, int64_t K);
// Points the planes into such a block, filled (op_output_make) or to be.
void output_planes_init(output_planes *out, int64_t M, int64_t K, const void *block);

// A row of inputs as the scans read it: bytes by groups of 32, and what rounding it to bytes left.
// Arrays are padded with zeros to whole lines, and to 16 groups.
typedef struct output_x {
    const int8_t *q;    // [width]: x = scale q + error
    const float *scale; // [groups]
    const int32_t *start; // [groups]: -8 times the sum of q, for codes kept plus 8
    const float *offset; // the same
    const float *norm;  // [groups]: of scale q, not less
    const float *error; // [groups]: norm of what q leaves, not less
    bool whole;         // q leaves nothing: error is 0
} output_x;

size_t output_x_bytes(int64_t K); // of the block behind one row's arrays; 64-byte aligned

// Fills the planes of a head without bias. false: it holds a weight that is not finite, or beyond 1e12, and
// the planes are of no use.
bool op_output_make(kernels *k, const output_planes *to, const weight *head);
// The row x [K] as op_linear multiplies it with that head. false: it holds a number that is not
// finite, or beyond 1e12, and only the full product will do.
bool op_output_read(kernels *k, output_x *out, void *block, const float *x, const weight *head);

// What is known of the logits of one row of x. Rows past M are 0.
typedef struct output_look {
    float *value, *bound; // [output_rows(M)]: op_linear gives value but for at most bound
    float *peak, *reach;  // [output_panels(M)]: the greatest value, and value + bound, of a panel
} output_look;

// The first look at all rows of the head, for N <= OUTPUT_MAX_ROWS rows of x.
void op_output_scan(kernels *k, const output_look *looks, const output_planes *p, const output_x *x,
                    int64_t N);
// Up to so many rows of x a scan takes as long as reading the planes; more take their part longer.
int64_t op_output_scan_rows(const kernels *k);
// The second look at rows ids[n] (each once): value and bound, as the scan left them for x, become
// closer. Leaves the panels' numbers.
void op_output_refine(kernels *k, const output_look *look, const output_planes *p,
                      const output_x *x, const int32_t *ids, int64_t n);

// Whether planes of this head are worth their memory: it is big and in more than half a byte per
// weight, and products are not exact. Never on a device: op_pick_logits is there.
bool op_output_pays(const kernels *k, const weight *head);

#endif
