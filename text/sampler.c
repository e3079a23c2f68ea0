#include "text/sampler.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/sampler_random.h"
#include "text/sampler_select.h"

#define FORM_AWAITED (-2)
#define SAMPLER_ALIKE 16 // ids that mean the same, at most

struct sampler {
    sampler_options options;
    int32_t vocab;
    const uint8_t *allowed;
    sampler_random random;
    // Ids that penalties touch: once each, with the logit before penalties.
    int32_t *seen;
    float *unpenalized; // [n_seen], of the current logits
    size_t n_seen;
    int32_t *counts;  // [vocab]: how often generated
    uint8_t *is_seen; // [vocab]
    grammar *form;    // NULL: any
    int32_t place;    // in it; FORM_AWAITED before it begins, GRAMMAR_NOWHERE past its end
    int32_t after;    // the id that it begins after
    int32_t choices;  // ids that could be drawn, where that was counted
    candidates c;     // room for vocab; untouched pages cost nothing
    bool marked;
    sampler_random random_at_mark;
    size_t seen_at_mark;
    int32_t place_at_mark;
    int32_t guesses[SAMPLER_GUESSES]; // drawn since the mark
    size_t n_guesses;
};

static sight_err check_range(const char *name, double v, double min, double max, const char *range)
{
    if (v >= min && v <= max) return SIGHT_OK; // false for NaN
    return sight_fail(SIGHT_E_ARGUMENT, "%s is %g, must be %s", name, v, range);
}

static sight_err check_options(const sampler_options *o)
{
    sight_err err = check_range("temperature", o->temperature, 0, 100, "0 to 100");
    if (!err && o->top_k < 0) {
        err = sight_fail(SIGHT_E_ARGUMENT, "top_k is %d, must be 0 (off) or more", (int)o->top_k);
    }
    if (!err) err = check_range("top_p", o->top_p, DBL_TRUE_MIN, 1, "over 0, at most 1");
    if (!err) err = check_range("min_p", o->min_p, 0, 1 - DBL_EPSILON / 2, "0 or more, below 1");
    if (!err) err = check_range("presence_penalty", o->presence_penalty, -2, 2, "-2 to 2");
    if (!err) err = check_range("frequency_penalty", o->frequency_penalty, -2, 2, "-2 to 2");
    if (!err) {
        err = check_range("repetition_penalty", o->repetition_penalty, DBL_TRUE_MIN, DBL_MAX,
                          "over 0");
    }
    return err;
}

sight_err sampler_create(sampler **out, const sampler_options *options, int32_t vocab,
                         const uint8_t *allowed)
{
    sight_err err = check_options(options);
    if (err) return err;
    if (vocab <= 0) {
        return sight_fail(SIGHT_E_ARGUMENT, "a vocabulary of %d, must be 1 or more", (int)vocab);
    }
    sampler *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory for a sampler");
    size_t n = (size_t)vocab;
    s->options = *options;
    s->vocab = vocab;
    s->allowed = allowed;
    sampler_random_init(&s->random, options->seed);
    s->seen = malloc(n * sizeof *s->seen);
    s->unpenalized = malloc(n * sizeof *s->unpenalized);
    s->counts = calloc(n, sizeof *s->counts);
    s->is_seen = calloc(n, 1);
    s->c.keys = malloc(n * sizeof *s->c.keys);
    s->c.weights = malloc(n * sizeof *s->c.weights);
    s->c.ids = malloc(n * sizeof *s->c.ids);
    if (!s->seen || !s->unpenalized || !s->counts || !s->is_seen || !s->c.keys || !s->c.weights ||
        !s->c.ids) {
        sampler_destroy(&s);
        return sight_fail(SIGHT_E_MEMORY, "no memory for a sampler over %d ids", (int)vocab);
    }
    *out = s;
    return SIGHT_OK;
}

void sampler_destroy(sampler **s)
{
    if (!*s) return;
    sampler *x = *s;
    free(x->seen);
    free(x->unpenalized);
    free(x->counts);
    free(x->is_seen);
    free(x->c.keys);
    free(x->c.weights);
    free(x->c.ids);
    free(x);
    *s = NULL;
}

void sampler_set_form(sampler *s, grammar *form, int32_t after)
{
    s->form = form;
    s->after = after;
    s->place = after < 0 ? 0 : FORM_AWAITED;
}

