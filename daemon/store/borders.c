#include "daemon/store/borders.h"

// A piece ends with a medium, so that the past up to there can be kept whole, unless it is shorter
// than this: a step of a few rows costs as much as one of many.
#define MIN_PIECE 32
// A piece ends with a turn too (the system prompt is one), once it is so long, or half as long as it may
// be: the step of a few rows that may follow then costs little beside it.
#define MIN_TURN 128

// Token `at` is the first after a turn.
static bool after_turn(const task *t, int32_t at)
{
    const int32_t end = engine_turn_end(t->model);
    return end >= 0 && at > 0 && t->prompt.ids[at - 1] == end;
}

static int32_t medium_border(const task *t, int32_t at, int32_t most)
{
    const int32_t end = at + most < t->prompt.n ? at + most : t->prompt.n;
    int32_t i = 0;
    while (i < t->asked->n_media && t->places[i].end < at + MIN_PIECE) i++;
    if (i == t->asked->n_media || t->places[i].first >= end) return end;
    const int32_t left = t->places[i].end - at, half = at + left / 2;
    if (left <= most) return t->places[i].end;
    // Rather two equal pieces than one whose rest is too short.
    return left < most + MIN_PIECE && half > t->places[i].first ? half : end;
}

// A turn's end nearer than this is no border.
static int32_t least_turn(int32_t most)
{
    return most / 2 < MIN_TURN ? most / 2 : MIN_TURN;
}

int32_t borders_next(const task *t, int32_t at, int32_t most)
{
    const int32_t end = medium_border(t, at, most);
    for (int32_t i = at + least_turn(most); i < end; i++) {
        if (after_turn(t, i)) return i;
    }
    return end;
}

bool borders_at_turn(const task *t, int32_t at, int32_t most)
{
    const int32_t near = at + least_turn(most);
    bool found = false;
    for (int32_t i = at; i < near && i < t->prompt.n && !found; i++) found = after_turn(t, i);
    return found;
}

bool borders_at_last(const task *t, int32_t at, int32_t most)
{
    const int32_t n = t->prompt.n, end = borders_next(t, at, most);
    return end == n || (after_turn(t, end) && borders_next(t, end, most) == n);
}
