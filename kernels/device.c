#include "kernels/device.h"

#include <stdio.h>
#include <string.h>

#ifndef SIGHT_CUDA // else kernels/cuda/driver.c has these

int device_gpus(void)
{
    return 0;
}

const char *device_without_gpu(void)
{
    return "this build has no CUDA";
}

sight_err device_describe(device_info *out, device_id id)
{
    return sight_fail(SIGHT_E_UNSUPPORTED, "%s", device_without_gpu());
}

#endif

bool device_built_with_cuda(void)
{
#ifdef SIGHT_CUDA
    return true;
#else
    return false;
#endif
}

void device_format(char *text, device_id id)
{
    if (id.kind == DEVICE_CPU) strcpy(text, "cpu");
    else snprintf(text, 16, "cuda:%d", id.index);
}

// The GPU with the most free memory.
static device_id best(void)
{
    device_id found = {DEVICE_CPU, 0};
    int64_t most = -1;
    for (int i = 0; i < device_gpus(); i++) {
        const device_id id = {DEVICE_CUDA, i};
        device_info info;
        if (device_describe(&info, id) || info.emulated || info.major < DEVICE_MIN_MAJOR) continue;
        if (info.free_bytes <= most) continue;
        found = id;
        most = info.free_bytes;
    }
    return found;
}

// The number of "cuda:N", 0 of "cuda"; -1: another word.
static int gpu_of(const char *word)
{
    int index = 0, used = 0;
    if (!strcmp(word, "cuda")) return 0;
    const bool numbered = sscanf(word, "cuda:%4d%n", &index, &used) == 1 && !word[used] &&
                          word[5] >= '0' && word[5] <= '9';
    return numbered ? index : -1;
}

sight_err device_check_word(const char *word, const char *what)
{
    if (!strcmp(word, "auto") || !strcmp(word, "cpu") || gpu_of(word) >= 0) return SIGHT_OK;
    return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.40s', must be auto, cpu, cuda or cuda:N", what, word);
}

sight_err device_parse(device_id *out, const char *word, const char *what)
{
    sight_err err = device_check_word(word, what);
    if (err) return err;
    const int index = gpu_of(word);
    if (index < 0) {
        *out = strcmp(word, "auto") ? (device_id){DEVICE_CPU, 0} : best();
        return SIGHT_OK;
    }
    if (device_gpus() == 0) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "%s is '%.40s': %s", what, word, device_without_gpu());
    }
    if (index >= device_gpus()) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "%s is '%.40s', the last one here is cuda:%d", what, word,
                          device_gpus() - 1);
    }
    *out = (device_id){DEVICE_CUDA, index};
    return SIGHT_OK;
}
