// kernels/cpu/packed_simd.h - the inner loops of packed.h for vectors of VR = 8 or 16 rows.
//
// Included once by packed_<level>.c, after packed_x86.h, when it has defined, for its instructions:
//   VR; ivec, fvec (VR lanes of 4 bytes); vec_prefetch(pointer)
//   iv_load, iv_set1 (of an int32), iv_and, iv_shift4 (right, of 16-bit lanes), iv_xor
//   iv_table(pointer): 16 bytes for iv_lookup(table, indexes below 16)
//   iv_to_float; fv_zero, fv_load, fv_store, fv_set1, fv_mul, fv_add, fv_sub, fv_fma(a, b, sum)
//   SIGNED: 1 where products are of signed bytes (centre 128), 0 where unsigned by signed ones
//   operand, iv_operand(v, kind): a vector of weights made ready for several rows
//   iv_dot(sum, operand, x, kind): sum += four products of neighbouring bytes
//   MANY_ROWS, MANY_PANELS, FEW_ROWS: of the two forms

#define HALVES (PACKED_PANEL / VR)
#define INLINE static inline __attribute__((always_inline))
#ifndef AHEAD
#define AHEAD 4096 // bytes of codes asked for early
#endif

// How codes are stored.
enum { BYTES, NIBBLES, TABLE };

INLINE int32_t four(const int8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

// Half h of quad q of a block.
INLINE operand weights(const uint8_t *codes, int q, int h, ivec table, const int kind)
{
    const ivec low = iv_set1(0x0f0f0f0f);
    if (kind == BYTES) {
        ivec v = iv_load(codes + q * PACKED_LINE + h * 4 * VR);
        if (SIGNED) v = iv_xor(v, iv_set1((int)0x80808080));
        return iv_operand(v, kind);
    }
    ivec v = iv_load(codes + q / 2 * PACKED_LINE + h * 4 * VR);
    if (q & 1) v = iv_shift4(v);
    v = iv_and(v, low);
    return iv_operand(kind == TABLE ? iv_lookup(table, v) : v, kind);
}

// One step of R rows times VR outputs: the exact sums.
INLINE void step_sums(ivec sum[], const uint8_t *codes, const int8_t *q, const int32_t *start, int h,
                      ivec table, const int R, const int first, const int last, const int kind)
{
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) sum[r] = iv_set1(start[r]);
#pragma GCC unroll 8
    for (int i = first; i < last; i++) {
        const operand w = weights(codes, i, h, table, kind);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            sum[r] = iv_dot(sum[r], w, iv_set1(four(q + (i * R + r) * 4)), kind);
        }
    }
}

// The minima's part: sum -= shift * (dx low), summed apart.
INLINE void take_under(float *out, const float *shifts, const char *x, int64_t blocks, const int R,
                       const int steps)
{
    const size_t block = packed_x_block(R, steps);
    for (int h = 0; h < HALVES; h++) {
        fvec under[R];
        for (int r = 0; r < R; r++) under[r] = fv_zero();
        for (int64_t b = 0; b < blocks; b++) {
            const float *low = (const float *)(const void *)(x + b * (int64_t)block) + R * (9 + steps);
            for (int s = 0; s < steps; s++) {
                const fvec v = fv_load(shifts + (b * steps + s) * PACKED_PANEL + h * VR);
                for (int r = 0; r < R; r++) under[r] = fv_fma(v, fv_set1(low[s * R + r]), under[r]);
            }
        }
        for (int r = 0; r < R; r++) {
            float *o = out + r * PACKED_PANEL + h * VR;
            fv_store(o, fv_sub(fv_load(o), under[r]));
        }
    }
}

// ---- scales ----

enum { FROM_F16, FROM_F32, FROM_UNSIGNED, FROM_SIGNED };

INLINE fvec scale_at(const char *p, const int from)
{
    switch (from) {
    case FROM_F16: return fv_from_f16(p);
    case FROM_F32: return fv_load((const float *)(const void *)p);
    case FROM_UNSIGNED: return fv_from_unsigned(p);
    default: return fv_from_signed(p);
    }
}

