// daemon/weights.h - brings a checkpoint's weights into the form that was asked for.
//
// Threads: the one that opens the engine.
#ifndef SIGHT_DAEMON_WEIGHTS_H
#define SIGHT_DAEMON_WEIGHTS_H

#include <stdatomic.h>
#include <stdbool.h>

#include "checkpoint/checkpoint.h"
#include "checkpoint/weights_form.h"

typedef struct weights_options {
    weights_form form;
    const char *cache; // folder of prepared files; NULL: prepare_cache_folder; "none": none
    int threads;       // 0: all processors of this process
    // Called now and then while weights are prepared, percent 0 to 100. NULL: nobody is told.
    void (*progress)(void *arg, int percent);
    void *progress_arg;
    const atomic_bool *stop; // when it becomes true preparing ends with SIGHT_E_CANCELLED; NULL: never
} weights_options;

struct prepare_extra; // checkpoint/prepare.h

// Prepares c in one form (not auto), with extra blocks beside it. *unkept is set when there is work to
// keep and no folder for it.
// Codes of checkpoint_prepare, threads_create.
sight_err weights_prepare(checkpoint *c, weights_form form, const weights_options *o,
                          const struct prepare_extra *extras, size_t n_extras, bool *unkept);

#endif
