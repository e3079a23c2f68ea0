// The output layer's looks in portable C: what the other forms are tested against.
#include "kernels/cpu/output.h"

// Row r of a panel's line times the bytes of its two quads.
static int32_t line_dot(const uint8_t *line, const int8_t *q)
{
    int32_t sum = 0;
    for (int i = 0; i < 4; i++) sum += (line[i] & 15) * q[i] + (line[i] >> 4) * q[4 + i];
    return sum;
}

static void scan_row(const output_look *look, const output_planes *p, int64_t m,
                     const output_x *x)
{
    const int64_t panel = m / OUTPUT_PANEL, r = m % OUTPUT_PANEL, groups = output_groups(p->K);
    const uint8_t *line = p->high + panel * output_panel_bytes(p->K) + 4 * r;
    const int8_t *scale = p->scale + panel * groups * OUTPUT_PANEL + r;
    float sum = 0, norm = 0, error = 0;
    for (int64_t g = 0; g < groups; g++, scale += OUTPUT_PANEL) {
        int32_t dot = 0;
        for (int i = 0; i < 4; i++, line += 64) dot += line_dot(line, x->q + g * OUTPUT_GROUP + 8 * i);
        sum += ((float)dot + x->offset[g]) * x->scale[g] * (float)*scale;
        norm += fabsf((float)*scale) * x->norm[g];
        error += fabsf((float)*scale) * x->error[g];
    }
    const uint32_t slack = p->slack[m];
    look->value[m] = 16 * p->unit[m] * sum;
    look->bound[m] = OUTPUT_LEAST_BOUND +
                     p->unit[m] * (output_slack_float(slack & 0xffff0000) * norm +
                                   output_slack_float(slack << 16) * error);
}

static void scan(const output_look *looks, const output_planes *p, int64_t panel, const output_x *x,
                 int64_t N)
{
    for (int64_t n = 0; n < N; n++) {
        const output_look *l = &looks[n];
        float peak = -INFINITY, reach = -INFINITY;
        for (int64_t m = panel * OUTPUT_PANEL; m < (panel + 1) * OUTPUT_PANEL; m++) {
            scan_row(l, p, m, &x[n]);
            peak = fmaxf(peak, l->value[m]);
            reach = fmaxf(reach, l->value[m] + l->bound[m]);
        }
        l->peak[panel] = peak;
        l->reach[panel] = reach;
    }
}

static inline int32_t group_dot(const uint8_t *line, int64_t g, const int8_t *q)
{
    const uint8_t *codes = line + g % 2 * OUTPUT_GROUP;
    const int shift = g % 4 / 2 * 4;
    int32_t dot = 0;
    for (int j = 0; j < OUTPUT_GROUP; j++) dot += (codes[j] >> shift & 15) * q[j];
    return dot;
}

static void refine(const output_look *look, const output_planes *p, const output_x *x,
                   const int32_t *ids, int64_t n)
{
    output_refine_groups(look, p, x, ids, n, group_dot);
}

static const output_kernels plain_kernels = {output_make_row, scan, refine, 1};

void output_plain_fill(backend_ops *ops)
{
    ops->output = &plain_kernels;
}
