// Angles against transformers' (models/qwen3_5, Qwen3_5TextRotaryEmbedding), for the default and
// four YaRN configurations.
#include <math.h>

#include "support/test.h"
#include "text/rope.h"

enum { CASES = 5, ROWS = 2, HALF = 8 };

static text_config config(int i)
{
    text_config c = {
        .head_dim = 32,
        .max_positions = 16384,
        .rope = {.theta = i == 0 ? 1e7 : 1e4,
                 .partial_rotary_factor = 0.5,
                 .mrope_section = {3, 3, 2},
                 .yarn = i > 0,
                 .factor = 4,
                 .beta_fast = 32,
                 .beta_slow = 1,
                 .truncate = true,
                 .original_max_positions = 4096},
    };
    rope_config *r = &c.rope;
    if (i == 2) {
        r->factor = 8;
        r->truncate = false;
        r->beta_fast = 16;
        r->beta_slow = 2;
    } else if (i == 3) {
        r->factor = 40;
        r->mscale = 1;
        r->mscale_all_dim = 0.707;
    } else if (i == 4) {
        r->original_max_positions = 64;
        r->attention_factor = 1.5;
    }
    return c;
}

static const int32_t positions[3 * ROWS] = {100000, 7, 5000, 8, 77, 9};

// Per case: cos [ROWS, HALF], sin [ROWS, HALF].
static const float expected[2 * CASES][ROWS * HALF] = {
        {-0.9993608f, 0.736374974f, 0.200159892f, -0.0528458394f, -0.0103424573f, 0.999994755f,
         0.846009076f, 0.999992967f, 0.753902256f, 0.482913792f, 0.987220109f, 0.999862254f,
         0.999996781f, 0.99999994f, 1.0f, 1.0f},
        {0.0357487984f, 0.676573634f, 0.979763269f, -0.998602688f, 0.999946535f, 0.00324705755f,
         0.533168435f, 0.00374946231f, 0.656986594f, 0.87566793f, 0.159362778f, 0.0165988542f,
         0.0025298195f, 0.000379526871f, 3.93638948e-05f, 5.99915393e-06f},
        {-1.13790166f, -0.691896141f, 0.174635679f, 1.01402652f, 1.12299085f, 1.13217473f,
         1.128613f, 1.05082631f, 0.858415306f, -0.932118952f, 0.707783341f, 1.12026298f,
         1.13720644f, 1.1385411f, 1.13862765f, 1.1386292f},
        {0.040704634f, -0.904299021f, 1.12515748f, -0.517906547f, -0.188065246f, 0.121068031f,
         -0.150697455f, 0.438453138f, 0.74806428f, 0.653935194f, 0.891919076f, 0.203685388f,
         0.0569077469f, 0.0141772432f, 0.0019926005f, 0.000720132492f},
        {-1.20717204f, -0.734015763f, 0.185266718f, -0.316169143f, 1.15165544f, 1.2072649f,
         1.2052846f, 1.18442822f, 0.91067183f, -0.988862276f, 0.750870049f, 1.17847013f,
         1.20644808f, 1.20793486f, 1.20794368f, 1.20794404f},
        {0.0431825519f, -0.959348738f, 1.19365215f, 1.16583288f, -0.364443332f, 0.0405060314f,
         -0.0801120028f, 0.237189665f, 0.793603122f, 0.693743825f, 0.946215153f, 0.265211523f,
         0.0601007305f, 0.00473534642f, 0.00105695101f, 0.000381985505f},
        {-1.08503234f, -0.659749269f, 0.166521743f, -0.815966964f, 0.956816435f, 1.08340251f,
         -0.869822741f, 1.08487821f, 0.818531573f, -0.888810813f, 0.674898267f, 1.07054877f,
         1.08481395f, 1.08569455f, 1.08572638f, 1.08572638f},
        {0.0388134122f, -0.862283468f, 1.07288039f, -0.716239989f, 0.513131618f, 0.0709985718f,
         0.649776995f, 0.0429059304f, 0.713307679f, 0.623552024f, 0.850478709f, 0.180906221f,
         0.0445023105f, 0.00830437895f, 0.000190002116f, 6.86673666e-05f},
        {-1.4990412f, -0.145422354f, -1.13909888f, 0.664450884f, 1.49669743f, 1.49722159f,
         1.4868046f, 1.38433051f, 1.13085341f, -0.481194615f, 1.3506707f, 1.49770367f,
         1.49970007f, 1.49996197f, 1.49999762f, 1.49999976f},
        {0.0536231995f, -1.49293423f, -0.975937307f, -1.34480667f, -0.0994828418f, 0.0912543908f,
         -0.198524803f, 0.57760644f, 0.985479891f, 1.42072225f, 0.652448297f, 0.0829674304f,
         0.0299979988f, 0.0106725972f, 0.0026249988f, 0.000948683242f},
};

static void angles(float *cosines, float *sines, const int32_t *at, int64_t n, const text_config *c)
{
    const kernels_options o = {.threads = 1, .simd = SIMD_PLAIN};
    kernels *k = NULL;
    rope_table t = {0};
    assert_ok(kernels_create(&k, &o));
    assert_ok(rope_create(&t, k, c));
    assert_int_equal(t.half, HALF);
    op_rope_angles(k, cosines, sines, at, ROWS, n, &t);
    rope_destroy(&t, k);
    assert_null(t.inv);
    rope_destroy(&t, k);
    kernels_destroy(&k);
}

static void reference(void **state)
{
    (void)state;
    for (int i = 0; i < CASES; i++) {
        text_config c = config(i);
        float got[2][ROWS * HALF];
        angles(got[0], got[1], positions, ROWS, &c);
        for (int part = 0; part < 2; part++) {
            for (int j = 0; j < ROWS * HALF; j++) {
                float want = expected[2 * i + part][j];
                if (!(fabsf(got[part][j] - want) < 1e-5f)) {
                    fail_msg("case %d, %s %d: %.8f, not %.8f", i, part ? "sin" : "cos", j,
                             (double)got[part][j], (double)want);
                }
            }
        }
    }
}

// Without original_max_position_embeddings, max_position_embeddings stands for it.
static void missing_original_length(void **state)
{
    (void)state;
    text_config a = config(1), b = config(1);
    a.rope.original_max_positions = 0;
    b.rope.original_max_positions = (double)b.max_positions;
    float got[2][2][ROWS * HALF];
    angles(got[0][0], got[0][1], positions, ROWS, &a);
    angles(got[1][0], got[1][1], positions, ROWS, &b);
    assert_memory_equal(got[0], got[1], sizeof got[0]);
}

// Rows of a piece are those of the whole prompt.
static void stride(void **state)
{
    (void)state;
    text_config c = config(0);
    float all[2][ROWS * HALF], one[2][HALF];
    angles(all[0], all[1], positions, ROWS, &c);
    angles(one[0], one[1], positions + 1, 1, &c);
    assert_memory_equal(one[0], all[0] + HALF, sizeof one[0]);
    assert_memory_equal(one[1], all[1] + HALF, sizeof one[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference),
        cmocka_unit_test(missing_original_length),
        cmocka_unit_test(stride),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
