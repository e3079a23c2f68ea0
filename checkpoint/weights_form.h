// checkpoint/weights_form.h - the forms in which weights run. Threads: any.
#ifndef SIGHT_CHECKPOINT_WEIGHTS_FORM_H
#define SIGHT_CHECKPOINT_WEIGHTS_FORM_H

#include "base/err.h"

typedef enum weights_form {
    WEIGHTS_AUTO,   // by the room there is: weights_choose
    WEIGHTS_STORED, // as published: plain numbers as they are, quantised ones without loss
    WEIGHTS_BF16,   // everything bf16, quantised matrices multiplied out
    WEIGHTS_INT8,   // plain matrices 8 bits, sensitive ones as stored
    WEIGHTS_INT4,   // plain matrices 4 bits, sensitive ones 8 bits or as stored
    WEIGHTS_FP8,    // plain matrices of the text in E4M3, for GPUs that multiply it; others as stored
    WEIGHTS_COUNT
} weights_form;

const char *weights_form_name(weights_form form); // "int8"
// SIGHT_E_ARGUMENT names the forms there are.
sight_err weights_form_parse(weights_form *out, const char *name);

#endif
