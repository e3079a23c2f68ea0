#include "daemon/stages.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "daemon/store/borders.h"
#include "daemon/store/kept_pieces.h"
#include "daemon/pace.h"
#include "kernels/memory.h"
#include "text/cache_save.h"

// How often a stage that waits looks at its cancel flag.
#define TICK_MS 100
// A slice of encoding or reading should last about so long, and its size before any was timed.
#define SLICE_S        0.06
#define DEVICE_SLICE_S 0.008
#define FIRST_OPS        1e10
#define DEVICE_FIRST_OPS 1e12
#define LEAST_OPS        1e8
// Pasts are kept this far apart on the way, and after media that are not the last at least so far:
// below that reading anew costs less than a set of states is worth.
#define KEEP_TOKENS       8192
#define KEEP_MEDIA_TOKENS 256
// What is on disk has to be longer than what is in memory by such a part of it: all of it has to be brought.
#define LOAD_PART 16
// Bytes of kept pasts that are copied for the disk between two slices.
#define SAVE_BYTES ((int64_t)4 << 20)

struct stages {
    const task *task;
    stages_options o;
    sequence *seq;
    int32_t reused;
    prefix_load *load; // a past on its way from disk; NULL: none is

    // Encoding.
    int32_t next_media, next_pair; // the piece that comes next
    feed *feed;                    // of a run of pieces that are not kept; NULL: between two of them
    bool tainted;                  // a feed before it was
    kept_pieces kept;
    bool *opened; // [n_media] a feed has been asked for some of it
    feed_piece piece; // under way when job is set
    tower_job *job;
    int64_t job_rows;
    double slice_ops; // how much one slice does
    double encode_s;  // that all have taken
    int64_t *first_row; // [n_media]: of each medium's features
    features features;
    int64_t pairs, total_pairs; // encoded, and in all
    int32_t told_frames, total_frames;
    bool all_encoded;

    // Reading.
    int32_t at;      // next token
    int64_t visual;  // feature rows read
    int32_t kept_at; // token where a past was last kept
    int32_t until;   // where the piece under way ends; 0: none is
    segment piece_rows; // of it
    const float *levels[CONFIG_MAX_DEEPSTACK];
    double read_ops;  // how much of it one slice does
    double piece_s;   // what it has taken so far
    pace pace;
};

static void tell(const stages *s, const char *stage, int64_t done, int64_t total)
{
    const stage_watch *w = &s->o.watch;
    if (w->progress) w->progress(w->arg, stage, done, total);
}

static sight_err check_cancel(const stages *s)
{
    const atomic_bool *cancel = s->o.watch.cancel;
    if (!cancel || !atomic_load(cancel)) return SIGHT_OK;
    return sight_fail(SIGHT_E_CANCELLED, "the request was cancelled");
}

static int64_t count_visual(const prompt *p, int64_t begin, int64_t end)
{
    int64_t n = 0;
    for (int64_t i = begin; i < end; i++) n += p->visual[i];
    return n;
}

static kernels *vision_kernels(const stages *s)
{
    return tower_kernels(engine_tower(s->task->model));
}

// ---- what was read before ----

static prefix_prompt prompt_of(const task *t)
{
    return (prefix_prompt){t->prompt.ids, t->prompt.n, t->places, t->asked->n_media, t->asked->who};
}

static prefix_store *store_of(const stages *s)
{
    return s->o.reuse ? engine_prefix(s->task->model) : NULL;
}

// Goes on where the sequence is.
static void take_up(stages *s)
{
    s->at = s->kept_at = s->reused = (int32_t)sequence_length(s->seq);
    s->visual = count_visual(&s->task->prompt, 0, s->at);
}

// A daemon before this one may have read more of the prompt.
static void ask_disk(stages *s, prefix_store *store)
{
    const int64_t states = cache_bytes(engine_pool(s->task->model), 0);
    const prefix_prompt p = prompt_of(s->task);
    prefix_store_promise(store, states);
    s->load = prefix_load_begin(prefix_store_disk(store), &p, s->at + s->at / LOAD_PART);
    prefix_store_release(store, states);
}

