// The container: every kind of value, every kind of damage, and the blocks of every type.
#include "support/gguf_write.h"

#include "checkpoint/gguf_blocks.h"
#include "kernels/packed.h"

static gguf_write *new_file(void)
{
    gguf_write *w = calloc(1, sizeof *w);
    assert_non_null(w);
    return w;
}

static sight_err parse(gguf_write *w, gguf **out, buf *bytes)
{
    buf_init(bytes);
    gguf_write_bytes(w, bytes);
    gguf_write_done(w);
    free(w);
    return gguf_parse(out, buf_text(bytes), bytes->size, "x.gguf");
}

static void refuse(gguf_write *w, sight_err code, const char *sentence)
{
    buf bytes;
    gguf *g = NULL;
    assert_fails(parse(w, &g, &bytes), code, sentence);
    assert_null(g);
    buf_done(&bytes);
}

static void put_values(gguf_write *w)
{
    gguf_u32(w, "u32", 7);
    gguf_f32(w, "f32", 0.5);
    gguf_bool(w, "yes", true);
    gguf_string(w, "text", "Grüße");
    gguf_key(w, "i8", 1), gguf_put(&w->keys, 0xff, 1);
    gguf_key(w, "u64", 10), gguf_put(&w->keys, UINT64_MAX, 8);
    gguf_key(w, "i64", 11), gguf_put(&w->keys, (uint64_t)-5, 8);
    const double d = -2.25;
    uint64_t bits;
    memcpy(&bits, &d, 8);
    gguf_key(w, "f64", 12), gguf_put(&w->keys, bits, 8);
    gguf_start_array(w, "numbers", 3, 3); // int16
    for (int i = -1; i < 2; i++) gguf_put(&w->keys, (uint64_t)i, 2);
    gguf_start_array(w, "texts", 8, 2);
    gguf_put_text(&w->keys, "a", 1);
    gguf_put_text(&w->keys, "", 0);
    gguf_start_array(w, "flags", 7, 2);
    gguf_put(&w->keys, 1, 1), gguf_put(&w->keys, 0, 1);
    gguf_start_array(w, "reals", 6, 1);
    gguf_put(&w->keys, 0x3f800000, 4);
}

static void check_scalars(const gguf *g)
{
    int64_t i = 0;
    double d = 0;
    bool b = false;
    gguf_text t = {0};
    assert_ok(gguf_get_int(g, &i, "u32", 0, 10));
    assert_int_equal(i, 7);
    assert_ok(gguf_get_int(g, &i, "i8", -10, 10));
    assert_int_equal(i, -1);
    assert_ok(gguf_get_int(g, &i, "i64", -10, 10));
    assert_int_equal(i, -5);
    assert_ok(gguf_get_int(g, &i, "u64", 0, INT64_MAX));
    assert_true(i == INT64_MAX);
    assert_ok(gguf_get_double(g, &d, "f32", 0, 1));
    assert_true(d == 0.5);
    assert_ok(gguf_get_double(g, &d, "f64", -3, 1));
    assert_true(d == -2.25);
    assert_ok(gguf_get_double(g, &d, "u32", 0, 10));
    assert_true(d == 7);
    assert_ok(gguf_get_bool(g, &b, "yes"));
    assert_true(b);
    assert_ok(gguf_get_text(g, &t, "text"));
    assert_true(gguf_text_is(t, "Grüße"));
    assert_false(gguf_text_is(t, "Grüß"));
    i = 3;
    assert_ok(gguf_get_int(g, &i, "not there", 0, 1));
    assert_int_equal(i, 3);
    assert_fails(gguf_get_int(g, &i, "text", 0, 1), SIGHT_E_MODEL, "must be a whole number");
    assert_fails(gguf_get_int(g, &i, "u32", 0, 6), SIGHT_E_MODEL, "'u32' is 7, must be 0 to 6");
    assert_fails(gguf_get_double(g, &d, "text", 0, 1), SIGHT_E_MODEL, "must be a number");
    assert_fails(gguf_get_bool(g, &b, "u32"), SIGHT_E_MODEL, "must be true or false");
    assert_fails(gguf_get_text(g, &t, "u32"), SIGHT_E_MODEL, "must be a text");
    assert_fails(gguf_need(g, "no"), SIGHT_E_MODEL, "'x.gguf' has no 'no'");
}

