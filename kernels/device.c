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

// The numbers of "cuda:0,1,2", at least two that differ. 0: another word.
static int32_t gpus_of(int indices[DEVICE_LIST_MAX], const char *word)
{
    if (strncmp(word, "cuda:", 5)) return 0;
    int32_t n = 0;
    for (const char *at = word + 5;; at++) {
        int used = 0;
        if (n == DEVICE_LIST_MAX || *at < '0' || *at > '9' || sscanf(at, "%4d%n", &indices[n], &used) != 1) return 0;
        for (int32_t i = 0; i < n; i++) {
            if (indices[i] == indices[n]) return 0;
        }
        n++;
        at += used;
        if (!*at) return n > 1 ? n : 0;
        if (*at != ',') return 0;
    }
}

sight_err device_check_word(const char *word, const char *what)
{
    int indices[DEVICE_LIST_MAX];
    if (!strcmp(word, "auto") || !strcmp(word, "cpu") || !strcmp(word, "cuda:all") || gpu_of(word) >= 0 ||
        gpus_of(indices, word)) {
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.40s', must be auto, cpu, cuda or cuda:N, or for a model over up to %d "
                      "GPUs cuda:N,M or cuda:all", what, word, DEVICE_LIST_MAX);
}

static sight_err one_gpu(device_id *out, int index, const char *word, const char *what)
{
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

// Those that are new enough. The shim's count: whoever says cuda:all means them.
static sight_err all_gpus(device_list *out, const char *word, const char *what)
{
    device_list found = {.n = 0};
    device_id id;
    sight_err err = one_gpu(&id, 0, word, what);
    for (int i = 0; !err && i < device_gpus() && found.n < DEVICE_LIST_MAX; i++) {
        device_info info;
        id = (device_id){DEVICE_CUDA, i};
        if (!device_describe(&info, id) && info.major >= DEVICE_MIN_MAJOR) found.at[found.n++] = id;
    }
    if (!err && found.n == 0) {
        err = sight_fail(SIGHT_E_UNSUPPORTED, "%s is '%.40s': none has compute capability %d.0", what, word,
                         DEVICE_MIN_MAJOR);
    }
    if (!err) *out = found;
    return err;
}

sight_err device_parse_list(device_list *out, const char *word, const char *what)
{
    int indices[DEVICE_LIST_MAX];
    device_list found = {.n = gpus_of(indices, word)};
    sight_err err = SIGHT_OK;
    if (!strcmp(word, "cuda:all")) return all_gpus(out, word, what);
    for (int32_t i = 0; i < found.n && !err; i++) err = one_gpu(&found.at[i], indices[i], word, what);
    if (found.n == 0) {
        err = device_parse(&found.at[0], word, what);
        found.n = 1;
    }
    if (!err) *out = found;
    return err;
}

sight_err device_parse(device_id *out, const char *word, const char *what)
{
    sight_err err = device_check_word(word, what);
    if (err) return err;
    const int index = gpu_of(word);
    const bool one = index >= 0 || !strcmp(word, "auto") || !strcmp(word, "cpu");
    if (!one) return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.40s', a single device is needed here", what, word);
    if (index < 0) {
        *out = strcmp(word, "auto") ? (device_id){DEVICE_CPU, 0} : best();
        return SIGHT_OK;
    }
    return one_gpu(out, index, word, what);
}