static sight_err open_sequence(stages *s)
{
    cache_pool *pool = engine_pool(s->task->model);
    prefix_store *store = store_of(s);
    sight_err err = SIGHT_OK;
    if (store) {
        const prefix_prompt p = prompt_of(s->task);
        // Kept pasts may fill the pool: a set of states must fit beside them.
        prefix_store_promise(store, cache_bytes(pool, 0));
        err = prefix_store_find(store, &s->seq, &p);
        prefix_store_release(store, cache_bytes(pool, 0));
    }
    if (err) return err;
    if (!s->seq) err = sequence_create(&s->seq, pool);
    if (!err) take_up(s);
    if (!err && store && prefix_store_disk(store)) ask_disk(s, store);
    return err;
}

static bool is_tainted(const stages *s)
{
    return s->tainted || (s->feed && feed_tainted(s->feed));
}

// After a piece: s->at is a border that depends on nothing after it. What follows the prompt is not kept: an
// answer's tokens are read one by one or a few at a time, in sums of another order than when they stand in
// the next prompt, so a past that ends behind them would change answers in their last bits.
static void keep_past(stages *s, bool worth_it)
{
    prefix_store *store = store_of(s);
    const task *t = s->task;
    if (!store || s->at >= t->prompt.n) return;
    bool after_medium = false;
    for (int32_t i = 0; i < t->asked->n_media; i++) {
        after_medium |= t->places[i].end == s->at &&
                        (i + 1 == t->asked->n_media || s->at - s->kept_at >= KEEP_MEDIA_TOKENS);
    }
    if (!after_medium && !worth_it && s->at - s->kept_at < KEEP_TOKENS) return;
    if (is_tainted(s)) return;
    const prefix_prompt p = prompt_of(t);
    prefix_store_keep(store, s->seq, &p);
    s->kept_at = s->at;
}

static void forget_tainted(stages *s)
{
    prefix_store *store = store_of(s);
    if (!store || !is_tainted(s)) return;
    kept_pieces_forget(&s->kept);
    for (int32_t i = 0; i < s->task->asked->n_media; i++) {
        prefix_store_forget(store, s->task->media[i].hash);
    }
}

// ---- encoding ----

static void count_work(stages *s)
{
    int64_t row = 0;
    for (int32_t i = 0; i < s->task->asked->n_media; i++) {
        const task_media *m = &s->task->media[i];
        s->first_row[i] = row;
        row += m->plan.tokens;
        s->total_pairs += m->plan.grid.t;
        s->total_frames += m->is_video ? m->n_frames : 1;
    }
}

static int64_t rows_per_pair(const stages *s, int32_t media)
{
    const vision_grid *g = &s->task->media[media].plan.grid;
    const int32_t merge = engine_config(s->task->model)->vision.merge;
    return (int64_t)g->h * g->w / (merge * merge);
}

// Encoding starts at the piece with the first pair of which the past has not read every row.
static void find_first_piece(stages *s)
{
    const task *t = s->task;
    int32_t media = 0;
    while (media < t->asked->n_media &&
           s->first_row[media] + t->media[media].plan.tokens <= s->visual) {
        s->pairs += t->media[media++].plan.grid.t;
    }
    s->next_media = media;
    if (media == t->asked->n_media) {
        s->all_encoded = true;
        return;
    }
    const int64_t per_pair = rows_per_pair(s, media);
    const int64_t into = s->visual > s->first_row[media] ? s->visual - s->first_row[media] : 0;
    int32_t pair = (int32_t)(into / per_pair);
    pair -= pair % feed_pairs(t, &t->media[media]);
    s->next_pair = pair;
    s->pairs += pair;
    features_init(&s->features, vision_kernels(s),
                  &engine_config(t->model)->vision, s->first_row[media] + pair * per_pair);
    kept_pieces_init(&s->kept, t, s->o.reuse ? engine_features(t->model) : NULL);
}

static void pass_piece(stages *s, int32_t pairs)
{
    s->pairs += pairs;
    s->next_pair += pairs;
    if (s->next_pair == s->task->media[s->next_media].plan.grid.t) {
        s->next_media++;
        s->next_pair = 0;
    }
    tell(s, "encode", s->pairs, s->total_pairs);
}

static void drop_read_features(stages *s)
{
    if (s->o.keep_features) return;
    kept_pieces_save(&s->kept, &s->features, s->visual);
    features_drop_before(&s->features, s->visual);
}

