// Patch rows from decoded pictures: memory, uploads and the launch. See kernels/frames.h.
#include "kernels/frames.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/frames.h"

#define MAX_ROWS     8 // buffers of patch rows alive at once
#define PITCH        256
#define USUAL_SHARED ((size_t)40 << 10) // a block of more keeps others off its multiprocessor
#define MOST_SHARED  ((size_t)96 << 10) // all chips have as much

typedef struct rows_buffer {
    float *p;
    int64_t n; // floats
    bool taken;
    bool marked;      // `idle` was recorded since it was taken last
    cudaEvent_t idle; // after it, nobody reads p
} rows_buffer;

struct frames {
    int device;
    cudaStream_t stream;
    frames_args args;   // what pictures share
    unsigned char *axes; // the memory that the filters lie in
    int32_t width, height;
    unsigned char *upload; // planes of a host picture
    size_t upload_bytes;
    void *context;
    pthread_mutex_t mutex; // guards what follows
    rows_buffer rows[MAX_ROWS];
};

static sight_err check(cudaError_t e, const frames *f, const char *what)
{
    if (e == cudaSuccess) return SIGHT_OK;
    cudaGetLastError(); // it is told here, and not again
    return sight_fail(e == cudaErrorMemoryAllocation ? SIGHT_E_MEMORY : SIGHT_E_INTERNAL, "cuda:%d: %s: %s",
                      f->device, what, cudaGetErrorString(e));
}

// ---- the shape ----

// The largest span of inputs of `tile` neighbouring outputs, from a multiple of `aligned` on.
static int32_t most_inputs(const frames_axis *a, int32_t tile, int32_t aligned)
{
    int32_t most = 0;
    for (int32_t i = 0; i < a->n; i += tile) {
        const int32_t last = i + tile < a->n ? i + tile - 1 : a->n - 1;
        const int32_t span = a->first[last] + a->count[last] - a->first[i] / aligned * aligned;
        if (span > most) most = span;
    }
    return (most + aligned - 1) / aligned * aligned;
}

// The tallest tile whose inputs fit a usual block's memory, or failing that a single row's in any.
static sight_err choose_tile(frames_args *a, const frames_shape *s)
{
    a->most_cols = most_inputs(&s->across, FRAMES_TILE, FRAMES_ALIGNED);
    for (a->tile_h = FRAMES_TILE; a->tile_h >= 1; a->tile_h /= 2) {
        a->most_rows = most_inputs(&s->down, a->tile_h, 1);
        const size_t bytes = frames_shared_bytes(a);
        if (bytes <= USUAL_SHARED || (a->tile_h == 1 && bytes <= MOST_SHARED)) return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_UNSUPPORTED, "%d x %d pixels to %d x %d is more than a GPU's block can hold",
                      s->width, s->height, s->across.n, s->down.n);
}

// Shown column and row as sums over stored ones: the turns of decoder/orient.h.
static void set_turn(frames_args *a, int orientation)
{
    const int32_t w = a->out_w - 1, h = a->out_h - 1;
    // origin, by x, by y: of the column, then of the row
    const int32_t turns[9][6] = {
        [1] = {0, 1, 0, 0, 0, 1},  [2] = {w, -1, 0, 0, 0, 1}, [3] = {w, -1, 0, h, 0, -1},
        [4] = {0, 1, 0, h, 0, -1}, [5] = {0, 0, 1, 0, 1, 0},  [6] = {h, 0, -1, 0, 1, 0},
        [7] = {h, 0, -1, w, -1, 0}, [8] = {0, 0, 1, w, -1, 0},
    };
    const int32_t *t = turns[orientation >= 1 && orientation <= 8 ? orientation : 1];
    a->col_origin = t[0];
    a->col_by_x = t[1];
    a->col_by_y = t[2];
    a->row_origin = t[3];
    a->row_by_x = t[4];
    a->row_by_y = t[5];
}

