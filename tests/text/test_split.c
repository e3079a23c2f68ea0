// A model over two devices that are both the CPU, against the model as a whole; and who gets what of it.
#include "text/ranks.h"

#include "checkpoint/lora.h"
#include "checkpoint/prepare.h"

// ---- who gets what ----

static text_config made_up(bool tiled)
{
    text_config c = {.hidden = 64, .intermediate = 96, .n_layers = 2, .vocab = 240, .heads = 12, .kv_heads = 6,
                     .head_dim = 16, .linear_key_heads = 6, .linear_value_heads = 18, .linear_key_dim = 8,
                     .linear_value_dim = 4, .conv_width = 4, .attention_gate = true,
                     .tiled_value_heads = tiled};
    c.layers[0] = LAYER_LINEAR;
    c.layers[1] = LAYER_FULL;
    return c;
}

// Rows or columns of the whole side.
static int64_t side(const text_config *c, split_role role)
{
    const int64_t values = (int64_t)c->linear_value_heads * c->linear_value_dim;
    switch (role) {
    case SPLIT_WHOLE: return 0;
    case SPLIT_Q: return (int64_t)c->heads * c->head_dim * (c->attention_gate ? 2 : 1);
    case SPLIT_FROM_Q: return (int64_t)c->heads * c->head_dim;
    case SPLIT_KV: return (int64_t)c->kv_heads * c->head_dim;
    case SPLIT_QKV: return (int64_t)2 * c->linear_key_heads * c->linear_key_dim + values;
    case SPLIT_VALUES:
    case SPLIT_FROM_VALUES: return values;
    case SPLIT_GATES: return c->linear_value_heads;
    case SPLIT_INNER:
    case SPLIT_FROM_INNER: return c->intermediate;
    case SPLIT_VOCAB: return c->vocab;
    }
    return 0;
}

// Every row is one rank's, rising, and a rank's model has as many as its config says.
static void check_role(const text_config *c, split_role role, int32_t ranks)
{
    const int64_t n = side(c, role);
    uint8_t *taken = calloc((size_t)n, 1);
    assert_non_null(taken);
    for (int32_t rank = 0; rank < ranks; rank++) {
        const split s = {rank, ranks};
        const text_config mine = split_config(c, &s);
        split_ranges r;
        int64_t total = 0, last = -1;
        split_find(&r, c, role, &s);
        for (int32_t i = 0; i < r.n; i++) {
            assert_true(r.at[i].first > last && r.at[i].count > 0);
            for (int64_t j = 0; j < r.at[i].count; j++) {
                last = r.at[i].first + j;
                assert_true(last < n);
                assert_int_equal(taken[last]++, 0);
            }
            total += r.at[i].count;
        }
        assert_int_equal(total, r.total);
        assert_int_equal(total, role == SPLIT_VOCAB ? c->vocab / ranks : side(&mine, role));
    }
    for (int64_t i = 0; i < n; i++) assert_int_equal(taken[i], 1);
    free(taken);
}

static void every_row_is_one_ranks(void **state)
{
    for (int tiled = 0; tiled < 2; tiled++) {
        const text_config c = made_up(tiled);
        for (int32_t ranks = 1; ranks <= 6; ranks++) {
            if (6 % ranks) continue;
            assert_ok(split_check(&c, ranks));
            for (int role = SPLIT_Q; role <= SPLIT_FROM_INNER; role++) check_role(&c, (split_role)role, ranks);
        }
    }
}

static int64_t key_head(const text_config *c, int64_t value)
{
    return c->tiled_value_heads ? value % c->linear_key_heads
                                : value / (c->linear_value_heads / c->linear_key_heads);
}

// Value heads lie with a rank beside the key head that they lie beside in the whole.
static void values_go_with_their_keys(void **state)
{
    for (int tiled = 0; tiled < 2; tiled++) {
        const text_config c = made_up(tiled);
        for (int32_t rank = 0; rank < 3; rank++) {
            const split s = {rank, 3};
            const text_config mine = split_config(&c, &s);
            split_ranges r;
            split_find(&r, &c, SPLIT_GATES, &s);
            int64_t v = 0; // of the rank
            for (int32_t i = 0; i < r.n; i++) {
                for (int64_t j = 0; j < r.at[i].count; j++, v++) {
                    const int64_t key = rank * mine.linear_key_heads + key_head(&mine, v);
                    assert_int_equal(key_head(&c, r.at[i].first + j), key);
                }
            }
            assert_int_equal(v, mine.linear_value_heads);
        }
    }
}