// n groups under one factor per row; a group's scales are `copies` steps'. The same plane of
// the next panel is asked for: it is wanted as soon as this one is done.
INLINE void scale_run(float *out, const char *p, const fvec *factor, int64_t n, int64_t copies,
                      int64_t next, const int from)
{
    const int bytes = from == FROM_F16 ? 2 : from == FROM_F32 ? 4 : 1;
    for (int64_t g = 0; g < n; g++, p += PACKED_PANEL * bytes) {
        vec_prefetch(p + next);
        for (int64_t c = 0; c < copies; c++, out += PACKED_PANEL) {
#pragma GCC unroll 4
            for (int h = 0; h < HALVES; h++) {
                fv_store(out + h * VR, fv_mul(factor[h], scale_at(p + h * VR * bytes, from)));
            }
        }
    }
}

typedef struct scale_plane {
    const void *numbers; // [panels][groups][16]
    const float *supers; // [panels][supers][16], or NULL: factor
    float factor;
    int from;
} scale_plane;

static void scale_plane_to(float *out, const scale_plane *s, const packed *p, int64_t panel)
{
    const packed_format *f = &p->format;
    const int64_t groups = packed_groups(f, p->K), supers = packed_supers(f, p->K);
    const int64_t run = f->per_super ? f->per_super : groups;
    const int64_t line = PACKED_PANEL * (s->from == FROM_F16 ? 2 : s->from == FROM_F32 ? 4 : 1);
    const int64_t copies = f->group > PACKED_BLOCK ? f->group / PACKED_BLOCK : 1;
    const char *from = (const char *)s->numbers + panel * groups * line;
    for (int64_t g = 0; g < groups; g += run) {
        const int64_t n = groups - g < run ? groups - g : run, next = groups * line;
        float *to = out + g * copies * PACKED_PANEL;
        const char *at = from + g * line;
        fvec factor[HALVES];
        for (int h = 0; h < HALVES; h++) {
            factor[h] = s->supers ? fv_load(s->supers + (panel * supers + g / run) * PACKED_PANEL + h * VR)
                                  : fv_set1(s->factor);
        }
        switch (s->from) {
        case FROM_F16: scale_run(to, at, factor, n, copies, next, FROM_F16); break;
        case FROM_F32: scale_run(to, at, factor, n, copies, next, FROM_F32); break;
        case FROM_UNSIGNED: scale_run(to, at, factor, n, copies, next, FROM_UNSIGNED); break;
        default: scale_run(to, at, factor, n, copies, next, FROM_SIGNED); break;
        }
    }
    // A block's second step may have no group.
    const int64_t steps = packed_blocks(p->K) * packed_steps(f), done = groups * copies;
    if (done < steps) memset(out + done * PACKED_PANEL, 0, PACKED_PANEL * sizeof *out);
}

static void scales(float *out, float *shifts, const packed *p, int64_t panel)
{
    const packed_format *f = &p->format;
    scale_plane s = {p->scales, p->super, f->factor, f->signed_sub ? FROM_SIGNED : FROM_UNSIGNED};
    if (f->scales == PACKED_FLAT) s.from = FROM_F16;
    if (f->scales == PACKED_FLAT_F32) s.from = FROM_F32;
    scale_plane_to(out, &s, p, panel);
    if (!shifts) return;
    s = (scale_plane){p->mins, p->super_min, 1, FROM_UNSIGNED};
    scale_plane_to(shifts, &s, p, panel);
}

// ---- few rows ----

INLINE void few_block(fvec sum[][HALVES], const uint8_t *codes, const float *scales, const char *x,
                      ivec table, const int R, const int steps, const int kind)
{
    const int8_t *q = (const int8_t *)x;
    const float *dx = (const float *)(const void *)(x + R * PACKED_BLOCK);
    const int32_t *start = (const int32_t *)(const void *)(dx + R);
#pragma GCC unroll 4
    for (int h = 0; h < HALVES; h++) {
        fvec part[R];
#pragma GCC unroll 4
        for (int s = 0; s < steps; s++) {
            ivec dot[R];
            step_sums(dot, codes, q, start + s * R, h, table, R, s * 8 / steps, (s + 1) * 8 / steps, kind);
            const fvec scale = fv_load(scales + s * PACKED_PANEL + h * VR);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                const fvec v = iv_to_float(dot[r]);
                part[r] = s ? fv_fma(v, scale, part[r]) : fv_mul(v, scale);
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) sum[r][h] = fv_fma(part[r], fv_set1(dx[r]), sum[r][h]);
    }
}

