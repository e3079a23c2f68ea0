#include "support/test.h"

#include "daemon/media/url.h"

static void reads(const char *text, const char *anew, const char *host, int port)
{
    url_parts u = {0};
    assert_ok(url_parse(&u, text));
    assert_string_equal(u.text, anew);
    assert_string_equal(u.host, host);
    assert_int_equal(u.port, port);
    url_parts again = {0}; // what is written is read alike
    assert_ok(url_parse(&again, u.text));
    assert_string_equal(again.text, u.text);
    assert_string_equal(again.host, u.host);
    url_done(&again);
    url_done(&u);
    url_done(&u);
}

static void urls_are_written_anew(void **state)
{
    reads("http://example.org", "http://example.org/", "example.org", 80);
    reads("HTTPS://Example.ORG./A/b.png?x=1&y=[2]#part", "https://example.org/A/b.png?x=1&y=[2]", "example.org", 443);
    reads("https://example.org:443/a", "https://example.org/a", "example.org", 443);
    reads("http://example.org:443/a", "http://example.org:443/a", "example.org", 443);
    reads("http://example.org?q", "http://example.org/?q", "example.org", 80);
    reads("http://example.org#q", "http://example.org/", "example.org", 80);
    reads("http://192.0.2.1:8080/a", "http://192.0.2.1:8080/a", "192.0.2.1", 8080);
    reads("http://[2001:DB8:0:0::1]/a", "http://[2001:db8::1]/a", "2001:db8::1", 80);
    reads("http://[::ffff:127.0.0.1]:81/", "http://[::ffff:127.0.0.1]:81/", "::ffff:127.0.0.1", 81);
    reads("http://xn--bcher-kva.example/", "http://xn--bcher-kva.example/", "xn--bcher-kva.example", 80);
    reads("http://a_b.c-d.example/", "http://a_b.c-d.example/", "a_b.c-d.example", 80);
    reads("http://h/a b\"<>^`{|}", "http://h/a%20b%22%3C%3E%5E%60%7B%7C%7D", "h", 80);
    reads("http://h/\xc3\xbc?\xc3\xbc", "http://h/%C3%BC?%C3%BC", "h", 80);
    reads("http://h/@user:x@y", "http://h/@user:x@y", "h", 80); // behind the host it means nothing
    reads("http://1.2.3.example/", "http://1.2.3.example/", "1.2.3.example", 80);
}

static void refused(const char *text, sight_err code, const char *says)
{
    url_parts u = {.port = 7};
    assert_fails(url_parse(&u, text), code, says);
    assert_int_equal(u.port, 7);
    assert_null(u.text);
}

static void what_programs_read_differently_is_refused(void **state)
{
    const struct {
        const char *text, *says;
    } wrong[] = {
        {"http://good.example@evil.example/", "names a user"}, {"http://u:p@good.example/", "names a user"},
        {"http://evil.example\\@good.example/", "backslash"}, {"http://good.example\\.evil.example/", "control character"},
        {"http://good.example:80@evil.example/", "names a user"}, {"http://good.example%2eevil.example/", "no name"},
        {"http://good.example%00.evil.example/", "no name"}, {"http://good.example:/", "1 to 65535"},
        {"http://good.example:0/", "1 to 65535"}, {"http://good.example:65536/", "1 to 65535"},
        {"http://good.example:000080/", "1 to 65535"}, {"http://good.example:80:81/", "no number"},
        {"http://good.example:8x/", "no number"}, {"http://good.example:-1/", "no number"}, {"http:///a", "empty"},
        {"http://./", "empty"}, {"http://?x", "empty"}, {"http://a..b/", "no name"}, {"http://.a/", "no name"},
        {"http://a.b../", "no name"}, {"http://a b/", "no name"}, {"http://a\tb/", "no name"},
        {"http://\xc3\xbc.example/", "punycode"}, {"http://\xef\xbd\x81.example/", "punycode"}, // a fullwidth letter
        {"http://127.1/", "no address"}, {"http://2130706433/", "no address"}, {"http://0x7f000001/", "no address"},
        {"http://0x7f.0.0.1/", "no address"}, {"http://0177.0.0.1/", "no address"}, {"http://127.0.0.0x1/", "no address"},
        {"http://1.2.3.4.5/", "no address"}, {"http://256.1.1.1/", "no address"}, {"http://a.0x/", "no address"},
        {"http://[::1/", "IPv6"}, {"http://[::1%25lo]/", "IPv6"}, {"http://[fe80::1%lo]/", "IPv6"}, {"http://[]/", "IPv6"},
        {"http://[127.0.0.1]/", "IPv6"}, {"http://[::1]x/", "1 to 65535"}, {"http://[::1]:x/", "no number"},
        {"http://h/a\nb", "control character"}, {"http://h/a?\r\nHost: x", "control character"}, {"http://h/a\\b", "backslash"},
        {"http://h/\x7f", "control character"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) refused(wrong[i].text, SIGHT_E_ARGUMENT, wrong[i].says);
    const char *const other[] = {"ftp://h/a", "rtsp://camera/1", "file:///etc/passwd", "gopher://h:11211/", "s3://b/k", "http:/h/",
                                 "https:h", "//h/a", "h/a", "", "http//h", " http://h/", "\nhttp://h/"};
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) refused(other[i], SIGHT_E_UNSUPPORTED, "only http:// and https://");
    char *text = calloc(1, 9000);
    memset(strcpy(text, "http://h/") + 9, 'a', 8190);
    refused(text, SIGHT_E_ARGUMENT, "over 8192 bytes");
    memset(text + 9, ' ', 3000);
    text[3009] = 0;
    refused(text, SIGHT_E_ARGUMENT, "over 8192 bytes"); // with its percent signs
    memset(text + 7, 'a', 64);
    text[71] = '/';
    text[300] = 0;
    refused(text, SIGHT_E_ARGUMENT, "no name"); // a label of 64
    memset(text + 7, 'a', 290);
    for (int i = 57; i < 290; i += 50) text[i] = '.';
    refused(text, SIGHT_E_ARGUMENT, "too long");
    free(text);
}