static sight_err take_shape(frames *f, const frames_shape *s)
{
    frames_args *a = &f->args;
    if (s->width < 2 || s->height < 2 || s->width % 2 || s->height % 2) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "pictures of %d x %d: both must be even", s->width, s->height);
    }
    f->width = s->width;
    f->height = s->height;
    a->out_w = s->across.n;
    a->out_h = s->down.n;
    a->taps_x = s->across.taps;
    a->taps_y = s->down.taps;
    a->precision_x = s->across.precision;
    a->precision_y = s->down.precision;
    a->grid_w = s->grid_w;
    a->patch = s->patch;
    a->merge = s->merge;
    a->temporal = s->temporal;
    memcpy(a->mean, s->mean, sizeof a->mean);
    memcpy(a->std, s->std, sizeof a->std);
    set_turn(a, s->orientation);
    return choose_tile(a, s);
}

// ---- the object ----

static size_t padded(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

// An axis' three arrays, one after the other.
static size_t axis_bytes(const frames_axis *a)
{
    const size_t n = (size_t)a->n;
    return padded(4 * n) * 2 + padded(2 * n * (size_t)a->taps);
}

static sight_err copy_axis(frames *f, const frames_axis *a, unsigned char *to, const int32_t **first,
                           const int32_t **count, const int16_t **weights)
{
    const size_t n = (size_t)a->n, step = padded(4 * n), bytes = 2 * n * (size_t)a->taps;
    *first = (const int32_t *)to;
    *count = (const int32_t *)(to + step);
    *weights = (const int16_t *)(to + 2 * step);
    cudaError_t e = cudaMemcpy(to, a->first, 4 * n, cudaMemcpyHostToDevice);
    if (e == cudaSuccess) e = cudaMemcpy(to + step, a->count, 4 * n, cudaMemcpyHostToDevice);
    if (e == cudaSuccess) e = cudaMemcpy(to + 2 * step, a->weights, bytes, cudaMemcpyHostToDevice);
    return check(e, f, "writing a filter");
}

static sight_err copy_axes(frames *f, const frames_shape *s)
{
    frames_args *a = &f->args;
    const size_t across = axis_bytes(&s->across);
    sight_err err = check(cudaMalloc((void **)&f->axes, across + axis_bytes(&s->down)), f, "a filter");
    if (!err) err = copy_axis(f, &s->across, f->axes, &a->first_x, &a->count_x, &a->weights_x);
    if (err) return err;
    return copy_axis(f, &s->down, f->axes + across, &a->first_y, &a->count_y, &a->weights_y);
}

// The runtime's context is the driver's current one once a GPU was chosen. The driver is loaded already.
static void *current_context(void)
{
    void *context = NULL;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    if (!driver) return NULL;
    int (*get)(void **) = NULL;
    *(void **)&get = dlsym(driver, "cuCtxGetCurrent");
    if (!get || get(&context)) context = NULL;
    dlclose(driver);
    return context;
}

sight_err frames_create(frames **out, device_id device)
{
    if (device.kind != DEVICE_CUDA) return sight_fail(SIGHT_E_UNSUPPORTED, "the processor is no GPU");
    frames *f = calloc(1, sizeof *f);
    if (!f) return sight_fail(SIGHT_E_MEMORY, "no memory for a clip's frames");
    f->device = device.index;
    pthread_mutex_init(&f->mutex, NULL);
    sight_err err = check(cudaSetDevice(f->device), f, "choosing the GPU");
    if (!err) err = check(cudaStreamCreateWithFlags(&f->stream, cudaStreamNonBlocking), f, "making a stream");
    if (!err) f->context = current_context();
    if (err) frames_destroy(&f);
    else *out = f;
    return err;
}

sight_err frames_set_shape(frames *f, const frames_shape *shape)
{
    sight_err err = take_shape(f, shape);
    if (!err) err = check(cudaSetDevice(f->device), f, "choosing the GPU");
    return err ? err : copy_axes(f, shape);
}

void frames_destroy(frames **pf)
{
    frames *f = *pf;
    if (!f) return;
    cudaSetDevice(f->device);
    if (f->stream) cudaStreamSynchronize(f->stream);
    for (int i = 0; i < MAX_ROWS; i++) {
        rows_buffer *r = &f->rows[i];
        if (r->marked) cudaEventSynchronize(r->idle);
        if (r->idle) cudaEventDestroy(r->idle);
        if (r->p) cudaFree(r->p);
    }
    if (f->upload) cudaFree(f->upload);
    if (f->axes) cudaFree(f->axes);
    if (f->stream) cudaStreamDestroy(f->stream);
    cudaGetLastError(); // of a lost device
    pthread_mutex_destroy(&f->mutex);
    free(f);
    *pf = NULL;
}

// ---- rows ----

// One that nobody has and that is large enough, else one without memory, else any that nobody has.
static rows_buffer *find_buffer(frames *f, int64_t n)
{
    rows_buffer *found = NULL;
    for (int i = 0; i < MAX_ROWS; i++) {
        rows_buffer *r = &f->rows[i];
        if (r->taken) continue;
        if (r->p && r->n >= n) return r;
        if (!found || (found->p && !r->p)) found = r;
    }
    return found;
}

static sight_err fill_buffer(frames *f, rows_buffer *r, int64_t n)
{
    if (r->marked) cudaEventSynchronize(r->idle);
    if (r->p) cudaFree(r->p);
    r->p = NULL;
    r->marked = false;
    r->n = n;
    sight_err err = SIGHT_OK;
    if (!r->idle) err = check(cudaEventCreateWithFlags(&r->idle, cudaEventDisableTiming), f, "making an event");
    return err ? err : check(cudaMalloc((void **)&r->p, (size_t)n * sizeof *r->p), f, "memory for patches");
}

sight_err frames_take(frames *f, float **rows, int64_t n)
{
    sight_err err = check(cudaSetDevice(f->device), f, "choosing the GPU");
    if (err) return err;
    pthread_mutex_lock(&f->mutex);
    rows_buffer *r = find_buffer(f, n);
    if (!r) err = sight_fail(SIGHT_E_MEMORY, "more than %d buffers of patches", MAX_ROWS);
    if (!err && !(r->p && r->n >= n)) err = fill_buffer(f, r, n);
    if (!err && r->marked) err = check(cudaStreamWaitEvent(f->stream, r->idle, 0), f, "waiting for a stream");
    if (!err) {
        r->taken = true;
        r->marked = false;
        *rows = r->p;
    }
    pthread_mutex_unlock(&f->mutex);
    return err;
}

void frames_give(frames *f, float *rows, kernels *k)
{
    if (!rows) return;
    pthread_mutex_lock(&f->mutex);
    for (int i = 0; i < MAX_ROWS; i++) {
        rows_buffer *r = &f->rows[i];
        if (r->p != rows) continue;
        r->taken = false;
        r->marked = k && !cudaSetDevice(f->device) && !cudaEventRecord(r->idle, cuda_stream(k));
    }
    pthread_mutex_unlock(&f->mutex);
}

// ---- pictures ----

// A plane of `rows` rows of `bytes` each; its pitch there is the width rounded up.
static sight_err upload_plane(frames *f, size_t *at, const uint8_t **plane, int64_t *pitch, size_t bytes,
                              size_t rows)
{
    const size_t to_pitch = (bytes + PITCH - 1) / PITCH * PITCH;
    unsigned char *to = f->upload + *at;
    const cudaError_t e = cudaMemcpy2DAsync(to, to_pitch, *plane, (size_t)*pitch, bytes, rows,
                                            cudaMemcpyHostToDevice, f->stream);
    *plane = to;
    *pitch = (int64_t)to_pitch;
    *at += to_pitch * rows;
    return check(e, f, "writing a picture");
}

static sight_err upload(frames *f, frames_args *a)
{
    const size_t size = a->wide ? 2 : 1, w = (size_t)f->width, h = (size_t)f->height;
    const size_t uv = (a->planar ? w / 2 : w) * size;
    const size_t need = (w * size + PITCH) * h + 2 * (uv + PITCH) * (h / 2);
    sight_err err = SIGHT_OK;
    if (f->upload_bytes < need) {
        if (f->upload) cudaFree(f->upload);
        f->upload = NULL;
        f->upload_bytes = 0;
        err = check(cudaMalloc((void **)&f->upload, need), f, "memory for a picture");
        if (err) return err;
        f->upload_bytes = need;
    }
    size_t at = 0;
    int64_t pitch = a->uv_pitch;
    err = upload_plane(f, &at, &a->y, &a->y_pitch, w * size, h);
    if (!err && a->planar) err = upload_plane(f, &at, &a->v, &pitch, uv, h / 2);
    return err ? err : upload_plane(f, &at, &a->u, &a->uv_pitch, uv, h / 2);
}

// Threads read four pixels at once.
static sight_err check_alignment(const frames *f, const frames_args *a)
{
    const int64_t luma = FRAMES_ALIGNED * (a->wide ? 2 : 1), chroma = luma / (a->planar ? 2 : 1);
    const int64_t width = (f->width + FRAMES_ALIGNED - 1) / FRAMES_ALIGNED;
    const bool aligned = (uintptr_t)a->y % (uintptr_t)luma == 0 && a->y_pitch % luma == 0 &&
                         (uintptr_t)a->u % (uintptr_t)chroma == 0 && (uintptr_t)a->v % (uintptr_t)chroma == 0 &&
                         a->uv_pitch % chroma == 0;
    if (aligned && a->y_pitch >= width * luma && a->uv_pitch >= width * chroma) return SIGHT_OK;
    return sight_fail(SIGHT_E_UNSUPPORTED, "a picture whose rows are not aligned");
}

static sight_err set_picture(const frames *f, frames_args *a, const frames_picture *p)
{
    if (p->width != f->width || p->height != f->height) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "a picture of %d x %d among those of %d x %d", p->width,
                          p->height, f->width, f->height);
    }
    if (p->bits < 8 || p->bits > 12 || p->uv_step < 1 || p->uv_step > 2) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "pictures of %d bits, chroma every %d", p->bits, p->uv_step);
    }
    a->y = p->y;
    a->u = p->u;
    a->y_pitch = p->y_pitch;
    a->uv_pitch = p->uv_pitch;
    a->wide = p->bits > 8;
    a->planar = p->uv_step == 1;
    a->v = a->planar ? p->v : NULL;
    a->bits = p->bits;
    a->shift = p->shift;
    a->luma_gain = p->colours.luma_gain;
    a->luma_zero = p->colours.luma_zero;
    a->v_to_r = p->colours.v_to_r;
    a->u_to_g = p->colours.u_to_g;
    a->v_to_g = p->colours.v_to_g;
    a->u_to_b = p->colours.u_to_b;
    return p->on_device ? check_alignment(f, a) : SIGHT_OK;
}