static void check_arrays(const gguf *g)
{
    gguf_array a = {0};
    assert_ok(gguf_get_ints(g, &a, "numbers"));
    assert_int_equal(a.n, 3);
    assert_int_equal(gguf_array_int(&a), -1);
    assert_int_equal(gguf_array_int(&a), 0);
    assert_int_equal(gguf_array_int(&a), 1);
    assert_ok(gguf_get_ints(g, &a, "flags"));
    assert_int_equal(gguf_array_int(&a), 1);
    assert_ok(gguf_get_texts(g, &a, "texts"));
    assert_true(gguf_text_is(gguf_array_text(&a), "a"));
    assert_true(gguf_text_is(gguf_array_text(&a), ""));
    assert_ok(gguf_get_doubles(g, &a, "reals"));
    assert_true(gguf_array_double(&a) == 1);
    assert_fails(gguf_get_ints(g, &a, "texts"), SIGHT_E_MODEL, "an array of whole numbers");
    assert_fails(gguf_get_texts(g, &a, "u32"), SIGHT_E_MODEL, "an array of texts");
}

static void reads_values(void **state)
{
    gguf_write *w = new_file();
    gguf *g = NULL;
    buf bytes;
    put_values(w);
    assert_ok(parse(w, &g, &bytes));
    check_scalars(g);
    check_arrays(g);
    gguf_close(&g);
    buf_done(&bytes);
}

static const float numbers[64];

static gguf_write *two_tensors(void)
{
    gguf_write *w = new_file();
    gguf_add(w, "b", 0, numbers, 24, 2, (int64_t)2, (int64_t)3);
    gguf_add(w, "a", 8, numbers, 68, 1, (int64_t)64);
    gguf_write_place(w);
    return w;
}

static void reads_tensors(void **state)
{
    gguf *g = NULL;
    buf bytes;
    assert_ok(parse(two_tensors(), &g, &bytes));
    assert_int_equal(gguf_count(g), 2);
    const gguf_tensor *a = gguf_at(g, 0), *b = gguf_find(g, "b");
    assert_string_equal(a->name, "a");
    assert_string_equal(a->type, "Q8_0");
    assert_int_equal(a->bytes, 68);
    assert_ptr_equal(b, gguf_at(g, 1));
    assert_int_equal(b->shape[0], 2);
    assert_int_equal(b->shape[1], 3);
    assert_ptr_equal(a->data, b->data + 32);
    assert_null(gguf_find(g, "c"));
    gguf_close(&g);
    gguf_close(&g);
    buf_done(&bytes);
}

static void refuses_tensors(void **state)
{
    gguf_write *w = two_tensors();
    w->tensors[1].offset = 0;
    refuse(w, SIGHT_E_MODEL, "overlap");
    w = two_tensors();
    w->tensors[1].offset = 33;
    refuse(w, SIGHT_E_MODEL, "offset 33, not a multiple of the alignment 32");
    w = two_tensors();
    w->tensors[1].shape[0] = 1 << 20;
    refuse(w, SIGHT_E_MODEL, "is truncated: tensor 'a' wants");
    w = two_tensors();
    w->tensors[1].offset = UINT64_MAX - 31;
    w->tensors[1].data = NULL;
    refuse(w, SIGHT_E_MODEL, "is truncated: tensor 'a' wants 68 bytes at offset 184467440737");
    w = two_tensors();
    strcpy(w->tensors[0].name, "a");
    refuse(w, SIGHT_E_MODEL, "tensor 'a' stands twice");
    w = two_tensors();
    w->tensors[1].shape[0] = 63;
    refuse(w, SIGHT_E_MODEL, "rows of 63 elements are not whole blocks of 32 (Q8_0)");
    w = two_tensors();
    w->tensors[0].shape[0] = w->tensors[0].shape[1] = (int64_t)1 << 40;
    refuse(w, SIGHT_E_MODEL, "impossible shape");
    w = two_tensors();
    w->tensors[0].shape[0] = 0;
    refuse(w, SIGHT_E_MODEL, "impossible shape");
    w = two_tensors();
    w->tensors[0].n_dims = 0;
    refuse(w, SIGHT_E_MODEL, "has 0 dimensions, 1 to 4 are possible");
    w = two_tensors();
    w->tensors[0].type = 99;
    refuse(w, SIGHT_E_UNSUPPORTED, "has ggml type 99");
    w = two_tensors();
    w->tensors[0].name[0] = 0;
    refuse(w, SIGHT_E_MODEL, "name");
}

