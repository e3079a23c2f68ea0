// kernels/cuda/device.h - one GPU behind a kernels object: its memory, its stream, and steps as graphs.
//
// How an op runs here. Its entry of the table (kernels/cuda/<area>.c, C) fills a struct of arguments, and hands
// it with a launcher (kernels/cuda/<area>.cu) to cuda_launch. A launcher looks at nothing but its struct,
// and starts kernels on the stream it is given. So a step can be noted as a list of launches: one whose launches and
// arguments were seen before is run as the graph made then; a new one becomes a graph (kernels_step_begin).
// What differs between two such steps, though the shapes are alike (pointers to a sequence's states, lengths, ids), must
// therefore not stand in the struct: it goes through cuda_args, whose device addresses repeat from step to
// step. Launch dimensions depend on the struct alone.
//
//   typedef struct rms_norm_args {          // kernels/cuda/rows.h: plain data, no padding (assert its size)
//       float *y; const float *x, *w; int64_t N, D; double eps;
//   } rms_norm_args;
//   void launch_rms_norm(cudaStream_t stream, const void *args);  // rows.cu, extern "C"
//
//   static void cuda_rms_norm(kernels *k, ...)                    // rows.c
//   {
//       const rms_norm_args a = {y, x, w, N, D, eps};
//       cuda_launch(k, launch_rms_norm, &a, sizeof a);
//   }
//
// Errors are kept, the first one with its sentence: nothing is launched after it, and kernels_status,
// kernels_read and kernels_step_end tell it.
//
// Threads: the kernels object's.
#ifndef SIGHT_KERNELS_CUDA_DEVICE_H
#define SIGHT_KERNELS_CUDA_DEVICE_H

#include <cuda_runtime_api.h>

#include "kernels/backend.h"
#include "kernels/memory.h"

typedef struct cuda_device cuda_device;

typedef void cuda_launcher(cudaStream_t stream, const void *args);

// Launches now, or notes it for the step under way. args is copied; at most CUDA_MAX_ARGS bytes.
#define CUDA_MAX_ARGS 512
void cuda_launch(kernels *k, cuda_launcher *launcher, const void *args, size_t bytes);

// A copy of host memory on the device, 16-byte aligned, for launches that follow. It stays until the step
// ends, or without a step until some MiB more were given. The same sequence of sizes gives the same addresses in every
// step. Larger than CUDA_MAX_STEP_ARGS at once: NULL and an error kept.
#define CUDA_MAX_STEP_ARGS ((size_t)8 << 20)
const void *cuda_args(kernels *k, const void *host, size_t bytes);

// Device scratch for the op under way, of a part of the memory that kernels_alloc leaves alone: any contents,
// 256-byte aligned, the same address for the same slot as long as it does not grow; ops that follow may use it
// again. Slots keep what one op needs side by side. NULL and an error kept when there is no memory; a step's
// graph is then not made.
#define CUDA_SCRATCH_SLOTS 8
void *cuda_scratch(kernels *k, int slot, size_t bytes);

// How large a piece of scratch may be where work is cut into pieces: 64 MiB of a large device, less of a small one.
int64_t cuda_piece_bytes(const kernels *k);

kernels_room cuda_get_room(const kernels *k);

// What the chip has, for choosing kernels and launch sizes.
typedef struct cuda_chip {
    int major, minor;      // compute capability
    int processors;        // multiprocessors
    size_t shared_bytes;   // a block may have, after asking for it
    size_t l2_bytes;
    bool emulated;         // the test shim
} cuda_chip;

const cuda_chip *cuda_get_chip(const kernels *k);

cudaStream_t cuda_stream(const kernels *k);

// Keeps an error of a CUDA call as "<what>: <CUDA's words>". true: there was none.
bool cuda_good(kernels *k, cudaError_t e, const char *what);
// Keeps any other error. format as in sight_fail.
void cuda_fail(kernels *k, sight_err code, const char *format, ...) __attribute__((format(printf, 3, 4)));
bool cuda_failed(const kernels *k);

// What an area keeps with the object (a library's handle): p is NULL at first, set together with `done`, which
// ends it before the stream and the memory go.
typedef struct cuda_kept {
    void *p;
    void (*done)(void *p);
} cuda_kept;

enum { CUDA_KEPT_LINEAR, CUDA_KEPT_ATTENTION, CUDA_KEPT_DELTA, CUDA_KEPT_ROWS, CUDA_KEPT_PICK, CUDA_KEPT };

cuda_kept *cuda_keep(kernels *k, int area);

// Whether a step is being noted: launches are not running yet.
bool cuda_in_step(const kernels *k);

// ---- the areas: each fills its entries of the table, all of them together every one ----

void memory_cuda_fill(backend_ops *ops);    // memory.c: memory, copies, zero, steps
void linear_cuda_fill(backend_ops *ops);    // linear.c: products, embed, weights, low_rank
void rows_cuda_fill(backend_ops *ops);      // rows.c: norms, activations, rope, taps, copy_rows
void attention_cuda_fill(backend_ops *ops); // attention.c: kv_write, attention, spans
void delta_cuda_fill(backend_ops *ops);     // delta.c: convolution, gates, delta rule
void pick_cuda_fill(backend_ops *ops);      // pick.c: pick_logits
void parts_cuda_fill(backend_ops *ops);     // parts.c: copy_parts

#endif
