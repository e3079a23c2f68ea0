// kernels/cuda/packed_mid.cu - products of 1 to 64 rows with packed weights on the tensor cores: decoding, drafts being
// checked, steps of many sequences. linear_mid.h says why a row's result is its own.
//
// Must move the codes and scales once. Codes less their offset, table entries and E4M3 numbers are bf16 numbers as they are:
// they meet the rows unscaled, a group's (or 32 inputs') sum at a time, which the scale then meets in float32. So weights
// are not rounded, and a scale costs 4 multiply-adds a lane, tile and 16 or 32 inputs. Minima meet sums of the rows
// themselves, which an operand of ones gives.
//
// A panel's 16 rows are an operand's: lane (group, t) has the neighbours 2 group and 2 group + 1, of which a line's words lie
// side by side (a warp's loads are 256 bytes in one piece, 128 with 4 bits), and of every 16 inputs the four from 4 t on. Turning codes takes
// some 3 operations a weight, so that 4-bit codes stream at over half of the memory's speed up to 8 rows.
#include "kernels/cuda/linear_mid.h"
#include "kernels/cuda/packed_dev.h"

#define PM_UNIT  16   // inputs of an instruction
#define PM_UNITS (MID_STEP / PM_UNIT)
#define PM_ONES  0x3f803f80u
#define PM_ANY   3    // scales of any form; beside PACKED_SCALES_F16 and on

// Scales of two neighbouring rows in a group as they are fetched: what is turned into numbers only when it is needed takes
// fewer registers on its way. Kernels of few rows, which have many fetches under way, are made for each form.
template <int scales> struct pm_scales;

template <> struct pm_scales<PACKED_SCALES_F16> {
    uint32_t two;

    __device__ __forceinline__ void fetch(const packed_matrix &, const packed_row &row, int g)
    {
        two = *reinterpret_cast<const uint32_t *>(row.scales + g * (2 * PANEL));
    }
    __device__ __forceinline__ void turn(float scale[2], float[2], const packed_matrix &w) const
    {
        scale[0] = w.factor * linear_half(two & 0xffffu);
        scale[1] = w.factor * linear_half(two >> 16);
    }
};

template <> struct pm_scales<PACKED_SCALES_F32> {
    float2 two;

    __device__ __forceinline__ void fetch(const packed_matrix &, const packed_row &row, int g)
    {
        two = *reinterpret_cast<const float2 *>(row.scales + g * (4 * PANEL));
    }
    __device__ __forceinline__ void turn(float scale[2], float[2], const packed_matrix &w) const
    {
        scale[0] = w.factor * two.x;
        scale[1] = w.factor * two.y;
    }
};

template <> struct pm_scales<PACKED_SCALES_BYTES> {
    uint32_t bytes; // scales below, minima above
    float2 super, super_min;

    __device__ __forceinline__ void fetch(const packed_matrix &w, const packed_row &row, int g)
    {
        const int at = packed_super(w, g) * PANEL;
        bytes = *reinterpret_cast<const uint16_t *>(row.scales + g * PANEL);
        super = *reinterpret_cast<const float2 *>(row.super + at);
        super_min = make_float2(0, 0);
        if (!w.has_min) return;
        bytes |= (uint32_t)*reinterpret_cast<const uint16_t *>(row.mins + g * PANEL) << 16;
        super_min = *reinterpret_cast<const float2 *>(row.super_min + at);
    }
    __device__ __forceinline__ void turn(float scale[2], float shift[2], const packed_matrix &w) const
    {
        const uint32_t turned = w.signed_sub ? bytes ^ 0x8080u : bytes; // a signed byte plus 128
        const float centre = w.signed_sub ? 128.0f : 0.0f;
        scale[0] = super.x * packed_byte(turned, 0, centre);
        scale[1] = super.y * packed_byte(turned, 1, centre);
        shift[0] = super_min.x * packed_byte(bytes, 2, 0);
        shift[1] = super_min.y * packed_byte(bytes, 3, 0);
    }
};

template <> struct pm_scales<PM_ANY> {
    float scale_of[2], shift_of[2];

    template <int form>
    __device__ __forceinline__ void fetch_as(const packed_matrix &w, const packed_row &row, int g)
    {
        pm_scales<form> s;
        s.fetch(w, row, g);
        s.turn(scale_of, shift_of, w);
    }
    __device__ __forceinline__ void fetch(const packed_matrix &w, const packed_row &row, int g)
    {
        shift_of[0] = shift_of[1] = 0;
        if (w.scales == PACKED_SCALES_F16) fetch_as<PACKED_SCALES_F16>(w, row, g);
        else if (w.scales == PACKED_SCALES_F32) fetch_as<PACKED_SCALES_F32>(w, row, g);
        else fetch_as<PACKED_SCALES_BYTES>(w, row, g);
    }
    __device__ __forceinline__ void turn(float scale[2], float shift[2], const packed_matrix &) const
    {
        for (int i = 0; i < 2; i++) {
            scale[i] = scale_of[i];
            shift[i] = shift_of[i];
        }
    }
};

