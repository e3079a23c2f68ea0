// text/sampler_select.h - which candidates top-k and top-p keep, without sorting.
//
// Logits become unsigned keys of the same order; the key at the border is found digit by digit
// (radix selection), by count or by mass. Threads: any.
#ifndef SIGHT_TEXT_SAMPLER_SELECT_H
#define SIGHT_TEXT_SAMPLER_SELECT_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Candidates, in the order of ids.
typedef struct candidates {
    uint32_t *keys;
    float *weights; // not negative; not normalised
    int32_t *ids;
    size_t n;
} candidates;

// A finite logit as a key: greater logits have greater keys, -0 and 0 the same.
static inline uint32_t sampler_key(float logit)
{
    uint32_t bits;
    logit += 0.0f;
    memcpy(&bits, &logit, sizeof bits);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

// The sum of weights, in blocks and lanes: an order that does not depend on the machine.
#define SELECT_BLOCK 256
double sampler_select_sum(const float *weights, size_t n);

// Keeps the k greatest, and all that equal the last of them. Returns their weight.
double sampler_select_top_k(candidates *c, size_t k);
// A lower bound of the k-th greatest key of values[n], of which -inf do not count; 0 when there are
// no k. It saves gathering what top-k will drop.
uint32_t sampler_select_bound(const float *values, size_t n, size_t k);
// Keeps the greatest until their weight reaches p, below 1, of the whole (that of all candidates);
// of equals, lower ids first.
void sampler_select_top_p(candidates *c, double p, double whole);
// Keeps weights of at least the limit.
void sampler_select_min(candidates *c, float limit);

#endif
