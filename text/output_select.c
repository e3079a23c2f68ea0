// Which rows of the head can be among the k greatest, by bounds that close in.
//
// 1. Seeds, the rows of the greatest estimates, get the second look. The k-th greatest of their
//    lower bounds is a floor: k logits are certainly not below it.
// 2. Every row whose upper bound reaches the floor gets the second look, which lifts the floor.
// 3. Those whose upper bounds still reach it get the product.
//
// Looking at seeds first makes the floor the k-th greatest logit itself, nearly: rows are ruled out
// when the first look's bound, once and not twice, does not reach it.
#include <float.h>
#include <math.h>
#include <string.h>

#include "text/output_parts.h"

#define MORE_SEEDS 32 // panels beyond k that give seeds
#define MOST_KEPT 4096

// The k greatest of what was given, as a heap with the least on top.
typedef struct greatest {
    float *heap; // [k]
    int32_t k, n;
} greatest;

static void sink(greatest *g, int32_t i)
{
    const float v = g->heap[i];
    for (int32_t child; (child = 2 * i + 1) < g->n; i = child) {
        if (child + 1 < g->n && g->heap[child + 1] < g->heap[child]) child++;
        if (!(g->heap[child] < v)) break;
        g->heap[i] = g->heap[child];
    }
    g->heap[i] = v;
}

static void give(greatest *g, float v)
{
    if (g->n == g->k) {
        if (!(v > g->heap[0])) return;
        g->heap[0] = v;
        sink(g, 0);
        return;
    }
    int32_t i = g->n++;
    for (; i > 0 && g->heap[(i - 1) / 2] > v; i = (i - 1) / 2) g->heap[i] = g->heap[(i - 1) / 2];
    g->heap[i] = v;
}

// The k-th greatest; -inf while there are fewer.
static float kth(const greatest *g)
{
    return g->n == g->k ? g->heap[0] : -INFINITY;
}

typedef struct narrowing {
    output_layer *o;
    const output_x *in;
    const output_look *look;
    const output_row *row;
    int32_t n;      // ids with their second look
    greatest floor; // of their lower bounds
} narrowing;

static bool takes_part(const narrowing *w, int64_t m)
{
    const output_row *row = w->row;
    return m < w->o->M && (!row->allowed || row->allowed[m]) && !w->o->marks[m];
}

// A panel's greatest over the rows that take part.
static void look_closely(const narrowing *w, int64_t panel)
{
    float peak = -INFINITY, reach = -INFINITY;
    for (int64_t m = panel * OUTPUT_PANEL; m < (panel + 1) * OUTPUT_PANEL; m++) {
        if (!takes_part(w, m)) continue;
        peak = fmaxf(peak, w->look->value[m]);
        reach = fmaxf(reach, w->look->value[m] + w->look->bound[m]);
    }
    w->look->peak[panel] = peak;
    w->look->reach[panel] = reach;
}

// Panels that hold rows that do not take part: past the end, not allowed, wanted anyway.
static void correct_panels(const narrowing *w)
{
    static const uint8_t all[OUTPUT_PANEL] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    const output_row *row = w->row;
    const int64_t whole = w->o->M / OUTPUT_PANEL;
    for (int64_t p = 0; row->allowed && p < whole; p++) {
        if (memcmp(row->allowed + p * OUTPUT_PANEL, all, OUTPUT_PANEL) != 0) look_closely(w, p);
    }
    if (whole < output_panels(w->o->M)) look_closely(w, whole);
    for (int32_t i = 0; i < row->n_always; i++) look_closely(w, row->always[i] / OUTPUT_PANEL);
}