static void parts_hold_their_numbers(void **state)
{
    enum { M = 204, K = 72 };
    static uint16_t whole[M * K];
    static float floats[M * 3];
    const text_config c = made_up(true);
    for (int i = 0; i < M * K; i++) whole[i] = (uint16_t)i;
    for (int32_t rank = 0; rank < 2; rank++) {
        const split s = {rank, 2};
        tensor_view rows = {whole, TENSOR_BF16, 2, {side(&c, SPLIT_QKV), K}}, columns = rows;
        assert_true(rows.shape[0] <= M && side(&c, SPLIT_FROM_VALUES) == K);
        split_ranges r, of_columns;
        void *owned, *columns_owned;
        split_find(&r, &c, SPLIT_QKV, &s);
        split_find(&of_columns, &c, SPLIT_FROM_VALUES, &s);
        assert_ok(split_matrix(&rows, &owned, &rows, SPLIT_QKV, &r));
        assert_ok(split_matrix(&columns, &columns_owned, &columns, SPLIT_FROM_VALUES, &of_columns));
        assert_int_equal(rows.shape[0], r.total);
        assert_int_equal(columns.shape[1], of_columns.total);
        for (int i = 0; i < M * 3; i++) floats[i] = (float)i;
        split_floats(floats, 3, &r);
        int64_t at = 0;
        for (int32_t i = 0; i < r.n; i++) {
            for (int64_t j = r.at[i].first; j < r.at[i].first + r.at[i].count; j++, at++) {
                assert_memory_equal((const uint16_t *)rows.data + at * K, whole + j * K, K * sizeof *whole);
                assert_true(floats[3 * at] == (float)(3 * j) && floats[3 * at + 2] == (float)(3 * j + 2));
            }
        }
        at = 0;
        for (int32_t i = 0; i < of_columns.n; i++) {
            for (int64_t j = of_columns.at[i].first; j < of_columns.at[i].first + of_columns.at[i].count; j++, at++) {
                for (int64_t m = 0; m < columns.shape[0]; m++) {
                    const uint16_t *row = (const uint16_t *)columns.data + m * columns.shape[1];
                    assert_int_equal(row[at], whole[m * K + j]);
                }
            }
        }
        free(owned);
        free(columns_owned);
    }
}

// ---- parts of matrices in few bits ----

static packed *random_packed(const packed_format *f, int64_t M, int64_t K, test_random *r)
{
    const size_t bytes = 64 + (sizeof(packed) + 63) / 64 * 64 + packed_bytes(f, M, K);
    packed *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    packed_rows rows;
    assert_non_null(p);
    assert_true(packed_rows_alloc(&rows, f, M, K));
    packed_init(p, f, M, K, (char *)p + (sizeof(packed) + 63) / 64 * 64);
    const int64_t groups = M * packed_groups(f, K), supers = M * packed_supers(f, K);
    for (int64_t i = 0; i < M * K; i++) {
        rows.codes[i] = (uint8_t)(test_random_bits(r) >> 20) & (f->bits == 4 ? 15 : f->f8 ? 0x77 : 255);
    }
    for (int64_t i = 0; i < groups; i++) {
        if (f->scales == PACKED_FLAT) ((uint16_t *)rows.scales)[i] = (uint16_t)(0x3000 + i % 999);
        else if (f->scales == PACKED_FLAT_F32) ((float *)rows.scales)[i] = test_random_normal(r);
        else ((uint8_t *)rows.scales)[i] = (uint8_t)i;
        if (f->has_min) rows.mins[i] = (uint8_t)(3 * i);
    }
    for (int64_t i = 0; i < supers; i++) {
        rows.super[i] = test_random_normal(r);
        if (f->has_min) rows.super_min[i] = test_random_normal(r);
    }
    packed_put(p, 0, M, &rows);
    free(rows.codes);
    return p;
}

