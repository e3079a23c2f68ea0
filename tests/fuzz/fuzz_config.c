// Any bytes as the JSON files of a model folder: the input is config.json, then after a line "--"
// each generation_config.json, preprocessor_config.json, video_preprocessor_config.json and
// processor_config.json. What is accepted must imply a list of tensors with sane shapes.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/config.h"
#include "checkpoint/expect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Cuts the next file off the front of the input.
static config_file next_file(const char **data, size_t *size)
{
    config_file f = {0};
    if (!*data) return f;
    f.data = *data;
    for (size_t i = 0; i + 4 <= *size; i++) {
        if (memcmp(*data + i, "\n--\n", 4)) continue;
        f.size = i;
        *data += i + 4;
        *size -= i + 4;
        return f;
    }
    f.size = *size;
    *data = NULL;
    return f;
}

static void check(const model_config *c)
{
    expect_list list = {0};
    if (expect_init(&list, c)) return;
    for (size_t i = 0; i < list.n; i++) {
        int64_t n = 1;
        for (int32_t j = 0; j < list.items[i].n_dims; j++) {
            int64_t side = list.items[i].shape[j];
            if (side < 1 || side > INT32_MAX) abort();
            n *= side;
            if (n > (int64_t)1 << 50) abort();
        }
        if (strlen(list.items[i].name) + 1 >= EXPECT_MAX_NAME) abort();
    }
    if (c->generation.n_eos > CONFIG_MAX_EOS || c->vision.n_deepstack > CONFIG_MAX_DEEPSTACK) {
        abort();
    }
    expect_done(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    config_files files;
    files.config = next_file(&text, &size);
    files.generation = next_file(&text, &size);
    files.preprocessor = next_file(&text, &size);
    files.video_preprocessor = next_file(&text, &size);
    files.processor = next_file(&text, &size);
    model_config *c = calloc(1, sizeof *c);
    if (c && config_parse(c, &files) == SIGHT_OK) check(c);
    free(c);
    return 0;
}
