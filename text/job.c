#include "text/job.h"

#include <stdlib.h>

#include "text/model_parts.h"

struct text_job {
    text_model *m;
    int64_t max_rows;
    void *memory;     // backend memory behind h, cos and sin
    float *h;         // [max_rows, D]
    float *cos, *sin; // [max_rows, R/2]
    segment s;
    batch_part part;
    int64_t N; // 0: nothing is under way
    int32_t half; // halves of layers that are done
    struct text_job *others[SPLIT_MAX_RANKS - 1]; // of a group: those of the other ranks
};

// Floats of one array, rounded so that the next begins at a multiple of 256 bytes.
static int64_t room(int64_t floats)
{
    return (floats + 63) / 64 * 64;
}

int64_t text_job_bytes(const text_model *m, int64_t max_rows)
{
    const int64_t floats = room(max_rows * m->config->text.hidden) + 2 * room(max_rows * m->rope.half);
    return floats * (int64_t)sizeof(float);
}

static sight_err create(text_job **out, text_model *m, int64_t max_rows)
{
    text_job *j = calloc(1, sizeof *j);
    if (!j) return sight_fail(SIGHT_E_MEMORY, "no memory for reading in slices");
    j->m = m;
    j->max_rows = max_rows < m->max_rows ? max_rows : m->max_rows;
    sight_err err = kernels_alloc(&j->memory, m->k, (size_t)text_job_bytes(m, j->max_rows), "reading in slices");
    if (err) {
        free(j);
        return err;
    }
    j->h = j->memory;
    j->cos = j->h + room(j->max_rows * m->config->text.hidden);
    j->sin = j->cos + room(j->max_rows * m->rope.half);
    *out = j;
    return SIGHT_OK;
}

sight_err text_job_create(text_job **out, text_model *m, int64_t max_rows)
{
    text_job *j = NULL;
    text_model *other;
    sight_err err = create(&j, m, max_rows);
    for (int32_t i = 1; !err && m->lead && (other = group_model(m->lead, i)); i++) {
        err = create(&j->others[i - 1], other, max_rows);
    }
    if (err) text_job_destroy(&j);
    else *out = j;
    return err;
}

void text_job_stop(text_job *j)
{
    for (int32_t i = 0; i < SPLIT_MAX_RANKS - 1 && j->others[i]; i++) text_job_stop(j->others[i]);
    if (j->N) model_step_undo(&j->s, 1);
    j->N = 0;
}

void text_job_destroy(text_job **pj)
{
    text_job *j = *pj;
    if (!j) return;
    text_job_stop(j);
    for (int32_t i = 0; i < SPLIT_MAX_RANKS - 1; i++) text_job_destroy(&j->others[i]);
    kernels_free(j->m->k, j->memory);
    free(j);
    *pj = NULL;
}

bool text_job_under_way(const text_job *j)
{
    return j->N > 0;
}

// Exchanges what the model works on for what is the job's; the same once more puts it back.
static void exchange(text_job *j)
{
    workspace *ws = &j->m->ws;
    float *const h = ws->h, *const c = ws->cos, *const s = ws->sin;
    ws->h = j->h;
    ws->cos = j->cos;
    ws->sin = j->sin;
    j->h = h;
    j->cos = c;
    j->sin = s;
}

static text_job *of_rank(text_job *j, int32_t rank)
{
    return rank ? j->others[rank - 1] : j;
}

sight_err text_job_begin(text_job *j, const segment *s)
{
    return j->m->lead ? group_job_begin(j->m->lead, j, s) : job_begin_rank(j, 0, s);
}

sight_err job_begin_rank(text_job *first, int32_t rank, const segment *s)
{
    text_job *j = of_rank(first, rank);
    if (s->rewindable || s->n > j->max_rows || j->N) {
        return sight_fail(SIGHT_E_ARGUMENT, "%d rows to be read in slices, %lld fit", s->n, (long long)j->max_rows);
    }
    int64_t N;
    sight_err err = model_step_begin(j->m, &N, s, 1);
    if (err) return err;
    j->s = *s;
    j->part = j->m->ws.parts[0];
    j->half = 0;
    j->N = N;
    exchange(j);
    model_step_embed(j->m, &j->s, 1, N);
    exchange(j);
    return SIGHT_OK;
}

// Half a layer; returns what it took.
static double run_half(text_job *j)
{
    text_model *m = j->m;
    const int32_t layer = j->half / 2;
    const model_layer *l = &m->layers[layer];
    if (j->half++ % 2 == 0) {
        layer_mix(m, l, &j->part, 1, j->N);
        return layer_mix_ops(m, l, j->part.past, j->N);
    }
    layer_mlp(m, l, j->N);
    model_after_layer(m, layer, &j->s, 1);
    return layer_mlp_ops(m, j->N);
}

sight_err text_job_run(text_job *j, double most_ops, bool *done)
{
    return j->m->lead ? group_job_run(j->m->lead, j, most_ops, done) : job_run_rank(j, 0, most_ops, done);
}

sight_err job_run_rank(text_job *first, int32_t rank, double most_ops, bool *done)
{
    text_job *j = of_rank(first, rank);
    text_model *m = j->m;
    const int32_t halves = 2 * m->config->text.n_layers;
    sight_err err = SIGHT_OK;
    *done = false;
    if (!j->N) return sight_fail(SIGHT_E_ARGUMENT, "nothing is being read in slices");
    exchange(j);
    m->ws.parts[0] = j->part; // as model_results and DeepStack look for it
    for (double left = most_ops; j->half < halves && (left > 0 || left == most_ops);) left -= run_half(j);
    if (j->half == halves) {
        err = model_step_end(m, &j->s, 1, false);
        j->N = 0;
        *done = !err;
    }
    exchange(j);
    return err;
}
