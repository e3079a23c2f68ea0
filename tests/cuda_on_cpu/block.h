// tests/cuda_on_cpu/block.h - runs a kernel's blocks: threads that wait for each other take turns on one.
//
// A thread is a call of the kernel. It runs to its end on the fiber that began it; where it must wait for
// others, another fiber goes on with the next thread. So kernels without barriers run as a plain loop.
// Threads and blocks of every second launch run in the reverse order: what works in one order only is wrong.
//
// Reported (defect_report): a barrier that not all threads of the block reach, or reach at another line; a lane
// missing in what a warp does together; threads that wait for ever.
//
// Threads: one runs blocks at a time (the lock of runtime.c).
#ifndef SIGHT_TESTS_BLOCK_H
#define SIGHT_TESTS_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SHIM_WARP 32
#define SHIM_MAX_THREADS 1024
#define SHIM_SHARED_BYTES (48 << 10)        // without asking
#define SHIM_MAX_SHARED_BYTES (163 << 10)   // as sm_80 to a block that asked

typedef struct shim_index {
    unsigned x, y, z;
} shim_index;

typedef struct shim_kernel {
    const char *name, *file; // literals
    int line;
    const void *address;
    void (*run)(const void *args); // one thread
    shim_index grid, block;
    size_t shared_bytes;
} shim_kernel;

// What kernels see; set whenever a thread goes on.
extern shim_index shim_thread_index, shim_block_index, shim_block_size, shim_grid_size;
extern void *shim_dynamic_shared;

// false: a defect was reported and caught.
bool block_run_all(const shim_kernel *kernel, const void *args);

// Ends the launch under way, with a sentence. Returns only outside of one.
void shim_defect(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
// The caught one, NULL when there is none; the caller frees it.
char *block_take_defect(void);
void block_catch_defects(bool catch_them);
// Tells of a defect without a launch under way.
void block_report(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- called by kernels (cuda_on_cpu.h) ----

typedef struct shim_place {
    const char *file;
    int line;
} shim_place;

// Until all threads of the block are here. Returns how many gave a predicate other than 0.
int shim_barrier(int predicate, shim_place place);

// Lanes of a warp that do something together: each comes with its own data; the last one does it for all.
// data[lane] is set for lanes of mask. what names it, for reports; `sum` tells unlike things apart.
typedef void shim_together(void **data, uint32_t mask);
void shim_meet(shim_together *together, uint32_t mask, void *data, const char *what, shim_place place);
int shim_lane(void);
uint32_t shim_present_lanes(void); // those of the warp that have not ended

// Copies to shared memory that land when they are waited for; until then the place holds NaN.
void shim_copy_begin(void *shared, const void *from, bool good, shim_place place);
void shim_copy_commit(void);
void shim_copy_wait(int left);

#ifdef __cplusplus
}
#endif

#endif
