// Multimodal rotary positions with interleaved frequencies, and YaRN.
//
// Sources: RoFormer (arXiv 2104.09864); YaRN (arXiv 2309.00071); the interleaving of Qwen3-VL as in
// transformers, models/qwen3_vl. Frequencies and angles are float32 as there: at position 100,000
// a double angle would differ from the reference's by 1e-3.
#include "text/rope.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/memory.h"

static const double two_pi = 6.283185307179586;

// The index (of a pair, in 0 .. d/2) whose wavelength fits `rotations` times into the context.
static double correction_dim(double rotations, const text_config *c, int32_t d, double context)
{
    return d * log(context / (rotations * two_pi)) / (2 * log(c->rope.theta));
}

// YaRN's blend: 1 = keep the frequency (it turns often), 0 = slow it down by the factor.
// period [d/2]: what inv is one over.
static void yarn_frequencies(float *inv, const float *period, const text_config *c, int32_t d)
{
    const rope_config *r = &c->rope;
    double context = r->original_max_positions > 0 ? r->original_max_positions
                                                   : (double)c->max_positions;
    double low = correction_dim(r->beta_fast, c, d, context);
    double high = correction_dim(r->beta_slow, c, d, context);
    if (r->truncate) {
        low = floor(low);
        high = ceil(high);
    }
    if (low < 0) low = 0;
    if (high > d - 1) high = d - 1;
    if (low == high) high += 0.001;
    for (int32_t j = 0; j < d / 2; j++) {
        float ramp = ((float)j - (float)low) / (float)(high - low);
        ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
        float keep = 1 - ramp;
        float slow = 1 / ((float)r->factor * period[j]);
        inv[j] = slow * (1 - keep) + inv[j] * keep;
    }
}

static double yarn_mscale(double factor, double mscale)
{
    return factor <= 1 ? 1 : 0.1 * mscale * log(factor) + 1;
}

static float rope_amplitude(const rope_config *r)
{
    if (!r->yarn) return 1;
    if (r->attention_factor > 0) return (float)r->attention_factor;
    if (r->mscale != 0 && r->mscale_all_dim != 0) {
        return (float)(yarn_mscale(r->factor, r->mscale) /
                       yarn_mscale(r->factor, r->mscale_all_dim));
    }
    return (float)yarn_mscale(r->factor, 1);
}

// Which of the three positions turns each frequency: t, but h and w every third within their
// sections.
static int32_t frequency_axis(int32_t j, const rope_config *r)
{
    if (j % 3 == 1 && j < 3 * r->mrope_section[1]) return 1;
    if (j % 3 == 2 && j < 3 * r->mrope_section[2]) return 2;
    return 0;
}

// period, inv and axis [half] of a rotated width of 2 * half.
static void fill(float *period, float *inv, int32_t *axis, int32_t half, const text_config *config)
{
    const int32_t d = 2 * half;
    for (int32_t j = 0; j < half; j++) {
        period[j] = powf((float)config->rope.theta, (float)(2 * j) / (float)d);
        inv[j] = 1 / period[j];
        axis[j] = frequency_axis(j, &config->rope);
    }
    if (config->rope.yarn) yarn_frequencies(inv, period, config, d);
}

sight_err rope_create(rope_table *out, kernels *k, const text_config *config)
{
    const int32_t half = rope_rotary(config) / 2;
    const size_t n = (size_t)half;
    // inv and axis lie side by side, and so they go; period is behind them.
    float *inv = malloc((3 * n + 1) * sizeof *inv);
    if (!inv) return sight_fail(SIGHT_E_MEMORY, "no memory for rotary frequencies");
    fill(inv + 2 * n, inv, (int32_t *)(inv + n), half, config);
    void *block;
    sight_err err = kernels_alloc(&block, k, 2 * n * sizeof *inv, "rotary frequencies");
    if (!err) {
        kernels_write(k, block, inv, 2 * n * sizeof *inv);
        *out = (rope_table){.inv = block,
                            .axis = (const int32_t *)((const float *)block + n),
                            .half = half,
                            .amplitude = rope_amplitude(&config->rope)};
    }
    free(inv);
    return err;
}

void rope_destroy(rope_table *t, kernels *k)
{
    kernels_free(k, (void *)t->inv);
    *t = (rope_table){0};
}
