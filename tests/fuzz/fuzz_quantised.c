// Quantised folders: the input is config.json, a line "--", and the bytes of a safetensors file. A few small
// matrices are expected of it; what is accepted is read row by row. The JSON is tried as an adapter's config too.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoint/form.h"
#include "checkpoint/lora_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LAYER "model.language_model.layers.3."

static expected matrices[] = {
    {LAYER "mlp.down_proj.weight", 2, {32, 64}},
    {LAYER "mlp.gate_proj.weight", 2, {32, 64}},
    {LAYER "self_attn.k_proj.weight", 2, {32, 32}},
    {"model.language_model.layers.1.linear_attn.in_proj_a.weight", 2, {4, 64}},
};

static void collect(checkpoint *c, const safetensors *file)
{
    c->dir = strdup("fuzz");
    c->weights = calloc(safetensors_count(file) + 1, sizeof *c->weights);
    if (!c->dir || !c->weights) return;
    for (size_t i = 0; i < safetensors_count(file); i++) {
        weight *w = &c->weights[c->n];
        w->name = strdup(safetensors_name(file, i));
        w->path = "fuzz";
        w->dtype = safetensors_dtype(file, i);
        w->has_view = safetensors_view(file, &w->view, i);
        if (w->name) c->n++;
    }
    checkpoint_finish(c);
}

static void read_rows(const stored *s)
{
    const char *why;
    if (!packed_format_check(&s->format, &why)) abort();
    for (int64_t first = 0; first < s->M; first += PACKED_PANEL) {
        const int64_t n = s->M - first < PACKED_PANEL ? s->M - first : PACKED_PANEL;
        packed_rows rows;
        if (!packed_rows_alloc(&rows, &s->format, n, s->K)) return;
        if (s->read(s, &rows, first, n) == SIGHT_OK) {
            for (int64_t i = 0; i < n * s->K; i++) {
                if (s->format.bits == 4 && rows.codes[i] > 15) abort();
            }
        }
        free(rows.codes);
    }
}

static void try_tensors(quant_config **quant, const uint8_t *bytes, size_t size)
{
    safetensors *file = NULL;
    if (safetensors_parse(&file, bytes, size, "fuzz")) return;
    checkpoint *c = calloc(1, sizeof *c);
    if (c) {
        const expect_list list = {matrices, sizeof matrices / sizeof *matrices, 0, false};
        c->quant = *quant;
        *quant = NULL;
        collect(c, file);
        if (c->weights && c->dir && forms_apply(c, &list) == SIGHT_OK) {
            for (size_t i = 0; i < c->n; i++) {
                if (c->weights[i].stored) read_rows(c->weights[i].stored);
            }
        }
        checkpoint_close(&c);
    }
    safetensors_close(&file);
}

static void try_adapter(const char *text, size_t n)
{
    lora_config *c = NULL;
    double scale;
    if (lora_config_parse(&c, text, n, "fuzz")) return;
    if (lora_config_rank(c, LAYER "mlp.down_proj", &scale) < 0) abort();
    lora_config_free(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n = 0;
    while (n < size && (size - n < 4 || memcmp(data + n, "\n--\n", 4))) n++;
    const size_t rest = n < size ? size - n - 4 : 0;
    unsigned char *bytes = malloc(rest ? rest : 1); // exact, so that a read past the end is seen
    quant_config *quant = NULL;
    if (bytes && rest) memcpy(bytes, data + n + 4, rest);
    try_adapter((const char *)data, n);
    if (bytes && quant_config_parse(&quant, (const char *)data, n, NULL, 0) == SIGHT_OK) {
        try_tensors(&quant, bytes, rest);
    }
    quant_config_free(&quant);
    free(bytes);
    return 0;
}