// The part's numbers are the whole's, to the bit.
static void check_packed(const packed *whole, split_role role, const split_ranges *r)
{
    const packed *part;
    void *owned;
    const bool columns = split_by_columns(role);
    float *a = malloc((size_t)whole->K * sizeof *a), *b = malloc((size_t)whole->K * sizeof *b);
    assert_true(a && b);
    assert_ok(split_packed(&part, &owned, whole, role, r));
    assert_non_null(owned);
    assert_int_equal(part->M, columns ? whole->M : r->total);
    assert_int_equal(part->K, columns ? r->total : whole->K);
    int64_t m = 0;
    for (int32_t i = 0; !columns && i < r->n; i++) {
        for (int64_t row = r->at[i].first; row < r->at[i].first + r->at[i].count; row++, m++) {
            packed_get_row(whole, a, row);
            packed_get_row(part, b, m);
            assert_memory_equal(a, b, (size_t)whole->K * sizeof *a);
        }
    }
    for (int64_t row = 0; columns && row < whole->M; row++) {
        int64_t k = 0;
        packed_get_row(whole, a, row);
        packed_get_row(part, b, row);
        for (int32_t i = 0; i < r->n; i++) {
            assert_memory_equal(a + r->at[i].first, b + k, (size_t)r->at[i].count * sizeof *a);
            k += r->at[i].count;
        }
    }
    free(owned);
    free(a);
    free(b);
}

static void parts_in_few_bits_hold_their_numbers(void **state)
{
    static const packed_format formats[] = {
        {.bits = 8, .offset = 128, .group = 32, .scales = PACKED_FLAT, .factor = 1},
        {.bits = 4, .group = 32, .scales = PACKED_TWO_LEVEL, .per_super = 8, .has_min = true, .factor = 1},
        {.bits = 8, .offset = 32, .group = 16, .scales = PACKED_TWO_LEVEL, .per_super = 16, .signed_sub = true, .factor = 1},
        {.bits = 8, .f8 = true, .group = 128, .scales = PACKED_FLAT_F32, .factor = 1.5f},
    };
    test_random r = {77};
    for (size_t i = 0; i < 6; i++) {
        const packed_format f = i < 4 ? formats[i] : i == 4 ? packed_format_int8() : packed_format_int4();
        packed *p = random_packed(&f, 150, 1792, &r);
        const split_ranges tiled = {3, 41, {{3, 5}, {40, 16}, {100, 20}}};
        const split_ranges half = {1, 75, {{75, 75}}};
        const split_ranges inputs = {1, 896, {{896, 896}}}, apart = {2, 384, {{128, 256}, {1664, 128}}};
        check_packed(p, SPLIT_QKV, &tiled);
        check_packed(p, SPLIT_INNER, &half);
        check_packed(p, SPLIT_FROM_INNER, &inputs);
        check_packed(p, SPLIT_FROM_VALUES, &apart);
        const packed *part = NULL;
        void *owned;
        const split_ranges within = {1, 88, {{8, 88}}};
        assert_fails(split_packed(&part, &owned, p, SPLIT_FROM_Q, &within), SIGHT_E_UNSUPPORTED, "cannot be cut");
        free(p);
    }
}

static void what_does_not_divide_is_named(void **state)
{
    text_config c = made_up(false);
    assert_fails(split_check(&c, 0), SIGHT_E_UNSUPPORTED, "over 0 devices");
    assert_fails(split_check(&c, SPLIT_MAX_RANKS + 1), SIGHT_E_UNSUPPORTED, "over 17 devices");
    assert_fails(split_check(&c, 4), SIGHT_E_UNSUPPORTED, "6 key/value heads do not divide among 4");
    assert_fails(split_check(&c, 5), SIGHT_E_UNSUPPORTED, "96 inner components");
    c.vocab = 241;
    assert_fails(split_check(&c, 2), SIGHT_E_UNSUPPORTED, "241 ids");
    c = made_up(false);
    c.linear_key_heads = 3;
    assert_fails(split_check(&c, 2), SIGHT_E_UNSUPPORTED, "3 key heads of linear attention");
    c.layers[0] = LAYER_FULL;
    assert_ok(split_check(&c, 2));
}

