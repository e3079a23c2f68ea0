// tests/decoder/collect.h - frames of a clip, kept as they come.
#ifndef TESTS_DECODER_COLLECT_H
#define TESTS_DECODER_COLLECT_H

#include "decoder/clips.h"

#include "decoder/video.h"

#define N_FRAMES 120

static const char *folder;

typedef struct collect {
    frame *frames[N_FRAMES * 2];
    int n;
    int stop_after; // > 0: the sink fails then
} collect;

static inline sight_err keep(void *arg, int32_t i, frame *f)
{
    collect *c = arg;
    assert_int_equal(i, c->n);
    c->frames[c->n++] = f;
    if (c->stop_after && c->n == c->stop_after) return sight_fail(SIGHT_E_CANCELLED, "enough");
    return SIGHT_OK;
}

static inline void collect_done(collect *c)
{
    for (int i = 0; i < c->n; i++) frame_unref(&c->frames[i]);
    c->n = 0;
}

static inline int prepare(void **state)
{
    folder = test_folder();
    return 0;
}

#endif
