#include "text/draft.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/memory.h"
#include "text/draft_batch.h"
#include "text/draft_rows.h"
#include "text/job.h"

#define STEP_ROWS (DRAFT_MAX + 1)
#define SHORT_PIECE 8 // rows of a prompt's piece that is not worth cutting

struct draft {
    text_model *m;
    sequence *seq;
    sampler *sampler;
    draft_plan *plan;
    const atomic_bool *cancel;
    double (*now_s)(void);
    int32_t depth;        // as in draft_options; 0 once guessing has become impossible
    int64_t hidden_width; // D
    draft_rows rows; // rows that the block has not seen; not used with depth 0
    float *prompt_hidden; // [prompt_room, D] of a piece of the prompt, backend memory
    int64_t prompt_room;
    text_job *job;   // pieces of the prompt in slices; NULL: none was long enough yet
    segment piece;   // under way
    int64_t left;    // rows of the prompt after it
    bool kept;       // its rows are shown to the block later on
    // The last step: rows read, the first of which is what the caller handed over.
    int32_t n, used; // `used` of n are what the caller handed over; 0: it was no step of ours
    int32_t ids[STEP_ROWS];
    int32_t position; // of the first
    int32_t positions[3 * STEP_ROWS]; // of all of them
    bool wanted;      // they are still to be read
    output_row next[STEP_ROWS]; // the logits after each; one row with depth 0
    output_row guess; // the block's logits
    // Backend memory.
    float *hidden; // [STEP_ROWS, D]
    float *fed;    // [DRAFT_LAST_ROWS, D], what the block makes of its rows
    draft_usage usage;
};

sight_err draft_parse(int32_t *depth, const char *word, const char *what)
{
    const bool digit = word[0] >= '0' && word[0] <= '0' + DRAFT_MAX && !word[1];
    if (strcmp(word, "auto") == 0) *depth = DRAFT_AUTO;
    else if (strcmp(word, "off") == 0) *depth = 0;
    else if (digit) *depth = word[0] - '0';
    else {
        return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.40s', must be auto, off or 1 to %d", what,
                          word, DRAFT_MAX);
    }
    return SIGHT_OK;
}

// ---- the object ----

static bool row_init(output_row *r, int32_t vocab)
{
    r->ids = malloc((size_t)vocab * sizeof *r->ids);
    r->logits = malloc((size_t)vocab * sizeof *r->logits);
    return r->ids && r->logits;
}

static void row_done(output_row *r)
{
    free(r->ids);
    free(r->logits);
}

static kernels *kernels_of(const draft *d)
{
    return text_model_kernels(d->m);
}

// [n, D] in backend memory.
static sight_err rows_create(float **out, const draft *d, int64_t n)
{
    void *p;
    sight_err err = kernels_alloc(&p, kernels_of(d), (size_t)(n * d->hidden_width) * sizeof **out,
                                  "reading ahead");
    if (!err) *out = p;
    return err;
}

static sight_err allocate(draft *d)
{
    const int32_t rows = d->depth ? STEP_ROWS : 1, vocab = text_model_config(d->m)->vocab;
    bool good = true;
    for (int32_t i = 0; i < rows; i++) good = good && row_init(&d->next[i], vocab);
    if (d->depth) good = good && row_init(&d->guess, vocab);
    if (!good) return sight_fail(SIGHT_E_MEMORY, "no memory for reading ahead");
    sight_err err = d->depth ? rows_create(&d->hidden, d, STEP_ROWS) : SIGHT_OK;
    if (!err && d->depth) err = rows_create(&d->fed, d, DRAFT_LAST_ROWS);
    if (!err && d->depth) {
        err = draft_rows_init(&d->rows, kernels_of(d), d->hidden_width, DRAFT_WINDOW);
    }
    return err;
}

