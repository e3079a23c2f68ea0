// Which frames a question sees. Rule: transformers, models/qwen3_vl,
// Qwen3VLVideoProcessor.sample_frames.
#include <math.h>
#include <stdlib.h>

#include "decoder/video_parts.h"

// min(max(int(total / fps * rate), min_frames), max_frames, total)
static int64_t count_for(int64_t total, double fps, const video_choice *c)
{
    if (total < 1) return 0;
    if (c->n_frames > 0) return c->n_frames < total ? c->n_frames : total;
    double wanted = trunc((double)total / fps * c->fps);
    int64_t n = wanted < INT32_MAX ? (int64_t)wanted : INT32_MAX;
    if (n < c->min_frames) n = c->min_frames;
    if (n > c->max_frames) n = c->max_frames;
    if (n > total) n = total;
    return n < 1 ? 1 : n;
}

// Element i of numpy.linspace(0, last, n), in the same order of operations.
static double spaced(double last, int64_t i, int64_t n)
{
    if (n == 1) return 0;
    return i == n - 1 ? last : (double)i * (last / (double)(n - 1));
}

int32_t video_sample_indices(int64_t *indices, int32_t capacity, int64_t total, double fps,
                             const video_choice *choice)
{
    int64_t n = count_for(total, fps, choice);
    for (int64_t i = 0; i < n && i < capacity; i++) {
        indices[i] = (int64_t)rint(spaced((double)(total - 1), i, n)); // half to even
    }
    return (int32_t)n;
}

static sight_err check_choice(const video_choice *c)
{
    if (c->n_frames < 0) {
        return sight_fail(SIGHT_E_ARGUMENT, "frames is %d, must not be negative", c->n_frames);
    }
    if (c->n_frames > 0) return SIGHT_OK;
    if (!(c->fps > 0) || isinf(c->fps)) {
        return sight_fail(SIGHT_E_ARGUMENT, "fps is %g, must be above 0", c->fps);
    }
    if (c->min_frames < 0 || c->max_frames < 1 || c->min_frames > c->max_frames) {
        return sight_fail(SIGHT_E_ARGUMENT, "frames from %d to %d is not a range", c->min_frames,
                          c->max_frames);
    }
    return SIGHT_OK;
}

// At a variable rate: the frame shown at each of n evenly spaced times, or all frames.
static void choose_by_time(const video *v, int64_t *indices, double *times_s, int32_t n)
{
    const video_index *x = &v->index;
    int64_t last = v->first + v->info.n_frames - 1;
    double from = video_time_of(x, v->first), span = video_time_of(x, last) - from;
    for (int32_t i = 0; i < n; i++) {
        double asked = from + spaced(span, i, n);
        int64_t number = n == v->info.n_frames ? v->first + i
                                               : video_shown_at(x, asked + 0.5 * x->tick_s);
        bool again = i > 0 && indices[i - 1] == number;
        indices[i] = number;
        times_s[i] = again ? asked : video_time_of(x, number);
    }
}

static void choose_by_index(const video *v, const video_choice *choice, int64_t *indices,
                            double *times_s, int32_t n)
{
    video_sample_indices(indices, n, v->info.n_frames, v->info.fps, choice);
    for (int32_t i = 0; i < n; i++) {
        indices[i] += v->first;
        times_s[i] = video_time_of(&v->index, indices[i]);
    }
}

sight_err video_choose(const video *v, const video_choice *choice, int64_t **indices,
                       double **times_s, int32_t *n)
{
    sight_err err = check_choice(choice);
    if (err) return err;
    int32_t count = (int32_t)count_for(v->info.n_frames, v->info.fps, choice);
    int64_t *chosen = calloc((size_t)count, sizeof *chosen);
    double *times = calloc((size_t)count, sizeof *times);
    if (!chosen || !times) {
        free(chosen);
        free(times);
        return sight_fail(SIGHT_E_MEMORY, "no memory to choose %d frames", count);
    }
    if (v->index.constant) choose_by_index(v, choice, chosen, times, count);
    else choose_by_time(v, chosen, times, count);
    *indices = chosen;
    *times_s = times;
    *n = count;
    return SIGHT_OK;
}
