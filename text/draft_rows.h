// text/draft_rows.h - rows of a sequence that the MTP block has not seen yet.
//
// Each is a token's final hidden state, with what the block needs of the token itself: its id, or
// its visual feature. Only the last rows are kept, `window` of them at least. Threads: one at a
// time.
#ifndef SIGHT_TEXT_DRAFT_ROWS_H
#define SIGHT_TEXT_DRAFT_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "text/model.h"

// The last piece that draft_rows_take gives has at most so many rows.
#define DRAFT_LAST_ROWS 8

typedef struct draft_rows {
    kernels *k;
    int64_t width;  // D
    int64_t window; // the arrays have room for twice that
    int64_t first, n;
    float *hidden;      // [room, D], backend memory
    float *features;    // [room, D], rows of visual tokens, backend memory; NULL before the first
    int32_t *ids;       // [room]
    uint8_t *visual;    // [room]
    int32_t *positions; // [3][room]
} draft_rows;

// Borrows k. SIGHT_E_MEMORY.
sight_err draft_rows_init(draft_rows *r, kernels *k, int64_t width, int64_t window);
void draft_rows_done(draft_rows *r); // zeroed is fine

// Takes over the rows of a step, copying what matters of them. SIGHT_E_MEMORY.
sight_err draft_rows_add(draft_rows *r, const segment *s);
// n rows of text, fewer than the window, at successive positions.
void draft_rows_add_text(draft_rows *r, const float *hidden, const int32_t *ids, int32_t position,
                         int32_t n);

// The next rows for the block, at most `most`: *s gets n, hidden, what follows each row, and
// positions, all in here and valid until more is added. `next` is the id after the last row. false:
// none is left.
bool draft_rows_take(draft_rows *r, mtp_segment *s, int64_t most, int32_t next);

#endif