// Ids that may be drawn now, and the number of that array's contents.
static const uint8_t *allowed_now(sampler *s, uint64_t *serial)
{
    *serial = 0;
    const uint8_t *mask = s->form && s->place >= 0 ? grammar_mask(s->form, s->place, serial) : NULL;
    return mask ? mask : s->allowed;
}

static void follow_form(sampler *s, int32_t id)
{
    if (!s->form) return;
    if (s->place >= 0) s->place = grammar_next(s->form, s->place, id);
    else if (s->place == FORM_AWAITED && id == s->after) s->place = 0;
}

static void see(sampler *s, int32_t id)
{
    if (id < 0 || id >= s->vocab || s->is_seen[id]) return;
    s->is_seen[id] = 1;
    s->seen[s->n_seen++] = id;
}

void sampler_see_prompt(sampler *s, const int32_t *ids, size_t n)
{
    if (s->options.repetition_penalty == 1) return; // the others do not look at the prompt
    for (size_t i = 0; i < n; i++) see(s, ids[i]);
}

// The logits of a step: all (ids NULL: the places are the ids), or those of rising ids.
typedef struct choices {
    float *logits;
    const int32_t *ids;
    size_t n;
} choices;

static int32_t id_of(const choices *c, size_t i)
{
    return c->ids ? c->ids[i] : (int32_t)i;
}

// n: it is not there.
static size_t place_of(const choices *c, int32_t id)
{
    if (!c->ids) return (size_t)id;
    size_t low = 0, high = c->n;
    while (low < high) {
        const size_t mid = low + (high - low) / 2;
        if (c->ids[mid] < id) low = mid + 1;
        else high = mid;
    }
    return low < c->n && c->ids[low] == id ? low : c->n;
}

static bool penalizes(const sampler *s)
{
    const sampler_options *o = &s->options;
    return o->repetition_penalty != 1 || o->presence_penalty != 0 || o->frequency_penalty != 0;
}

// Repetition as in CTRL (Keskar et al. 2019) and transformers; presence and frequency as OpenAI
// defines them.
static void apply_penalties(sampler *s, const choices *c)
{
    const sampler_options *o = &s->options;
    float repetition = (float)fmin(fmax(o->repetition_penalty, FLT_MIN), FLT_MAX);
    for (size_t k = 0; k < s->n_seen && penalizes(s); k++) {
        int32_t id = s->seen[k], count = s->counts[id];
        const size_t place = place_of(c, id);
        if (place == c->n) continue;
        float l = s->unpenalized[k] = c->logits[place];
        if (!(fabsf(l) <= FLT_MAX)) continue; // stays what it is
        l = l < 0 ? l * repetition : l / repetition;
        l -= (float)(o->frequency_penalty * count);
        if (count > 0) l -= (float)o->presence_penalty;
        c->logits[place] = fminf(fmaxf(l, -FLT_MAX), FLT_MAX);
    }
}

// The loops over the vocabulary go by blocks of LANES with all pointers in locals, so that
// compilers make vector code of them; the order of sums is fixed by that, not by the machine.
#define LANES 8

// Ids without a token, and logits that are not finite, become -inf. Returns the greatest.
static float mask(float *logits, size_t n, const uint8_t *allowed)
{
    float best[LANES];
    for (size_t k = 0; k < LANES; k++) best[k] = -INFINITY;
    for (size_t i = 0; i < n; i += LANES) {
        size_t lanes = n - i < LANES ? n - i : LANES;
        for (size_t k = 0; k < lanes; k++) {
            float l = logits[i + k];
            l = l >= -FLT_MAX && l <= FLT_MAX ? l : -INFINITY;
            if (allowed) l = allowed[i + k] ? l : -INFINITY;
            logits[i + k] = l;
            best[k] = l > best[k] ? l : best[k];
        }
    }
    for (size_t k = 1; k < LANES; k++) best[0] = best[k] > best[0] ? best[k] : best[0];
    return best[0];
}

// Turns exponents, at most 0, into weights; returns their sum.
static double weigh(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = sampler_exp(x[i]);
    return sampler_select_sum(x, n);
}

