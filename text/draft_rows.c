#include "text/draft_rows.h"

#include <stdlib.h>
#include <string.h>

#include "kernels/memory.h"

static int64_t room(const draft_rows *r)
{
    return 2 * r->window;
}

static size_t rows_bytes(const draft_rows *r, int64_t n)
{
    return (size_t)(n * r->width) * sizeof(float);
}

static sight_err rows_create(float **out, const draft_rows *r)
{
    void *p;
    sight_err err = kernels_alloc(&p, r->k, rows_bytes(r, room(r)), "rows of the prompt");
    if (!err) *out = p;
    return err;
}

sight_err draft_rows_init(draft_rows *r, kernels *k, int64_t width, int64_t window)
{
    *r = (draft_rows){.k = k, .width = width, .window = window};
    const size_t n = (size_t)room(r);
    sight_err err = rows_create(&r->hidden, r);
    if (err) return err;
    r->ids = malloc((n + 1) * sizeof *r->ids); // one more, for the id after the last
    r->visual = malloc(n + 1);
    r->positions = malloc(3 * n * sizeof *r->positions);
    if (r->ids && r->visual && r->positions) return SIGHT_OK;
    return sight_fail(SIGHT_E_MEMORY, "no memory for rows of the prompt");
}

void draft_rows_done(draft_rows *r)
{
    if (r->hidden) kernels_free(r->k, r->hidden);
    if (r->features) kernels_free(r->k, r->features);
    free(r->ids);
    free(r->visual);
    free(r->positions);
    *r = (draft_rows){0};
}

static float *row_at(float *rows, const draft_rows *r, int64_t i)
{
    return rows + i * r->width;
}

// Rows from .. from + n - 1 become the first ones. They may overlap with those, so as many as lie
// before them are moved at once.
static void move_rows(const draft_rows *r, float *rows, int64_t from, int64_t n)
{
    for (int64_t i = 0; from > 0 && i < n; i += from) {
        const int64_t some = n - i < from ? n - i : from;
        op_copy(r->k, row_at(rows, r, i), row_at(rows, r, from + i), rows_bytes(r, some));
    }
}

// Moves the last `keep` rows to the front.
static void compact(draft_rows *r, int64_t keep)
{
    const int64_t from = r->first + r->n - keep;
    const size_t n = (size_t)keep;
    move_rows(r, r->hidden, from, keep);
    if (r->features) move_rows(r, r->features, from, keep);
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

static int64_t count(const uint8_t *visual, int64_t n)
{
    int64_t some = 0;
    for (int64_t i = 0; visual && i < n; i++) some += visual[i];
    return some;
}

// features, rows of the visual ones among n, go to where these stand from row `at` on: runs at
// once.
static void put_features(draft_rows *r, int64_t at, const float *features, const uint8_t *visual,
                         int64_t n)
{
    for (int64_t i = 0, end; i < n; i = end + 1) {
        for (end = i; end < n && visual[end];) end++;
        op_copy(r->k, row_at(r->features, r, at + i), features, rows_bytes(r, end - i));
        features += (end - i) * r->width;
    }
}

sight_err draft_rows_add(draft_rows *r, const segment *s)
{
    const int64_t n = s->n < r->window ? s->n : r->window, skipped = s->n - n;
    const bool any = count(s->visual, s->n) > 0;
    sight_err err = any && !r->features ? rows_create(&r->features, r) : SIGHT_OK;
    if (err) return err;
    const int64_t at = make_room(r, n);
    op_copy(r->k, row_at(r->hidden, r, at), s->hidden + skipped * r->width, rows_bytes(r, n));
    memcpy(r->ids + at, s->ids + skipped, (size_t)n * sizeof *r->ids);
    for (int axis = 0; axis < 3; axis++) {
        memcpy(r->positions + axis * room(r) + at,
               s->positions + axis * s->position_stride + skipped, (size_t)n * sizeof(int32_t));
    }
    memset(r->visual + at, 0, (size_t)n);
    if (!any) return SIGHT_OK;
    memcpy(r->visual + at, s->visual + skipped, (size_t)n);
    put_features(r, at, s->features + count(s->visual, skipped) * r->width, s->visual + skipped, n);
    return SIGHT_OK;
}

void draft_rows_add_text(draft_rows *r, const float *hidden, const int32_t *ids, int32_t position,
                         int32_t n)
{
    const int64_t at = make_room(r, n);
    op_copy(r->k, row_at(r->hidden, r, at), hidden, rows_bytes(r, n));
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