// A lane's part of 16 inputs of a panel: words of two neighbouring rows, and their scales.
template <int scales> struct pm_unit {
    uint2 words;
    pm_scales<scales> s;
};

// The unit from input k on, whose words are at `words`; past the panel's end one that adds nothing, as rows are 0 there.
template <int scales>
static __device__ __forceinline__ void pm_load(pm_unit<scales> *u, const packed_matrix &w, const uint32_t *words,
                                               const packed_row &row, int k)
{
    *u = {};
    if (k >= w.groups << w.group_shift) return;
    u->words = *reinterpret_cast<const uint2 *>(words);
    u->s.fetch(w, row, k >> w.group_shift);
}

// Four codes of a row as two pairs of bf16 numbers, exact. Of 4 bits a word holds eight: lanes with an odd t take the last four.
template <int kind>
static __device__ __forceinline__ void pm_numbers(uint32_t out[2], uint32_t word, float offset, const uint32_t table[4])
{
    float v[8];
    const bool four_bits = packed_line<kind>::inputs == 8;
    packed_numbers<kind>(v, four_bits ? word >> 4 * (threadIdx.x & 1) & 0x0f0f0f0fu : word, offset, table);
    out[0] = linear_pair(v[0], v[1]);
    out[1] = linear_pair(v[2], v[3]);
}

// sum += a unit's products, or both units' of one group, with their scale.
static __device__ __forceinline__ void pm_scale(float sum[4], const float part[4], const float scale[2])
{
#pragma unroll
    for (int i = 0; i < 4; i++)
        sum[i] = fmaf(scale[i / 2], part[i], sum[i]);
}

// A step of 16 outputs and 32 inputs times 8 rows.
template <int scales>
static __device__ __forceinline__ void pm_tile(float sum[4], const uint32_t (*a)[4], const uint4 *x,
                                               const pm_unit<scales> *u, const packed_matrix &w)
{
    const uint32_t ones[4] = {PM_ONES, PM_ONES, PM_ONES, PM_ONES};
    const bool apart = w.group_shift == 4, has_min = scales >= PACKED_SCALES_BYTES && w.has_min;
    float part[4] = {}, all[4] = {};
#pragma unroll
    for (int i = 0; i < PM_UNITS; i++) {
        const uint32_t high[2] = {x[i].x, x[i].y}, low[2] = {x[i].z, x[i].w};
        mma_bf16(part, a[i], high);
        mma_bf16(part, a[i], low);
        if (has_min) {
            mma_bf16(all, ones, high);
            mma_bf16(all, ones, low);
        }
        if (i + 1 < PM_UNITS && !apart) continue;
        float scale[2], shift[2];
        u[i].s.turn(scale, shift, w);
        pm_scale(sum, part, scale);
        if (has_min) {
            const float less[2] = {-shift[0], -shift[1]};
            pm_scale(sum, all, less);
        }
#pragma unroll
        for (int j = 0; j < 4; j++)
            part[j] = all[j] = 0;
    }
}

// Steps loaded at once.
template <int kind, int scales> struct pm_ahead {
    static const int count = scales != PACKED_SCALES_BYTES ? 4 : kind == PACKED_KIND_TABLE ? 2 : 3;
};

