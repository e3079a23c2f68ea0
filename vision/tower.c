#include "vision/tower.h"

#include <math.h>
#include <stdlib.h>

#include "kernels/memory.h"
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
// A GPU is filled by more rows, and is through with them sooner. Patches in host memory are brought there so
// many at a time.
#define DEVICE_PATCHES 16384
#define DEVICE_STAGED  2048

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
    bool staged; // patches are host memory, which ops do not read
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
    char *memory;  // the one allocation, which the rest points into
    float *x, *y;  // [group * span, D]: the residual stream, and what a product reads
    float *wide;   // [group * span, 3 D] or [rows of a slice, intermediate], whichever is more
    float *part;   // [span, 4, heads, C]: a slice of attention, where that is not all heads
    tower_tables *tables; // of group pairs
    float *room;      // [rows of a slice, row]: patches that are brought there
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

kernels *tower_kernels(const tower *t)
{
    return t->k;
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

static int64_t group_pairs(const tower *t, const vision_grid *grid)
{
    const int64_t span = (int64_t)grid->h * grid->w;
    const int64_t most = kernels_on_device(t->k) ? DEVICE_PATCHES : GROUP_PATCHES;
    return min_of(grid->t, max_of(1, most / span));
}

// Whole merged tokens of about so many rows.
static int64_t whole_tokens(const tower *t, int64_t rows)
{
    const int64_t square = (int64_t)t->config->merge * t->config->merge;
    return max_of(1, rows / square) * square;
}

static int64_t slice_rows(const tower *t)
{
    return whole_tokens(t, kernels_on_device(t->k) ? DEVICE_PATCHES : SLICE_ROWS);
}

// All heads of all pairs, or as many as keep a slice short.
static int64_t slice_heads(const tower *t, const vision_grid *grid)
{
    const int64_t H = t->config->heads, D = t->config->hidden, pairs = group_pairs(t, grid);
    const double span = (double)grid->h * grid->w;
    const double all = 4 * span * span * (double)(pairs * D);
    if (all <= SLICE_OPS || pairs > 1 || kernels_on_device(t->k)) return H;
    return max_of(1, (int64_t)(SLICE_OPS / (all / (double)H)));
}

// Cuts the job's memory, or with memory NULL only measures it, in bytes.
static int64_t carve(tower_job *job, char *memory, const tower *t, const vision_grid *grid,
                     bool staged)
{
    const vision_config *c = t->config;
    const int64_t span = (int64_t)grid->h * grid->w;
    const int64_t N = group_pairs(t, grid) * span;
    const int64_t heads = slice_heads(t, grid);
    const int64_t sizes[] = {
        N * c->hidden,
        N * c->hidden,
        max_of(N * 3 * c->hidden, min_of(N, slice_rows(t)) * c->intermediate),
        heads < c->heads ? span * 4 * heads * (c->hidden / c->heads) : 0,
        staged ? min_of(N, whole_tokens(t, DEVICE_STAGED)) * t->patch.w.shape[1] : 0,
    };
    enum { PARTS = sizeof sizes / sizeof *sizes };
    void *parts[PARTS];
    int64_t at = 0;
    for (int i = 0; i < PARTS; i++) {
        parts[i] = memory ? memory + at : NULL;
        at += (sizes[i] * (int64_t)sizeof(float) + 255) / 256 * 256;
    }
    if (memory) {
        job->x = parts[0];
        job->y = parts[1];
        job->wide = parts[2];
        job->part = parts[3];
        job->room = parts[4];
    }
    return at;
}

int64_t tower_workspace_bytes(const tower *t, const vision_grid *grid)
{
    return carve(NULL, NULL, t, grid, kernels_on_device(t->k)) +
           tower_tables_bytes(t, group_pairs(t, grid), grid->h, grid->w);
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
    const int64_t bytes = carve(NULL, NULL, job->t, &job->grid, job->staged);
    sight_err err = kernels_alloc((void **)&job->memory, job->t->k, (size_t)bytes,
                                  "the vision tower's workspace");
    if (!err) carve(job, job->memory, job->t, &job->grid, job->staged);
    return err;
}

static sight_err create_job(tower_job **out, tower *t, const float *patches, bool staged,
                            const vision_grid *grid, float *features, float *const *deepstack)
{
    sight_err err = check_grid(t, grid);
    if (err) return err;
    tower_job *job = calloc(1, sizeof *job);
    if (!job) return sight_fail(SIGHT_E_MEMORY, "no memory for a vision job");
    job->t = t;
    job->patches = patches;
    job->staged = staged;
    job->grid = *grid;
    job->features = features;
    for (int32_t i = 0; deepstack && i < t->config->n_deepstack; i++) {
        job->deepstack[i] = deepstack[i];
    }
    job->span = (int64_t)grid->h * grid->w;
    job->group = group_pairs(t, grid);
    job->heads = slice_heads(t, grid);
    err = tower_tables_take(t, &job->tables, job->group, grid->h, grid->w);
    if (!err) err = create_memory(job);
    if (err) tower_job_destroy(&job);
    else *out = job;
    return err;
}

sight_err tower_job_create(tower_job **out, tower *t, const float *patches,
                           const vision_grid *grid, float *features, float *const *deepstack)
{
    return create_job(out, t, patches, kernels_on_device(t->k), grid, features, deepstack);
}

sight_err tower_job_create_placed(tower_job **out, tower *t, const float *patches,
                                  const vision_grid *grid, float *features,
                                  float *const *deepstack)
{
    return create_job(out, t, patches, false, grid, features, deepstack);
}

void tower_job_destroy(tower_job **pj)
{
    tower_job *job = *pj;
    if (!job) return;
    kernels_free(job->t->k, job->memory);
    tower_tables_drop(job->t, &job->tables);
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
    const float *patches = job->patches + (job->pair * job->span + first) * row;
    if (job->staged) patches = kernels_stage(t->k, job->room, patches, n * row);
    op_linear(t->k, x, patches, &t->patch, n);
    op_add_taps(t->k, x, t->positions, job->tables->rows + 4 * first,
                job->tables->weights + 4 * first, n, t->config->hidden);
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
        op_norm_rope(t->k, pair, pair, NULL, job->tables->cos, job->tables->sin, 3 * job->span, H, C,
                     C, D, C, 0);
    }
    op_attention_spans(t->k, job->y, job->wide, pairs, job->span, H, C,
                       (float)(1 / sqrt((double)C)));
}

