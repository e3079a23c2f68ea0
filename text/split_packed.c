// Parts of matrices in few bits. A line of codes holds 4 bytes of each of 16 rows (kernels/packed.h), and scales are those of
// groups of inputs: rows may be cut anywhere, columns where groups end.
#include <stdlib.h>
#include <string.h>

#include "text/split.h"

#define LINE_BYTES 64
#define ROW_BYTES  4 // of a line

static int64_t common(int64_t a, int64_t b)
{
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

// The part's format: super-scales of so few groups that each is of one super-scale of the whole.
static sight_err part_format(packed_format *f, bool columns, const split_ranges *r)
{
    for (int32_t i = 0; columns && i < r->n; i++) {
        if (r->at[i].first % f->group || r->at[i].count % f->group) {
            return sight_fail(SIGHT_E_UNSUPPORTED, "inputs %lld to %lld of a matrix cannot be cut out of its groups of %d",
                              (long long)r->at[i].first, (long long)(r->at[i].first + r->at[i].count - 1), f->group);
        }
        if (!f->per_super) continue;
        const int64_t both = common(r->at[i].first / f->group, r->at[i].count / f->group);
        f->per_super = (int32_t)common(f->per_super, both);
    }
    return SIGHT_OK;
}

// Which of the whole's rows, or groups, the part's are, in order; unit: numbers in one.
static void list_parts(int32_t *out, int64_t n, bool cut, const split_ranges *r, int64_t unit)
{
    int64_t at = 0;
    for (int32_t i = 0; cut && i < r->n; i++) {
        for (int64_t j = 0; j < r->at[i].count / unit; j++) out[at++] = (int32_t)(r->at[i].first / unit + j);
    }
    for (; !cut && at < n; at++) out[at] = (int32_t)at;
}

// A plane [panel][n][16] of the part from one of the whole.
typedef struct plane {
    char *to;
    const char *from;
    int64_t n, whole_n;
    size_t size;          // of an element: a row's bytes of a line, a scale
    const int32_t *which; // [n / unit], of the whole's units
    int64_t unit;         // neighbours that go together: the lines of a group
} plane;

static void copy_panel(const plane *p, int64_t panel, const int32_t *rows, int64_t n_rows)
{
    const size_t step = PACKED_PANEL * p->size;
    for (int64_t i = 0; p->from && i < p->n; i++) {
        const int64_t whole_i = p->which[i / p->unit] * p->unit + i % p->unit;
        char *to = p->to + (size_t)(panel * p->n + i) * step;
        for (int64_t r = 0; r < n_rows; r++) {
            const int64_t m = rows[r];
            const char *from = p->from + (size_t)(m / PACKED_PANEL * p->whole_n + whole_i) * step;
            memcpy(to + (size_t)r * p->size, from + (size_t)(m % PACKED_PANEL) * p->size, p->size);
        }
    }
}

typedef struct packed_part {
    packed to;
    const packed *from;
    int32_t *rows, *groups, *supers; // of the whole
} packed_part;

static void copy_all(const packed_part *j)
{
    const packed *t = &j->to, *w = j->from;
    const packed_format *f = &t->format;
    const int64_t groups = packed_groups(f, t->K), whole = packed_groups(f, w->K);
    const int64_t supers = packed_supers(f, t->K), whole_supers = packed_supers(&w->format, w->K);
    const int64_t lines = (int64_t)f->group * f->bits * PACKED_PANEL / 8 / LINE_BYTES; // of a group
    const size_t scale = f->scales == PACKED_FLAT ? 2 : f->scales == PACKED_FLAT_F32 ? 4 : 1;
    const plane planes[] = {
        {(char *)t->codes, (const char *)w->codes, groups * lines, whole * lines, ROW_BYTES, j->groups, lines},
        {(char *)t->scales, w->scales, groups, whole, scale, j->groups, 1},
        {(char *)t->mins, (const char *)w->mins, groups, whole, 1, j->groups, 1},
        {(char *)t->super, (const char *)w->super, supers, whole_supers, sizeof(float), j->supers, 1},
        {(char *)t->super_min, (const char *)w->super_min, supers, whole_supers, sizeof(float), j->supers, 1},
    };
    for (int64_t panel = 0; panel < packed_panels(t->M); panel++) {
        const int64_t first = panel * PACKED_PANEL, left = t->M - first;
        for (size_t i = 0; i < sizeof planes / sizeof *planes; i++) {
            copy_panel(&planes[i], panel, j->rows + first, left < PACKED_PANEL ? left : PACKED_PANEL);
        }
    }
}

static size_t header_bytes(void)
{
    return (sizeof(packed) + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

sight_err split_packed(const packed **out, void **owned, const packed *whole, split_role role, const split_ranges *r)
{
    const bool columns = split_by_columns(role);
    packed_format f = whole->format;
    *owned = NULL;
    *out = whole;
    if (role == SPLIT_WHOLE) return SIGHT_OK;
    sight_err err = part_format(&f, columns, r);
    if (err) return err;
    const int64_t M = columns ? whole->M : r->total, K = columns ? r->total : whole->K;
    const size_t bytes = (header_bytes() + packed_bytes(&f, M, K) + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
    const int64_t groups = packed_groups(&f, K), supers = packed_supers(&f, K);
    char *block = aligned_alloc(LINE_BYTES, bytes);
    packed_part j = {.from = whole, .rows = malloc((size_t)(M + groups + supers) * sizeof(int32_t))};
    if (!block || !j.rows) {
        free(block);
        free(j.rows);
        return sight_fail(SIGHT_E_MEMORY, "no memory for %zu MiB of a split weight", bytes >> 20);
    }
    memset(block, 0, bytes); // rows past the last have scale 0
    packed_init(&j.to, &f, M, K, block + header_bytes());
    j.groups = j.rows + M;
    j.supers = j.groups + groups;
    list_parts(j.rows, M, !columns, r, 1);
    list_parts(j.groups, groups, columns, r, f.group);
    for (int64_t s = 0; s < supers; s++) j.supers[s] = j.groups[s * f.per_super] / whole->format.per_super;
    copy_all(&j);
    free(j.rows);
    memcpy(block, &j.to, sizeof j.to);
    *owned = block;
    *out = (const packed *)(const void *)block;
    return SIGHT_OK;
}
