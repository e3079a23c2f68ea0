// Key files: what other ZeroMQ tools write is read, what is none is named, what is secret is kept so.
#include "support/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "ipc/key.h"
#include "ipc/zpl.h"

#define PUBLIC "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
#define SECRET "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"

static sight_err read_text(zpl *z, const char *text)
{
    return zpl_read(z, text, strlen(text), "a.key");
}

static void sections_and_values_are_read(void **state)
{
    static const char text[] = "#   ****  Generated on 2024-05-06 07:08:09 by CZMQ  ****\n"
                               "#   ZeroMQ CURVE **Secret** Certificate\n\n"
                               "alone = 1\r\n"
                               "metadata\n"
                               "    name = \"Front # door\"   # the one below\n"
                               "    email = plain value  # cut\n"
                               "    said = 'a \"word\"'\n"
                               "    name = again\n"
                               "   # a comment, wherever it stands\n"
                               "curve\n"
                               "    public-key = \"" PUBLIC "\"";
    zpl z;
    assert_ok(read_text(&z, text));
    assert_int_equal(z.n, 6);
    assert_string_equal(zpl_get(&z, "", "alone"), "1");
    assert_string_equal(zpl_get(&z, "metadata", "name"), "Front # door");
    assert_string_equal(zpl_get(&z, "metadata", "email"), "plain value");
    assert_string_equal(zpl_get(&z, "metadata", "said"), "a \"word\"");
    assert_string_equal(zpl_get(&z, "curve", "public-key"), PUBLIC);
    assert_null(zpl_get(&z, "curve", "name"));
    assert_null(zpl_get(&z, "", "name"));
    zpl_done(&z);
    assert_ok(read_text(&z, ""));
    assert_int_equal(z.n, 0);
    zpl_done(&z);
}

