// kernels/cuda/frames.cu - a YUV 4:2:0 picture to normalised patch rows.
//
// A block makes 32 x tile_h outputs. Its warps take input rows in turns: pixels become RGB bytes in shared
// memory, then each lane filters for one output column, to a byte as Pillow rounds it. Then threads filter
// down these columns, and write floats where the tower reads them.
//
// Must read 1.5 bytes a pixel of the picture once, and write 12 bytes an output pixel: 1080p to 1088 x 800
// is 3 + 10 MB, 3 us at 4.3 TB/s. Blocks beside each other read the filter's reach twice (at a scale of 2 an eighth
// more of the rows and of the columns, from L2), and each pixel takes some 15 operations for its colour and
// 6 for each of its 4 taps an axis. So bound by arithmetic and latency in equal parts, and small beside
// decoding.
#include "kernels/cuda/frames.h"

#include "kernels/cuda/gpu.h"

// Samples of four neighbouring pixels of a row, packed: y0 y1 y2 y3, and two of u and v each.
typedef struct yuv4 {
    uint64_t y, u, v;
} yuv4;

template <typename word>
static __device__ __forceinline__ uint64_t load(const uint8_t *p, int64_t at)
{
    return *(const word *)(p + at);
}

// u0 v0 u1 v1 without what does not count: u0 u1.
template <bool WIDE>
static __device__ __forceinline__ uint64_t every_other(uint64_t x)
{
    if (WIDE) return (x & 0xffffu) | (x >> 16 & 0xffff0000u);
    return (x & 0xffu) | (x >> 8 & 0xff00u);
}

template <bool WIDE, bool PLANAR>
static __device__ __forceinline__ yuv4 read4(const frames_args &a, int row, int col)
{
    const int64_t y_at = row * a.y_pitch + (int64_t)col * (WIDE ? 2 : 1);
    const int64_t uv_at = (row / 2) * a.uv_pitch + (int64_t)(col / 2) * (WIDE ? 2 : 1) * (PLANAR ? 1 : 2);
    yuv4 p;
    p.y = WIDE ? load<uint64_t>(a.y, y_at) : load<uint32_t>(a.y, y_at);
    if (PLANAR) {
        p.u = WIDE ? load<uint32_t>(a.u, uv_at) : load<uint16_t>(a.u, uv_at);
        p.v = WIDE ? load<uint32_t>(a.v, uv_at) : load<uint16_t>(a.v, uv_at);
    } else {
        const uint64_t both = WIDE ? load<uint64_t>(a.u, uv_at) : load<uint32_t>(a.u, uv_at);
        p.u = every_other<WIDE>(both);
        p.v = every_other<WIDE>(both >> (WIDE ? 16 : 8));
    }
    return p;
}

// Pixels past the picture's edge, which nobody asks for, hold anything: they keep to their bits too.
template <bool WIDE>
static __device__ __forceinline__ int sample(const frames_args &a, uint64_t packed, int i)
{
    if (!WIDE) return (int)(packed >> 8 * i & 0xffu);
    return (int)(packed >> 16 * i & 0xffffu) >> a.shift & ((1 << a.bits) - 1);
}

static __device__ __forceinline__ uint32_t to_byte(int x)
{
    return (uint32_t)min(max(x, 0), 255);
}

// R, G, B in the lower three bytes. Coefficients are below 2^18: with 12 bits sums stay below 2^31.
static __device__ __forceinline__ uint32_t to_rgb(const frames_args &a, int y, int u, int v)
{
    const int shift = 8 + a.bits, middle = 1 << (a.bits - 1);
    const int luma = (y - (a.luma_zero << (a.bits - 8))) * a.luma_gain + (1 << (shift - 1));
    u -= middle;
    v -= middle;
    const uint32_t r = to_byte((luma + a.v_to_r * v) >> shift);
    const uint32_t g = to_byte((luma - a.u_to_g * u - a.v_to_g * v) >> shift);
    const uint32_t b = to_byte((luma + a.u_to_b * u) >> shift);
    return r | g << 8 | b << 16;
}

// A warp's part of an input row, columns from .. from + cols - 1, as RGB.
template <bool WIDE, bool PLANAR>
static __device__ __forceinline__ void convert_row(const frames_args &a, uint32_t *to, int row, int from, int cols)
{
    for (int i = FRAMES_ALIGNED * (int)(threadIdx.x % GPU_WARP); i < cols; i += FRAMES_ALIGNED * GPU_WARP) {
        const yuv4 p = read4<WIDE, PLANAR>(a, row, from + i);
        for (int j = 0; j < FRAMES_ALIGNED; j++) {
            to[i + j] = to_rgb(a, sample<WIDE>(a, p.y, j), sample<WIDE>(a, p.u, j / 2),
                               sample<WIDE>(a, p.v, j / 2));
        }
    }
}

