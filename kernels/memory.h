// kernels/memory.h - the memory that ops work on, and what moves in and out of it.
//
// Everything that an op reads or writes through a pointer lies in the backend's memory, but for what
// its comment calls host memory. With the CPU that is the process's own; with a GPU it is the
// device's: such pointers may be added to and handed to ops, never followed. Small arrays that change from
// step to step (ids, positions, arrays of attention_seq, conv_seq, delta_seq) are host memory, and
// may be reused when the op returns.
//
// A GPU runs behind: an op that returns has been asked for, not done. What goes wrong there is kept and told
// by kernels_status, kernels_read and kernels_step_end; ops after it do nothing that matters.
//
// Threads: that of the kernels object.
#ifndef SIGHT_KERNELS_MEMORY_H
#define SIGHT_KERNELS_MEMORY_H

#include "kernels/ops.h"

bool kernels_on_device(const kernels *k); // backend memory is not the process's
// SIGHT_OK, or what has gone wrong on the device: SIGHT_E_MEMORY, SIGHT_E_INTERNAL. Final: the object is
// to be destroyed.
sight_err kernels_status(kernels *k);

// Any contents, 256-byte aligned; big blocks in large pages. bytes may be 0. SIGHT_E_MEMORY: "no memory for 3.0
// MiB of <what>".
sight_err kernels_alloc(void **out, kernels *k, size_t bytes, const char *what);
// Ops of k that were asked for may still be using it; those of an object beside it may not, but for what
// kernels_after has made k wait for. Neither of the two within a step.
void kernels_free(kernels *k, void *p); // accepts NULL

// Of a device's memory: what was taken for this object when it was made, and what kernels_alloc can still give of
// it. Both 0 with the CPU.
typedef struct kernels_room {
    int64_t all, left;
} kernels_room;

kernels_room kernels_get_room(const kernels *k);

// From and to host memory, which may be reused on return. kernels_read waits for all that was asked for, the op
// that writes it included; bytes may be 0. Within a step kernels_write takes its place among the ops.
void kernels_write(kernels *k, void *to, const void *host, size_t bytes);
sight_err kernels_read(kernels *k, void *host, const void *from, size_t bytes);
// host [n] floats as an op may read them: host itself with the CPU, else a copy in room [n].
const float *kernels_stage(kernels *k, float *room, const float *host, int64_t n);

void op_zero(kernels *k, void *p, size_t bytes);
// Neither may overlap.
void op_copy(kernels *k, void *to, const void *from, size_t bytes);
// Several at once, bytes multiples of 4. Where they are may differ between steps of one kind, so what belongs to
// a sequence is copied with this one.
typedef struct copy_part {
    void *to;
    const void *from;
    size_t bytes;
} copy_part;

void op_copy_parts(kernels *k, const copy_part *parts, int64_t n); // parts: host memory
// n rows of `width` floats; strides in floats.
void op_copy_rows(kernels *k, float *to, int64_t to_stride, const float *from, int64_t from_stride,
                  int64_t n, int64_t width);

// ---- weights ----

// Loaded weights point into the checkpoint's mapping, or were malloced (bias, norms). These bring them where
// ops read them: nothing happens with the CPU; a device gets copies, in whatever layout its products want.
// What was malloced is freed then. SIGHT_E_MEMORY, SIGHT_E_UNSUPPORTED names a form that the device has
// no product for.
sight_err kernels_take_weight(kernels *k, weight *w);
sight_err kernels_take_floats(kernels *k, float **p, int64_t n);
// The way back, for weights and floats that were taken or not (zeroed): frees what the above made, and what
// was malloced.
void kernels_drop_weight(kernels *k, weight *w);
void kernels_drop_floats(kernels *k, float **p);

// ---- steps ----

// Ops between begin and end are one step of a kind that comes again and again (decoding): a GPU runs them as
// one graph. They must not read results (kernels_read) or allocate in between. Without begin and end ops run
// one by one. end: what kernels_status says; results are there after the next kernels_read.
void kernels_step_begin(kernels *k);
sight_err kernels_step_end(kernels *k);

// What is asked of k from now on happens after what was asked of `before` until now (two streams of one device,
// as made by kernels_create_beside); nothing with the CPU.
void kernels_after(kernels *k, kernels *before);
// A second object on the same device, whose ops may overlap with the first one's; it must go first. *out = k
// itself with the CPU: kernels_destroy_beside knows.
sight_err kernels_create_beside(kernels **out, kernels *k);
void kernels_destroy_beside(kernels **beside, kernels *k);

#endif