static void refuses_values(void **state)
{
    gguf_write *w = new_file();
    gguf_u32(w, "a", 1);
    gguf_u32(w, "a", 1);
    refuse(w, SIGHT_E_MODEL, "the key 'a' stands twice");
    w = new_file();
    gguf_key(w, "a", 13);
    refuse(w, SIGHT_E_MODEL, "'a' is of kind 13");
    w = new_file();
    gguf_start_array(w, "a", 14, 0);
    refuse(w, SIGHT_E_MODEL, "'a' is an array of kind 14");
    w = new_file();
    gguf_start_array(w, "a", 9, 0);
    refuse(w, SIGHT_E_UNSUPPORTED, "an array of arrays");
    w = new_file();
    gguf_start_array(w, "a", 4, UINT64_MAX / 2);
    refuse(w, SIGHT_E_MODEL, "do not fit");
    w = new_file();
    gguf_start_array(w, "a", 8, 1);
    gguf_put(&w->keys, UINT64_MAX, 8);
    refuse(w, SIGHT_E_MODEL, "is truncated or damaged");
    w = new_file();
    gguf_u32(w, "general.alignment", 24);
    refuse(w, SIGHT_E_MODEL, "general.alignment is 24, a power of two from 8");
    w = new_file();
    gguf_u32(w, "", 1);
    refuse(w, SIGHT_E_MODEL, "a key");
    w = new_file();
    w->n_keys = UINT64_MAX;
    refuse(w, SIGHT_E_MODEL, "keys do not fit");
}

static void refuse_bytes(const void *bytes, size_t n, sight_err code, const char *sentence)
{
    gguf *g = NULL;
    assert_fails(gguf_parse(&g, bytes, n, "x.gguf"), code, sentence);
    assert_null(g);
}

static void refuses_other_files(void **state)
{
    refuse_bytes(NULL, 0, SIGHT_E_MODEL, "'x.gguf' is empty");
    refuse_bytes("GGU", 3, SIGHT_E_MODEL, "is not a GGUF file");
    refuse_bytes("GGML\1\0\0\0", 8, SIGHT_E_MODEL, "is not a GGUF file");
    refuse_bytes("GGUF\1\0\0\0", 8, SIGHT_E_UNSUPPORTED, "GGUF version 1");
    refuse_bytes("GGUF\0\0\0\3", 8, SIGHT_E_UNSUPPORTED, "big-endian");
    refuse_bytes("GGUF\3\0", 6, SIGHT_E_MODEL, "truncated");
    refuse_bytes("GGUF\3\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0", 24, SIGHT_E_MODEL,
                 "tensors do not fit");
    static const char lfs[] = "version https://git-lfs.github.com/spec/v1\n";
    refuse_bytes(lfs, sizeof lfs - 1, SIGHT_E_MODEL, "git-lfs pointer");
    gguf *g = NULL;
    assert_fails(gguf_open(&g, "/nonexistent/x.gguf"), SIGHT_E_NOT_FOUND, "x.gguf");
}

// Every prefix of a good file is refused, and none is read past its end (sanitizers).
static void refuses_prefixes(void **state)
{
    gguf_write *w = two_tensors();
    put_values(w);
    buf bytes;
    buf_init(&bytes);
    gguf_write_bytes(w, &bytes);
    for (size_t n = 0; n < bytes.size; n++) {
        unsigned char *part = malloc(n ? n : 1);
        memcpy(part, bytes.data, n);
        gguf *g = NULL;
        assert_true(gguf_parse(&g, part, n, "x.gguf") != SIGHT_OK);
        free(part);
    }
    buf_done(&bytes);
    gguf_write_done(w);
    free(w);
}