// The filter over pixels p, p + stride and so on: each channel a byte, as after either pass of Pillow's.
static __device__ __forceinline__ uint32_t filter(const uint32_t *p, int stride, const int16_t *weights, int count,
                                                  int precision)
{
    const int half = precision ? 1 << (precision - 1) : 0;
    int r = half, g = half, b = half;
    for (int j = 0; j < count; j++, p += stride) {
        const int w = weights[j];
        const uint32_t rgb = *p;
        r += w * (int)(rgb & 255);
        g += w * (int)(rgb >> 8 & 255);
        b += w * (int)(rgb >> 16);
    }
    return to_byte(r >> precision) | to_byte(g >> precision) << 8 | to_byte(b >> precision) << 16;
}

static __device__ __forceinline__ void put(const frames_args &a, uint32_t rgb, int x, int y)
{
    const int col = a.col_origin + x * a.col_by_x + y * a.col_by_y;
    const int row = a.row_origin + x * a.row_by_x + y * a.row_by_y;
    const int px = col / a.patch, py = row / a.patch;
    const int block = py / a.merge * (a.grid_w / a.merge) + px / a.merge;
    const int64_t patch = (int64_t)block * a.merge * a.merge + py % a.merge * a.merge + px % a.merge;
    const int plane = a.patch * a.patch;
    float *to = a.rows + patch * 3 * a.temporal * plane + row % a.patch * a.patch + col % a.patch;
    for (int c = 0; c < 3; c++) {
        const float value = ((float)(rgb >> 8 * c & 255) - a.mean[c]) / a.std[c];
        for (int k = a.slot; k < a.slot + a.slots; k++) to[(c * a.temporal + k) * plane] = value;
    }
}

template <bool WIDE, bool PLANAR>
static __global__ void __launch_bounds__(FRAMES_WARPS * GPU_WARP) frames_kernel(frames_args a)
{
    GPU_DYNAMIC_SHARED(uint32_t, shared);
    const int warp = (int)threadIdx.x / GPU_WARP, lane = (int)threadIdx.x % GPU_WARP;
    uint32_t *columns = shared;                                                 // [most_rows, 32]
    uint32_t *line = shared + a.most_rows * FRAMES_TILE + warp * a.most_cols; // the warp's own
    const int x0 = (int)blockIdx.x * FRAMES_TILE, y0 = (int)blockIdx.y * a.tile_h;
    const int x1 = min(x0 + FRAMES_TILE, a.out_w), y1 = min(y0 + a.tile_h, a.out_h);
    const int from = a.first_x[x0] & ~(FRAMES_ALIGNED - 1);
    const int cols = a.first_x[x1 - 1] + a.count_x[x1 - 1] - from;
    const int top = a.first_y[y0], rows = a.first_y[y1 - 1] + a.count_y[y1 - 1] - top;
    const int x = min(x0 + lane, x1 - 1); // lanes past the edge do what the last one does
    const int first = a.first_x[x] - from, count = a.count_x[x];
    for (int r = warp; r < rows; r += FRAMES_WARPS) {
        convert_row<WIDE, PLANAR>(a, line, top + r, from, cols);
        __syncwarp();
        columns[r * FRAMES_TILE + lane] = filter(line + first, 1, a.weights_x + (int64_t)x * a.taps_x, count,
                                                 a.precision_x);
        __syncwarp();
    }
    __syncthreads();
    for (int y = y0 + warp; y < y1; y += FRAMES_WARPS) {
        const uint32_t *above = columns + (a.first_y[y] - top) * FRAMES_TILE + lane;
        const uint32_t rgb = filter(above, FRAMES_TILE, a.weights_y + (int64_t)y * a.taps_y, a.count_y[y],
                                    a.precision_y);
        if (x0 + lane < x1) put(a, rgb, x0 + lane, y);
    }
}

extern "C" size_t frames_shared_bytes(const frames_args *a)
{
    return sizeof(uint32_t) * ((size_t)a->most_rows * FRAMES_TILE + (size_t)a->most_cols * FRAMES_WARPS);
}

template <bool WIDE, bool PLANAR>
static void launch(cudaStream_t stream, const frames_args *a)
{
    const size_t shared = frames_shared_bytes(a);
    const dim3 grid((unsigned)((a->out_w + FRAMES_TILE - 1) / FRAMES_TILE),
                    (unsigned)((a->out_h + a->tile_h - 1) / a->tile_h));
    if (shared > 48 << 10) GPU_ALLOW_SHARED((frames_kernel<WIDE, PLANAR>), shared);
    GPU_LAUNCH((frames_kernel<WIDE, PLANAR>), grid, dim3(FRAMES_WARPS * GPU_WARP), shared, stream, *a);
}

extern "C" void launch_frames(cudaStream_t stream, const void *args)
{
    const frames_args *a = (const frames_args *)args;
    if (a->wide) a->planar ? launch<true, true>(stream, a) : launch<true, false>(stream, a);
    else a->planar ? launch<false, true>(stream, a) : launch<false, false>(stream, a);
}
