#include "text/sampler_select.h"

#include <math.h>
#include <stdbool.h>

// A key is read in digits of 11, 11 and 10 bits, from the top.
#define DIGITS 2048
static const int shifts[3] = {21, 10, 0};

double sampler_select_sum(const float *weights, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i += SELECT_BLOCK) {
        size_t end = n - i < SELECT_BLOCK ? n : i + SELECT_BLOCK, k = i;
        double lanes[8] = {0};
        for (; k + 8 <= end; k += 8)
            for (size_t j = 0; j < 8; j++) lanes[j] += (double)weights[k + j];
        for (size_t j = 0; k < end; k++, j++) lanes[j] += (double)weights[k];
        for (size_t j = 0; j < 8; j++) sum += lanes[j];
    }
    return sum;
}

static void keep(candidates *c, size_t to, size_t from)
{
    c->keys[to] = c->keys[from];
    c->weights[to] = c->weights[from];
    c->ids[to] = c->ids[from];
}

uint32_t sampler_select_bound(const float *values, size_t n, size_t k)
{
    uint32_t counts[2][DIGITS] = {{0}}; // two, so that neighbours do not wait for each other
    for (size_t i = 0; i < n; i++)
        if (values[i] != -INFINITY) counts[i & 1][sampler_key(values[i]) >> shifts[0]]++;
    for (size_t d = DIGITS, seen = 0; d-- > 0;) {
        seen += counts[0][d] + counts[1][d];
        if (seen >= k) return (uint32_t)d << shifts[0];
    }
    return 0;
}

typedef struct border {
    uint32_t key;  // of the last that is kept
    double before; // count or mass of those with greater keys
} border;

// Adds up, by the digit at `shift`, the candidates whose keys agree with `key` under `fixed`.
static void add_up(double *sums, const candidates *c, bool mass, uint32_t key, uint32_t fixed,
                   int shift, uint32_t digit_mask)
{
    double odd[DIGITS] = {0}; // two tables, so that neighbours do not wait for each other
    const uint32_t *keys = c->keys;
    const float *weights = c->weights;
    size_t n = c->n;
    for (size_t i = 0; i < n; i++) {
        if ((keys[i] & fixed) != key) continue;
        (i & 1 ? odd : sums)[keys[i] >> shift & digit_mask] += mass ? (double)weights[i] : 1;
    }
    for (size_t d = 0; d <= digit_mask; d++) sums[d] += odd[d];
}

// The first key, from the top, at which count (or mass) reaches the target; false: never.
static bool find_border(border *b, const candidates *c, bool mass, double target)
{
    *b = (border){0};
    for (int level = 0; level < 3; level++) {
        double sums[DIGITS] = {0};
        uint32_t digit_mask = level == 2 ? 1023 : 2047;
        uint32_t fixed = level == 0 ? 0 : UINT32_MAX << shifts[level - 1];
        add_up(sums, c, mass, b->key, fixed, shifts[level], digit_mask);
        // By rounding, finer sums may stay below a target that the coarser one reached: then the
        // lowest digit that has any is the border.
        uint32_t chosen = UINT32_MAX;
        double before = b->before;
        for (uint32_t d = digit_mask + 1; d-- > 0;) {
            if (sums[d] == 0) continue;
            chosen = d;
            b->before = before;
            before += sums[d];
            if (before >= target) break;
        }
        if (chosen == UINT32_MAX || (level == 0 && before < target)) return false;
        b->key |= chosen << shifts[level];
    }
    return true;
}

double sampler_select_top_k(candidates *c, size_t k)
{
    border b;
    size_t n = 0;
    if (k < c->n && find_border(&b, c, false, (double)k)) {
        for (size_t i = 0; i < c->n; i++)
            if (c->keys[i] >= b.key) keep(c, n++, i);
        c->n = n;
    }
    return sampler_select_sum(c->weights, c->n);
}

void sampler_select_min(candidates *c, float limit)
{
    uint32_t *keys = c->keys;
    int32_t *ids = c->ids;
    float *weights = c->weights;
    size_t n = 0, all = c->n;
    for (size_t i = 0; i < all; i++) {
        float weight = weights[i];
        keys[n] = keys[i];
        ids[n] = ids[i];
        weights[n] = weight;
        n += weight >= limit;
    }
    c->n = n;
}

void sampler_select_top_p(candidates *c, double p, double whole)
{
    border b;
    size_t n = 0;
    // Those of less than (1 - p) / n of the whole have together less than 1 - p of it: the others
    // reach p without them. (A little less, for rounding.)
    sampler_select_min(c, (float)(0.999 * (1 - p) * whole / (double)c->n));
    if (!find_border(&b, c, true, p * whole)) return;
    double mass = b.before;
    for (size_t i = 0; i < c->n; i++) {
        if (c->keys[i] < b.key) continue;
        if (c->keys[i] == b.key) {
            if (mass > b.before && mass >= p * whole) continue;
            mass += (double)c->weights[i];
        }
        keep(c, n++, i);
    }
    c->n = n;
}