// Whether the sequence can be taken back by a step's rows, and the model has something to guess
// with.
static bool possible(const text_model *m, sequence *seq)
{
    return text_model_has_mtp(m) && sequence_has_mtp(seq) &&
           text_model_max_rows(m) >= STEP_ROWS && !sequence_allow_rewind(seq, STEP_ROWS);
}

sight_err draft_create(draft **out, text_model *m, sequence *seq, sampler *s,
                       const draft_options *options)
{
    if (options->depth < DRAFT_AUTO || options->depth > DRAFT_MAX) {
        return sight_fail(SIGHT_E_ARGUMENT, "%d drafts before a step, must be 0 to %d",
                          options->depth, DRAFT_MAX);
    }
    draft *d = calloc(1, sizeof *d);
    if (!d) return sight_fail(SIGHT_E_MEMORY, "no memory for reading ahead");
    d->m = m;
    d->seq = seq;
    d->sampler = s;
    d->plan = text_model_plan(m);
    d->cancel = options->cancel;
    d->now_s = options->now_s ? options->now_s : clock_now_s;
    d->hidden_width = text_model_config(m)->hidden;
    d->depth = options->depth && possible(m, seq) ? options->depth : 0;
    sight_err err = allocate(d);
    if (err) {
        draft_destroy(&d);
        return err;
    }
    *out = d;
    return SIGHT_OK;
}

void draft_destroy(draft **pd)
{
    draft *d = *pd;
    if (!d) return;
    text_job_destroy(&d->job);
    draft_rows_done(&d->rows);
    for (int32_t i = 0; i < STEP_ROWS; i++) row_done(&d->next[i]);
    row_done(&d->guess);
    kernels_free(kernels_of(d), d->prompt_hidden);
    kernels_free(kernels_of(d), d->hidden);
    kernels_free(kernels_of(d), d->fed);
    free(d);
    *pd = NULL;
}

draft_usage draft_get_usage(const draft *d)
{
    draft_usage u = d->usage;
    if (d->n > 1 && !d->wanted) { // the step under way
        u.guessed += d->n - 1;
        u.right += d->used - 1;
    }
    return u;
}

// ---- the prompt ----

static void drop_room(draft *d)
{
    kernels_free(kernels_of(d), d->prompt_hidden);
    d->prompt_hidden = NULL;
    d->prompt_room = 0;
}

static sight_err make_room(draft *d, int64_t rows)
{
    if (rows <= d->prompt_room) return SIGHT_OK;
    drop_room(d);
    sight_err err = rows_create(&d->prompt_hidden, d, rows);
    if (!err) d->prompt_room = rows;
    return err;
}

// The room for guesses goes back to the pool. `err` is of a step; true: it may work now.
static bool give_up(draft *d, sight_err err)
{
    if (err != SIGHT_E_MEMORY || sequence_rewind_rows(d->seq) == 0) return false;
    sequence_forbid_rewind(d->seq);
    d->depth = 0;
    return true;
}

// A piece that is short is a step like that of an answer; a longer one is cut where there is memory for that.
static text_job *job_for(draft *d, const segment *s, int64_t left)
{
    if (s->n <= SHORT_PIECE) return NULL;
    if (!d->job && text_job_create(&d->job, d->m, s->n + left)) d->job = NULL;
    return d->job;
}

static sight_err begin_piece(draft *d)
{
    text_job *job = job_for(d, &d->piece, d->left);
    return job ? text_job_begin(job, &d->piece) : text_model_step(d->m, &d->piece, 1);
}

sight_err draft_read_begin(draft *d, const segment *s, int64_t left)
{
    d->kept = d->depth && left < DRAFT_WINDOW;
    sight_err err = d->kept ? make_room(d, s->n) : SIGHT_OK;
    if (err) return err;
    d->piece = *s;
    d->left = left;
    if (d->kept) d->piece.hidden = d->prompt_hidden;
    err = begin_piece(d);
    if (!err || !give_up(d, err)) return err;
    d->piece.hidden = NULL;
    d->kept = false;
    return begin_piece(d);
}

