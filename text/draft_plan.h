// text/draft_plan.h - how many tokens to guess before each step, from what guessing has brought so
// far.
//
// A step that checks k guesses gives 1 + p1 + p1 p2 + ... tokens, p being how often the guess at
// each place was right after those before it; it takes a step of k + 1 rows and k runs of the MTP
// block. The k of most tokens a second is taken, 0 among them. While that is 0, one guess is tried
// now and then, ever more rarely as long as it is wrong. What guesses bring on a model is not found out in
// an answer that is about to end.
//
// Pure arithmetic; a zeroed plan knows nothing yet. Threads: one at a time.
#ifndef SIGHT_TEXT_DRAFT_PLAN_H
#define SIGHT_TEXT_DRAFT_PLAN_H

#include <stdint.h>

#define DRAFT_MAX 4 // guesses before a step
#define DRAFT_PLAN_ROWS 64 // of steps whose time is kept; those of more count as of so many

typedef struct draft_plan {
    double step_s[DRAFT_PLAN_ROWS + 1]; // a step of so many rows; 0: not measured yet
    double first_s, more_s;       // the block's run for the first guess, and for each other
    double tries[DRAFT_MAX + 1];  // at place 1 and on; old ones count less and less
    double hits[DRAFT_MAX + 1];
    int32_t wait, waited; // while guessing does not pay: tokens between tries, and since the last
    int32_t rounds;       // steps with guesses
} draft_plan;

// Guesses before the step that comes, at most `most`, for each of so many sequences that read together: a row more for
// each is a row more for all, and each runs the block by itself.
int32_t draft_plan_depth(draft_plan *p, int32_t most, int32_t together);
// What was measured: a step of that many rows; the block's run for a guess.
void draft_plan_step(draft_plan *p, int32_t rows, double seconds);
void draft_plan_guess(draft_plan *p, int32_t place, double seconds);
// Of n guesses the first `right` were right; `wrong`: the next one was not (else nobody knows).
void draft_plan_result(draft_plan *p, int32_t n, int32_t right, int32_t wrong);
// How often the guess at that place is right, by all that is known.
double draft_plan_rate(const draft_plan *p, int32_t place);

#endif