static void what_is_wrong_is_named_with_its_line(void **state)
{
    const struct {
        const char *text, *says;
    } cases[] = {
        {"curve\n    public-key\n", "a.key:2: a section within a section"},
        {"curve\n    public-key =\n", "a.key:2: the value is missing"},
        {"curve\n    public-key = \"abc\n", "a.key:2: a quotation mark"},
        {"curve\n    a = \"b\" c\n", "a.key:2: ' c' follows"},
        {"\n\ncurve\n  a = b\n", "a.key:4: stands 2 spaces in"},
        {"    a = b\n", "a.key:1: stands 4 spaces in"},
        {"curve\n        a = b\n", "a.key:2: stands 8 spaces in"},
        {"= b\n", "a.key:1: '= b'"},
        {"hello there\n", "a.key:1: 'hello there'"},
        {"\x01\n", "no text: byte 0 is 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        zpl z = {0};
        assert_fails(read_text(&z, cases[i].text), SIGHT_E_ARGUMENT, cases[i].says);
        assert_null(z.text);
    }
    static char many[8192], large[70000];
    for (int i = 0; i < 300; i++) strcat(many, "a = b\n");
    zpl z;
    assert_fails(read_text(&z, many), SIGHT_E_LIMIT, "256");
    memset(large, ' ', sizeof large);
    assert_fails(zpl_read(&z, large, sizeof large, "a.key"), SIGHT_E_LIMIT, "65536");
    assert_fails(zpl_read(&z, "a\0b", 3, "a.key"), SIGHT_E_ARGUMENT, "byte 1 is 0");
}

static void keys_are_checked(void **state)
{
    assert_true(key_text_is_good(PUBLIC));
    assert_false(key_text_is_good(""));
    assert_false(key_text_is_good("Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hI"));
    assert_false(key_text_is_good("Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{h\"D"));
    assert_false(key_text_is_good("########################################")); // over 32 bits a group
    const struct {
        const char *text, *says;
    } cases[] = {
        {"", "no 'public-key' under 'curve'"},
        {"curve\n    public-key = \"abc\"\n", "'public-key' is damaged"},
        {"curve\n    public-key = \"" PUBLIC "\"\n    secret-key = \"x\"\n", "'secret-key' is damaged"},
        {"metadata\n    public-key = \"" PUBLIC "\"\n", "no 'public-key' under 'curve'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        key_file k = {0};
        assert_fails(key_parse(&k, cases[i].text, strlen(cases[i].text), "a.key"), SIGHT_E_ARGUMENT, cases[i].says);
        assert_null(k.text.text);
    }
    const char *const good[] = {"a", "door-1", "Front_Door.2"};
    const char *const bad[] = {"", ".hidden", "a b", "../a", "a/b", "\xc3\xa9", "1234567890123456789012345678901234567890123456789"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(key_name_is_good(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) assert_false(key_name_is_good(bad[i]));
}

static void pairs_are_written_and_read(void **state)
{
    char path[2][256], public_key[KEY_SIZE], secret_key[KEY_SIZE], again[KEY_SIZE], other[KEY_SIZE];
    sight_err err = key_generate(public_key, secret_key);
    if (err == SIGHT_E_UNSUPPORTED) {
        print_message("skipped: this libzmq has no CURVE\n");
        skip();
    }
    assert_ok(err);
    assert_ok(key_generate(again, other));
    assert_string_not_equal(public_key, again);
    snprintf(path[0], sizeof path[0], "%s/a.key", test_folder());
    snprintf(path[1], sizeof path[1], "%s_secret", path[0]);
    const key_meta meta[] = {{"name", "Front # door"}, {"rights", "ask plan"}};
    assert_ok(key_write(path[0], public_key, NULL, meta, 2, false));
    assert_ok(key_write(path[1], public_key, secret_key, NULL, 0, false));
    struct stat st;
    assert_int_equal(stat(path[0], &st), 0);
    assert_int_equal(st.st_mode & 0777, 0644);
    assert_int_equal(stat(path[1], &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    key_file k;
    assert_ok(key_read(&k, path[0]));
    assert_string_equal(k.public_key, public_key);
    assert_string_equal(k.secret_key, "");
    assert_string_equal(zpl_get(&k.text, "metadata", "name"), "Front # door");
    key_done(&k);
    assert_ok(key_read_secret(&k, path[1]));
    assert_string_equal(k.secret_key, secret_key);
    key_done(&k);
    assert_string_equal(k.secret_key, "");
    assert_fails(key_read_secret(&k, path[0]), SIGHT_E_ARGUMENT, "public key only");
    assert_ok(key_read_public(again, path[1]));
    assert_string_equal(again, public_key);
    assert_ok(key_read_public(again, PUBLIC));
    assert_string_equal(again, PUBLIC);
    assert_fails(key_read_public(again, "/nonexistent/a.key"), SIGHT_E_NOT_FOUND, "/nonexistent/a.key");
    // One that is there stays, unless it is to go; nothing is left beside it.
    assert_fails(key_write(path[0], again, NULL, NULL, 0, false), SIGHT_E_BUSY, "is there already");
    assert_ok(key_write(path[0], again, NULL, NULL, 0, true));
    assert_fails(key_write(path[0], again, NULL, &(key_meta){"name", "a\"b"}, 1, true), SIGHT_E_ARGUMENT, "quotation marks");
    assert_ok(key_read(&k, path[0]));
    assert_string_equal(k.public_key, PUBLIC);
    key_done(&k);
    assert_fails(key_write("/nonexistent/a.key", again, NULL, NULL, 0, false), SIGHT_E_NOT_FOUND, "/nonexistent/a.key");
    // Whoever may read a secret key may be its owner.
    assert_int_equal(chmod(path[1], 0644), 0);
    assert_fails(key_read_secret(&k, path[1]), SIGHT_E_PERMISSION, "chmod 600");
    assert_int_equal(chmod(path[1], 0440), 0); // as systemd hands credentials over
    assert_ok(key_read_secret(&k, path[1]));
    key_done(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sections_and_values_are_read),
        cmocka_unit_test(what_is_wrong_is_named_with_its_line),
        cmocka_unit_test(keys_are_checked),
        cmocka_unit_test(pairs_are_written_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
