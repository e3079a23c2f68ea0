// What is done with attention in one launch on a GPU, against the ops one by one: heads to their pages, the gate in its sums.
#include "cuda/pages.h"

#include "kernels/fused.h"

static void same_pages(const paged *a, const paged *b)
{
    unsigned char *x = malloc(a->bytes), *y = malloc(a->bytes);
    assert_true(x && y);
    for (int64_t i = 0; i < a->n; i++) {
        assert_ok(kernels_read(a->s->gpu, x, a->device_pages[i], a->bytes));
        assert_ok(kernels_read(a->s->gpu, y, b->device_pages[i], a->bytes));
        assert_memory_equal(x, y, a->bytes);
    }
    free(x), free(y);
}

static void same_numbers(const pair *a, const pair *b)
{
    assert_ok(kernels_read(a->s->gpu, a->plain, a->device, (size_t)a->n * sizeof(float)));
    pair_check(&(pair){a->s, a->plain, b->device, NULL, a->n}, 0, "in one launch");
}

typedef struct heads_case {
    int64_t H, G, C, R;
    bool gated; // rows of queries hold gates too
    tensor_type type;
} heads_case;

// Two sequences' rows, with the bits of the ops one by one.
static void check_heads(const sides *s, const heads_case *c, uint64_t seed)
{
    const int64_t N = 9, n[2] = {3, 6}, past[2] = {62, 5}, head = c->gated ? 2 * c->C : c->C, half = c->R / 2;
    pair q = pair_normal(s, N * c->H * head, 2, seed, 0), k = pair_normal(s, N * c->G * c->C, 3, seed + 1, 0);
    pair v = pair_normal(s, N * c->G * c->C, 1, seed + 2, 0), turned = pair_room(s, N * c->G * c->C, 0);
    pair cos = pair_normal(s, N * half, 1, seed + 3, 0), sin = pair_normal(s, N * half, 1, seed + 4, 0);
    pair q_norm = pair_normal(s, c->C, 1, seed + 5, 0), k_norm = pair_normal(s, c->C, 1, seed + 6, 0);
    pair apart = pair_room(s, N * c->H * c->C, 0), once = pair_room(s, N * c->H * c->C, 0);
    paged want[2], got[2];
    kv_rows rows[2], fused[2];
    for (int i = 0; i < 2; i++) {
        want[i] = paged_new(s, c->type, 80, 64, c->G, c->C);
        got[i] = paged_new(s, c->type, 80, 64, c->G, c->C);
        rows[i] = (kv_rows){want[i].device, i ? n[0] : 0, n[i], past[i]};
        fused[i] = (kv_rows){got[i].device, rows[i].first, n[i], past[i]};
    }
    heads_rows h = {.q_out = once.device, .q = q.device, .k = k.device, .v = v.device, .q_norm = q_norm.device,
                    .k_norm = k_norm.device, .cos = cos.device, .sin = sin.device, .q_row_stride = c->H * head,
                    .q_head_stride = head, .H = c->H, .G = c->G, .C = c->C, .R = c->R, .eps = 1e-5f};
    op_norm_rope(s->gpu, apart.device, q.device, q_norm.device, cos.device, sin.device, N, c->H, c->C, c->R,
                 c->H * head, head, h.eps);
    op_norm_rope(s->gpu, turned.device, k.device, k_norm.device, cos.device, sin.device, N, c->G, c->C, c->R,
                 c->G * c->C, c->C, h.eps);
    op_kv_write_many(s->gpu, rows, 2, turned.device, v.device, c->G, c->C);
    assert_true(op_heads_write(s->gpu, &h, fused, 2));
    same_numbers(&apart, &once);
    for (int i = 0; i < 2; i++) same_pages(&want[i], &got[i]);
    if (!c->gated) { // in place
        h.q_out = q.device;
        assert_true(op_heads_write(s->gpu, &h, fused, 2));
        same_numbers(&apart, &q);
    }
    h.q = q.device + 1;
    assert_false(op_heads_write(s->gpu, &h, fused, 2));
    pair *all[] = {&q, &k, &v, &turned, &cos, &sin, &q_norm, &k_norm, &apart, &once};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pair_free(all[i]);
    for (int i = 0; i < 2; i++) paged_free(&want[i]), paged_free(&got[i]);
}

static void heads_in_one_launch(void **state)
{
    const rig *r = *state;
    static const heads_case cases[] = {
        {8, 2, 256, 64, true, TENSOR_BF16}, {8, 2, 256, 64, true, TENSOR_I8}, {4, 4, 128, 128, false, TENSOR_BF16},
        {6, 2, 64, 16, false, TENSOR_F32},  {3, 1, 36, 8, true, TENSOR_I8},   {2, 1, 512, 256, true, TENSOR_F32},
        {2, 2, 132, 0, false, TENSOR_I8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_heads(&r->fast, &cases[i], 900 + 10 * i);
}

// Rows of two sequences with and without their gates on the way: the same bits.
static void check_gate(const sides *s, int64_t H, int64_t G, int64_t C, tensor_type type, int64_t n, uint64_t seed)
{
    const int64_t past[2] = {70, 3}, N = 2 * n, head = 2 * C;
    pair q = pair_normal(s, N * H * C, 1, seed, 0), gate = pair_normal(s, N * H * head, 2, seed + 1, 0);
    pair k = pair_normal(s, 96 * G * C, 1, seed + 2, 0), v = pair_normal(s, 96 * G * C, 1, seed + 3, 0);
    pair apart = pair_room(s, N * H * C, 0), once = pair_room(s, N * H * C, 0);
    paged pages = paged_new(s, type, 96, 64, G, C);
    paged_write(&pages, &k, &v, 0, 96);
    attention_seq seqs[2];
    const float *gates[2];
    for (int64_t i = 0; i < 2; i++) {
        const int64_t at = i * n * H * C;
        seqs[i] = (attention_seq){q.device + at, apart.device + at, n, past[i], pages.device};
        gates[i] = gate.device + i * n * H * head + C;
    }
    const gated_attention gated = {gates, H * head, head};
    const float scale = 0.11f;
    op_attention(s->gpu, seqs, 2, H, G, C, scale);
    op_sigmoid_mul(s->gpu, apart.device, gates[0], N, H, C, H * head, head);
    for (int64_t i = 0; i < 2; i++) seqs[i].out = once.device + i * n * H * C;
    assert_true(op_attention_gated(s->gpu, seqs, 2, H, G, C, scale, &gated));
    same_numbers(&apart, &once);
    seqs[1].n = 9; // more than are few
    assert_false(op_attention_gated(s->gpu, seqs, 2, H, G, C, scale, &gated));
    pair *all[] = {&q, &gate, &k, &v, &apart, &once};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) pair_free(all[i]);
    paged_free(&pages);
}

static void gates_on_the_way(void **state)
{
    const rig *r = *state;
    check_gate(&r->fast, 8, 2, 256, TENSOR_BF16, 1, 1000);
    check_gate(&r->fast, 8, 2, 128, TENSOR_I8, 5, 1010);
    check_gate(&r->fast, 6, 1, 64, TENSOR_BF16, 8, 1020);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_in_one_launch),
        cmocka_unit_test(gates_on_the_way),
    };
    return device_run(tests, rig_open, rig_close);
}