sight_err draft_read_run(draft *d, double most_ops, bool *done)
{
    sight_err err = SIGHT_OK;
    *done = true;
    if (d->job && text_job_under_way(d->job)) err = text_job_run(d->job, most_ops, done);
    if (err || !*done) return err;
    if (d->kept) err = draft_rows_add(&d->rows, &d->piece);
    if (d->left == 0) { // they will not be needed again
        drop_room(d);
        text_job_destroy(&d->job);
    }
    return err;
}

sight_err draft_read(draft *d, const segment *s, int64_t left)
{
    bool done;
    sight_err err = draft_read_begin(d, s, left);
    return err ? err : draft_read_run(d, INFINITY, &done);
}

// ---- guessing ----

// Draws as the caller will from these logits; -1: there is nothing to draw.
static int32_t draw(draft *d)
{
    int32_t id;
    return sampler_next_of(d->sampler, &id, NULL, &d->guess) ? -1 : id;
}

// Shows the block all rows that it has not seen, the last paired with id: *last [D] is what it
// makes of that one, and d->guess has its logits.
static sight_err feed(draft *d, int32_t id, const float **last)
{
    mtp_segment s;
    sight_err err = SIGHT_OK;
    while (!err && draft_rows_take(&d->rows, &s, text_model_max_rows(d->m), id)) {
        s.seq = d->seq;
        if (d->rows.n == 0) {
            sampler_wants(d->sampler, &d->guess, false);
            s.n_logits = 1;
            s.outputs = &d->guess;
            s.hidden_out = d->fed;
            *last = d->fed + (s.n - 1) * d->hidden_width;
        }
        err = text_model_mtp(d->m, &s);
    }
    return err;
}

// One more guess from the block's own output; `place` counts from 2.
static sight_err feed_guess(draft *d, int32_t place, const float *hidden, float *out)
{
    const int32_t position = d->position + place - 2;
    const int32_t positions[3] = {position, position, position};
    const mtp_segment s = {.seq = d->seq, .n = 1, .hidden = hidden,
                           .next_ids = &d->ids[place - 1],
                           .positions = positions, .position_stride = 1, .n_logits = 1,
                           .outputs = &d->guess, .hidden_out = out};
    sampler_wants(d->sampler, &d->guess, false);
    return text_model_mtp(d->m, &s);
}

// Draws up to n guesses; the time of the first counts from `start`, if it is a usual one.
static sight_err guess_all(draft *d, int32_t n, const float *last, double start, bool usual)
{
    const int64_t seen = sequence_mtp_length(d->seq);
    sight_err err = SIGHT_OK;
    for (int32_t place = 1; place <= n; place++) {
        if (place > 1) {
            err = feed_guess(d, place, last, d->fed);
            last = d->fed;
        }
        const int32_t id = err ? -1 : draw(d);
        if (id < 0) break;
        d->ids[d->n] = id;
        sampler_wants(d->sampler, &d->next[d->n++], sampler_scores(d->sampler)); // what a draw after it will want
        const double now = d->now_s();
        if (place > 1 || usual) draft_plan_guess(d->plan, place, now - start);
        start = now;
    }
    sequence_cut_mtp(d->seq, seen);
    return err;
}

// Fills ids[1..] with up to n guesses for what comes after ids[0].
static sight_err guess(draft *d, int32_t n)
{
    const float *last = NULL;
    const bool usual = d->rows.n <= DRAFT_LAST_ROWS; // else a part of the prompt is read too
    const double start = d->now_s();
    sight_err err = feed(d, d->ids[0], &last);
    if (err || !last) return err;
    sampler_mark(d->sampler);
    err = guess_all(d, n, last, start, usual);
    sampler_rewind(d->sampler);
    return err;
}

// ---- the step ----

