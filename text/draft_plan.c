#include "text/draft_plan.h"

#define MEMORY 0.95  // what a result counts after one more: the last 20 matter
#define HASTE  0.6   // the same while guessing is off, so that a change is seen soon
#define PRIOR  0.7   // how often guesses are right before any was made
#define WEIGHT 2.0   // of that prior, in results
#define WAIT_LEAST 8
#define WAIT_MOST 256
#define LOOK_AROUND 32 // rounds between looks at one guess more
// Finding out takes a run of the block over a part of the prompt, its weights and a second set of
// states: more than an answer of fewer tokens can bring back.
#define LEARN_LEAST 24

// Estimates for what was not measured yet, as parts of a step of one row. They are low, so that
// it is tried and measured.
#define ROW_PART   0.05
#define GUESS_PART 0.15

// Between two that were measured, in proportion; past the last, by the part of a row.
static double step_seconds(const draft_plan *p, int32_t rows)
{
    if (rows > DRAFT_PLAN_ROWS) rows = DRAFT_PLAN_ROWS;
    int32_t below = rows, above = rows;
    while (below > 1 && p->step_s[below] == 0) below--;
    if (below == rows) return p->step_s[rows];
    while (above < DRAFT_PLAN_ROWS && p->step_s[above] == 0) above++;
    const double step = p->step_s[1] > 0 ? p->step_s[1] : p->step_s[below];
    const double guessed = p->step_s[below] + step * ROW_PART * (rows - below);
    if (p->step_s[above] == 0) return guessed;
    const double slope = (p->step_s[above] - p->step_s[below]) / (above - below);
    return p->step_s[below] + (slope > 0 ? slope : 0) * (rows - below);
}

static double guess_seconds(const draft_plan *p, int32_t n)
{
    const double first = p->first_s > 0 ? p->first_s : GUESS_PART * p->step_s[1];
    const double more = p->more_s > 0 ? p->more_s : first;
    return n > 0 ? first + more * (n - 1) : 0;
}

double draft_plan_rate(const draft_plan *p, int32_t place)
{
    double rate = PRIOR;
    for (int32_t i = 1; i <= place; i++) {
        rate = (p->hits[i] + WEIGHT * rate) / (p->tries[i] + WEIGHT);
    }
    return rate;
}

// Tokens a second of each of so many sequences, with n guesses for each.
static double speed(const draft_plan *p, int32_t n, int32_t together)
{
    double tokens = 1, all = 1;
    for (int32_t i = 1; i <= n; i++) tokens += all *= draft_plan_rate(p, i);
    return tokens / (step_seconds(p, together * (n + 1)) + together * guess_seconds(p, n));
}

static int32_t best_depth(const draft_plan *p, int32_t together)
{
    int32_t best = 0;
    for (int32_t n = 1; n <= DRAFT_MAX; n++) {
        if (speed(p, n, together) > speed(p, best, together)) best = n;
    }
    return best;
}

int32_t draft_plan_depth(draft_plan *p, int32_t most, int32_t together)
{
    if (together > DRAFT_PLAN_ROWS) together = DRAFT_PLAN_ROWS;
    if (p->step_s[together] == 0) return 0; // there is nothing to compare with yet
    if (p->tries[1] == 0 && most < LEARN_LEAST) return 0;
    int32_t n = best_depth(p, together);
    if (n == 0) {
        if (p->wait == 0) p->wait = WAIT_LEAST;
        if (++p->waited >= p->wait) n = 1;
    } else if (++p->rounds % LOOK_AROUND == 0 && n < DRAFT_MAX) {
        n++;
    }
    if (n > most) n = most;
    if (n > 0) p->waited = 0;
    return n;
}

// Other programs make times longer, never shorter: a shorter one counts more.
static void measure(double *average, double seconds)
{
    if (*average == 0) *average = seconds;
    else *average += (seconds < *average ? 0.5 : 0.1) * (seconds - *average);
}

void draft_plan_step(draft_plan *p, int32_t rows, double seconds)
{
    if (rows >= 1 && rows <= DRAFT_PLAN_ROWS) measure(&p->step_s[rows], seconds);
}

void draft_plan_guess(draft_plan *p, int32_t place, double seconds)
{
    measure(place == 1 ? &p->first_s : &p->more_s, seconds);
}

void draft_plan_result(draft_plan *p, int32_t n, int32_t right, int32_t wrong)
{
    const double memory = n == 1 && best_depth(p, 1) == 0 ? HASTE : MEMORY;
    for (int32_t i = 1; i <= n && i <= right + (wrong ? 1 : 0); i++) {
        p->tries[i] = p->tries[i] * memory + 1;
        p->hits[i] = p->hits[i] * memory + (i <= right);
    }
    if (right > 0) p->wait = WAIT_LEAST;
    else if (wrong && p->wait > 0) p->wait = p->wait < WAIT_MOST / 2 ? 2 * p->wait : WAIT_MOST;
}
