#include "vision/tower.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vision/tower_parts.h"

// Frame pairs see nothing of each other, so a job takes them through all blocks in groups of about
// this many patches: enough for the products to run at full speed, and memory does not grow with
// the length of a clip.
#define GROUP_PATCHES 2048
// A slice takes so many rows through products, or heads through so many operations of attention:
// some tens of milliseconds on two cores. Slices depend on the grid alone, so results do not depend
// on how many of them a call runs.
#define SLICE_ROWS 1024
#define SLICE_OPS  24e9

// What is done to a group, in this order; PROJECT to DEEPSTACK are repeated for each block.
typedef enum phase {
    EMBED,     // rows: patches to x
    PROJECT,   // rows: x to queries, keys and values
    ATTEND,    // heads
    REST,      // rows: the rest of the block
    DEEPSTACK, // rows: where a DeepStack merger stands
    MERGE,     // rows: to features
} phase;

struct tower_job {
    tower *t;
    const float *patches;
    vision_grid grid;
    float *features;
    float *deepstack[CONFIG_MAX_DEEPSTACK]; // NULL: not wanted
    int64_t span;  // patches of a pair
    int64_t group; // pairs taken together
    int64_t heads; // of a slice of attention
    int64_t pair;  // first of the group under way
    int32_t block; // under way
    phase phase;
    int64_t at;    // the first row or head that the phase has left
    void *memory;  // the one allocation, which the rest points into
    float *x, *y;  // [group * span, D]: the residual stream, and what a product reads
    float *wide;   // [group * span, 3 D] or [rows of a slice, intermediate], whichever is more
    float *part;   // [span, 4, heads, C]: a slice of attention, where that is not all heads
    float *cos, *sin; // [span, 3, C / 2]
};

// ---- the tower ----

static sight_err check_config(const checkpoint *c)
{
    const vision_config *v = &checkpoint_config(c)->vision;
    if (!checkpoint_config(c)->has_vision) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "the checkpoint has no vision tower");
    }
    if (v->hidden % (v->heads * 4) || v->hidden / v->heads > TOWER_MAX_HEAD) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "config.json: vision heads of %d / %d are not a multiple of 4 wide, up to "
                          "%d", v->hidden, v->heads, TOWER_MAX_HEAD);
    }
    return SIGHT_OK;
}

sight_err tower_create(tower **out, const checkpoint *c, kernels *k)
{
    sight_err err = check_config(c);
    if (err) return err;
    tower *t = calloc(1, sizeof *t);
    if (!t) return sight_fail(SIGHT_E_MEMORY, "no memory for the vision tower");
    t->config = &checkpoint_config(c)->vision;
    t->k = k;
    err = tower_load(t, c);
    if (err) {
        tower_destroy(&t);
        return err;
    }
    *out = t;
    return SIGHT_OK;
}

void tower_destroy(tower **pt)
{
    tower *t = *pt;
    if (!t) return;
    tower_unload(t);
    free(t);
    *pt = NULL;
}

// ---- a job ----

