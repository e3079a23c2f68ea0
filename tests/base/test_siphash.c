// SipHash-2-4-128 against openssl's (key 00 01 .. 0f, input 00 01 ..).
#include "base/siphash.h"

#include "support/test.h"

static const struct {
    size_t size;
    const char *hex;
} known[] = {
    {0, "a3817f04ba25a8e66df67214c7550293"},  {1, "da87c1d86b99af44347659119b22fc45"},
    {8, "3b62a9ba6258f5610f83e264f31497b4"},  {15, "5493e99933b0a8117e08ec0f97cfc3d9"},
    {63, "5150d1772f50834a503e069a973fbd7c"},
};

static void hex_of(char *hex, const uint8_t key[16], const uint8_t *data, size_t size, size_t step)
{
    uint8_t out[SIPHASH_BYTES];
    siphash h;
    siphash_init(&h, key);
    for (size_t at = 0; at < size; at += step) {
        siphash_add(&h, data + at, size - at < step ? size - at : step);
    }
    siphash_finish(&h, out);
    for (int i = 0; i < SIPHASH_BYTES; i++) snprintf(hex + 2 * i, 3, "%02x", out[i]);
}

static void known_answers(void **state)
{
    (void)state;
    uint8_t key[16], data[64];
    char hex[2 * SIPHASH_BYTES + 1];
    for (int i = 0; i < 64; i++) data[i] = (uint8_t)i;
    memcpy(key, data, sizeof key);
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        for (size_t step = 1; step < 66; step += 4) { // however it arrives
            hex_of(hex, key, data, known[i].size, step);
            assert_string_equal(hex, known[i].hex);
        }
    }
}

static void the_key_matters(void **state)
{
    (void)state;
    uint8_t key[16] = {0}, data[3] = {1, 2, 3};
    char a[2 * SIPHASH_BYTES + 1], b[2 * SIPHASH_BYTES + 1];
    hex_of(a, key, data, sizeof data, 3);
    key[15] = 1;
    hex_of(b, key, data, sizeof data, 3);
    assert_string_not_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_answers),
        cmocka_unit_test(the_key_matters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