static void sentences_leave_out_what_may_be_secret(void **state)
{
    url_parts u = {0};
    assert_ok(url_parse(&u, "https://h/a?token=hush"));
    assert_string_equal(u.shown, "https://h/a");
    url_done(&u);
    refused("https://user:hush@h/a", SIGHT_E_ARGUMENT, "names a user");
    assert_null(strstr(sight_error(), "hush"));
    refused("https://h:x/a?hush", SIGHT_E_ARGUMENT, "no number");
    assert_null(strstr(sight_error(), "hush"));
}

static bool allows(const char *list, const char *text)
{
    url_hosts *h = NULL;
    url_parts u = {0};
    assert_ok(url_hosts_create(&h, &list, 1, "url-hosts"));
    assert_ok(url_parse(&u, text));
    const bool allowed = url_hosts_allow(h, &u);
    url_done(&u);
    url_hosts_destroy(&h);
    url_hosts_destroy(&h);
    return allowed;
}

static void hosts_are_matched_whole(void **state)
{
    const struct {
        const char *list, *text;
        bool allowed;
    } cases[] = {
        {"", "http://a.example/", false},
        {"a.example", "http://a.example/", true},
        {"A.Example.", "http://a.EXAMPLE./x", true},
        {"a.example", "https://a.example/", true},
        {"a.example", "http://b.a.example/", false},
        {"a.example", "http://ba.example/", false},
        {"a.example", "http://a.example.evil.test/", false},
        {"a.example", "http://a.example:8080/", false},
        {"a.example", "http://a.example:443/", false}, // the other scheme's own
        {"a.example:8080", "http://a.example:8080/", true},
        {"a.example:8080", "https://a.example:8080/", true},
        {"a.example:8080", "http://a.example/", false},
        {"*.a.example", "http://x.a.example/", true},
        {"*.a.example", "http://y.x.a.example/", true},
        {"*.a.example", "http://a.example/", false},
        {"*.a.example", "http://xa.example/", false},
        {"*.a.example", "http://x.a.example:81/", false},
        {"*.a.example:81", "http://x.a.example:81/", true},
        {"*", "https://anything.example/", true},
        {"*", "http://10.0.0.1/", true}, // its address is looked at elsewhere
        {"*", "http://a.example:81/", false},
        {"*:81", "http://a.example:81/", true},
        {"192.0.2.1", "http://192.0.2.1/", true},
        {"*.0.2.test", "http://192.0.2.1/", false},
        {"[2001:DB8::0:1]", "http://[2001:db8::1]/", true},
        {"[2001:db8::1]:81", "http://[2001:db8::1]:81/", true},
        {"[2001:db8::1]", "http://[2001:db8::2]/", false},
        {" b.example,\ta.example , ", "http://a.example/", true},
        {"b.example c.example", "http://c.example/", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (allows(cases[i].list, cases[i].text) != cases[i].allowed) {
            fail_msg("'%s' with '%s'", cases[i].list, cases[i].text);
        }
    }
}

static void lists_that_are_wrong_are_named(void **state)
{
    const char *const wrong[] = {"a.example/", "http://a.example", "*.", "*a.example", "a.*.example", "**", "*.*", "*:x", "*:", "*.1.2",
                                 "*.[::1]", "a:0", "\xc3\xbc", "[::1", "127.1", "u@h", "*:00000000000080"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const char *items[] = {"good.example", wrong[i]};
        url_hosts *h = NULL;
        assert_fails(url_hosts_create(&h, items, 2, "url-hosts"), SIGHT_E_ARGUMENT, "url-hosts has '");
        assert_null(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urls_are_written_anew),
        cmocka_unit_test(what_programs_read_differently_is_refused),
        cmocka_unit_test(sentences_leave_out_what_may_be_secret),
        cmocka_unit_test(hosts_are_matched_whole),
        cmocka_unit_test(lists_that_are_wrong_are_named),
    };
    return cmocka_run_group_tests_name("daemon/media/url", tests, NULL, NULL);
}
