#include "text/planes.h"

#include "base/threads.h"
#include "kernels/output.h"
#include "text/output.h"

#define NAME "output planes"
#define VERSION 1
// Of what a token reads the head must be one part in so many: halving less is not felt.
#define LEAST_SHARE 16

static sight_err find_head(const checkpoint *c, weight *head)
{
    const bool tied = checkpoint_config(c)->text.tied;
    *head = (weight){0};
    return checkpoint_matrix(c, &head->w, &head->packed,
                             tied ? "model.language_model.embed_tokens.weight" : "lm_head.weight");
}

bool text_planes_wanted(const text_config *config)
{
    const double D = config->hidden, head = D * config->vocab;
    const double layer = 3 * D * config->intermediate + 4 * D * D; // about
    return head * LEAST_SHARE >= head + layer * config->n_layers;
}

static sight_err make(void *arg, const checkpoint *c, void *to, struct threads *pool)
{
    const text_planes *keep = arg;
    weight head;
    sight_err err = find_head(c, &head);
    // A head published in 4 bits leaves the block empty: no page of it is touched.
    if (!err && op_output_pays(keep->k, &head)) output_make_block(keep->k, to, &head);
    return err;
}

bool text_planes_extra(prepare_extra *out, text_planes *keep, const checkpoint *c, kernels *k)
{
    const model_config *config = checkpoint_config(c);
    weight head = {.w = {.type = TENSOR_BF16, .n_dims = 2,
                         .shape = {config->text.vocab, config->text.hidden}}};
    if (!op_output_pays(k, &head) || !text_planes_wanted(&config->text)) return false;
    keep->k = k;
    *out = (prepare_extra){.name = NAME, .version = VERSION, .bytes = output_block_bytes(&head),
                           .make = make, .arg = keep};
    return true;
}

const void *text_planes_block(const checkpoint *c)
{
    size_t bytes;
    return checkpoint_extra(c, NAME, &bytes);
}