// Decodes the pieces up to the next one that is kept.
static sight_err open_feed(stages *s)
{
    static const atomic_bool never;
    const feed_range r = kept_pieces_missing(&s->kept, s->next_media, s->next_pair);
    for (int32_t i = r.media; i < r.end_media + (r.end_pair > 0); i++) s->opened[i] = true;
    return feed_open(&s->feed, s->task, &r, s->o.watch.cancel ? s->o.watch.cancel : &never);
}

static void close_feed(stages *s)
{
    s->tainted = is_tainted(s);
    feed_close(&s->feed);
}

static void tell_decoded(stages *s)
{
    const stage_watch *w = &s->o.watch;
    const int32_t frames = feed_frames(s->feed);
    if (frames != s->told_frames) tell(s, "decode", frames, s->total_frames);
    s->told_frames = frames;
    for (char *line; (line = feed_warning(s->feed));) {
        if (w->warning) w->warning(w->arg, line);
        free(line);
    }
}

static sight_err begin_piece(stages *s)
{
    const task *t = s->task;
    vision_grid grid = t->media[s->piece.media].plan.grid;
    grid.t = s->piece.n_pairs;
    s->job_rows = grid.t * rows_per_pair(s, s->piece.media);
    drop_read_features(s);
    // Rows that are dropped may still be read.
    kernels_after(vision_kernels(s), engine_kernels(t->model));
    float *rows, *deepstack[CONFIG_MAX_DEEPSTACK];
    sight_err err = features_reserve(&s->features, &rows, deepstack, s->job_rows);
    if (err) return err;
    if (s->o.watch.piece) s->o.watch.piece(s->o.watch.arg, &s->piece);
    tower *eyes = engine_tower(t->model);
    if (s->piece.owner) {
        return tower_job_create_placed(&s->job, eyes, s->piece.patches, &grid, rows, deepstack);
    }
    return tower_job_create(&s->job, eyes, s->piece.patches, &grid, rows, deepstack);
}

static void end_piece(stages *s)
{
    tower_job_destroy(&s->job);
    const made_piece made = {s->piece.media, s->piece.first_pair, s->piece.n_pairs,
                             s->features.first + s->features.n, s->job_rows};
    feed_piece_done(&s->piece, vision_kernels(s));
    features_added(&s->features, s->job_rows);
    if (!is_tainted(s)) kept_pieces_made(&s->kept, &made, &s->features);
    pass_piece(s, made.n_pairs);
}

// A single part may be more than was asked for: then the number only shrinks.
static double next_ops(double ops, double wanted_s, double took_s)
{
    if (took_s > 0) ops *= fmax(0.25, fmin(2, wanted_s / took_s));
    return ops < LEAST_OPS ? LEAST_OPS : ops;
}

static sight_err encode_slice(stages *s)
{
    bool done = false;
    const double start = clock_now_s();
    sight_err err = tower_job_run(s->job, s->slice_ops, &done);
    const double took = clock_now_s() - start;
    s->encode_s += took;
    if (!done) s->slice_ops = next_ops(s->slice_ops, SLICE_S, took);
    if (!err) err = check_cancel(s); // a slice that was stopped is not finished
    if (!err && done) end_piece(s);
    return err;
}

// What was encoded before is taken from where it is kept.
static bool take_kept(stages *s, stages_state *state, int wait_ms)
{
    bool waits;
    drop_read_features(s);
    // Rows that are dropped may still be read.
    kernels_after(vision_kernels(s), engine_kernels(s->task->model));
    const int32_t pairs = kept_pieces_take(&s->kept, s->next_media, s->next_pair, &s->features, &waits, wait_ms);
    if (pairs) pass_piece(s, pairs);
    if (waits) *state = STAGES_WAITING;
    return pairs > 0 || waits;
}

// Takes the next piece that is kept or decoded, and notices the end.
static sight_err take_piece(stages *s, stages_state *state, int wait_ms)
{
    if (!s->feed) {
        s->all_encoded = s->next_media == s->task->asked->n_media;
        return s->all_encoded || take_kept(s, state, wait_ms) ? SIGHT_OK : open_feed(s);
    }
    sight_err err = feed_next(s->feed, &s->piece, wait_ms);
    tell_decoded(s);
    if (err == SIGHT_E_TIMEOUT) {
        *state = STAGES_WAITING;
        return SIGHT_OK;
    }
    if (err) return err;
    if (s->piece.n_pairs) return begin_piece(s);
    close_feed(s);
    return SIGHT_OK;
}

