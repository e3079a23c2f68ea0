// kernels/cuda/packed_dev.h - codes and scales of packed matrices in kernels. For packed_*.cu.
#ifndef SIGHT_KERNELS_CUDA_PACKED_DEV_H
#define SIGHT_KERNELS_CUDA_PACKED_DEV_H

#include "kernels/cuda/linear_dev.h"
#include "kernels/cuda/packed.h"

#define PANEL 16 // rows, as PACKED_PANEL

// Inputs of a line.
template <int kind> struct packed_line {
    static const int inputs = kind == PACKED_KIND_8 || kind == PACKED_KIND_F8 ? 4 : 8;
};

static __device__ __forceinline__ int packed_inputs(int kind)
{
    return kind == PACKED_KIND_8 || kind == PACKED_KIND_F8 ? 4 : 8;
}

// Bytes of a panel's codes.
static __device__ __forceinline__ int64_t packed_panel_bytes(const packed_matrix &w)
{
    return ((int64_t)w.groups << w.group_shift) / packed_inputs(w.kind) * 64;
}

// Byte i of u less `offset` (0 to 255 both) as a float: it becomes the last bits of 2^23 + v.
// Exact.
static __device__ __forceinline__ float packed_byte(uint32_t u, int i, float offset)
{
    return __uint_as_float(__byte_perm(u, 0x4b000000u, 0x7540u | (uint32_t)i)) -
           (8388608.0f + offset);
}

// E4M3 in the upper bits of a float is 2^120 too small and otherwise right, subnormal numbers too.
static __device__ __forceinline__ float packed_f8(uint32_t b)
{
    const float v = __uint_as_float((b & 0x80u) << 24 | (b & 0x7fu) << 20) * 1.329227995784916e36f;
    return (b & 0x7fu) == 0x7fu ? __uint_as_float(0x7fc00000u) : v;
}

// Entries of the table for the four bytes of u: out[i] has the low and the high half of byte 2 i,
// then of the next.
static __device__ __forceinline__ void packed_look(uint32_t out[2], uint32_t u,
                                                   const uint32_t table[4])
{
    // __byte_perm takes its bytes by four selectors of 4 bits, of which 3 count: bit 3 chooses
    // between two of them.
    const uint32_t low = u & 0x77777777u, pick = (u & 0x88888888u) >> 1 | 0x32103210u;
    for (int i = 0; i < 2; i++) {
        const uint32_t first = __byte_perm(table[0], table[1], low >> 16 * i);
        const uint32_t second = __byte_perm(table[2], table[3], low >> 16 * i);
        out[i] = __byte_perm(first, second, pick >> 16 * i);
    }
}

// The numbers of one row's word of a line, before scales: 4 or 8 neighbouring inputs.
template <int kind>
static __device__ __forceinline__ void packed_numbers(float *out, uint32_t u, float offset,
                                                      const uint32_t table[4])
{
    if (kind == PACKED_KIND_F8) {
        for (int i = 0; i < 4; i++)
            out[i] = packed_f8(u >> 8 * i & 255u);
        return;
    }
    if (kind == PACKED_KIND_8) {
        for (int i = 0; i < 4; i++)
            out[i] = packed_byte(u, i, offset);
        return;
    }
    uint32_t half[2];
    if (kind == PACKED_KIND_TABLE) {
        packed_look(half, u, table);
        for (int i = 0; i < 8; i++)
            out[i] = packed_byte(half[i % 4 / 2], i % 2 * 2 + i / 4, offset);
        return;
    }
    half[0] = u & 0x0f0f0f0fu;
    half[1] = u >> 4 & 0x0f0f0f0fu;
    for (int i = 0; i < packed_line<kind>::inputs; i++)
        out[i] = packed_byte(half[i / 4], i % 4, offset);
}

static __device__ __forceinline__ void packed_table(uint32_t out[4], const packed_matrix &w)
{
    for (int i = 0; i < 4; i++) {
        out[i] = (uint32_t)w.table[4 * i] | (uint32_t)w.table[4 * i + 1] << 8 |
                 (uint32_t)w.table[4 * i + 2] << 16 | (uint32_t)w.table[4 * i + 3] << 24;
    }
}

// ---- scales ----

// Where those of a panel's row stand, that of its first group.
typedef struct packed_row {
    const uint8_t *scales, *mins;
    const float *super, *super_min;
} packed_row;

static __device__ __forceinline__ packed_row packed_row_of(const packed_matrix &w, int64_t panel,
                                                           int r)
{
    const int64_t at = panel * w.groups * PANEL + r, super = panel * w.supers * PANEL + r;
    const int bytes = w.scales == PACKED_SCALES_BYTES ? 1 : w.scales == PACKED_SCALES_F16 ? 2 : 4;
    packed_row row;
    row.scales = w.codes + (int64_t)w.scales_at * 64 + at * bytes;
    row.mins = w.codes + (int64_t)w.mins_at * 64 + at;
    row.super = reinterpret_cast<const float *>(w.codes + (int64_t)w.super_at * 64) + super;
    row.super_min = reinterpret_cast<const float *>(w.codes + (int64_t)w.super_min_at * 64) + super;
    return row;
}

