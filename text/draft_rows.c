#include "text/draft_rows.h"

#include <stdlib.h>
#include <string.h>

static int64_t room(const draft_rows *r)
{
    return 2 * r->window;
}

bool draft_rows_init(draft_rows *r, int64_t width, int64_t window)
{
    *r = (draft_rows){.width = width, .window = window};
    const size_t n = (size_t)room(r);
    r->hidden = malloc(n * (size_t)width * sizeof *r->hidden);
    r->ids = malloc((n + 1) * sizeof *r->ids); // one more, for the id after the last
    r->visual = malloc(n + 1);
    r->positions = malloc(3 * n * sizeof *r->positions);
    return r->hidden && r->ids && r->visual && r->positions;
}

void draft_rows_done(draft_rows *r)
{
    free(r->hidden);
    free(r->features);
    free(r->ids);
    free(r->visual);
    free(r->positions);
    *r = (draft_rows){0};
}

static float *row_at(float *rows, const draft_rows *r, int64_t i)
{
    return rows + i * r->width;
}

// Moves the last `keep` rows to the front.
static void compact(draft_rows *r, int64_t keep)
{
    const int64_t from = r->first + r->n - keep;
    const size_t row = (size_t)r->width * sizeof(float), n = (size_t)keep;
    memmove(r->hidden, row_at(r->hidden, r, from), n * row);
    if (r->features) memmove(r->features, row_at(r->features, r, from), n * row);
    memmove(r->ids, r->ids + from, n * sizeof *r->ids);
    memmove(r->visual, r->visual + from, n);
    for (int i = 0; i < 3; i++) {
        int32_t *p = r->positions + i * room(r);
        memmove(p, p + from, n * sizeof *p);
    }
    r->first = 0;
    r->n = keep;
}

// Where n more rows go, n at most the window.
static int64_t make_room(draft_rows *r, int64_t n)
{
    if (r->n == 0) r->first = 0;
    if (r->first + r->n + n > room(r)) compact(r, r->n < r->window ? r->n : r->window);
    const int64_t at = r->first + r->n;
    r->n += n;
    return at;
}

bool draft_rows_add(draft_rows *r, const segment *s)
{
    const int64_t n = s->n < r->window ? s->n : r->window, skipped = s->n - n;
    const size_t row = (size_t)r->width * sizeof(float);
    int64_t feature = 0; // rows of s->features passed
    bool any = false;
    for (int64_t i = 0; s->visual && i < s->n; i++) any |= s->visual[i];
    if (any && !r->features) {
        r->features = malloc((size_t)room(r) * row);
        if (!r->features) return false;
    }
    const int64_t at = make_room(r, n);
    memcpy(row_at(r->hidden, r, at), s->hidden + skipped * r->width, (size_t)n * row);
    memcpy(r->ids + at, s->ids + skipped, (size_t)n * sizeof *r->ids);
    for (int axis = 0; axis < 3; axis++) {
        memcpy(r->positions + axis * room(r) + at,
               s->positions + axis * s->position_stride + skipped, (size_t)n * sizeof(int32_t));
    }
    for (int64_t i = 0; i < s->n; i++) {
        const bool visual = s->visual && s->visual[i];
        if (i >= skipped) r->visual[at + i - skipped] = visual;
        if (i >= skipped && visual) {
            memcpy(row_at(r->features, r, at + i - skipped), s->features + feature * r->width, row);
        }
        feature += visual;
    }
    return true;
}

void draft_rows_add_text(draft_rows *r, const float *hidden, const int32_t *ids, int32_t position,
                         int32_t n)
{
    const int64_t at = make_room(r, n);
    memcpy(row_at(r->hidden, r, at), hidden, (size_t)(n * r->width) * sizeof *hidden);
    for (int32_t i = 0; i < n; i++) {
        r->ids[at + i] = ids[i];
        r->visual[at + i] = 0;
        for (int axis = 0; axis < 3; axis++) {
            r->positions[axis * room(r) + at + i] = position + i;
        }
    }
}

bool draft_rows_take(draft_rows *r, mtp_segment *s, int64_t most, int32_t next)
{
    if (r->n > r->window) {
        r->first += r->n - r->window;
        r->n = r->window;
    }
    if (r->n == 0) return false;
    int64_t n = r->n <= DRAFT_LAST_ROWS ? r->n : r->n - 1;
    if (n > most) n = most;
    const int64_t first = r->first;
    r->ids[first + r->n] = next;
    r->visual[first + r->n] = 0;
    // Rows whose next ones are of one kind, so that features lie together.
    const uint8_t *visual = r->visual + first + 1;
    for (int64_t i = 1; i < n; i++) {
        if (visual[i] != visual[0]) n = i;
    }
    *s = (mtp_segment){.n = (int32_t)n,
                       .hidden = row_at(r->hidden, r, first),
                       .next_ids = r->ids + first + 1,
                       .positions = r->positions + first,
                       .position_stride = room(r)};
    if (visual[0]) {
        s->next_visual = visual;
        s->next_features = row_at(r->features, r, first + 1);
    }
    r->first += n;
    r->n -= n;
    return true;
}
