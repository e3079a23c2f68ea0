// The devices of replicas: lists of devices with '/' between.
#include <string.h>

#include "kernels/device.h"

#define WORD_MAX 256

static bool is_several(const char *word)
{
    return strchr(word, '/') || !strcmp(word, "cuda:each");
}

// Copies the part of the word that *at points to, and moves *at behind it; NULL: it was the last. false: it is empty or too long.
static bool next_part(char part[WORD_MAX], const char **at)
{
    const size_t n = strcspn(*at, "/");
    if (n == 0 || n >= WORD_MAX) return false;
    memcpy(part, *at, n);
    part[n] = 0;
    *at = (*at)[n] ? *at + n + 1 : NULL;
    return true;
}

static sight_err wrong(const char *word, const char *what, const char *why)
{
    return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.80s': %s", what, word, why);
}

// Those that a part may not be: it has to be settled which devices they are.
static bool is_open_ended(const char *part)
{
    return !strcmp(part, "auto") || !strcmp(part, "cuda:all") || !strcmp(part, "cuda:each");
}

static sight_err wrong_kind(const char *word, const char *what)
{
    return wrong(word, what, "replicas are all on GPUs or all on the CPU, as their numbers differ");
}

static sight_err wrong_count(const char *word, const char *what)
{
    return wrong(word, what, "replicas have as many GPUs each, as their numbers differ otherwise");
}

static int commas_of(const char *part)
{
    int n = 0;
    for (; *part; part++) n += *part == ',';
    return n;
}

sight_err device_check_sets(const char *word, const char *what)
{
    if (!is_several(word)) return device_check_word(word, what);
    if (!strcmp(word, "cuda:each")) return SIGHT_OK;
    char part[WORD_MAX];
    int n = 0, commas = 0;
    for (const char *at = word; at; n++) {
        if (n == DEVICE_LIST_MAX) return wrong(word, what, "16 replicas are the most");
        if (!next_part(part, &at)) return wrong(word, what, "a replica's devices are missing beside a '/'");
        if (is_open_ended(part)) return wrong(word, what, "replicas are each named as cpu, cuda:N or cuda:N,M, or together as cuda:each");
        sight_err err = device_check_word(part, what);
        if (err) return err;
        if (part[1] != word[1]) return wrong_kind(word, what);
        if (n && commas_of(part) != commas) return wrong_count(word, what);
        commas = commas_of(part);
    }
    return SIGHT_OK;
}

static bool names_gpu(const device_sets *sets, device_id gpu)
{
    for (int32_t i = 0; i < sets->n; i++) {
        for (int32_t j = 0; j < sets->at[i].n; j++) {
            const device_id id = sets->at[i].at[j];
            if (id.kind == gpu.kind && id.index == gpu.index) return true;
        }
    }
    return false;
}

static sight_err add(device_sets *sets, const device_list *one, const char *word, const char *what)
{
    for (int32_t i = 0; i < one->n; i++) {
        if (one->at[i].kind != DEVICE_CPU && names_gpu(sets, one->at[i])) return wrong(word, what, "a GPU is named twice");
    }
    sets->at[sets->n++] = *one;
    return SIGHT_OK;
}

static sight_err each_gpu(device_sets *out, const char *what)
{
    device_list all;
    sight_err err = device_parse_list(&all, "cuda:all", what);
    if (err) return err;
    out->n = all.n;
    for (int32_t i = 0; i < all.n; i++) out->at[i] = (device_list){.at = {all.at[i]}, .n = 1};
    return SIGHT_OK;
}

sight_err device_parse_sets(device_sets *out, const char *word, const char *what)
{
    device_sets sets = {.n = 0};
    sight_err err = device_check_sets(word, what);
    if (err) return err;
    if (!strcmp(word, "cuda:each")) return each_gpu(out, what);
    char part[WORD_MAX];
    for (const char *at = word; at && !err;) {
        device_list one;
        if (!is_several(word)) at = NULL;
        else if (!next_part(part, &at)) return wrong(word, what, "a replica's devices are missing beside a '/'");
        err = device_parse_list(&one, is_several(word) ? part : word, what);
        if (!err) err = add(&sets, &one, word, what);
    }
    if (!err) *out = sets;
    return err;
}
