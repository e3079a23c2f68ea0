// kernels/cpu/output.h - one level's inner loops of the output layer, and what they share.
//
// Notation of docs/KERNELS.md: for a group, s is unit * scale, X the norm of the input's rounded
// part, E the norm of the rest. Row m's bound is unit (norm_slack sum |scale| X + error_slack sum
// |scale| E).
#ifndef SIGHT_KERNELS_CPU_OUTPUT_H
#define SIGHT_KERNELS_CPU_OUTPUT_H

#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/output.h"

// In every bound: more than what numbers too small for a float can lose.
#define OUTPUT_LEAST_BOUND 1e-30f

typedef struct output_kernels {
    // Writes row m of the planes from row [width]; room [2 width + 4 groups] is scratch.
    void (*make_row)(const output_planes *to, int64_t m, const float *row, uint8_t *room);
    // One panel of op_output_scan.
    void (*scan)(const output_look *looks, const output_planes *p, int64_t panel,
                 const output_x *x, int64_t N);
    // op_output_refine in one thread.
    void (*refine)(const output_look *look, const output_planes *p, const output_x *x,
                   const int32_t *ids, int64_t n);
    int64_t scan_rows; // op_output_scan_rows
} output_kernels;

static inline int64_t output_panel_bytes(int64_t K)
{
    return OUTPUT_PANEL * output_width(K) / 2;
}

static inline const uint8_t *output_record(const output_planes *p, int64_t m)
{
    return p->low + m * output_record_bytes(p->K);
}

static inline output_tail output_tail_of(const output_planes *p, int64_t m)
{
    output_tail t;
    memcpy(&t, output_record(p, m) + output_width(p->K) / 2 + output_groups(p->K), sizeof t);
    return t;
}

static inline float output_slack_float(uint32_t bits)
{
    union {
        uint32_t u;
        float f;
    } v = {bits};
    return v.f;
}

// A positive float in the upper half of its bits, not less than it was.
static inline uint32_t output_slack_up(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {f};
    return (v.u + 0xffff) & 0xffff0000;
}

// ---- the second look ----

// What it finds of row m: sums of the codes' products, of |scale| X and of |scale| E, in units of the row's.
static inline void output_put_second(const output_look *look, const output_planes *p, int64_t m, float sum, float norm,
                                     float error)
{
    const output_tail tail = output_tail_of(p, m);
    look->value[m] += tail.unit * sum;
    look->bound[m] = OUTPUT_LEAST_BOUND + tail.unit * (tail.norm_slack * norm + tail.error_slack * error);
}

// Group g's codes in its line of a record times q [OUTPUT_GROUP].
typedef int32_t output_group_dot(const uint8_t *line, int64_t g, const int8_t *q);

// output_kernels.refine group by group; dot is the level's own, inlined.
static inline __attribute__((always_inline)) void
output_refine_groups(const output_look *look, const output_planes *p, const output_x *x, const int32_t *ids, int64_t n,
                     output_group_dot *dot)
{
    const int64_t groups = output_groups(p->K);
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *line = output_record(p, ids[i]);
        const int8_t *scale = (const int8_t *)line + output_width(p->K) / 2;
        float sum = 0, norm = 0, error = 0;
        for (int64_t g = 0; g < groups; g++) {
            const float u = scale[g];
            const int32_t d = dot(line + g / 4 * 64, g, x->q + g * OUTPUT_GROUP);
            sum += ((float)d + x->offset[g]) * x->scale[g] * u;
            norm += fabsf(u) * x->norm[g];
            error += fabsf(u) * x->error[g];
        }
        output_put_second(look, p, ids[i], sum, norm, error);
    }
}

// ---- making a row, compiled with each level's flags ----

#define OUTPUT_LANES 8 // of sums, so that compilers make vector code

// What a row's groups have at most, in units of s: norms of the weights, and of what the high
// halves and both halves leave.
typedef struct output_norms {
    float weights, first, second;
} output_norms;

static inline float output_lanes_sum(const float *lanes)
{
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) +
           ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

static inline float output_greater(float a, float b) // fmaxf is a call
{
    return a > b ? a : b;
}

// The greatest positive and the greatest negative magnitude of a group.
static inline void output_extremes(const float *w, float *positive, float *negative)
{
    float up[OUTPUT_LANES] = {0}, down[OUTPUT_LANES] = {0};
    for (int i = 0; i < OUTPUT_GROUP; i += OUTPUT_LANES) {
        for (int l = 0; l < OUTPUT_LANES; l++) up[l] = output_greater(w[i + l], up[l]);
        for (int l = 0; l < OUTPUT_LANES; l++) down[l] = output_greater(-w[i + l], down[l]);
    }
    for (int half = OUTPUT_LANES / 2; half; half /= 2) {
        for (int l = 0; l < half; l++) up[l] = output_greater(up[l], up[l + half]);
        for (int l = 0; l < half; l++) down[l] = output_greater(down[l], down[l + half]);
    }
    *positive = up[0];
    *negative = down[0];
}

// The least s, signed, that keeps codes between -136 and 119: the side that reaches further gets
// the longer end.
static inline float output_least_scale(const float *w)
{
    float positive, negative;
    output_extremes(w, &positive, &negative);
    const float straight = output_greater(positive / 119, negative / 136);
    const float turned = output_greater(positive / 136, negative / 119);
    return turned < straight ? -turned : straight;
}

