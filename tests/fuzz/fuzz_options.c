// Any bytes as a configuration file. What is accepted must come to a set of models that copies whole, and must be printed as
// it was read.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/models/model_set.h"
#include "daemon/settings/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const model_set *set)
{
    model_set copy;
    if (set->n_models < 1 || set->n_models > MODELS_MAX || !set->first[0]) abort();
    if (model_set_copy(&copy, set)) return;
    for (int i = 0; i < set->n_models; i++) {
        if (strcmp(copy.models[i].key, set->models[i].key)) abort();
        if (copy.models[i].engine.model == set->models[i].engine.model) abort();
    }
    model_set_done(&copy);
}

static char *print(const options *o)
{
    char *text = NULL;
    size_t n;
    FILE *f = open_memstream(&text, &n);
    if (!f) return NULL;
    options_print_config(o, f);
    fclose(f);
    return text;
}

static void read_back(const options *o)
{
    options again;
    options_set_defaults(&again);
    char *first = print(o);
    if (first && options_read_text(&again, first, "printed")) abort();
    char *second = first ? print(&again) : NULL;
    if (first && second && strcmp(first, second)) abort();
    free(first);
    free(second);
    options_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (!text) return 0;
    memcpy(text, data, size);
    text[size] = 0;
    options o;
    options_set_defaults(&o);
    model_set set;
    if (!options_read_text(&o, text, "fuzz") && !options_check(&o)) {
        read_back(&o);
        if (!model_set_make(&set, &o)) {
            check(&set);
            model_set_done(&set);
        }
    }
    options_done(&o);
    free(text);
    return 0;
}
