#include "support/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "ipc/endpoint.h"
#include "ipc/lock.h"
#include "ipc/text.h"
#include "sight/client.h"

static void own_endpoint_follows_the_environment(void **state)
{
    char e[ENDPOINT_MAX];
    unsetenv("RUNTIME_DIRECTORY");
    setenv("XDG_RUNTIME_DIR", "/run/user/7", 1);
    assert_ok(endpoint_own(e, sizeof e));
    assert_string_equal(e, "ipc:///run/user/7/sightd/sightd.sock");
    setenv("RUNTIME_DIRECTORY", "/run/sightd", 1);
    assert_ok(endpoint_own(e, sizeof e));
    assert_string_equal(e, "ipc:///run/sightd/sightd.sock");
    // A client does not run as the service.
    assert_ok(sight_default_endpoint(e, sizeof e));
    assert_null(strstr(e, "/run/sightd/sightd.sock/"));
    unsetenv("RUNTIME_DIRECTORY");
    unsetenv("XDG_RUNTIME_DIR");
    assert_ok(endpoint_own(e, sizeof e));
    assert_non_null(strstr(e, geteuid() ? "ipc:///tmp/sightd-" : "ipc:///run/sightd/"));
    setenv("XDG_RUNTIME_DIR", "relative", 1);
    assert_ok(endpoint_own(e, sizeof e));
    assert_null(strstr(e, "relative"));
    assert_fails(sight_default_endpoint(e, 5), SIGHT_E_ARGUMENT, "too long");
}

static void endpoints_of_others_are_refused(void **state)
{
    char longest[200] = "ipc:///";
    memset(longest + 7, 'x', 150);
    longest[157] = 0;
    assert_ok(endpoint_check("ipc:///tmp/a.sock", false));
    assert_ok(endpoint_check("tcp://127.0.0.1:5555", false));
    assert_ok(endpoint_check("tcp://[::1]:5555", false));
    assert_fails(endpoint_check("ipc://a.sock", false), SIGHT_E_ARGUMENT, "absolute");
    assert_fails(endpoint_check("ipc://@a", false), SIGHT_E_ARGUMENT, "absolute");
    assert_fails(endpoint_check(longest, false), SIGHT_E_ARGUMENT, "limit is 107");
    assert_fails(endpoint_check("tcp://0.0.0.0:5555", false), SIGHT_E_UNSUPPORTED, "sight keys");
    assert_fails(endpoint_check("tcp://*:5555", false), SIGHT_E_UNSUPPORTED, "network");
    assert_fails(endpoint_check("tcp://127.0.0.1.evil.org:1", false), SIGHT_E_UNSUPPORTED, "network");
    assert_ok(endpoint_check("tcp://*:5570", true)); // with keys
    assert_ok(endpoint_check("tcp://[::]:5570", true));
    assert_ok(endpoint_check("tcp://eth0:5570", true));
    assert_fails(endpoint_check("tcp://*", true), SIGHT_E_ARGUMENT, "a host and a port");
    assert_fails(endpoint_check("tcp://:5570", true), SIGHT_E_ARGUMENT, "a host and a port");
    assert_fails(endpoint_check("tcp://*:x", true), SIGHT_E_ARGUMENT, "a host and a port");
    assert_fails(endpoint_check("tcp://127.0.0.1:0", false), SIGHT_E_ARGUMENT, "port");
    assert_fails(endpoint_check("tcp://127.0.0.1:70000", false), SIGHT_E_ARGUMENT, "port");
    assert_fails(endpoint_check("tcp://127.0.0.1:12x", false), SIGHT_E_ARGUMENT, "port");
    assert_fails(endpoint_check("udp://127.0.0.1:1", false), SIGHT_E_ARGUMENT, "ipc://");
    assert_fails(endpoint_check("", false), SIGHT_E_ARGUMENT, "ipc://");
}

static void a_lock_has_one_owner(void **state)
{
    char endpoint[ENDPOINT_MAX], folder[ENDPOINT_MAX / 2];
    snprintf(folder, sizeof folder, "%s/new", test_folder());
    snprintf(endpoint, sizeof endpoint, "ipc://%s/a.sock", folder);
    endpoint_lock first, second;
    assert_ok(endpoint_lock_take(&first, endpoint, 0));
    assert_fails(endpoint_lock_take(&second, endpoint, 0), SIGHT_E_BUSY, "another sightd (process");
    endpoint_lock_release(&first);
    assert_ok(endpoint_lock_take(&second, endpoint, 0));
    struct stat st;
    assert_int_equal(stat(folder, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    endpoint_lock_release(&second);
}

static void an_open_folder_is_refused(void **state)
{
    char endpoint[ENDPOINT_MAX], folder[ENDPOINT_MAX / 2];
    snprintf(folder, sizeof folder, "%s/open", test_folder());
    snprintf(endpoint, sizeof endpoint, "ipc://%s/a.sock", folder);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(chmod(folder, 0777), 0);
    endpoint_lock lock;
    assert_fails(endpoint_lock_take(&lock, endpoint, 0), SIGHT_E_PERMISSION, "others may write");
}

static void any_bytes_become_a_json_string(void **state)
{
    const struct {
        const char *in, *out;
    } cases[] = {
        {"plain", "plain"},      {"\xc3\xa9", "\xc3\xa9"},
        {"a\xff", "a?"},         {"\xc3", "?"},
        {"\xed\xa0\x80", "???"}, {"\xf4\x90\x80\x80x", "????x"},
        {"\xe0\x80\x80", "???"}, {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
        {"\xf0\x9f\x98", "???"}, {"", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_t *s = text_json(cases[i].in);
        assert_non_null(s);
        assert_string_equal(json_string_value(s), cases[i].out);
        json_decref(s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_endpoint_follows_the_environment),
        cmocka_unit_test(endpoints_of_others_are_refused),
        cmocka_unit_test(a_lock_has_one_owner),
        cmocka_unit_test(an_open_folder_is_refused),
        cmocka_unit_test(any_bytes_become_a_json_string),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