static __device__ __forceinline__ int packed_super(const packed_matrix &w, int g)
{
    return w.super_magic ? (int)__umulhi((uint32_t)g, w.super_magic) : g;
}

// Scales and shifts of rows r .. r + 3 (r a multiple of 4) of a panel in group g. Without minima
// shifts are 0.
static __device__ __forceinline__ void
packed_scales(float scale[4], float shift[4], const packed_matrix &w, const packed_row &row, int g)
{
    for (int i = 0; i < 4; i++)
        shift[i] = 0;
    if (w.scales == PACKED_SCALES_F16) {
        const uint2 v = *reinterpret_cast<const uint2 *>(row.scales + g * (2 * PANEL));
        scale[0] = w.factor * linear_half(v.x & 0xffffu);
        scale[1] = w.factor * linear_half(v.x >> 16);
        scale[2] = w.factor * linear_half(v.y & 0xffffu);
        scale[3] = w.factor * linear_half(v.y >> 16);
        return;
    }
    if (w.scales == PACKED_SCALES_F32) {
        const float4 v = *reinterpret_cast<const float4 *>(row.scales + g * (4 * PANEL));
        scale[0] = w.factor * v.x;
        scale[1] = w.factor * v.y;
        scale[2] = w.factor * v.z;
        scale[3] = w.factor * v.w;
        return;
    }
    const int super = packed_super(w, g) * PANEL;
    const uint32_t sub = *reinterpret_cast<const uint32_t *>(row.scales + g * PANEL);
    const float4 v = *reinterpret_cast<const float4 *>(row.super + super);
    const float s[4] = {v.x, v.y, v.z, v.w};
    // A signed byte plus 128 is its bits with the sign turned.
    const uint32_t turned = w.signed_sub ? sub ^ 0x80808080u : sub;
    const float centre = w.signed_sub ? 128.0f : 0.0f;
    for (int i = 0; i < 4; i++)
        scale[i] = s[i] * packed_byte(turned, i, centre);
    if (!w.has_min) return;
    const uint32_t mins = *reinterpret_cast<const uint32_t *>(row.mins + g * PANEL);
    const float4 low = *reinterpret_cast<const float4 *>(row.super_min + super);
    const float l[4] = {low.x, low.y, low.z, low.w};
    for (int i = 0; i < 4; i++)
        shift[i] = l[i] * packed_byte(mins, i, 0);
}

// The same of one row.
static __device__ __forceinline__ float packed_scale(float *shift, const packed_matrix &w,
                                                     const packed_row &row, int g)
{
    *shift = 0;
    if (w.scales == PACKED_SCALES_F16) {
        return w.factor * linear_half(reinterpret_cast<const uint16_t *>(row.scales)[g * PANEL]);
    }
    if (w.scales == PACKED_SCALES_F32)
        return w.factor * reinterpret_cast<const float *>(row.scales)[g * PANEL];
    const int super = packed_super(w, g) * PANEL;
    const uint8_t byte = row.scales[g * PANEL];
    const float sub = w.signed_sub ? (float)(int8_t)byte : (float)byte;
    if (w.has_min) *shift = row.super_min[super] * (float)row.mins[g * PANEL];
    return row.super[super] * sub;
}

// ---- products ----

// Which job block `b` of a launch belongs to, and its number there; a block takes `rows` outputs.
static __device__ __forceinline__ int packed_find(const packed_args &a, int64_t *b, int rows)
{
    int j = 0;
    const int n = a.mode == LINEAR_MODE_SILU_MUL ? 1 : a.n_jobs;
    for (; j < n - 1; j++) {
        const int64_t blocks = (a.jobs[j].w.M + rows - 1) / rows;
        if (*b < blocks) break;
        *b -= blocks;
    }
    return j;
}

static inline int64_t packed_blocks(const packed_args *a, int rows)
{
    int64_t blocks = 0;
    const int n = a->mode == LINEAR_MODE_SILU_MUL ? 1 : a->n_jobs;
    for (int j = 0; j < n; j++)
        blocks += (a->jobs[j].w.M + rows - 1) / rows;
    return blocks;
}

// Output m of row n, as linear_end.
static __device__ __forceinline__ void packed_end(const packed_args &a, const packed_job &job,
                                                  int64_t n, int64_t m, float sum, float up)
{
    float *y = job.y + n * (int64_t)job.w.M + m;
    float v = sum + (job.bias ? job.bias[m] : 0.0f);
    if (a.mode == LINEAR_MODE_SILU_MUL) {
        const float *bias = a.jobs[1].bias;
        v = linear_silu(v) * (up + (bias ? bias[m] : 0.0f));
    } else if (a.mode == LINEAR_MODE_ADD) {
        v += *y;
    }
    *y = v;
}

#endif