sight_err frames_add(frames *f, float *rows, const frames_picture *p, int slot, int slots)
{
    frames_args a = f->args;
    a.rows = rows;
    a.slot = slot;
    a.slots = slots;
    sight_err err = set_picture(f, &a, p);
    if (!err) err = check(cudaSetDevice(f->device), f, "choosing the GPU");
    if (!err && !p->on_device) err = upload(f, &a);
    if (err) return err;
    launch_frames(f->stream, &a);
    err = check(cudaGetLastError(), f, "starting a kernel");
    const sight_err waited = check(cudaStreamSynchronize(f->stream), f, "converting a picture");
    return err ? err : waited;
}

sight_err frames_add_rows(frames *f, float *rows, const float *host, int64_t patches, int slot,
                          int slots)
{
    const size_t plane = (size_t)f->args.patch * (size_t)f->args.patch;
    const size_t pitch = plane * (size_t)f->args.temporal * sizeof *rows, at = plane * (size_t)slot;
    sight_err err = check(cudaSetDevice(f->device), f, "choosing the GPU");
    if (err) return err;
    const size_t bytes = plane * (size_t)slots * sizeof *rows;
    const cudaError_t e = cudaMemcpy2DAsync(rows + at, pitch, host + at, pitch, bytes, (size_t)patches * 3,
                                            cudaMemcpyHostToDevice, f->stream);
    err = check(e, f, "writing patches");
    return err ? err : check(cudaStreamSynchronize(f->stream), f, "writing patches");
}

void *frames_context(const frames *f)
{
    return f->context;
}

void *frames_stream(const frames *f)
{
    return f->stream;
}