// ---- reading ----

static int32_t most_rows(const stages *s)
{
    return (int32_t)text_model_max_rows(engine_text(s->task->model));
}

static int32_t next_border(const stages *s)
{
    return borders_next(s->task, s->at, most_rows(s));
}

// The piece from s->at to s->until.
static void lay_out(stages *s)
{
    const prompt *p = &s->task->prompt;
    const text_config *c = &engine_config(s->task->model)->text;
    const features *f = &s->features;
    const int32_t n = s->until - s->at;
    segment *seg = &s->piece_rows;
    *seg = (segment){.seq = s->seq,
                     .n = n,
                     .ids = p->ids + s->at,
                     .positions = p->positions + s->at,
                     .position_stride = p->n};
    if (count_visual(p, s->at, s->until)) {
        kernels_after(engine_kernels(s->task->model), vision_kernels(s));
        const int64_t from = (s->visual - f->first) * f->width;
        for (int32_t i = 0; i < f->levels; i++) s->levels[i] = f->deepstack[i] + from;
        seg->visual = p->visual + s->at;
        seg->features = f->rows + from;
        seg->deepstack = f->levels ? s->levels : NULL;
    }
    if (s->o.hidden) seg->hidden = s->o.hidden + (int64_t)s->at * c->hidden;
    if (s->o.logits) {
        seg->n_logits = n;
        seg->logits = s->o.logits + (int64_t)s->at * c->vocab;
    } else if (s->until == p->n) {
        seg->n_logits = 1;
        seg->outputs = s->o.last;
    }
}

static void end_reading(stages *s)
{
    const prompt *p = &s->task->prompt;
    pace_add(&s->pace, s->at, s->until, s->piece_s);
    s->visual += count_visual(p, s->at, s->until);
    s->at = s->until;
    s->until = 0;
    s->piece_s = 0;
    keep_past(s, borders_at_turn(s->task, s->at, most_rows(s)) || borders_at_last(s->task, s->at, most_rows(s)));
    tell(s, "read", s->at, p->n);
}

// A GPU runs behind: what was asked of it is waited for, so that the slice is as long as it seems, and answers do not wait
// for a long queue.
static sight_err read_part(stages *s, bool *done)
{
    if (!s->o.begin) {
        *done = true;
        return text_model_step(engine_text(s->task->model), &s->piece_rows, 1);
    }
    kernels *k = engine_kernels(s->task->model);
    sight_err err = s->o.run(s->o.read_arg, s->read_ops, done);
    return err || !kernels_on_device(k) ? err : kernels_read(k, NULL, NULL, 0);
}

static sight_err read_slice(stages *s)
{
    const bool on_device = kernels_on_device(engine_kernels(s->task->model));
    const double start = clock_now_s();
    sight_err err = SIGHT_OK;
    bool done = false;
    if (!s->until) {
        s->until = next_border(s);
        lay_out(s);
        if (s->o.begin) err = s->o.begin(s->o.read_arg, &s->piece_rows, s->task->prompt.n - s->until);
    }
    if (!err) err = read_part(s, &done);
    const double took = clock_now_s() - start;
    s->piece_s += took;
    if (!done) s->read_ops = next_ops(s->read_ops, on_device ? DEVICE_SLICE_S : SLICE_S, took);
    if (!err) err = check_cancel(s); // what was stopped is not finished
    if (!err && done) end_reading(s);
    return err;
}

// Whether the tower has made every row up to token `end`; the last piece waits for what the decoder
// has to say at its end.
static bool is_ready(const stages *s, int32_t end)
{
    if (s->all_encoded) return true;
    const prompt *p = &s->task->prompt;
    return end < p->n &&
           s->visual + count_visual(p, s->at, end) <= s->features.first + s->features.n;
}

// ---- the whole ----

static sight_err begin_looking(stages *s)
{
    find_first_piece(s);
    if (s->all_encoded || kept_pieces_has(&s->kept, s->next_media, s->next_pair)) return SIGHT_OK;
    return open_feed(s);
}