// ---- blocks: tests/golden/make_gguf.py ----

static void check_rows(const stored *s, const float *want)
{
    void *block = aligned_alloc(64, packed_bytes(&s->format, s->M, s->K));
    packed p;
    packed_rows rows;
    const char *why;
    assert_true(packed_format_check(&s->format, &why));
    assert_non_null(block);
    packed_init(&p, &s->format, s->M, s->K, block);
    assert_true(packed_rows_alloc(&rows, &s->format, s->M, s->K));
    assert_ok(s->read(s, &rows, 0, s->M));
    packed_put(&p, 0, s->M, &rows);
    float *got = malloc((size_t)s->K * sizeof *got);
    for (int64_t m = 0; m < s->M; m++) {
        packed_get_row(&p, got, m);
        for (int64_t k = 0; k < s->K; k++) {
            if (got[k] == want[m * s->K + k]) continue;
            fail_msg("%s: row %d, input %d: %.9g, expected %.9g", s->form, (int)m, (int)k,
                     (double)got[k], (double)want[m * s->K + k]);
        }
    }
    // Rows from the middle are the same rows.
    packed_rows one;
    assert_true(packed_rows_alloc(&one, &s->format, 1, s->K));
    assert_ok(s->read(s, &one, s->M - 1, 1));
    assert_memory_equal(one.codes, rows.codes + (s->M - 1) * s->K, (size_t)s->K);
    free(one.codes);
    free(rows.codes);
    free(got);
    free(block);
}

static void blocks_bit_for_bit(void **state)
{
    static const char *const names[] = {"Q8_0", "Q6_K", "Q5_K", "Q4_K", "Q4_0", "IQ4_XS"};
    gguf *g = NULL;
    assert_ok(gguf_open(&g, TEST_GOLDEN_DIR "/gguf/blocks.gguf"));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char values[32];
        snprintf(values, sizeof values, "%s.values", names[i]);
        const gguf_tensor *t = gguf_find(g, names[i]), *v = gguf_find(g, values);
        assert_non_null(t);
        assert_non_null(v);
        stored s;
        assert_ok(gguf_blocks_stored(&s, t, names[i], "blocks.gguf"));
        assert_string_equal(s.form, names[i]);
        assert_int_equal(s.bytes, t->bytes);
        check_rows(&s, (const float *)(const void *)v->data);
    }
    gguf_close(&g);
}

static void refuses_blocks(void **state)
{
    static const uint8_t infinite[34] = {0x00, 0x7c};
    gguf_tensor t = {.name = "n", .type = "Q8_0", .type_id = GGUF_Q8_0, .block = 32, .n_dims = 2,
                     .shape = {1, 32}, .data = infinite, .bytes = 34};
    stored s;
    packed_rows rows;
    assert_ok(gguf_blocks_stored(&s, &t, "name", "x.gguf"));
    assert_true(packed_rows_alloc(&rows, &s.format, 1, 32));
    assert_fails(s.read(&s, &rows, 0, 1), SIGHT_E_MODEL,
                 "'x.gguf': tensor 'name': the scale of block 0 of row 0 is not finite");
    free(rows.codes);
    t.n_dims = 1;
    assert_fails(gguf_blocks_stored(&s, &t, "name", "x.gguf"), SIGHT_E_UNSUPPORTED, "no matrix");
    t.type_id = 10;
    t.type = "Q2_K";
    assert_fails(gguf_blocks_stored(&s, &t, "name", "x.gguf"), SIGHT_E_UNSUPPORTED,
                 "is Q2_K, not supported: only BF16, F16, F32, and matrices in Q8_0");
    assert_true(gguf_blocks_known(GGUF_IQ4_XS));
    assert_false(gguf_blocks_known(GGUF_BF16));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_values),        cmocka_unit_test(reads_tensors),
        cmocka_unit_test(refuses_tensors),     cmocka_unit_test(refuses_values),
        cmocka_unit_test(refuses_other_files), cmocka_unit_test(refuses_prefixes),
        cmocka_unit_test(blocks_bit_for_bit),  cmocka_unit_test(refuses_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
