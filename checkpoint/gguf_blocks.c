#include "checkpoint/gguf_blocks.h"

#include <math.h>
#include <string.h>

#include "kernels/tensor.h"

#define SUPER 256 // inputs of a super-block
#define SMALL 32  // inputs of a plain block

// One row of the arrays that a block is written to; it moves on from block to block.
typedef struct row_out {
    uint8_t *codes;
    uint16_t *scales; // flat: f16 bits
    uint8_t *subs;    // two-level
    uint8_t *mins;
    float *super, *super_min;
} row_out;

// A type: how its blocks are unpacked, and what comes out.
typedef struct block_kind {
    int type_id;
    int32_t inputs, bytes;
    int32_t n_floats, floats[2]; // byte offsets of the f16 numbers that must be finite
    packed_format format;
    void (*unpack)(const row_out *out, const uint8_t *block);
} block_kind;

static uint16_t u16_at(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static float f16_at(const uint8_t *p)
{
    return f16_to_f32(u16_at(p));
}

// ---- plain blocks ----

// f16 d, 32 signed bytes.
static void unpack_q8_0(const row_out *o, const uint8_t *b)
{
    *o->scales = u16_at(b);
    for (int k = 0; k < SMALL; k++) o->codes[k] = (uint8_t)(b[2 + k] ^ 0x80);
}

// f16 d, 16 bytes: inputs 0 to 15 in the low halves, 16 to 31 in the high ones.
static void unpack_q4_0(const row_out *o, const uint8_t *b)
{
    *o->scales = u16_at(b);
    for (int k = 0; k < SMALL / 2; k++) {
        o->codes[k] = b[2 + k] & 15;
        o->codes[k + SMALL / 2] = b[2 + k] >> 4;
    }
}

// ---- super-blocks ----

// Scales and minima of Q4_K and Q5_K: eight of 6 bits each in 12 bytes. The first four lie in the
// low bits of bytes 0-3 and 4-7; the others have their low halves in bytes 8-11 and the upper two
// bits on top of those of the first.
static void unpack_subs(const row_out *o, const uint8_t *s)
{
    for (int i = 0; i < 4; i++) {
        o->subs[i] = s[i] & 63;
        o->mins[i] = s[i + 4] & 63;
        o->subs[i + 4] = (uint8_t)((s[i + 8] & 15) | s[i] >> 6 << 4);
        o->mins[i + 4] = (uint8_t)(s[i + 8] >> 4 | s[i + 4] >> 6 << 4);
    }
}

// Four bits each: of every 32 bytes, the low halves are one group and the high ones the next.
static void unpack_nibbles(uint8_t *codes, const uint8_t *q)
{
    for (int g = 0; g < SUPER / 64; g++, q += 32, codes += 64) {
        for (int k = 0; k < 32; k++) {
            codes[k] = q[k] & 15;
            codes[k + 32] = q[k] >> 4;
        }
    }
}

// f16 d, f16 dmin, 12 bytes of scales and minima, 128 bytes of codes.
static void unpack_q4_k(const row_out *o, const uint8_t *b)
{
    *o->super = f16_at(b);
    *o->super_min = f16_at(b + 2);
    unpack_subs(o, b + 4);
    unpack_nibbles(o->codes, b + 16);
}

// As Q4_K, with the fifth bits of group g as bit g of 32 bytes in front of the codes.
static void unpack_q5_k(const row_out *o, const uint8_t *b)
{
    const uint8_t *high = b + 16;
    *o->super = f16_at(b);
    *o->super_min = f16_at(b + 2);
    unpack_subs(o, b + 4);
    unpack_nibbles(o->codes, b + 48);
    for (int k = 0; k < SUPER; k++) {
        o->codes[k] |= (uint8_t)((high[k % 32] >> (k / 32) & 1) << 4);
    }
}

// 128 bytes of low halves, 64 of upper two bits, 16 signed scales, f16 d. A half of 128 inputs is
// four runs of 32: low and high halves of two runs of bytes, bit pairs 0, 2, 4, 6 of one.
static void unpack_q6_k(const row_out *o, const uint8_t *b)
{
    *o->super = f16_at(b + 208);
    memcpy(o->subs, b + 192, 16);
    for (int k = 0; k < SUPER; k++) {
        const int half = k / 128, run = k % 128 / 32, i = k % 32;
        const uint8_t low = b[half * 64 + run % 2 * 32 + i], high = b[128 + half * 32 + i];
        o->codes[k] = (uint8_t)((run < 2 ? low & 15 : low >> 4) | (high >> 2 * run & 3) << 4);
    }
}

// f16 d, u16 with the upper two bits of eight 6-bit scales, 4 bytes with their lower halves, 128
// bytes of codes in runs like those of Q4_0.
static void unpack_iq4_xs(const row_out *o, const uint8_t *b)
{
    const uint16_t high = u16_at(b + 2);
    *o->super = f16_at(b);
    for (int g = 0; g < SUPER / 32; g++) {
        const int low = b[4 + g / 2] >> 4 * (g % 2) & 15;
        o->subs[g] = (uint8_t)((low | (high >> 2 * g & 3) << 4) - 32);
        const uint8_t *q = b + 8 + 16 * g;
        for (int k = 0; k < 16; k++) {
            o->codes[32 * g + k] = q[k] & 15;
            o->codes[32 * g + k + 16] = q[k] >> 4;
        }
    }
}

// ---- the types ----

#define TWO_LEVEL .scales = PACKED_TWO_LEVEL, .factor = 1

static const block_kind kinds[] = {
    {.type_id = GGUF_Q8_0, .inputs = SMALL, .bytes = 34, .n_floats = 1,
     .format = {.bits = 8, .offset = 128, .group = 32, .scales = PACKED_FLAT, .factor = 1},
     .unpack = unpack_q8_0},
    {.type_id = GGUF_Q4_0, .inputs = SMALL, .bytes = 18, .n_floats = 1,
     .format = {.bits = 4, .offset = 8, .group = 32, .scales = PACKED_FLAT, .factor = 1},
     .unpack = unpack_q4_0},
    {.type_id = GGUF_Q4_K, .inputs = SUPER, .bytes = 144, .n_floats = 2, .floats = {0, 2},
     .format = {.bits = 4, .group = 32, TWO_LEVEL, .per_super = 8, .has_min = true},
     .unpack = unpack_q4_k},
    {.type_id = GGUF_Q5_K, .inputs = SUPER, .bytes = 176, .n_floats = 2, .floats = {0, 2},
     .format = {.bits = 8, .group = 32, TWO_LEVEL, .per_super = 8, .has_min = true},
     .unpack = unpack_q5_k},
    {.type_id = GGUF_Q6_K, .inputs = SUPER, .bytes = 210, .n_floats = 1, .floats = {208},
     .format = {.bits = 8, .offset = 32, .group = 16, TWO_LEVEL, .per_super = 16,
                .signed_sub = true},
     .unpack = unpack_q6_k},
    // The table is ggml's kvalues_iq4nl with 128 added.
    {.type_id = GGUF_IQ4_XS, .inputs = SUPER, .bytes = 136, .n_floats = 1,
     .format = {.bits = 4, .has_table = true, .offset = 128, .group = 32, TWO_LEVEL,
                .per_super = 8, .signed_sub = true,
                .table = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217,
                          241}},
     .unpack = unpack_iq4_xs},
};

