// What depends only on a grid's size: the interpolated position table and the rotary angles.
//
// Sources: transformers, vision_utils.py (interpolation indices and weights) and models/qwen3_vl
// (axial rotary embedding); float32 as there.
#include <math.h>
#include <stdlib.h>

#include "kernels/memory.h"
#include "vision/tower_parts.h"

// Rows whose angles are asked for at once: positions are handed over with the call.
#define ANGLE_ROWS 65536

// The two table rows (or columns) that patch i of n lies between, and the second one's weight.
typedef struct taps {
    int32_t low, high;
    float weight;
} taps;

static taps taps_at(int32_t i, int32_t n, int32_t side)
{
    float at = (float)i * (float)(side - 1) / (float)(n > 1 ? n - 1 : 1);
    int32_t low = (int32_t)floorf(at);
    taps t = {low, low + 1 < side ? low + 1 : side - 1, at - (float)low};
    return t;
}

// Patch i of a pair stands at this row and column: merge blocks in raster order, raster inside.
static void place(int64_t i, int32_t w, int32_t merge, int32_t *row, int32_t *column)
{
    int64_t block = i / (merge * merge), inside = i % (merge * merge);
    int32_t blocks_w = w / merge;
    *row = (int32_t)(block / blocks_w) * merge + (int32_t)(inside / merge);
    *column = (int32_t)(block % blocks_w) * merge + (int32_t)(inside % merge);
}

// ---- positions ----

typedef struct tapping {
    const tower *t;
    int32_t *rows;
    float *weights;
    int64_t span;
    int32_t h, w;
} tapping;

static void tap_pieces(void *arg, int64_t begin, int64_t end, int worker)
{
    const tapping *a = arg;
    const int32_t side = a->t->side;
    for (int64_t i = begin; i < end; i++) {
        int32_t y, x, *rows = a->rows + 4 * i;
        float *weights = a->weights + 4 * i;
        place(i % a->span, a->w, a->t->config->merge, &y, &x);
        const taps row = taps_at(y, a->h, side), column = taps_at(x, a->w, side);
        rows[0] = row.low * side + column.low;
        rows[1] = row.low * side + column.high;
        rows[2] = row.high * side + column.low;
        rows[3] = row.high * side + column.high;
        weights[0] = (1 - row.weight) * (1 - column.weight);
        weights[1] = (1 - row.weight) * column.weight;
        weights[2] = row.weight * (1 - column.weight);
        weights[3] = row.weight * column.weight;
    }
}

static sight_err write_taps(const tower *t, const tower_tables *to)
{
    const int64_t span = (int64_t)to->h * to->w, n = to->pairs * span;
    int32_t *host_rows = malloc(sizeof *host_rows * 4 * (size_t)n);
    float *host_weights = malloc(sizeof *host_weights * 4 * (size_t)n);
    sight_err err = SIGHT_OK;
    if (host_rows && host_weights) {
        tapping a = {t, host_rows, host_weights, span, to->h, to->w};
        kernels_rows(t->k, n, 256, tap_pieces, &a);
        kernels_write(t->k, to->rows, host_rows, sizeof *host_rows * 4 * (size_t)n);
        kernels_write(t->k, to->weights, host_weights, sizeof *host_weights * 4 * (size_t)n);
    } else {
        err = sight_fail(SIGHT_E_MEMORY, "no memory for the places of %lld patches", (long long)n);
    }
    free(host_rows);
    free(host_weights);
    return err;
}

// ---- angles ----

sight_err tower_make_frequencies(tower *t)
{
    const int64_t n = t->config->hidden / t->config->heads / 4;
    const float theta = (float)t->config->rope_theta;
    float inv[TOWER_MAX_HEAD / 2];
    int32_t axis[TOWER_MAX_HEAD / 2];
    for (int64_t f = 0; f < n; f++) {
        inv[f] = inv[n + f] = 1 / powf(theta, (float)f / (float)n);
        axis[f] = 0;
        axis[n + f] = 1;
    }
    const size_t bytes = (size_t)(2 * n) * sizeof *inv;
    char *block = NULL;
    sight_err err = kernels_alloc((void **)&block, t->k, 2 * bytes, "rotary frequencies");
    if (err) return err;
    kernels_write(t->k, block, inv, bytes);
    kernels_write(t->k, block + bytes, axis, bytes);
    t->frequencies = block;
    t->rope = (rope_table){(const float *)block, (const int32_t *)(block + bytes), 2 * n, 1};
    return SIGHT_OK;
}

