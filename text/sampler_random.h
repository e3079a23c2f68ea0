// text/sampler_random.h - random numbers and exponentials that are the same on every machine.
#ifndef SIGHT_TEXT_SAMPLER_RANDOM_H
#define SIGHT_TEXT_SAMPLER_RANDOM_H

#include <stdint.h>
#include <string.h>

// xoshiro256** (Blackman and Vigna, "Scrambled Linear Pseudorandom Number Generators", 2021).
typedef struct sampler_random {
    uint64_t s[4];
} sampler_random;

// Fills the state by splitmix64, as its authors advise.
static inline void sampler_random_init(sampler_random *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        uint64_t z = seed += 0x9e3779b97f4a7c15u;
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        r->s[i] = z ^ z >> 31;
    }
}

static inline uint64_t sampler_random_bits(sampler_random *r)
{
    uint64_t *s = r->s, x = s[1] * 5;
    uint64_t result = (x << 7 | x >> 57) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return result;
}

// Uniform in [0, 1), in steps of 2^-53.
static inline double sampler_random_unit(sampler_random *r)
{
    return (double)(sampler_random_bits(r) >> 11) * 0x1p-53;
}

// e^x for x <= 0, 0 below -87: 2^n e^r with r in [-ln2/2, ln2/2] and Taylor's polynomial to degree
// 7 (its rest is below 1e-8), by plain float operations, so that no mathematics library matters.
static inline float sampler_exp(float x)
{
    float clamped = x > -87.0f ? x : -87.0f;
    int32_t n = (int32_t)(clamped * 1.44269504f - 0.5f); // rounds to nearest: the product is <= 0
    float r = clamped - (float)n * 0.693359375f;         // ln 2 in two parts
    r = r + (float)n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    float y = p * scale;
    return x > -87.0f ? y : 0.0f;
}

#endif