// The pass that turns q and k also brings the heads' parts of the one pair together.
static void attend_heads(tower_job *job, int64_t first, int64_t n)
{
    const tower *t = job->t;
    const int64_t D = t->config->hidden, C = D / t->config->heads;
    float *qkv = job->part, *out = job->part + job->span * 3 * n * C;
    op_norm_rope(t->k, qkv, job->wide + first * C, NULL, job->tables->cos, job->tables->sin,
                 3 * job->span, n, C, C, D, C, 0);
    op_attention_spans(t->k, out, qkv, 1, job->span, n, C, (float)(1 / sqrt((double)C)));
    op_copy_rows(t->k, job->y + first * C, D, out, n * C, job->span, n * C);
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

// Rows or heads of a slice of the phase under way.
static int64_t slice_size(const tower_job *job)
{
    if (job->phase == ATTEND) return job->heads;
    if (job->phase == EMBED && job->staged) return whole_tokens(job->t, DEVICE_STAGED);
    return slice_rows(job->t);
}

// Returns the operations it took.
static double run_slice(tower_job *job)
{
    const bool by_heads = job->phase == ATTEND;
    const int64_t all = by_heads ? job->t->config->heads : rows_now(job);
    const int64_t n = min_of(slice_size(job), all - job->at);
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
    return kernels_status(job->t->k);
}

static sight_err encode(tower *t, const float *patches, bool staged, const vision_grid *grid,
                        float *features, float *const *deepstack)
{
    tower_job *job = NULL;
    bool done = false;
    sight_err err = create_job(&job, t, patches, staged, grid, features, deepstack);
    while (!err && !done) err = tower_job_run(job, INFINITY, &done);
    tower_job_destroy(&job);
    return err;
}

sight_err tower_encode(tower *t, const float *patches, const vision_grid *grid, float *features,
                       float *const *deepstack)
{
    return encode(t, patches, kernels_on_device(t->k), grid, features, deepstack);
}

sight_err tower_encode_placed(tower *t, const float *patches, const vision_grid *grid,
                              float *features, float *const *deepstack)
{
    return encode(t, patches, false, grid, features, deepstack);
}