// A slice of bringing back a past. When it is here it is kept in memory too.
static sight_err load_slice(stages *s, stages_state *state, int wait_ms)
{
    bool waits;
    sequence *past = NULL;
    if (!prefix_load_step(s->load, &past, &waits, wait_ms)) {
        if (waits) *state = STAGES_WAITING;
        return SIGHT_OK;
    }
    prefix_load_end(&s->load);
    if (past) {
        const prefix_prompt p = prompt_of(s->task);
        sequence_take_past(s->seq, &past);
        take_up(s);
        prefix_store_keep(store_of(s), s->seq, &p);
    }
    return begin_looking(s);
}

sight_err stages_create(stages **out, const task *t, const stages_options *o)
{
    stages *s = calloc(1, sizeof *s);
    if (!s) return sight_fail(SIGHT_E_MEMORY, "no memory for a request");
    s->task = t;
    s->o = *o;
    s->slice_ops = FIRST_OPS;
    s->read_ops = kernels_on_device(engine_kernels(t->model)) ? DEVICE_FIRST_OPS : FIRST_OPS;
    s->first_row = calloc((size_t)t->asked->n_media + 1, sizeof *s->first_row);
    s->opened = calloc((size_t)t->asked->n_media + 1, sizeof *s->opened);
    sight_err err = s->first_row && s->opened ? open_sequence(s)
                                              : sight_fail(SIGHT_E_MEMORY, "no memory for encoding");
    if (!err) {
        count_work(s);
        err = s->load ? SIGHT_OK : begin_looking(s);
    }
    if (err) stages_destroy(&s);
    else *out = s;
    return err;
}

void stages_destroy(stages **ps)
{
    stages *s = *ps;
    if (!s) return;
    forget_tainted(s);
    tower_job_destroy(&s->job);
    if (s->piece.n_pairs) feed_piece_done(&s->piece, vision_kernels(s));
    feed_close(&s->feed);
    prefix_load_end(&s->load);
    features_done(&s->features);
    kept_pieces_done(&s->kept);
    free(s->opened);
    sequence_drop(&s->seq);
    free(s->first_row);
    free(s);
    *ps = NULL;
}

sight_err stages_step(stages *s, stages_state *state, int wait_ms)
{
    const prompt *p = &s->task->prompt;
    *state = STAGES_WORKED;
    sight_err err = check_cancel(s);
    prefix_store_work(store_of(s), SAVE_BYTES);
    if (!err && s->load) {
        err = load_slice(s, state, wait_ms);
    } else if (!err && s->job) {
        err = encode_slice(s);
    } else if (!err && s->at < p->n) {
        const bool ready = s->until || is_ready(s, next_border(s));
        err = ready ? read_slice(s) : take_piece(s, state, wait_ms);
    }
    if (err || s->at < p->n) return err;
    if (!is_tainted(s)) kept_pieces_save(&s->kept, &s->features, INT64_MAX);
    *state = STAGES_READ;
    return SIGHT_OK;
}

sight_err stages_run(stages *s)
{
    sight_err err = SIGHT_OK;
    for (stages_state state = STAGES_WORKED; !err && state != STAGES_READ;) {
        err = stages_step(s, &state, TICK_MS);
    }
    return err;
}

sequence *stages_sequence(stages *s)
{
    return s->seq;
}

sequence *stages_take_sequence(stages *s)
{
    sequence *seq = s->seq;
    s->seq = NULL;
    return seq;
}

const features *stages_features(const stages *s)
{
    return &s->features;
}

stages_reuse stages_reused(const stages *s)
{
    stages_reuse r = {.tokens = s->reused, .features = s->kept.rows_taken};
    for (int32_t i = 0; i < s->task->asked->n_media; i++) r.media += !s->opened[i];
    return r;
}

double stages_read_s(const stages *s)
{
    return s->pace.seconds;
}

double stages_encode_s(const stages *s)
{
    return s->encode_s;
}

double stages_rate(const stages *s)
{
    return pace_rate(&s->pace);
}

double stages_left_s(const stages *s)
{
    return pace_left_s(&s->pace, s->at, s->task->prompt.n);
}
