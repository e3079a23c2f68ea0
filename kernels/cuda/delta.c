// kernels/cuda/delta.c - Gated DeltaNet on a GPU: its entries of the table.
#include "kernels/cuda/delta.h"

#include "kernels/cuda/device.h"

_Static_assert(sizeof(conv_rows) == sizeof(conv_seq) &&
                   offsetof(conv_rows, n) == offsetof(conv_seq, n) &&
                   offsetof(conv_rows, x) == offsetof(conv_seq, x) &&
                   offsetof(conv_rows, tail) == offsetof(conv_seq, tail),
               "conv_rows is conv_seq");
_Static_assert(sizeof(delta_rows) == sizeof(delta_seq) &&
                   offsetof(delta_rows, g) == offsetof(delta_seq, g) &&
                   offsetof(delta_rows, beta) == offsetof(delta_seq, beta) &&
                   offsetof(delta_rows, out) == offsetof(delta_seq, out) &&
                   offsetof(delta_rows, state) == offsetof(delta_seq, state) &&
                   offsetof(delta_rows, n) == offsetof(delta_seq, n) &&
                   offsetof(delta_rows, before) == offsetof(delta_seq, before),
               "delta_rows is delta_seq");
_Static_assert(sizeof(mixer_rows) == sizeof(mixer_seq) &&
                   offsetof(mixer_rows, z) == offsetof(mixer_seq, z) &&
                   offsetof(mixer_rows, a) == offsetof(mixer_seq, a) &&
                   offsetof(mixer_rows, b) == offsetof(mixer_seq, b) &&
                   offsetof(mixer_rows, out) == offsetof(mixer_seq, out) &&
                   offsetof(mixer_rows, tail) == offsetof(mixer_seq, tail) &&
                   offsetof(mixer_rows, state) == offsetof(mixer_seq, state),
               "mixer_rows is mixer_seq");
_Static_assert(sizeof(conv_args) == 8 * 8 && sizeof(gates_args) == 8 * 8 &&
                   sizeof(gated_norm_args) == 8 * 8 && sizeof(delta_step_args) == 10 * 8 &&
                   sizeof(delta_chunk_args) == 13 * 8 && sizeof(mixer_args) == 15 * 8,
               "arguments have no padding");

// A step's time grows with its tokens, a chunk's hardly.
#define CHUNKED_FROM    16                 // tokens
#define CHUNKED_AT_ONCE 16                 // sequences
#define ROOM_BYTES      ((size_t)64 << 20) // of T and P, beyond which a long segment goes in rounds
#define PREPARE_STATIC  2048 // shared memory that its launch does not ask for, at most
#define MIXER_SHARED    ((size_t)48 << 10) // that any chip gives