INLINE void few_rows(float *out, const packed_panel *w, const uint8_t *numbers, const char *x,
                     int64_t blocks, const int R, const int steps, const int kind)
{
    const int64_t bytes = PACKED_BLOCK * PACKED_PANEL / (kind == BYTES ? 1 : 2);
    const ivec table = iv_table(numbers);
    const float *scales = w->scales;
    const char *x_first = x;
    fvec sum[R][HALVES];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int h = 0; h < HALVES; h++) sum[r][h] = fv_zero();
    }
    for (int64_t b = 0; b < blocks; b++) {
        const uint8_t *codes = b + 1 < blocks ? w->codes + b * bytes : w->last;
#pragma GCC unroll 8
        for (int64_t i = 0; i < bytes; i += PACKED_LINE) vec_prefetch(w->codes + b * bytes + i + AHEAD);
        few_block(sum, codes, scales, x, table, R, steps, kind);
        scales += steps * PACKED_PANEL;
        x += packed_x_block(R, steps);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
        for (int h = 0; h < HALVES; h++) fv_store(out + r * PACKED_PANEL + h * VR, sum[r][h]);
    }
    if (w->shifts) take_under(out, w->shifts, x_first, blocks, R, steps);
}

// The table as bytes less the centre.
INLINE void centred_table(uint8_t out[16], const packed_format *f)
{
    for (int i = 0; i < 16; i++) out[i] = (uint8_t)(f->table[i] ^ (SIGNED ? 0x80 : 0));
}

// One function for each number of rows, or the compiler's registers run over.
#define FEW(R)                                                                                     \
    static void few_##R(float *out, const packed_panel *w, const uint8_t *numbers, const char *x,  \
                        int64_t blocks, int steps, int kind)                                       \
    {                                                                                              \
        switch (kind * 2 + steps - 1) {                                                            \
        case 0: few_rows(out, w, numbers, x, blocks, R, 1, BYTES); break;                          \
        case 1: few_rows(out, w, numbers, x, blocks, R, 2, BYTES); break;                          \
        case 2: few_rows(out, w, numbers, x, blocks, R, 1, NIBBLES); break;                        \
        case 3: few_rows(out, w, numbers, x, blocks, R, 2, NIBBLES); break;                        \
        case 4: few_rows(out, w, numbers, x, blocks, R, 1, TABLE); break;                          \
        default: few_rows(out, w, numbers, x, blocks, R, 2, TABLE); break;                         \
        }                                                                                          \
    }

FEW(1)
FEW(2)
FEW(3)
FEW(4)
FEW(6)
FEW(8)

static void few_product(float *out, const packed_panel *w, const packed_format *f, const void *x,
                        int64_t blocks, int tile)
{
    const int steps = packed_steps(f), kind = f->bits == 8 ? BYTES : f->has_table ? TABLE : NIBBLES;
    uint8_t numbers[16];
    centred_table(numbers, f);
    switch (tile) {
    case 1: few_1(out, w, numbers, x, blocks, steps, kind); break;
    case 2: few_2(out, w, numbers, x, blocks, steps, kind); break;
    case 3: few_3(out, w, numbers, x, blocks, steps, kind); break;
    case 4: few_4(out, w, numbers, x, blocks, steps, kind); break;
    case 6: few_6(out, w, numbers, x, blocks, steps, kind); break;
    default: few_8(out, w, numbers, x, blocks, steps, kind); break;
    }
}

// ---- many rows ----

static void unpack(uint8_t *out, const packed *p, int64_t panel)
{
    const packed_format *f = &p->format;
    const int64_t quads = packed_groups(f, p->K) * f->group / 4, all = packed_blocks(p->K) * 8;
    const uint8_t *codes = p->codes + (size_t)panel * packed_panel_bytes(p);
    const ivec low = iv_set1(0x0f0f0f0f), flip = iv_set1(SIGNED ? (int)0x80808080 : 0);
    uint8_t numbers[16];
    centred_table(numbers, f);
    const ivec table = iv_table(numbers);
    for (int64_t q = 0; q < all; q++, out += PACKED_LINE) {
        for (int h = 0; h < HALVES; h++) {
            const int64_t at = h * 4 * VR;
            ivec v = iv_set1(0);
            if (q < quads && f->bits == 8) {
                v = iv_xor(iv_load(codes + q * PACKED_LINE + at), flip);
            } else if (q < quads) {
                v = iv_load(codes + q / 2 * PACKED_LINE + at);
                v = iv_and(q & 1 ? iv_shift4(v) : v, low);
                if (f->has_table) v = iv_lookup(table, v);
            }
            iv_store(out + at, v);
        }
    }
}