// Rows whose numbers reach `least` go to ids, from place `to` on; at most about `most`.
static int32_t collect(const narrowing *w, int32_t to, const float *panels, bool upper, float least,
                       int64_t most)
{
    const output_look *l = w->look;
    const int64_t n_panels = output_panels(w->o->M);
    int32_t *ids = w->o->ids + to, n = 0;
    for (int64_t p = 0; p < n_panels && n < most; p++) {
        if (!(panels[p] >= least)) continue;
        const int64_t first = p * OUTPUT_PANEL, left = w->o->M - first;
        const int64_t rows = left < OUTPUT_PANEL ? left : OUTPUT_PANEL;
        float v[OUTPUT_PANEL];
        memcpy(v, l->value + first, sizeof v);
        for (int i = 0; i < OUTPUT_PANEL && upper; i++) v[i] += l->bound[first + i];
        for (int64_t i = 0; i < rows; i++) { // without a branch: which rows reach is a coin's toss
            const bool reaches = v[i] >= least, takes = takes_part(w, first + i);
            ids[n] = (int32_t)(first + i);
            n += reaches & takes;
        }
    }
    return n;
}

// The second look at n more ids.
static void refine(narrowing *w, int32_t n)
{
    output_layer *o = w->o;
    const int32_t *ids = o->ids + w->n;
    op_output_refine(o->k, w->look, &o->planes, w->in, ids, n);
    for (int32_t i = 0; i < n; i++) {
        o->marks[ids[i]] = MARK_SEEN;
        give(&w->floor, w->look->value[ids[i]] - w->look->bound[ids[i]]);
    }
    o->counts.refined += n;
    w->n += n;
}

// Both second looks; then the ids that may still win are marked. Returns how many.
static int32_t close_in(narrowing *w)
{
    output_layer *o = w->o;
    float heap[MOST_KEPT + MORE_SEEDS];
    greatest peaks = {.heap = heap, .k = w->row->k + MORE_SEEDS};
    for (int64_t p = 0; p < output_panels(o->M); p++) give(&peaks, w->look->peak[p]);
    refine(w, collect(w, 0, w->look->peak, false, kth(&peaks), 4 * (int64_t)peaks.k));
    refine(w, collect(w, w->n, w->look->reach, true, kth(&w->floor), o->M));
    const float floor = kth(&w->floor);
    int32_t n = 0;
    for (int32_t i = 0; i < w->n; i++) {
        const int32_t m = o->ids[i];
        const bool wins = w->look->value[m] + w->look->bound[m] >= floor;
        o->marks[m] = wins ? MARK_CANDIDATE : MARK_NONE;
        n += wins;
    }
    return n;
}

// Takes the marked ids, rising, and clears all marks.
static int32_t take_marked(output_layer *o, int32_t *ids)
{
    const size_t rows = (size_t)output_rows(o->M); // a multiple of 8
    int32_t n = 0;
    for (size_t m = 0; m < rows; m += 8) {
        uint64_t eight;
        memcpy(&eight, o->marks + m, 8);
        if (!eight) continue;
        for (size_t i = m; i < m + 8; i++) {
            if (o->marks[i] == MARK_CANDIDATE) ids[n++] = (int32_t)i;
        }
        memset(o->marks + m, MARK_NONE, 8);
    }
    return n;
}

bool output_narrow(output_layer *o, const float *x, const output_x *in, const output_look *look,
                   output_row *row)
{
    float heap[MOST_KEPT];
    if (row->k > MOST_KEPT) return false;
    narrowing w = {.o = o, .in = in, .look = look, .row = row};
    w.floor = (greatest){.heap = heap, .k = row->k};
    for (int32_t i = 0; i < row->n_always; i++) o->marks[row->always[i]] = MARK_CANDIDATE;
    correct_panels(&w);
    const int64_t n = close_in(&w) + (int64_t)row->n_always;
    if (n * 16 > o->M) {
        memset(o->marks, MARK_NONE, (size_t)output_rows(o->M));
        return false;
    }
    row->n = take_marked(o, row->ids);
    output_exact(o, row->logits, x, row->ids, row->n);
    o->counts.exact += row->n;
    return true;
}