// ---- a model over two devices ----

static void open_devices(device *d, collective **group, const checkpoint *c, const golden_case *g)
{
    kernels *k[RANKS];
    for (int32_t i = 0; i < RANKS; i++) {
        d[i] = (device){.c = c, .g = g, .rank = i, .k = golden_kernels(1, true)};
        k[i] = d[i].k;
    }
    assert_ok(collective_create(group, k, RANKS));
    for (int32_t i = 0; i < RANKS; i++) d[i].group = *group;
}

// Sums over ranks round differently, and made-up weights amplify that as in test_model.c: by no more than what a
// float32 model there may be off from the reference.
static double limit_of(const char *name)
{
    return strncmp(name, "text", 4) ? 6e-4 : 1e-4;
}

static void check_case(const char *model, const char *name)
{
    checkpoint *c = golden_open(model);
    collective *group = NULL;
    golden_case g;
    device d[RANKS], alone = {.c = c, .g = &g, .k = golden_kernels(1, true)};
    load_case(&g, c, model, name);
    open_devices(d, &group, c, &g);
    run_device(&alone);
    run_devices(d);
    check_devices(d, &alone, &g, limit_of(name));
    for (int i = 0; i < RANKS; i++) close_device(&d[i]);
    collective_destroy(&group);
    close_device(&alone);
    golden_free(&g);
    checkpoint_close(&c);
}

static void two_ranks_answer_as_one(void **state)
{
    check_case("hybrid", "text-long");
    check_case("hybrid", "video-96x80-30f");
    check_case("hybrid-deepstack", "images-two-turns");
    check_case("qwen3vl", "images-two-turns");
}

// A rank whose sequence has no room: none takes the step.
static void a_step_is_taken_by_all_or_none(void **state)
{
    checkpoint *c = golden_open("hybrid");
    collective *group = NULL;
    golden_case g, longer;
    device d[RANKS];
    load_case(&g, c, "hybrid", "text");
    longer = g;
    longer.ids = golden_alloc(g.n, sizeof *g.ids);
    memcpy(longer.ids, g.ids, (size_t)g.n * sizeof *g.ids);
    longer.ids[1] = checkpoint_config(c)->text.vocab; // no such token
    open_devices(d, &group, c, &g);
    d[1].g = &longer;
    run_devices(d);
    assert_int_equal(d[0].err, SIGHT_E_INTERNAL);
    assert_non_null(strstr(d[0].error, "another device"));
    assert_int_equal(d[1].err, SIGHT_E_ARGUMENT);
    for (int i = 0; i < RANKS; i++) {
        assert_int_equal(sequence_length(d[i].s), 0);
        close_device(&d[i]);
    }
    collective_destroy(&group);
    free(longer.ids);
    golden_free(&g);
    checkpoint_close(&c);
}

static void refuse(const checkpoint *c, const char *why)
{
    device d[RANKS];
    collective *group = NULL;
    text_model *m = NULL;
    open_devices(d, &group, c, NULL);
    assert_fails(text_model_create_split(&m, c, d[1].k, MAX_ROWS, group, 1), SIGHT_E_UNSUPPORTED, why);
    assert_null(m);
    for (int i = 0; i < RANKS; i++) close_device(&d[i]);
    collective_destroy(&group);
}

static void adapters_are_refused(void **state)
{
    checkpoint *c = golden_open("hybrid");
    assert_ok(lora_add(c, TEST_GOLDEN_DIR "/lora/first", 1));
    refuse(c, "has an adapter: such a model cannot be split");
    checkpoint_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_one_ranks),        cmocka_unit_test(values_go_with_their_keys),
        cmocka_unit_test(parts_hold_their_numbers),      cmocka_unit_test(what_does_not_divide_is_named),
        cmocka_unit_test(two_ranks_answer_as_one),       cmocka_unit_test(a_step_is_taken_by_all_or_none),
        cmocka_unit_test(adapters_are_refused), cmocka_unit_test(parts_in_few_bits_hold_their_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
