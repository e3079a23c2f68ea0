// kernels/cpu/positions_plain.c - what depends on where a row stands: rotary angles, and the position
// table's rows around a patch. Little work, so portable C does for every level.
#include <math.h>

#include "kernels/backend.h"

typedef struct angles_job {
    float *cos, *sin;
    const int32_t *positions;
    int64_t stride;
    const rope_table *table;
} angles_job;

static void angles_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const angles_job *j = arg;
    const rope_table *t = j->table;
    for (int64_t i = begin; i < end; i++) {
        for (int64_t f = 0; f < t->half; f++) {
            const float angle = (float)j->positions[t->axis[f] * j->stride + i] * t->inv[f];
            j->cos[i * t->half + f] = cosf(angle) * t->amplitude;
            j->sin[i * t->half + f] = sinf(angle) * t->amplitude;
        }
    }
}

static void plain_rope_angles(kernels *k, float *cosine, float *sine, const int32_t *positions,
                              int64_t stride, int64_t N, const rope_table *table)
{
    angles_job j = {cosine, sine, positions, stride, table};
    threads_for(k->pool, N, 64, angles_some, &j);
}

typedef struct taps_job {
    float *x;
    const float *table;
    const int32_t *rows;
    const float *weights;
    int64_t D;
} taps_job;

static void taps_some(void *arg, int64_t begin, int64_t end, int worker)
{
    const taps_job *j = arg;
    const int64_t D = j->D;
    for (int64_t i = begin; i < end; i++) {
        float *x = j->x + i * D;
        const int32_t *row = j->rows + 4 * i;
        const float *w = j->weights + 4 * i;
        const float *a = j->table + row[0] * D, *b = j->table + row[1] * D;
        const float *c = j->table + row[2] * D, *d = j->table + row[3] * D;
        for (int64_t n = 0; n < D; n++) x[n] += a[n] * w[0] + b[n] * w[1] + c[n] * w[2] + d[n] * w[3];
    }
}

static void plain_add_taps(kernels *k, float *x, const float *table, const int32_t *rows,
                           const float *weights, int64_t N, int64_t D)
{
    taps_job j = {x, table, rows, weights, D};
    threads_for(k->pool, N, 32, taps_some, &j);
}

void positions_plain_fill(backend_ops *ops)
{
    ops->rope_angles = plain_rope_angles;
    ops->add_taps = plain_add_taps;
}
