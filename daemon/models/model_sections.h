// daemon/models/model_sections.h - the sections of a configuration: a model or a router each, as they were written.
//
//     [model small]                 [router auto]
//     model = Qwen/Qwen3.5-0.8B     models = small, large
//     memory = 30%                  rule = confidence 0.6
//
// Every value is checked when it is read, so that a sentence can name its line; what they mean together is settled by
// daemon/models/model_set.h. Threads: any; plain data.
#ifndef SIGHT_DAEMON_MODEL_SECTIONS_H
#define SIGHT_DAEMON_MODEL_SECTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/err.h"

#define MODEL_NAME_SIZE 128 // with the terminator

typedef enum section_kind { SECTION_MODEL, SECTION_ROUTER } section_kind;

typedef struct section_value {
    char *name, *value;
} section_value;

typedef struct model_section {
    section_kind kind;
    char name[MODEL_NAME_SIZE];
    section_value *values; // [n], in the order given; of one that is no list the last counts
    size_t n;
} model_section;

typedef struct model_sections {
    model_section *items; // [n], in the order given
    size_t n;
} model_sections;

// Begins the section of a line "[model small]"; *out is good until the next one begins. where begins the sentence of
// SIGHT_E_ARGUMENT (no such kind, a wrong or second name). SIGHT_E_MEMORY.
sight_err model_sections_begin(model_sections *s, model_section **out, const char *line, const char *where);
// A setting in it. SIGHT_E_ARGUMENT names what there is, or what is wrong with the value; SIGHT_E_MEMORY.
sight_err model_sections_set(model_section *to, const char *name, const char *value, const char *where);

// Whether a value of --model is of the form NAME=WHERE; only then is it taken, into the section of that model.
// *taken says so. Codes as above.
sight_err model_sections_take(model_sections *s, bool *taken, const char *value, const char *where);

void model_sections_print(const model_sections *s, FILE *to);
void model_sections_done(model_sections *s); // leaves it zeroed

#endif