// log(sum(exp(logits))) over the finite ones that are allowed (NULL: all): the model's own normaliser. *count: of those.
static double log_sum(const float *logits, size_t n, const uint8_t *allowed, int32_t *count)
{
    float best = -FLT_MAX, part[1024];
    for (size_t i = 0; i < n; i++) {
        float l = logits[i] <= FLT_MAX && (!allowed || allowed[i]) ? logits[i] : -FLT_MAX; // NaN too
        best = l > best ? l : best;
    }
    double sum = 0;
    *count = 0;
    for (size_t i = 0; i < n; i += 1024) {
        size_t m = n - i < 1024 ? n - i : 1024;
        for (size_t k = 0; k < m; k++) {
            float l = logits[i + k];
            const bool counts = l >= -FLT_MAX && l <= FLT_MAX && (!allowed || allowed[i + k]);
            part[k] = counts ? l - best : -INFINITY;
            *count += counts;
        }
        sum += weigh(part, m);
    }
    return (double)best + log(sum);
}

// Those of a list of ids, likewise.
static float mask_few(const choices *c, const uint8_t *allowed)
{
    float best = -INFINITY;
    for (size_t i = 0; i < c->n; i++) {
        float l = c->logits[i];
        if (!(l >= -FLT_MAX && l <= FLT_MAX) || (allowed && !allowed[c->ids[i]])) l = -INFINITY;
        c->logits[i] = l;
        best = l > best ? l : best;
    }
    return best;
}

static int32_t greatest(const choices *c, float best)
{
    size_t i = 0;
    while (i + 1 < c->n && c->logits[i] != best) i++;
    return id_of(c, i);
}

// Candidates with keys of at least `bound`, weighted by e^((logit - best) / temperature).
// Returns their weight.
static double gather(sampler *s, const choices *c, float best, uint32_t bound)
{
    uint32_t *keys = s->c.keys;
    int32_t *ids = s->c.ids;
    float *weights = s->c.weights;
    const float *logits = c->logits;
    const size_t all = c->n;
    size_t n = 0;
    double inverse = 1 / s->options.temperature;
    float scale = inverse < 1e30 ? (float)inverse : 1e30f;
    for (size_t i = 0; i < all; i++) {
        float l = logits[i];
        uint32_t key = sampler_key(l);
        keys[n] = key;
        ids[n] = (int32_t)i;
        weights[n] = (l - best) * scale;
        n += key >= bound && l != -INFINITY;
    }
    s->c.n = n;
    for (size_t i = 0; c->ids && i < n; i++) ids[i] = c->ids[ids[i]];
    return weigh(weights, n);
}

// The id at a uniform part of the weight, in the order of ids.
static int32_t draw(sampler *s)
{
    const candidates *c = &s->c;
    double left = sampler_random_unit(&s->random) * sampler_select_sum(c->weights, c->n);
    size_t i = 0, id = 0;
    for (size_t next; (next = i + SELECT_BLOCK) < c->n; i = next) {
        double block = sampler_select_sum(c->weights + i, SELECT_BLOCK);
        if (left < block) break;
        left -= block;
    }
    for (; i < c->n; i++) {
        if (c->weights[i] == 0) continue;
        id = i; // the last of weight, should rounding leave a rest
        if ((left -= (double)c->weights[i]) < 0) break;
    }
    return c->ids[id];
}

// How many top-k keeps; 0: all.
static int32_t kept(const sampler *s)
{
    const sampler_options *o = &s->options;
    return o->top_k > 0 && o->top_k < s->vocab ? o->top_k : 0;
}

static int32_t sample(sampler *s, const choices *c, float best)
{
    const sampler_options *o = &s->options;
    size_t k = (size_t)kept(s);
    uint32_t bound = k ? sampler_select_bound(c->logits, c->n, k) : 0;
    double whole = gather(s, c, best, bound);
    if (k) whole = sampler_select_top_k(&s->c, k);
    if (o->top_p < 1) sampler_select_top_p(&s->c, o->top_p, whole);
    if (o->min_p > 0) sampler_select_min(&s->c, (float)o->min_p); // the greatest weight is 1
    return draw(s);
}

static float unpenalized_logit(const sampler *s, const choices *c, int32_t id)
{
    if (!s->is_seen[id] || !penalizes(s)) return c->logits[place_of(c, id)];
    size_t k = 0;
    while (s->seen[k] != id) k++;
    return s->unpenalized[k];
}