// This warp's steps over a panel of one matrix.
template <int kind, int scales, int tiles, bool raw>
static __device__ __forceinline__ void pm_panel(float (*sum)[4], float *squares, const packed_matrix &w,
                                                const mid_rows &rows, int64_t panel)
{
    const int ahead = pm_ahead<kind, scales>::count, inputs = packed_line<kind>::inputs, K = (int)rows.K;
    const int warp = (int)threadIdx.x / GPU_WARP, group = (int)threadIdx.x % GPU_WARP / 4, t = (int)threadIdx.x % 4;
    const uint32_t *codes = reinterpret_cast<const uint32_t *>(w.codes + panel * packed_panel_bytes(w)) + 2 * group +
                            4 * t / inputs * 16;
    const packed_row row = packed_row_of(w, panel, 2 * group);
    uint32_t table[4] = {};
    if (kind == PACKED_KIND_TABLE) packed_table(table, w);
    for (int s = warp * MID_STEP; s < K; s += ahead * MID_ALL) {
        pm_unit<scales> u[ahead][PM_UNITS];
        const uint32_t *words = codes + (int64_t)s / inputs * 16;
#pragma unroll
        for (int i = 0; i < ahead * PM_UNITS; i++) {
            const int k = i / PM_UNITS * MID_ALL + i % PM_UNITS * PM_UNIT;
            pm_load(&u[i / PM_UNITS][i % PM_UNITS], w, words + k / inputs * 16, row, s + k);
        }
#pragma unroll
        for (int i = 0; i < ahead; i++) {
            const int first = s + i * MID_ALL;
            if (first >= K) break;
            uint32_t a[PM_UNITS][4];
#pragma unroll
            for (int j = 0; j < PM_UNITS; j++) {
                uint32_t even[2], odd[2];
                pm_numbers<kind>(even, u[i][j].words.x, (float)w.offset, table);
                pm_numbers<kind>(odd, u[i][j].words.y, (float)w.offset, table);
                a[j][0] = even[0], a[j][1] = odd[0], a[j][2] = even[1], a[j][3] = odd[1];
            }
#pragma unroll
            for (int tile = 0; tile < tiles; tile++) {
                uint4 x[PM_UNITS];
                const int64_t n = mid_row(rows, tile);
#pragma unroll
                for (int j = 0; j < PM_UNITS; j++)
                    x[j] = mid_x<raw>(squares, rows, n, first + j * PM_UNIT + 4 * t);
                pm_tile<scales>(sum[tile], a, x, u[i], w);
            }
        }
    }
}

// A block is a panel; with a gated product of gate, and the same of up.
template <int kind, int scales, int tiles, bool gated>
static __global__ void __launch_bounds__(MID_THREADS, tiles <= 2 ? 2 : 1) packed_mid_kernel(packed_args a)
{
    const bool raw = tiles == 1;
    int64_t panel = blockIdx.x;
    const packed_job &job = a.jobs[packed_find(a, &panel, PANEL)];
    const mid_rows rows = {reinterpret_cast<const float *>(a.x), a.norm, reinterpret_cast<const uint4 *>(a.x), a.N, a.K,
                           (a.K + MID_STEP - 1) / MID_STEP * MID_FOURS, (bool)a.wide};
    float sum[1 + gated][tiles][4] = {}, squares = 0, again = 0;
    pm_panel<kind, scales, tiles, raw>(sum[0], &squares, job.w, rows, panel);
    if (gated) pm_panel<kind, scales, tiles, raw>(sum[gated], &again, a.jobs[1].w, rows, panel);
    const mid_scale scale = {a.scales, squares, a.norm != NULL, a.eps};
    mid_finish<tiles, 1 + gated, raw, true>(sum, rows, scale, gated, [&](int n, int r, float total, float up) {
        const int64_t m = panel * PANEL + r;
        if (m < job.w.M) packed_end(a, job, n, m, total, up);
    });
}

template <int kind, int scales, int tiles> static void pm_rows(cudaStream_t stream, const packed_args *a)
{
    const dim3 grid((unsigned)packed_blocks(a, PANEL)), block(MID_THREADS);
    if (a->mode == LINEAR_MODE_SILU_MUL)
        GPU_LAUNCH((packed_mid_kernel<kind, scales, tiles, true>), grid, block, 0, stream, *a);
    else
        GPU_LAUNCH((packed_mid_kernel<kind, scales, tiles, false>), grid, block, 0, stream, *a);
}

template <int kind, int tiles> static void pm_few_rows(cudaStream_t stream, const packed_args *a)
{
    const int scales = a->jobs[0].w.scales; // of all
    if (scales == PACKED_SCALES_F16)
        pm_rows<kind, PACKED_SCALES_F16, tiles>(stream, a);
    else if (scales == PACKED_SCALES_F32)
        pm_rows<kind, PACKED_SCALES_F32, tiles>(stream, a);
    else
        pm_rows<kind, PACKED_SCALES_BYTES, tiles>(stream, a);
}

template <int kind> static void pm_launch(cudaStream_t stream, const packed_args *a)
{
    if (a->N <= LINEAR_RAW_ROWS)
        pm_few_rows<kind, 1>(stream, a);
    else if (a->N <= 16)
        pm_few_rows<kind, 2>(stream, a);
    else if (a->N <= 32)
        pm_rows<kind, PM_ANY, 4>(stream, a);
    else
        pm_rows<kind, PM_ANY, 8>(stream, a);
}

extern "C" void launch_packed_mid(cudaStream_t stream, const void *args)
{
    const packed_args *a = (const packed_args *)args;
    if (a->kind == PACKED_KIND_8)
        pm_launch<PACKED_KIND_8>(stream, a);
    else if (a->kind == PACKED_KIND_F8)
        pm_launch<PACKED_KIND_F8>(stream, a);
    else if (a->kind == PACKED_KIND_4)
        pm_launch<PACKED_KIND_4>(stream, a);
    else
        pm_launch<PACKED_KIND_TABLE>(stream, a);
}
