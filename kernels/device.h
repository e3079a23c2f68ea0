// kernels/device.h - where ops run: this machine's processor, or one of its GPUs.
//
// A build without CUDA, and one with it on a machine without a GPU or driver, know the CPU alone.
// The driver is looked for at run time, once. Threads: any.
#ifndef SIGHT_KERNELS_DEVICE_H
#define SIGHT_KERNELS_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define DEVICE_MIN_MAJOR 8 // compute capability that kernels/cuda is written for

typedef enum device_kind { DEVICE_CPU, DEVICE_CUDA } device_kind;

typedef struct device_id {
    device_kind kind;
    int index; // of a GPU, as CUDA counts them; 0 for the CPU
} device_id;

typedef struct device_info {
    char name[128];      // "NVIDIA H200"
    int64_t total_bytes; // of its memory
    int64_t free_bytes;  // now
    int major, minor;    // compute capability
    int processors;      // multiprocessors
    bool emulated;       // by the processor, for tests: never chosen
} device_info;

// "auto": a GPU where there is one that is new enough (that with the most free memory), else the CPU; "cpu";
// "cuda", "cuda:N". SIGHT_E_ARGUMENT names `what`; SIGHT_E_UNSUPPORTED says why there is no such GPU.
sight_err device_parse(device_id *out, const char *word, const char *what);
// Several devices, over which one model is split: "cuda:0,1", "cuda:all" (those that are new enough); or one, as above.
#define DEVICE_LIST_MAX 16
typedef struct device_list {
    device_id at[DEVICE_LIST_MAX];
    int32_t n;
} device_list;

sight_err device_parse_list(device_list *out, const char *word, const char *what);
// The devices of a model that is open several times, a list for each of these replicas: lists with '/' between ("cuda:0/cuda:1",
// "cuda:0,1/cuda:2,3", "cpu/cpu"), "cuda:each" (a replica on each GPU that is new enough); or one list, as above. All are of one
// kind and as many, since what is computed depends on that; a GPU is named once.
typedef struct device_sets {
    device_list at[DEVICE_LIST_MAX];
    int32_t n;
} device_sets;

// SIGHT_E_ARGUMENT, SIGHT_E_UNSUPPORTED, as device_parse_list.
sight_err device_parse_sets(device_sets *out, const char *word, const char *what);
// The word alone, without looking at the machine. SIGHT_E_ARGUMENT.
sight_err device_check_sets(const char *word, const char *what);
// The word of a device or list, alike.
sight_err device_check_word(const char *word, const char *what);
// "cpu", "cuda:0". text has room for 16.
void device_format(char *text, device_id id);

bool device_built_with_cuda(void);
int device_gpus(void);                // how many there are
const char *device_without_gpu(void); // why there is none, in a sentence's words; NULL: there is one
// SIGHT_E_UNSUPPORTED for the CPU and for a GPU that does not answer.
sight_err device_describe(device_info *out, device_id id);

#endif