static void remember(sampler *s, int32_t id)
{
    if (s->marked) {
        assert(s->n_guesses < SAMPLER_GUESSES);
        s->guesses[s->n_guesses++] = id;
    }
    follow_form(s, id);
    s->counts[id]++; // a context holds fewer tokens than this counts
    see(s, id);
}

static bool is_alike(const sampler *s, int32_t id)
{
    for (int32_t i = 0; i < s->options.n_alike; i++) {
        if (s->options.alike[i] == id) return true;
    }
    return false;
}

// As log_sum, of the ids that mean the same; they count as one choice.
static double alike_sum(sampler *s, const choices *c, const uint8_t *allowed)
{
    double best = -INFINITY, sum = 0, logits[SAMPLER_ALIKE];
    int32_t n = 0;
    for (int32_t i = 0; i < s->options.n_alike && n < SAMPLER_ALIKE; i++) {
        const int32_t id = s->options.alike[i];
        const float l = id >= 0 && id < s->vocab && (!allowed || allowed[id]) ? c->logits[id] : NAN;
        if (l >= -FLT_MAX && l <= FLT_MAX) logits[n++] = (double)l;
    }
    for (int32_t i = 0; i < n; i++) best = fmax(best, logits[i]);
    for (int32_t i = 0; i < n; i++) sum += exp(logits[i] - best);
    if (n > 1) s->choices -= n - 1;
    return best + log(sum);
}

static sight_err next(sampler *s, int32_t *id, float *logprob, const choices *c)
{
    uint64_t serial;
    const uint8_t *allowed = allowed_now(s, &serial);
    if (s->form && grammar_status(s->form)) return grammar_status(s->form);
    const uint8_t *among = s->options.scores && !c->ids ? allowed : NULL;
    double normalizer = logprob ? log_sum(c->logits, c->n, among, &s->choices) : 0;
    const double alike = logprob && among ? alike_sum(s, c, among) : 0;
    apply_penalties(s, c);
    float best = c->ids ? mask_few(c, allowed) : mask(c->logits, c->n, allowed);
    if (best == -INFINITY) {
        return sight_fail(SIGHT_E_INTERNAL, "the model gave no finite logit for any token");
    }
    int32_t chosen = s->options.temperature == 0 ? greatest(c, best) : sample(s, c, best);
    if (logprob) {
        const bool as_one = among && is_alike(s, chosen);
        *logprob = (float)((as_one ? alike : (double)unpenalized_logit(s, c, chosen)) - normalizer);
    }
    remember(s, chosen);
    *id = chosen;
    return SIGHT_OK;
}

bool sampler_scores(const sampler *s)
{
    return s->options.scores;
}

int32_t sampler_choices(const sampler *s)
{
    return s->choices;
}

void sampler_take(sampler *s, int32_t id)
{
    remember(s, id);
}

sight_err sampler_next(sampler *s, int32_t *id, float *logprob, float *logits)
{
    const choices c = {logits, NULL, (size_t)s->vocab};
    return next(s, id, logprob, &c);
}

void sampler_wants(sampler *s, output_row *row, bool logprob)
{
    row->k = logprob ? 0 : s->options.temperature == 0 ? 1 : kept(s);
    row->allowed = allowed_now(s, &row->serial);
    row->always = s->seen;
    row->n_always = penalizes(s) ? (int32_t)s->n_seen : 0;
}

sight_err sampler_next_of(sampler *s, int32_t *id, float *logprob, output_row *row)
{
    const choices c = {row->logits, row->n < s->vocab ? row->ids : NULL, (size_t)row->n};
    return next(s, id, logprob, &c);
}

void sampler_mark(sampler *s)
{
    s->marked = true;
    s->random_at_mark = s->random;
    s->seen_at_mark = s->n_seen;
    s->place_at_mark = s->place;
    s->n_guesses = 0;
}

void sampler_rewind(sampler *s)
{
    assert(s->marked);
    while (s->n_guesses > 0) s->counts[s->guesses[--s->n_guesses]]--;
    while (s->n_seen > s->seen_at_mark) s->is_seen[s->seen[--s->n_seen]] = 0;
    s->place = s->place_at_mark;
    s->random = s->random_at_mark;
    s->marked = false;
}
