// Any bytes as a safetensors file: parsed, and every element of every view read.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *bytes = malloc(size ? size : 1); // exact, so that a read past the end is seen
    if (!bytes) return 0;
    if (size) memcpy(bytes, data, size);
    safetensors *s = NULL;
    volatile float sum = 0;
    if (safetensors_parse(&s, bytes, size, "fuzz") == SIGHT_OK) {
        for (size_t i = 0; i < safetensors_count(s); i++) {
            tensor_view v;
            if (safetensors_find(s, safetensors_name(s, i)) != (int64_t)i) abort();
            if (!safetensors_view(s, &v, i)) continue;
            for (int64_t j = 0; j < tensor_count(&v); j++) sum = sum + tensor_get_f32(&v, j);
        }
    }
    safetensors_close(&s);
    free(bytes);
    return 0;
}