static int64_t min_of(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max_of(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t group_pairs(const vision_grid *grid)
{
    int64_t span = (int64_t)grid->h * grid->w;
    return min_of(grid->t, max_of(1, GROUP_PATCHES / span));
}

// Whole merged tokens.
static int64_t slice_rows(const tower *t)
{
    const int64_t square = (int64_t)t->config->merge * t->config->merge;
    return max_of(1, SLICE_ROWS / square) * square;
}

// All heads of all pairs, or as many as keep a slice short.
static int64_t slice_heads(const tower *t, const vision_grid *grid)
{
    const int64_t H = t->config->heads, D = t->config->hidden;
    const double span = (double)grid->h * grid->w;
    const double all = 4 * span * span * (double)(group_pairs(grid) * D);
    if (all <= SLICE_OPS || group_pairs(grid) > 1) return H;
    return max_of(1, (int64_t)(SLICE_OPS / (all / (double)H)));
}

// Cuts the job's memory, or with memory NULL only measures it, in floats.
static int64_t carve(tower_job *job, float *memory, const tower *t, const vision_grid *grid)
{
    const vision_config *c = t->config;
    const int64_t span = (int64_t)grid->h * grid->w;
    const int64_t N = group_pairs(grid) * span;
    const int64_t angles = span * 3 * (c->hidden / c->heads / 2);
    const int64_t heads = slice_heads(t, grid);
    const int64_t sizes[] = {
        N * c->hidden,
        N * c->hidden,
        max_of(N * 3 * c->hidden, min_of(N, slice_rows(t)) * c->intermediate),
        heads < c->heads ? span * 4 * heads * (c->hidden / c->heads) : 0,
        angles,
        angles,
    };
    float *parts[6];
    int64_t at = 0;
    for (int i = 0; i < 6; i++) {
        parts[i] = memory ? memory + at : NULL;
        at += (sizes[i] + 15) / 16 * 16;
    }
    if (memory) {
        job->x = parts[0];
        job->y = parts[1];
        job->wide = parts[2];
        job->part = parts[3];
        job->cos = parts[4];
        job->sin = parts[5];
    }
    return at;
}

int64_t tower_workspace_bytes(const tower *t, const vision_grid *grid)
{
    return carve(NULL, NULL, t, grid) * (int64_t)sizeof(float);
}

static sight_err check_grid(const tower *t, const vision_grid *g)
{
    int32_t merge = t->config->merge;
    if (g->t >= 1 && g->h >= 1 && g->w >= 1 && g->h % merge == 0 && g->w % merge == 0) {
        return SIGHT_OK;
    }
    return sight_fail(SIGHT_E_ARGUMENT,
                      "a grid of %d x %d x %d patches; sides must be multiples of %d", g->t, g->h,
                      g->w, merge);
}

static sight_err create_memory(tower_job *job)
{
    int64_t bytes = tower_workspace_bytes(job->t, &job->grid);
    size_t align = bytes >= 4 << 20 ? 2 << 20 : 64;
    if (posix_memalign(&job->memory, align, (size_t)bytes)) {
        job->memory = NULL;
        return sight_fail(SIGHT_E_MEMORY, "no memory for %.1f MiB of the vision tower's workspace",
                          (double)bytes / 1048576);
    }
#ifdef MADV_HUGEPAGE
    if (align > 64) madvise(job->memory, (size_t)bytes, MADV_HUGEPAGE);
#endif
    carve(job, job->memory, job->t, &job->grid);
    return SIGHT_OK;
}

sight_err tower_job_create(tower_job **out, tower *t, const float *patches,
                           const vision_grid *grid, float *features, float *const *deepstack)
{
    sight_err err = check_grid(t, grid);
    if (err) return err;
    tower_job *job = calloc(1, sizeof *job);
    if (!job) return sight_fail(SIGHT_E_MEMORY, "no memory for a vision job");
    job->t = t;
    job->patches = patches;
    job->grid = *grid;
    job->features = features;
    for (int32_t i = 0; deepstack && i < t->config->n_deepstack; i++) {
        job->deepstack[i] = deepstack[i];
    }
    job->span = (int64_t)grid->h * grid->w;
    job->group = group_pairs(grid);
    job->heads = slice_heads(t, grid);
    err = create_memory(job);
    if (err) {
        tower_job_destroy(&job);
        return err;
    }
    tower_angles(t, job->cos, job->sin, grid->h, grid->w);
    *out = job;
    return SIGHT_OK;
}

void tower_job_destroy(tower_job **pj)
{
    tower_job *job = *pj;
    if (!job) return;
    free(job->memory);
    free(job);
    *pj = NULL;
}

// ---- arithmetic, a slice at a time ----

static int64_t rows_now(const tower_job *job)
{
    return min_of(job->group, job->grid.t - job->pair) * job->span;
}

// Operations of a product of n rows, two for a multiply-add.
static double product_ops(const weight *w, int64_t n)
{
    return 2 * (double)n * (double)w->w.shape[0] * (double)w->w.shape[1];
}

static double embed_rows(tower_job *job, int64_t first, int64_t n)
{
    const tower *t = job->t;
    const int64_t row = t->patch.w.shape[1];
    float *x = job->x + first * t->config->hidden;
    op_linear(t->k, x, job->patches + (job->pair * job->span + first) * row, &t->patch, n);
    tower_add_positions(t, x, first, n, job->grid.h, job->grid.w);
    return product_ops(&t->patch, n);
}

static double project_rows(tower_job *job, int64_t first, int64_t n)
{
    const tower *t = job->t;
    const tower_block *b = &t->blocks[job->block];
    const int64_t D = t->config->hidden;
    op_layer_norm(t->k, job->y, job->x + first * D, b->norm1.w, b->norm1.b, n, D, TOWER_EPS);
    op_linear(t->k, job->wide + first * 3 * D, job->y, &b->qkv, n);
    return product_ops(&b->qkv, n);
}

// q, k and v of a patch are seen as three rows of H heads, so that one contiguous pass turns q and
// k; v's angles are 0.
static void attend_all(tower_job *job)
{
    const tower *t = job->t;
    const int64_t D = t->config->hidden, H = t->config->heads, C = D / H;
    const int64_t pairs = rows_now(job) / job->span;
    for (int64_t i = 0; i < pairs; i++) {
        float *pair = job->wide + i * job->span * 3 * D;
        op_norm_rope(t->k, pair, pair, NULL, job->cos, job->sin, 3 * job->span, H, C, C, D, C, 0);
    }
    op_attention_spans(t->k, job->y, job->wide, pairs, job->span, H, C,
                       (float)(1 / sqrt((double)C)));
}

typedef struct scatter {
    float *to;         // [rows, D], at the first head
    const float *from; // [rows, width]
    int64_t D, width;
} scatter;

static void scatter_rows(void *arg, int64_t begin, int64_t end, int worker)
{
    const scatter *s = arg;
    for (int64_t i = begin; i < end; i++) {
        memcpy(s->to + i * s->D, s->from + i * s->width, (size_t)s->width * sizeof *s->to);
    }
}

// The pass that turns q and k also brings the heads' parts of the one pair together.
static void attend_heads(tower_job *job, int64_t first, int64_t n)
{
    const tower *t = job->t;
    const int64_t D = t->config->hidden, C = D / t->config->heads;
    float *qkv = job->part, *out = job->part + job->span * 3 * n * C;
    op_norm_rope(t->k, qkv, job->wide + first * C, NULL, job->cos, job->sin, 3 * job->span, n, C,
                 C, D, C, 0);
    op_attention_spans(t->k, out, qkv, 1, job->span, n, C, (float)(1 / sqrt((double)C)));
    scatter s = {job->y + first * C, out, D, n * C};
    kernels_rows(t->k, job->span, 256, scatter_rows, &s);
}

static double attend(tower_job *job, int64_t first, int64_t n)
{
    const int64_t H = job->t->config->heads;
    if (n == H) attend_all(job);
    else attend_heads(job, first, n);
    return 4 * (double)rows_now(job) * (double)job->span *
           (double)(n * (job->t->config->hidden / H));
}

// What follows attention: y holds its output at the rows that are left.
static double finish_rows(tower_job *job, int64_t first, int64_t n)
{
    const tower *t = job->t;
    const vision_config *c = t->config;
    const tower_block *b = &t->blocks[job->block];
    const int64_t D = c->hidden;
    float *x = job->x + first * D, *y = job->y + first * D;
    op_linear_add(t->k, x, y, &b->proj, n);
    op_layer_norm(t->k, y, x, b->norm2.w, b->norm2.b, n, D, TOWER_EPS);
    op_linear(t->k, job->wide, y, &b->fc1, n);
    if (c->gelu_tanh) op_gelu_tanh(t->k, job->wide, job->wide, n * c->intermediate);
    else op_gelu_erf(t->k, job->wide, job->wide, n * c->intermediate);
    op_linear_add(t->k, x, job->wide, &b->fc2, n);
    return product_ops(&b->proj, n) + product_ops(&b->fc1, n) + product_ops(&b->fc2, n);
}

// out = these rows of [tokens, out_hidden]. The patches of a token lie side by side already;
// norm_joined: the norm is over all of them (DeepStack) instead of each.
static double merge_rows(tower_job *job, const tower_merger *m, float *out, bool norm_joined,
                         int64_t first, int64_t n)
{
    const tower *t = job->t;
    const vision_config *c = t->config;
    const int64_t square = (int64_t)c->merge * c->merge, D = c->hidden, tokens = n / square;
    const float *x = job->x + first * D;
    if (norm_joined) {
        op_layer_norm(t->k, job->y, x, m->norm.w, m->norm.b, tokens, D * square, TOWER_EPS);
    } else {
        op_layer_norm(t->k, job->y, x, m->norm.w, m->norm.b, n, D, TOWER_EPS);
    }
    op_linear(t->k, job->wide, job->y, &m->fc1, tokens);
    op_gelu_erf(t->k, job->wide, job->wide, n * D);
    op_linear(t->k, out + (job->pair * job->span + first) / square * c->out_hidden, job->wide,
              &m->fc2, tokens);
    return product_ops(&m->fc1, tokens) + product_ops(&m->fc2, tokens);
}

// The DeepStack level that is taken after the block under way, or -1.
static int32_t level_now(const tower_job *job)
{
    const vision_config *c = job->t->config;
    for (int32_t i = 0; i < c->n_deepstack; i++) {
        if (c->deepstack[i] == job->block && job->deepstack[i]) return i;
    }
    return -1;
}

// ---- the order of slices ----

static double run_rows(tower_job *job, int64_t first, int64_t n)
{
    const tower *t = job->t;
    switch (job->phase) {
    case EMBED: return embed_rows(job, first, n);
    case PROJECT: return project_rows(job, first, n);
    case REST: return finish_rows(job, first, n);
    case DEEPSTACK: {
        const int32_t level = level_now(job);
        return merge_rows(job, &t->deepstack[level], job->deepstack[level], true, first, n);
    }
    default: return merge_rows(job, &t->merger, job->features, false, first, n);
    }
}

static phase after_block(tower_job *job)
{
    if (++job->block < job->t->config->depth) return PROJECT;
    return MERGE;
}

static phase next_phase(tower_job *job)
{
    switch (job->phase) {
    case EMBED: return PROJECT;
    case PROJECT: return ATTEND;
    case ATTEND: return REST;
    case REST: return level_now(job) >= 0 ? DEEPSTACK : after_block(job);
    case DEEPSTACK: return after_block(job);
    default:
        job->block = 0;
        job->pair += job->group;
        return EMBED;
    }
}

// Returns the operations it took.
static double run_slice(tower_job *job)
{
    const bool by_heads = job->phase == ATTEND;
    const int64_t all = by_heads ? job->t->config->heads : rows_now(job);
    const int64_t n = min_of(by_heads ? job->heads : slice_rows(job->t), all - job->at);
    const double ops = by_heads ? attend(job, job->at, n) : run_rows(job, job->at, n);
    job->at += n;
    if (job->at == all) {
        job->at = 0;
        job->phase = next_phase(job);
    }
    return ops;
}

sight_err tower_job_run(tower_job *job, double most_ops, bool *done)
{
    double ops = 0;
    while (job->pair < job->grid.t && (ops == 0 || ops < most_ops)) ops += run_slice(job);
    *done = job->pair >= job->grid.t;
    return SIGHT_OK;
}

sight_err tower_encode(tower *t, const float *patches, const vision_grid *grid, float *features,
                       float *const *deepstack)
{
    tower_job *job = NULL;
    bool done = false;
    sight_err err = tower_job_create(&job, t, patches, grid, features, deepstack);
    while (!err && !done) err = tower_job_run(job, INFINITY, &done);
    tower_job_destroy(&job);
    return err;
}