// Rows q, k, v of each patch: v stands at 0, 0, so its angles are 0.
static void fill_places(int32_t *positions, int64_t stride, int64_t first, int64_t n, int32_t w,
                        int32_t merge)
{
    for (int64_t i = 0; i < n; i++) {
        int32_t row = 0, column = 0;
        if ((first + i) % 3 < 2) place((first + i) / 3, w, merge, &row, &column);
        positions[i] = row;
        positions[stride + i] = column;
        positions[2 * stride + i] = 0;
    }
}

static sight_err write_angles(const tower *t, const tower_tables *to)
{
    const int64_t all = 3 * (int64_t)to->h * to->w, most = all < ANGLE_ROWS ? all : ANGLE_ROWS;
    const int64_t half = t->rope.half;
    int32_t *positions = malloc(sizeof *positions * 3 * (size_t)most);
    if (!positions) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for the places of %lld patches",
                          (long long)to->h * to->w);
    }
    for (int64_t at = 0; at < all; at += most) {
        const int64_t n = all - at < most ? all - at : most;
        fill_places(positions, most, at, n, to->w, t->config->merge);
        op_rope_angles(t->k, to->cos + at * half, to->sin + at * half, positions, most, n, &t->rope);
    }
    free(positions);
    return SIGHT_OK;
}

// ---- both ----

static int64_t padded(int64_t floats)
{
    return (floats * (int64_t)sizeof(float) + 255) / 256 * 256;
}

int64_t tower_tables_bytes(const tower *t, int64_t pairs, int32_t h, int32_t w)
{
    const int64_t span = (int64_t)h * w;
    return 2 * padded(span * 3 * t->rope.half) + 2 * padded(pairs * span * 4);
}

static sight_err make_tables(const tower *t, tower_tables *to)
{
    const int64_t span = (int64_t)to->h * to->w;
    const int64_t angles = padded(span * 3 * t->rope.half), places = padded(to->pairs * span * 4);
    sight_err err = kernels_alloc((void **)&to->memory, t->k, (size_t)(2 * angles + 2 * places),
                                  "a grid's places");
    if (err) return err;
    to->cos = (float *)to->memory;
    to->sin = (float *)(to->memory + angles);
    to->rows = (int32_t *)(to->memory + 2 * angles);
    to->weights = (float *)(to->memory + 2 * angles + places);
    // Whole also when the request they are first for is cancelled: later ones take them.
    const atomic_bool *stop = kernels_set_stop(t->k, NULL);
    err = write_angles(t, to);
    if (!err) err = write_taps(t, to);
    kernels_set_stop(t->k, stop);
    return err;
}

sight_err tower_tables_take(tower *t, tower_tables **out, int64_t pairs, int32_t h, int32_t w)
{
    tower_tables *last = t->tables;
    if (last && last->h == h && last->w == w && last->pairs >= pairs) {
        last->refs++;
        *out = last;
        return SIGHT_OK;
    }
    tower_tables_drop(t, &t->tables); // first, so that both are never there for nothing
    tower_tables *made = calloc(1, sizeof *made);
    if (!made) return sight_fail(SIGHT_E_MEMORY, "no memory for a grid's places");
    *made = (tower_tables){.refs = 1, .h = h, .w = w, .pairs = pairs};
    sight_err err = make_tables(t, made);
    if (err) {
        tower_tables_drop(t, &made);
        return err;
    }
    made->refs = 2;
    *out = t->tables = made;
    return SIGHT_OK;
}

void tower_tables_drop(tower *t, tower_tables **tables)
{
    tower_tables *gone = *tables;
    *tables = NULL;
    if (!gone || --gone->refs > 0) return;
    kernels_free(t->k, gone->memory);
    free(gone);
}
