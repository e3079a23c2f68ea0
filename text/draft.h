// text/draft.h - reading tokens ahead: the MTP block guesses what will be drawn, one step of the
// main model checks several guesses at once.
//
// A guess is drawn from the block's logits as the caller's sampler would draw: the same settings,
// penalties and masks, the same random number. Then the id and its guesses are read in one step.
// The caller goes on as without guesses: it draws each token from the main model's logits, and
// hands it over. While what it hands over is what was guessed, its logits are there already; the
// first one that is not takes the rest of the step back. So the tokens are those that come without
// guesses, greedy or not, whatever ends the answer; guesses only change the time (docs/MODEL.md,
// "Drafts").
//
// Threads: the engine's only.
#ifndef SIGHT_TEXT_DRAFT_H
#define SIGHT_TEXT_DRAFT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "text/draft_plan.h"
#include "text/model.h"
#include "text/sampler.h"

// Rows of the prompt that the block is shown: the last so many, once there is something to guess.
#define DRAFT_WINDOW 512

#define DRAFT_AUTO (-1)

typedef struct draft draft;

typedef struct draft_options {
    int32_t depth;         // DRAFT_AUTO: as many guesses as pay; 0: none; 1 to DRAFT_MAX: so many
    const atomic_bool *cancel; // what is unfinished because of it teaches nothing; NULL: never
    double (*now_s)(void);     // for DRAFT_AUTO. NULL: clock_now_s
} draft_options;

// "auto", "off" or a number of guesses. SIGHT_E_ARGUMENT names `what`.
sight_err draft_parse(int32_t *depth, const char *word, const char *what);

typedef struct draft_usage {
    int32_t guessed; // tokens that were read ahead
    int32_t right;   // of these, tokens that were then drawn
} draft_usage;

// Reads for seq, which is empty or whose past rows the block will not see. Borrows m, seq and s;
// keeps what guessing brings in m (text_model_plan). Without an MTP block, or without memory in the
// pool for a second set of states, it never guesses. SIGHT_E_ARGUMENT (depth), SIGHT_E_MEMORY.
sight_err draft_create(draft **out, text_model *m, sequence *seq, sampler *s,
                       const draft_options *options);
void draft_destroy(draft **d); // accepts NULL; leaves NULL

// Runs a step of the prompt, one segment of seq without `hidden`; `left` rows of the prompt follow
// it. Codes of text_model_step.
sight_err draft_read(draft *d, const segment *s, int64_t left);

// The same a slice at a time (text/job.h), so that other sequences' steps can go between. What s points to is borrowed until
// *done. Codes of text_job_begin and text_job_run. Where there is no memory to cut it, it is run at once.
sight_err draft_read_begin(draft *d, const segment *s, int64_t left);
sight_err draft_read_run(draft *d, double most_ops, bool *done);

// Reads the drawn id at `position`. *next has the logits after it, as sampler_wants wants them: for
// sampler_next_of, until the next call. At most `most` tokens will be drawn from here on, 1 or
// more. Codes of text_model_step; seq is as before then.
sight_err draft_advance(draft *d, output_row **next, int32_t id, int32_t position, int32_t most);

// draft_advance in parts, so that one step can read for several sequences (text/draft_batch.h).
//
// The first part takes the drawn id. *next is as above where the logits are there already; else it is NULL, and a
// step has to be run, of which `together` sequences read alike: how many guesses pay depends on it. Codes of
// text_model_rewind.
sight_err draft_take(draft *d, output_row **next, int32_t id, int32_t position, int32_t most, int32_t together);
// The rows that are to be read, valid until draft_took; false: none are.
bool draft_wants(draft *d, segment *s);
// They were read, or *err says why not. false: fewer are wanted now, for want of memory (*err is SIGHT_OK then).
// After a failure seq is as before draft_take.
bool draft_took(draft *d, sight_err *err, output_row **next);
// What a step took that read so many rows, this one's among them.
void draft_timed(draft *d, int32_t rows, double seconds);
double draft_now_s(const draft *d); // by the clock of draft_options
text_model *draft_model(const draft *d);

// Takes back what was read ahead: seq holds the prompt and the ids handed over.
sight_err draft_settle(draft *d);

draft_usage draft_get_usage(const draft *d);

#endif