static inline float output_squares(const float *v)
{
    float lanes[OUTPUT_LANES] = {0};
    for (int i = 0; i < OUTPUT_GROUP; i += OUTPUT_LANES) {
        for (int l = 0; l < OUTPUT_LANES; l++) lanes[l] += v[i + l] * v[i + l];
    }
    return output_lanes_sum(lanes);
}

static inline void output_code_group(uint8_t *high, uint8_t *low, output_norms *most,
                                     const float *w, float inverse)
{
    const float to_integer = 12582912.0f; // 1.5 * 2^23
    float y[OUTPUT_GROUP], first[OUTPUT_GROUP], second[OUTPUT_GROUP];
    int32_t code[OUTPUT_GROUP]; // 0 to 255, of (high + 8) * 16 + low + 8
    for (int i = 0; i < OUTPUT_GROUP; i++) {
        y[i] = w[i] * inverse;
        float rounded = (y[i] + to_integer) - to_integer;
        rounded = rounded < 119.0f ? rounded : 119.0f;
        rounded = rounded > -136.0f ? rounded : -136.0f;
        second[i] = y[i] - rounded;
        code[i] = (int32_t)rounded + 136;
        first[i] = y[i] - (float)((code[i] & 240) - 128);
    }
    for (int i = 0; i < OUTPUT_GROUP; i++) high[i] = (uint8_t)(code[i] >> 4);
    for (int i = 0; i < OUTPUT_GROUP; i++) low[i] = (uint8_t)(code[i] & 15);
    most->weights = output_greater(most->weights, output_squares(y));
    most->first = output_greater(most->first, output_squares(first));
    most->second = output_greater(most->second, output_squares(second));
}

// The slack of both looks from the greatest norms (squared so far). Roundings, in units of s: of y
// (2e-4 over a group), of the looks' own sums, of the full product's sum in any order.
static inline void output_set_slack(const output_planes *to, int64_t m, output_norms n,
                                    output_tail *tail)
{
    const float up = 1.0001f;
    n.weights = sqrtf(n.weights) * up + 2e-4f;
    n.first = sqrtf(n.first) * up + 2e-4f;
    n.second = sqrtf(n.second) * up + 2e-4f;
    const float look = (float)(output_groups(to->K) + 64) * 0x1p-23f;
    const float full = (float)(to->K + 64) * 0x1p-24f * n.weights;
    const float first = look * (n.weights + n.first);
    const float second = 2 * look * (n.weights + n.first + 46); // 46: the low halves' norm
    tail->norm_slack = (n.second + full + second) * up;
    tail->error_slack = (n.weights + full) * up;
    ((uint32_t *)to->slack)[m] = output_slack_up((n.first + full + first) * up) |
                                 output_slack_up(tail->error_slack) >> 16;
}

// The bytes of a row's codes to their places in both planes.
static inline void output_place(const output_planes *to, int64_t m, const uint8_t *high,
                                const uint8_t *low)
{
    const int64_t width = output_width(to->K), r = m % OUTPUT_PANEL;
    uint8_t *panel = (uint8_t *)to->high + m / OUTPUT_PANEL * output_panel_bytes(to->K) + 4 * r;
    for (int64_t i = 0; i < width; i += 8, panel += 64) {
        uint32_t a, b;
        memcpy(&a, high + i, 4);
        memcpy(&b, high + i + 4, 4);
        a |= b << 4;
        memcpy(panel, &a, 4);
    }
    uint8_t *record = (uint8_t *)output_record(to, m);
    for (int64_t i = 0; i < width; i += OUTPUT_LINE, record += 64, low += OUTPUT_LINE) {
        for (int j = 0; j < 64; j++) record[j] = (uint8_t)(low[j] | low[64 + j] << 4);
    }
}

static inline void output_make_row(const output_planes *to, int64_t m, const float *row,
                                   uint8_t *room)
{
    const int64_t width = output_width(to->K), groups = output_groups(to->K);
    const int64_t panel = m / OUTPUT_PANEL, r = m % OUTPUT_PANEL;
    uint8_t *record = (uint8_t *)output_record(to, m);
    int8_t *scales = (int8_t *)to->scale + panel * groups * OUTPUT_PANEL + r;
    float *least = (float *)(void *)(room + 2 * width);
    output_norms most = {0};
    float largest = 0;
    for (int64_t g = 0; g < groups; g++) {
        least[g] = output_least_scale(row + g * OUTPUT_GROUP);
        largest = output_greater(largest, fabsf(least[g]));
    }
    // Some room for roundings of what follows; not so small that its inverse overflows.
    const float unit = largest > 0 ? output_greater(largest / 127 * 1.00001f, 1e-30f) : 0;
    for (int64_t g = 0; g < groups; g++) {
        const float steps = unit > 0 ? fminf(ceilf(fabsf(least[g]) / unit), 127) : 0;
        const float scale = least[g] < 0 ? -steps : steps;
        scales[g * OUTPUT_PANEL] = (int8_t)scale;
        record[width / 2 + g] = (uint8_t)(int8_t)scale;
        output_code_group(room + g * OUTPUT_GROUP, room + width + g * OUTPUT_GROUP, &most,
                          row + g * OUTPUT_GROUP, steps > 0 ? 1 / (unit * scale) : 0);
    }
    output_tail tail = {.unit = unit};
    output_set_slack(to, m, most, &tail);
    ((float *)to->unit)[m] = unit;
    output_place(to, m, room, room + width);
    memcpy(record + width / 2 + groups, &tail, sizeof tail);
}

#endif
