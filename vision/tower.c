#include "vision/tower.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "vision/tower_parts.h"

// Frame pairs see nothing of each other, so a job takes them through all blocks in groups of about
// this many patches: enough for the products to run at full speed, and memory does not grow with
// the length of a clip.
#define GROUP_PATCHES 2048
// Rows of the MLP at a time: its inner width is several times the tower's.
#define MLP_ROWS 1024

struct tower_job {
    tower *t;
    const float *patches;
    vision_grid grid;
    float *features;
    float *deepstack[CONFIG_MAX_DEEPSTACK]; // NULL: not wanted
    int64_t span;  // patches of a pair
    int64_t group; // pairs taken together
    int64_t pair;  // first of the group under way
    int32_t block; // next to run on it
    void *memory;  // the one allocation, which the rest points into
    float *x, *y;  // [group * span, D]: the residual stream, and what a product reads
    float *wide;   // [group * span, 3 D] or [MLP_ROWS, intermediate], whichever is more
    float *cos, *sin; // [span, 3, C / 2]
};

// ---- the tower ----

static sight_err check_config(const checkpoint *c)
{
    const vision_config *v = &checkpoint_config(c)->vision;
    if (!checkpoint_config(c)->has_vision) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "the checkpoint has no vision tower");
    }
    if (v->hidden % (v->heads * 4)) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "config.json: vision heads of %d / %d are not a multiple of 4 wide",
                          v->hidden, v->heads);
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

// Cuts the job's memory, or with memory NULL only measures it, in floats.
static int64_t carve(tower_job *job, float *memory, const tower *t, const vision_grid *grid)
{
    const vision_config *c = t->config;
    const int64_t span = (int64_t)grid->h * grid->w;
    const int64_t N = group_pairs(grid) * span;
    const int64_t angles = span * 3 * (c->hidden / c->heads / 2);
    const int64_t sizes[] = {
        N * c->hidden,
        N * c->hidden,
        max_of(N * 3 * c->hidden, min_of(N, MLP_ROWS) * c->intermediate),
        angles,
        angles,
    };
    float *parts[5];
    int64_t at = 0;
    for (int i = 0; i < 5; i++) {
        parts[i] = memory ? memory + at : NULL;
        at += (sizes[i] + 15) / 16 * 16;
    }
    if (memory) {
        job->x = parts[0];
        job->y = parts[1];
        job->wide = parts[2];
        job->cos = parts[3];
        job->sin = parts[4];
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

// ---- arithmetic ----

static int64_t pairs_now(const tower_job *job)
{
    return min_of(job->group, job->grid.t - job->pair);
}

static void embed(tower_job *job)
{
    const tower *t = job->t;
    const int64_t pairs = pairs_now(job), row = t->patch.w.shape[1];
    op_linear(t->k, job->x, job->patches + job->pair * job->span * row, &t->patch,
              pairs * job->span);
    for (int64_t i = 0; i < pairs; i++) {
        tower_add_positions(t, job->x + i * job->span * t->config->hidden, job->grid.h,
                            job->grid.w);
    }
}

// q, k and v of a patch are seen as three rows of H heads, so that one contiguous pass turns q and
// k; v's angles are 0.
static void attend(tower_job *job, const tower_block *b)
{
    const tower *t = job->t;
    const int64_t D = t->config->hidden, H = t->config->heads, C = D / H;
    const int64_t pairs = pairs_now(job), N = pairs * job->span;
    float *qkv = job->wide;
    op_layer_norm(t->k, job->y, job->x, b->norm1.w, b->norm1.b, N, D, TOWER_EPS);
    op_linear(t->k, qkv, job->y, &b->qkv, N);
    for (int64_t i = 0; i < pairs; i++) {
        float *pair = qkv + i * job->span * 3 * D;
        op_norm_rope(t->k, pair, pair, NULL, job->cos, job->sin, 3 * job->span, H, C, C, D, C, 0);
    }
    op_attention_spans(t->k, job->y, qkv, pairs, job->span, H, C, (float)(1 / sqrt((double)C)));
    op_linear_add(t->k, job->x, job->y, &b->proj, N);
}

static void mlp(tower_job *job, const tower_block *b)
{
    const tower *t = job->t;
    const vision_config *c = t->config;
    const int64_t D = c->hidden, N = pairs_now(job) * job->span;
    for (int64_t first = 0; first < N; first += MLP_ROWS) {
        const int64_t n = min_of(MLP_ROWS, N - first);
        float *x = job->x + first * D;
        op_layer_norm(t->k, job->y, x, b->norm2.w, b->norm2.b, n, D, TOWER_EPS);
        op_linear(t->k, job->wide, job->y, &b->fc1, n);
        if (c->gelu_tanh) op_gelu_tanh(t->k, job->wide, job->wide, n * c->intermediate);
        else op_gelu_erf(t->k, job->wide, job->wide, n * c->intermediate);
        op_linear_add(t->k, x, job->wide, &b->fc2, n);
    }
}

// out = this group's rows of [tokens, out_hidden]. The patches of a token lie side by side already;
// norm_joined: the norm is over all of them (DeepStack) instead of each.
static void merge(tower_job *job, const tower_merger *m, float *out, bool norm_joined)
{
    const tower *t = job->t;
    const vision_config *c = t->config;
    const int64_t square = (int64_t)c->merge * c->merge, D = c->hidden;
    const int64_t N = pairs_now(job) * job->span, tokens = N / square;
    if (norm_joined) {
        op_layer_norm(t->k, job->y, job->x, m->norm.w, m->norm.b, tokens, D * square, TOWER_EPS);
    } else {
        op_layer_norm(t->k, job->y, job->x, m->norm.w, m->norm.b, N, D, TOWER_EPS);
    }
    op_linear(t->k, job->wide, job->y, &m->fc1, tokens);
    op_gelu_erf(t->k, job->wide, job->wide, N * D);
    op_linear(t->k, out + job->pair * job->span / square * c->out_hidden, job->wide, &m->fc2,
              tokens);
}

static void run_block(tower_job *job)
{
    const tower *t = job->t;
    const vision_config *c = t->config;
    if (job->block == 0) embed(job);
    attend(job, &t->blocks[job->block]);
    mlp(job, &t->blocks[job->block]);
    for (int32_t i = 0; i < c->n_deepstack; i++) {
        if (c->deepstack[i] == job->block && job->deepstack[i]) {
            merge(job, &t->deepstack[i], job->deepstack[i], true);
        }
    }
    if (++job->block < c->depth) return;
    merge(job, &t->merger, job->features, false);
    job->block = 0;
    job->pair += job->group;
}

sight_err tower_job_run(tower_job *job, int32_t n_blocks, bool *done)
{
    for (int32_t i = 0; i < n_blocks && job->pair < job->grid.t; i++) run_block(job);
    *done = job->pair >= job->grid.t;
    return SIGHT_OK;
}

sight_err tower_encode(tower *t, const float *patches, const vision_grid *grid, float *features,
                       float *const *deepstack)
{
    tower_job *job = NULL;
    bool done = false;
    sight_err err = tower_job_create(&job, t, patches, grid, features, deepstack);
    while (!err && !done) err = tower_job_run(job, t->config->depth, &done);
    tower_job_destroy(&job);
    return err;
}
