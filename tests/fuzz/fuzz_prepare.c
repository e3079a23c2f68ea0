// Any bytes as a file of prepared weights: recognised or not, and its identity read; never followed.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/prepare_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    unsigned char *bytes = malloc(size ? size : 1); // exact, so that a read past the end is seen
    if (!bytes) return 0;
    if (size) memcpy(bytes, data, size);
    prepare_block block = {.name = "a.weight", .kind = BLOCK_PACKED, .M = 16, .K = 32, .bytes = 640,
                           .format = packed_format_int8()};
    prepared p = {.form = WEIGHTS_INT8, .blocks = &block, .n = 1};
    if (prepare_file_lay_out(&p, "int8 0\n/m/model.safetensors 10 20.000000030\n") == SIGHT_OK) {
        const char *why = NULL;
        const bool good = prepare_file_matches(&p, bytes, size, &why);
        if (good != (why == NULL)) abort();
        char *identity = prepare_file_read_identity(bytes, size);
        if (good && !identity) abort();
        free(identity);
    }
    free(p.header);
    free(bytes);
    return 0;
}
