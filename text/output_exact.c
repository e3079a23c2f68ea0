// The product as stored for some rows of the head: they are laid side by side, and op_linear takes
// them for a smaller head. It adds in an order that does not depend on which rows are beside.
#include <stdlib.h>
#include <string.h>

#include "text/output_parts.h"

#define GATHER_ROWS 256 // at a time; whole panels

bool output_exact_create(output_layer *o)
{
    const packed *p = o->head->packed;
    const size_t bytes = p ? packed_bytes(&p->format, GATHER_ROWS, o->K)
                           : GATHER_ROWS * o->row_bytes;
    o->gathered = aligned_alloc(64, (bytes + 63) / 64 * 64);
    o->products = malloc(GATHER_ROWS * sizeof *o->products);
    return o->gathered && o->products;
}

// Up to GATHER_ROWS rows of a head as the checkpoint stores it.
static void exact_plain(output_layer *o, float *logits, const float *x, const int32_t *ids,
                        int32_t n)
{
    char *to = o->gathered;
    for (int32_t i = 0; i < n; i++, to += o->row_bytes) {
        memcpy(to, (const char *)o->head->w.data + (size_t)ids[i] * o->row_bytes, o->row_bytes);
    }
    weight w = *o->head;
    w.w.data = o->gathered;
    w.w.shape[0] = n;
    op_linear(o->k, logits, x, &w, 1);
}

// Copies a panel of one plane, if the format has it. bytes: of a panel.
static void copy_panel(const void *to, int64_t at, const void *from, int64_t panel, size_t bytes)
{
    if (!from) return;
    memcpy((char *)to + (size_t)at * bytes, (const char *)from + (size_t)panel * bytes, bytes);
}

static void gather_panel(const packed *to, int64_t at, const packed *from, int64_t panel)
{
    const packed_format *f = &from->format;
    const size_t groups = (size_t)packed_groups(f, from->K) * PACKED_PANEL;
    const size_t supers = (size_t)packed_supers(f, from->K) * PACKED_PANEL * sizeof(float);
    const size_t scale = f->scales == PACKED_FLAT ? 2 : f->scales == PACKED_FLAT_F32 ? 4 : 1;
    copy_panel(to->codes, at, from->codes, panel, groups * (size_t)f->group * f->bits / 8);
    copy_panel(to->scales, at, from->scales, panel, groups * scale);
    copy_panel(to->mins, at, from->mins, panel, groups);
    copy_panel(to->super, at, from->super, panel, supers);
    copy_panel(to->super_min, at, from->super_min, panel, supers);
}

// As many rows of a packed head as their panels fit; returns how many.
static int32_t exact_packed(output_layer *o, float *logits, const float *x, const int32_t *ids,
                            int32_t n)
{
    enum { PANELS = GATHER_ROWS / PACKED_PANEL };
    const packed *from = o->head->packed;
    packed to;
    int32_t panels[PANELS], n_panels = 0, taken = 0, place[GATHER_ROWS];
    packed_init(&to, &from->format, GATHER_ROWS, o->K, o->gathered);
    for (; taken < n && taken < GATHER_ROWS; taken++) {
        const int32_t panel = ids[taken] / PACKED_PANEL;
        if (n_panels == 0 || panels[n_panels - 1] != panel) {
            if (n_panels == PANELS) break;
            gather_panel(&to, n_panels, from, panel);
            panels[n_panels++] = panel;
        }
        place[taken] = (n_panels - 1) * PACKED_PANEL + ids[taken] % PACKED_PANEL;
    }
    weight w = *o->head;
    to.M = w.w.shape[0] = (int64_t)n_panels * PACKED_PANEL;
    w.packed = &to;
    op_linear(o->k, o->products, x, &w, 1);
    for (int32_t i = 0; i < taken; i++) logits[i] = o->products[place[i]];
    return taken;
}

void output_exact(output_layer *o, float *logits, const float *x, const int32_t *ids, int32_t n)
{
    for (int32_t i = 0, taken; i < n; i += taken) {
        if (o->head->packed) {
            taken = exact_packed(o, logits + i, x, ids + i, n - i);
        } else {
            taken = n - i < GATHER_ROWS ? n - i : GATHER_ROWS;
            exact_plain(o, logits + i, x, ids + i, taken);
        }
    }
}