// Fours of floats from p on are 16-byte aligned.
static bool fours(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

static delta_sizes sizes_of(const delta_shape *s)
{
    return (delta_sizes){s->key_heads, s->value_heads, s->Dk, s->Dv, s->stride, s->tiled};
}

// ---- convolution, gates, norm ----

static void cuda_conv_silu(kernels *k, const conv_seq *seqs, int64_t S, const float *w,
                           int64_t channels, int64_t width, int64_t x_stride)
{
    bool wide = channels % 4 == 0 && x_stride % 4 == 0 && fours(w);
    int64_t longest = 0;
    for (int64_t i = 0; i < S; i++) {
        wide = wide && fours(seqs[i].x) && fours(seqs[i].y) && fours(seqs[i].tail);
        if (seqs[i].n > longest) longest = seqs[i].n;
    }
    const conv_rows *rows = cuda_args(k, seqs, (size_t)S * sizeof *seqs);
    if (!rows) return;
    const conv_args a = {rows, w, S, channels, width, x_stride, longest, wide};
    cuda_launch(k, launch_conv_silu, &a, sizeof a);
}

static void cuda_delta_gates(kernels *k, float *g, float *beta, const float *a, const float *b,
                             const float *A_log, const float *dt_bias, int64_t N, int64_t heads)
{
    const gates_args args = {g, beta, a, b, A_log, dt_bias, N, heads};
    cuda_launch(k, launch_delta_gates, &args, sizeof args);
}

static void cuda_rms_norm_gated(kernels *k, float *y, const float *o, const float *z,
                                const float *w, int64_t N, int64_t heads, int64_t C, float eps)
{
    const bool wide = C % 4 == 0 && fours(y) && fours(o) && fours(z) && fours(w);
    const gated_norm_args a = {y, o, z, w, N * heads, C, (double)eps, wide};
    cuda_launch(k, launch_gated_norm, &a, sizeof a);
}

// ---- delta rule ----

static bool can_chunk(const kernels *k, const delta_shape *s)
{
    const size_t shared = cuda_get_chip(k)->shared_bytes;
    return s->Dk <= DELTA_CHUNK_MAX_DK && delta_walk_shared(s->Dk, 0) <= shared &&
           delta_prepare_shared(s->Dk) + PREPARE_STATIC <= shared;
}

static void run_steps(kernels *k, const delta_seq *seqs, int64_t S, const delta_shape *s,
                      int64_t most)
{
    bool wide = s->Dv % 4 == 0 && s->stride % 4 == 0 && 2 * s->key_heads * s->Dk % 4 == 0;
    for (int64_t i = 0; i < S; i++) {
        wide = wide && fours(seqs[i].qkv) && fours(seqs[i].out) && fours(seqs[i].state) &&
               fours(seqs[i].before);
    }
    const delta_rows *rows = cuda_args(k, seqs, (size_t)S * sizeof *seqs);
    if (!rows) return;
    const delta_step_args a = {rows, sizes_of(s), S, most, wide};
    cuda_launch(k, launch_delta_steps, &a, sizeof a);
}

// Reading ahead shortens the walk of a block that has a multiprocessor for itself; where there are
// more blocks than those, two of them on one hide each other's waits.
static bool walk_ahead(const kernels *k, const delta_shape *s, int64_t S)
{
    const cuda_chip *chip = cuda_get_chip(k);
    const int64_t columns = (s->Dv + DELTA_CHUNK_COLUMNS - 1) / DELTA_CHUNK_COLUMNS;
    return columns * s->value_heads * S <= chip->processors &&
           delta_walk_shared(s->Dk, 1) <= chip->shared_bytes;
}

static void run_round(kernels *k, const delta_seq *seqs, int64_t S, const delta_shape *s,
                      int64_t chunks)
{
    bool wide = s->Dk % 4 == 0 && s->stride % 4 == 0;
    for (int64_t i = 0; i < S; i++)
        wide = wide && fours(seqs[i].qkv);
    float *room = cuda_scratch(
        k, 0, (size_t)(S * chunks * s->value_heads) * DELTA_CHUNK_FLOATS * sizeof *room);
    const delta_rows *rows = room ? cuda_args(k, seqs, (size_t)S * sizeof *seqs) : NULL;
    if (!rows) return;
    const delta_chunk_args a = {rows,   room,     sizes_of(s), S,
                                chunks, k->exact, wide,        walk_ahead(k, s, S)};
    cuda_launch(k, launch_delta_prepare, &a, sizeof a);
    cuda_launch(k, launch_delta_walk, &a, sizeof a);
}

// What of a sequence falls into `rows` rows from `first` on.
static delta_seq part_of(const delta_seq *seq, const delta_shape *s, int64_t first, int64_t rows)
{
    delta_seq part = *seq;
    part.qkv += first * s->stride;
    part.g += first * s->value_heads;
    part.beta += first * s->value_heads;
    part.out += first * s->value_heads * s->Dv;
    part.n = seq->n - first < rows ? seq->n - first : rows;
    if (first > 0) part.before = NULL;
    return part;
}

static void run_chunks(kernels *k, const delta_seq *seqs, int64_t S, const delta_shape *s)
{
    const size_t chunk_bytes = (size_t)(S * s->value_heads) * DELTA_CHUNK_FLOATS * sizeof(float);
    const int64_t fit = (int64_t)(ROOM_BYTES / chunk_bytes),
                  rows = (fit > 1 ? fit : 1) * DELTA_CHUNK;
    int64_t longest = 0;
    for (int64_t i = 0; i < S; i++) {
        if (seqs[i].n > longest) longest = seqs[i].n;
    }
    for (int64_t first = 0; first < longest; first += rows) {
        delta_seq parts[CHUNKED_AT_ONCE];
        int64_t n = 0;
        for (int64_t i = 0; i < S; i++) {
            if (seqs[i].n > first) parts[n++] = part_of(&seqs[i], s, first, rows);
        }
        const int64_t left = longest - first < rows ? longest - first : rows;
        run_round(k, parts, n, s, (left + DELTA_CHUNK - 1) / DELTA_CHUNK);
    }
}

static void cuda_delta_rule(kernels *k, const delta_seq *seqs, int64_t S, const delta_shape *s)
{
    const int64_t most = can_chunk(k, s) ? CHUNKED_FROM - 1 : INT64_MAX;
    delta_seq many[CHUNKED_AT_ONCE];
    int64_t n = 0, few = 0;
    for (int64_t i = 0; i < S; i++)
        few += seqs[i].n <= most;
    if (few > 0) run_steps(k, seqs, S, s, most);
    for (int64_t i = 0; i < S; i++) {
        if (seqs[i].n <= most) continue;
        many[n++] = seqs[i];
        if (n < CHUNKED_AT_ONCE) continue;
        run_chunks(k, many, n, s);
        n = 0;
    }
    if (n > 0) run_chunks(k, many, n, s);
}

// ---- all in one ----

static bool cuda_delta_mixer(kernels *k, const mixer_seq *seqs, int64_t S, const mixer_weights *m,
                             const delta_shape *s)
{
    const int64_t heads = s->value_heads / s->key_heads;
    if (s->Dk > DELTA_MIXER_MAX_DK || delta_mixer_shared(s->Dk, s->Dv, heads) > MIXER_SHARED)
        return false;
    bool wide = s->Dv % 4 == 0;
    for (int64_t i = 0; i < S; i++)
        wide = wide && fours(seqs[i].state);
    const mixer_rows *rows = cuda_args(k, seqs, (size_t)S * sizeof *seqs);
    if (!rows) return true; // an error is kept
    const mixer_args a = {rows,     m->conv,        m->A_log,    m->dt_bias, m->norm,
                          m->width, (double)m->eps, sizes_of(s), S,          wide};
    cuda_launch(k, launch_delta_mixer, &a, sizeof a);
    return true;
}

void delta_cuda_fill(backend_ops *ops)
{
    ops->conv_silu = cuda_conv_silu;
    ops->delta_gates = cuda_delta_gates;
    ops->rms_norm_gated = cuda_rms_norm_gated;
    ops->delta_rule = cuda_delta_rule;
    ops->delta_mixer = cuda_delta_mixer;
}