// A block of MANY_ROWS rows times MANY_PANELS panels, added to sums in memory, or the first of
// them.
INLINE void many_block(float *out, const packed_panel *w, int64_t b, const char *x, const int steps,
                       const bool first)
{
    const int R = MANY_ROWS, V = MANY_PANELS * HALVES;
    const int8_t *q = (const int8_t *)x;
    const float *dx = (const float *)(const void *)(x + R * PACKED_BLOCK);
    const int32_t *start = (const int32_t *)(const void *)(dx + R);
    fvec part[MANY_ROWS][MANY_PANELS * HALVES];
#pragma GCC unroll 4
    for (int s = 0; s < steps; s++, start += R) {
        ivec dot[MANY_ROWS][MANY_PANELS * HALVES];
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) dot[r][v] = iv_set1(start[r]);
        }
        const int last = (s + 1) * 8 / steps;
#pragma GCC unroll 8
        for (int i = s * 8 / steps; i < last; i++) {
            operand c[MANY_PANELS * HALVES];
#pragma GCC unroll 4
            for (int v = 0; v < V; v++) {
                const uint8_t *codes = w[v / HALVES].codes + b * PACKED_BLOCK * PACKED_PANEL;
                c[v] = iv_operand(iv_load(codes + i * PACKED_LINE + v % HALVES * 4 * VR), BYTES);
            }
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                const ivec four_x = iv_set1(four(q + (i * R + r) * 4));
#pragma GCC unroll 4
                for (int v = 0; v < V; v++) dot[r][v] = iv_dot(dot[r][v], c[v], four_x, BYTES);
            }
        }
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            const float *scales = w[v / HALVES].scales + (b * steps + s) * PACKED_PANEL;
            const fvec scale = fv_load(scales + v % HALVES * VR);
#pragma GCC unroll 8
            for (int r = 0; r < R; r++) {
                const fvec f = iv_to_float(dot[r][v]);
                part[r][v] = s ? fv_fma(f, scale, part[r][v]) : fv_mul(f, scale);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
        const fvec scale = fv_set1(dx[r]);
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) {
            float *o = out + (v / HALVES * R + r) * PACKED_PANEL + v % HALVES * VR;
            fv_store(o, fv_fma(part[r][v], scale, first ? fv_zero() : fv_load(o)));
        }
    }
}

INLINE void many_steps(float *out, const packed_panel *w, const char *x, int64_t blocks,
                       const int steps)
{
    many_block(out, w, 0, x, steps, true);
    for (int64_t b = 1; b < blocks; b++) {
        many_block(out, w, b, x + b * (int64_t)packed_x_block(MANY_ROWS, steps), steps, false);
    }
    for (int p = 0; p < MANY_PANELS; p++) {
        if (!w[p].shifts) continue;
        take_under(out + p * MANY_ROWS * PACKED_PANEL, w[p].shifts, x, blocks, MANY_ROWS, steps);
    }
}

INLINE void many_product(float *out, const packed_panel *w, const void *x, int64_t blocks, int steps)
{
    if (steps == 1) many_steps(out, w, x, blocks, 1);
    else many_steps(out, w, x, blocks, 2);
}

// ---- the table ----

// Signed bytes take 128 off, but for codes of 4 bits without a table: those are small as they are.
static int centre(const packed_format *f)
{
    return SIGNED && (f->bits == 8 || f->has_table) ? 128 : 0;
}

// few_rows_: up to so many rows the few form is taken; many: the product of the other one.
#define PACKED_KERNELS(few_rows_, many)                                                            \
    {                                                                                              \
        .few = FEW_ROWS, .tile = MANY_ROWS, .panels = MANY_PANELS, .few_rows = few_rows_,          \
        .centre = centre, .pack_rows = pack_rows, .scales = scales, .few_product = few_product,    \
        .unpack = unpack, .many_product = many,                                                    \
    }