static int32_t choose_depth(draft *d, int32_t most, int32_t together)
{
    const int64_t room = text_model_config(d->m)->max_positions - sequence_length(d->seq) - 1;
    if (most - 1 > room) most = (int32_t)(room > 0 ? room + 1 : 1);
    if (d->depth == DRAFT_AUTO) return draft_plan_depth(d->plan, most - 1, together);
    return d->depth < most - 1 ? d->depth : most - 1;
}

// What the last step's rows were is known: those that stay are still to be shown to the block.
static void finish_step(draft *d, bool wrong)
{
    if (d->n > 1) {
        d->usage.guessed += d->n - 1;
        d->usage.right += d->used - 1;
        draft_plan_result(d->plan, d->n - 1, d->used - 1, wrong);
    }
    if (d->depth) {
        draft_rows_add_text(&d->rows, d->hidden, d->ids, d->position, d->used);
    }
    d->n = d->used = 0;
}

sight_err draft_settle(draft *d)
{
    sight_err err = SIGHT_OK;
    if (d->wanted) { // what was not read is no part of the sequence
        d->wanted = false;
        d->n = d->used = 0;
        return SIGHT_OK;
    }
    if (d->used < d->n) err = text_model_rewind(d->m, d->seq, d->used);
    if (!err) finish_step(d, false);
    return err;
}

sight_err draft_take(draft *d, output_row **next, int32_t id, int32_t position, int32_t most, int32_t together)
{
    if (d->used < d->n && d->ids[d->used] == id) {
        *next = &d->next[d->used++];
        return SIGHT_OK;
    }
    sight_err err = SIGHT_OK;
    const bool wrong = d->used < d->n;
    if (wrong) err = text_model_rewind(d->m, d->seq, d->used);
    if (err) return err;
    finish_step(d, wrong);
    d->ids[0] = id;
    d->position = position;
    d->n = 1;
    sampler_wants(d->sampler, d->next, sampler_scores(d->sampler));
    const int32_t n = d->depth ? choose_depth(d, most, together) : 0;
    if (n > 0 && guess(d, n)) d->n = 1;
    d->wanted = true;
    *next = NULL;
    return SIGHT_OK;
}

bool draft_wants(draft *d, segment *s)
{
    if (!d->wanted) return false;
    for (int32_t i = 0; i < 3 * d->n; i++) d->positions[i] = d->position + i % d->n;
    *s = (segment){.seq = d->seq, .n = d->n, .ids = d->ids, .positions = d->positions,
                   .position_stride = d->n, .n_logits = d->n, .outputs = d->next,
                   .hidden = d->hidden, .rewindable = d->n > 1};
    return true;
}

bool draft_took(draft *d, sight_err *err, output_row **next)
{
    if (*err && give_up(d, *err)) { // what does not suffice for guesses may for the token itself
        d->n = 1;
        *err = SIGHT_OK;
        return false;
    }
    d->wanted = false;
    if (*err) {
        d->n = 0;
        return true;
    }
    d->used = 1;
    *next = d->next;
    return true;
}

text_model *draft_model(const draft *d)
{
    return d->m;
}

void draft_timed(draft *d, int32_t rows, double seconds)
{
    if (!d->cancel || !atomic_load(d->cancel)) draft_plan_step(d->plan, rows, seconds);
}

double draft_now_s(const draft *d)
{
    return d->now_s();
}

typedef struct alone {
    sight_err err;
    output_row **next;
} alone;

static void hear_alone(void *arg, int32_t i, sight_err err, output_row *next)
{
    alone *a = arg;
    (void)i;
    a->err = err;
    if (!err) *a->next = next;
}

sight_err draft_advance(draft *d, output_row **next, int32_t id, int32_t position, int32_t most)
{
    sight_err err = draft_take(d, next, id, position, most, 1);
    if (err || *next) return err;
    alone a = {.next = next};
    draft_batch_run(&d, 1, hear_alone, &a);
    return a.err;
}