static const block_kind *kind_of(int type_id)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (kinds[i].type_id == type_id) return &kinds[i];
    }
    return NULL;
}

bool gguf_blocks_known(int type_id)
{
    return kind_of(type_id) != NULL;
}

// ---- reading ----

static row_out start_row(const packed_rows *rows, const packed_format *f, int64_t i, int64_t K)
{
    const int64_t groups = packed_groups(f, K), supers = packed_supers(f, K);
    row_out o = {.codes = rows->codes + i * K};
    if (f->scales == PACKED_FLAT) o.scales = (uint16_t *)rows->scales + i * groups;
    else o.subs = (uint8_t *)rows->scales + i * groups;
    if (f->has_min) o.mins = rows->mins + i * groups;
    if (supers) o.super = rows->super + i * supers;
    if (f->has_min) o.super_min = rows->super_min + i * supers;
    return o;
}

static void next_block(row_out *o, const block_kind *k)
{
    const int32_t groups = k->inputs / k->format.group;
    o->codes += k->inputs;
    if (o->scales) o->scales += groups;
    if (o->subs) o->subs += groups;
    if (o->mins) o->mins += groups;
    if (o->super) o->super++;
    if (o->super_min) o->super_min++;
}

static bool finite_block(const block_kind *k, const uint8_t *b)
{
    for (int32_t i = 0; i < k->n_floats; i++) {
        if (!isfinite(f16_at(b + k->floats[i]))) return false;
    }
    return true;
}

static sight_err read_rows(const stored *s, packed_rows *rows, int64_t first, int64_t n)
{
    const block_kind *k = s->parts[1];
    const int64_t blocks = s->K / k->inputs;
    const uint8_t *b = (const uint8_t *)s->parts[0] + (size_t)(first * blocks * k->bytes);
    for (int64_t i = 0; i < n; i++) {
        row_out o = start_row(rows, &s->format, i, s->K);
        for (int64_t j = 0; j < blocks; j++, b += k->bytes, next_block(&o, k)) {
            k->unpack(&o, b);
            if (finite_block(k, b)) continue;
            return sight_fail(SIGHT_E_MODEL,
                              "'%s': tensor '%s': the scale of block %lld of row %lld is not "
                              "finite",
                              s->path, s->name, (long long)j, (long long)(first + i));
        }
    }
    return SIGHT_OK;
}

sight_err gguf_blocks_stored(stored *out, const gguf_tensor *t, const char *name, const char *path)
{
    const block_kind *k = kind_of(t->type_id);
    if (!k || t->n_dims != 2) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "'%s': tensor '%s' (%s) is %s%s, not supported: only BF16, F16, F32, and "
                          "matrices in Q8_0, Q6_K, Q5_K, Q4_K, Q4_0, IQ4_XS",
                          path, t->name, name, t->type, k ? " but no matrix" : "");
    }
    *out = (stored){
        .format = k->format,
        .M = t->shape[0],
        .K = t->shape[1],
        .name = name,
        .path = path,
        .form = t->type,
        .read = read_rows,
        .bytes = t->bytes,
        .parts = {t->data, k},
        .factor = 1,
    };
    return SIGHT_OK;
}
