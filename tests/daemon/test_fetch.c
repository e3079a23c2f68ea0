// Against a web server of the test's own, on loopback.
#include "web.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "daemon/media/curl_library.h"
#include "daemon/media/fetch.h"

#ifndef F_GET_SEALS
#define F_GET_SEALS 1034
#endif

static web server;
static curl_library lib;

static int set_up(void **state)
{
    if (curl_library_open(&lib)) {
        print_message("skipped: %s\n", sight_error());
        exit(77);
    }
    // None of these may be heeded.
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    web_start(&server);
    return 0;
}

static int tear_down(void **state)
{
    web_stop(&server);
    curl_library_close(&lib);
    curl_library_close(&lib);
    return 0;
}

// Rules under which the test's server may be asked.
static fetch_rules open_rules(void)
{
    char own[64];
    const char *items[] = {own, "localhost:1"};
    url_hosts *h = NULL;
    snprintf(own, sizeof own, "127.0.0.1:%d localhost:%d", server.port, server.port);
    assert_ok(url_hosts_create(&h, items, 2, "url-hosts"));
    return (fetch_rules){.hosts = h, .not_public = true, .max_bytes = 50, .timeout_s = 20, .redirects = 3,
                         .slow_bytes_per_s = 1000, .slow_s = 10};
}

static void rules_done(fetch_rules *r)
{
    url_hosts *h = (url_hosts *)r->hosts;
    url_hosts_destroy(&h);
}

// path of the test's server, or a whole URL.
static sight_err fetch(const fetch_rules *r, int *fd, const char *path, const fetch_watch *w)
{
    static const fetch_watch alone;
    char text[2048];
    url_parts u = {0};
    snprintf(text, sizeof text, "http://127.0.0.1:%d%s", server.port, path);
    sight_err err = url_parse(&u, path[0] == '/' ? text : path);
    if (!err) err = fetch_url(&lib, r, fd, &u, w ? w : &alone);
    url_done(&u);
    return err;
}

static void gives(const fetch_rules *r, const char *path, const char *wanted)
{
    int fd = -1;
    char *text;
    size_t size;
    assert_ok(fetch(r, &fd, path, NULL));
    assert_ok(file_read_fd(&text, &size, fd, path, 10000));
    assert_string_equal(text, wanted);
    free(text);
    close(fd);
}

static void refused(const fetch_rules *r, const char *path, sight_err code, const char *says)
{
    int fd = -7;
    assert_fails(fetch(r, &fd, path, NULL), code, says);
    assert_int_equal(fd, -7);
}

static void bodies_come_whole_and_sealed(void **state)
{
    fetch_rules r = open_rules();
    gives(&r, "/ok", "hello");
    gives(&r, "/ok?a=b", "hello");
    gives(&r, "/chunked", "hello");
    gives(&r, "/close", "hello");
    gives(&r, "/identity", "hello");
    gives(&r, "/empty", "");
    int fd;
    assert_ok(fetch(&r, &fd, "/ok", NULL));
    assert_int_equal(fcntl(fd, F_GET_SEALS) & 15, 15);
    assert_true(write(fd, "x", 1) < 0);
    assert_true(ftruncate(fd, 0) < 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    rules_done(&r);
}

static void nothing_of_this_machine_is_told(void **state)
{
    fetch_rules r = open_rules();
    r.max_bytes = 4096;
    int fd;
    char *text;
    size_t size;
    assert_ok(fetch(&r, &fd, "/to//echo", NULL)); // by way of a cookie
    assert_ok(file_read_fd(&text, &size, fd, "echo", 4096));
    assert_non_null(strstr(text, "User-Agent: sightd/"));
    const char *const never[] = {"Cookie", "Referer", "Accept-Encoding", "Authorization", "Proxy", "http://127"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) assert_null(strstr(text, never[i]));
    free(text);
    close(fd);
    rules_done(&r);
}

static void what_is_too_large_is_not_read(void **state)
{
    fetch_rules r = open_rules();
    refused(&r, "/big", SIGHT_E_LIMIT, "/big' has 100 bytes, the limit is 50");
    refused(&r, "/lies", SIGHT_E_LIMIT, "has 99999999999 bytes, the limit is 50");
    refused(&r, "/endless", SIGHT_E_LIMIT, "has more than 50 bytes, the limit");
    refused(&r, "/headers", SIGHT_E_LIMIT, "over 65536 bytes of headers");
    r.max_bytes = 100;
    int fd;
    assert_ok(fetch(&r, &fd, "/big", NULL));
    close(fd);
    rules_done(&r);
}

static void answers_that_are_none_are_named(void **state)
{
    fetch_rules r = open_rules();
    r.max_bytes = 100;
    refused(&r, "/nothing", SIGHT_E_NOT_FOUND, "/nothing' is not there (status 404)");
    refused(&r, "/status/410", SIGHT_E_NOT_FOUND, "status 410");
    refused(&r, "/status/403", SIGHT_E_PERMISSION, "is not given to this server (status 403)");
    refused(&r, "/status/500", SIGHT_E_IO, "was answered with status 500");
    refused(&r, "/status/204", SIGHT_E_IO, "status 204");
    refused(&r, "/status/206", SIGHT_E_IO, "status 206");
    refused(&r, "/status/304", SIGHT_E_IO, "status 304");
    refused(&r, "/status/302", SIGHT_E_IO, "status 302"); // without saying where to
    refused(&r, "/cut", SIGHT_E_IO, "ended after 5 bytes, before it was whole");
    refused(&r, "/cut-chunk", SIGHT_E_IO, "ended after 2 bytes");
    refused(&r, "/silent", SIGHT_E_IO, "without an answer");
    refused(&r, "/noise", SIGHT_E_IO, "cannot be fetched");
    refused(&r, "/gzip", SIGHT_E_UNSUPPORTED, "Content-Encoding 'gzip', which was not asked for");
    refused(&r, "http://localhost:1/", SIGHT_E_IO, "cannot be fetched");
    rules_done(&r);
}

static void redirects_are_urls_like_the_first(void **state)
{
    fetch_rules r = open_rules();
    char text[256];
    gives(&r, "/to//ok", "hello");
    gives(&r, "/to/../ok", "hello");
    snprintf(text, sizeof text, "/to/http://localhost:%d/to//ok", server.port);
    gives(&r, text, "hello");
    refused(&r, "/loop", SIGHT_E_LIMIT, "was redirected over 3 times (url-redirects)");
    refused(&r, "/to//to//to//to//ok", SIGHT_E_LIMIT, "over 3 times");
    gives(&r, "/to//to//to//ok", "hello");
    refused(&r, "/to/http://evil.example/x", SIGHT_E_PERMISSION, "'evil.example' port 80 is not among the server's url-hosts");
    assert_non_null(strstr(sight_error(), "was redirected: "));
    refused(&r, "/to/http://127.0.0.1:1/x", SIGHT_E_PERMISSION, "port 1 is not among");
    refused(&r, "/to///evil.example/x", SIGHT_E_PERMISSION, "'evil.example'");
    refused(&r, "/to/file:///etc/passwd", SIGHT_E_UNSUPPORTED, "only http:// and https://");
    refused(&r, "/to/gopher://127.0.0.1:70/x", SIGHT_E_UNSUPPORTED, "only http:// and https://");
    snprintf(text, sizeof text, "/to/http://localhost:%d@evil.example/x", server.port);
    refused(&r, text, SIGHT_E_ARGUMENT, "names a user");
    r.redirects = 0;
    refused(&r, "/to//ok", SIGHT_E_LIMIT, "over 0 times");
    rules_done(&r);
}

static void only_public_addresses_are_connected_to(void **state)
{
    fetch_rules r = open_rules();
    const int asked = atomic_load(&server.asked);
    char text[128];
    r.not_public = false;
    refused(&r, "/ok", SIGHT_E_PERMISSION, "'127.0.0.1' is at an address that is loopback (see url-private)");
    snprintf(text, sizeof text, "http://localhost:%d/ok", server.port);
    refused(&r, text, SIGHT_E_PERMISSION, "'localhost' is at an address that is loopback"); // whatever a name resolves to
    const char *any[] = {"* [::1] [::ffff:127.0.0.1] [64:ff9b::7f00:1] [fe80::1]"};
    url_hosts *h = NULL;
    rules_done(&r);
    assert_ok(url_hosts_create(&h, any, 1, "url-hosts"));
    r.hosts = h;
    const struct {
        const char *text, *kind;
    } cases[] = {{"http://10.1.2.3/", "private"}, {"http://169.254.169.254/latest/meta-data", "link-local"},
                 {"http://[::ffff:127.0.0.1]/", "loopback"}, {"http://[64:ff9b::7f00:1]/", "loopback"},
                 {"http://0.0.0.0/", "of this network"}, {"https://192.168.0.1/", "private"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refused(&r, cases[i].text, SIGHT_E_PERMISSION, cases[i].kind);
    assert_int_equal(atomic_load(&server.asked), asked);
    rules_done(&r);
}

static void hosts_that_are_not_listed_are_not_asked(void **state)
{
    fetch_rules r = open_rules();
    const int asked = atomic_load(&server.asked);
    refused(&r, "http://evil.example/", SIGHT_E_PERMISSION, "'evil.example' port 80 is not among");
    refused(&r, "http://127.0.0.2:80/", SIGHT_E_PERMISSION, "is not among");
    refused(&r, "http://localhost/", SIGHT_E_PERMISSION, "port 80 is not among");
    assert_int_equal(atomic_load(&server.asked), asked);
    rules_done(&r);
}

static void slow_servers_are_not_waited_for(void **state)
{
    fetch_rules r = open_rules();
    r.max_bytes = 1000;
    r.timeout_s = 0.3;
    refused(&r, "/hang", SIGHT_E_TIMEOUT, "took longer than 0.3 s, the server's limit (url-timeout)");
    refused(&r, "/drip", SIGHT_E_TIMEOUT, "took longer than 0.3 s");
    r.timeout_s = 60;
    r.slow_s = 1;
    refused(&r, "/drip", SIGHT_E_TIMEOUT, "came slower than 1000 bytes a second for 1 s");
    refused(&r, "/hang", SIGHT_E_TIMEOUT, "did not answer in time");
    rules_done(&r);
}

// ---- https, by the openssl program ----

static pid_t run_openssl(char *const *argv, const char *folder)
{
    const pid_t pid = fork();
    if (pid) return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int null = open("/dev/null", O_RDWR);
    for (int i = 0; i < 3; i++) dup2(null, i);
    if (chdir(folder)) _exit(126);
    execvp(argv[0], argv);
    _exit(127);
}

static bool make_certificate(const char *folder)
{
    char *argv[] = {(char *)"openssl", (char *)"req", (char *)"-x509", (char *)"-newkey", (char *)"rsa:2048", (char *)"-nodes",
                    (char *)"-keyout", (char *)"key.pem", (char *)"-out", (char *)"cert.pem", (char *)"-days", (char *)"2",
                    (char *)"-subj", (char *)"/CN=localhost", (char *)"-addext", (char *)"subjectAltName=DNS:localhost", NULL};
    int status;
    waitpid(run_openssl(argv, folder), &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Serves files that hold whole answers, headers and all.
static pid_t serve_tls(char *folder, int *port)
{
    char at[40];
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, size) | getsockname(fd, (struct sockaddr *)&a, &size), 0);
    close(fd);
    *port = ntohs(a.sin_port);
    snprintf(at, sizeof at, "127.0.0.1:%d", *port);
    char *argv[] = {(char *)"openssl", (char *)"s_server", (char *)"-accept", at, (char *)"-cert", (char *)"cert.pem", (char *)"-key",
                    (char *)"key.pem", (char *)"-HTTP", (char *)"-quiet", NULL};
    return run_openssl(argv, folder);
}

static bool wait_listening(int port)
{
    const struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons((uint16_t)port)};
    for (int i = 0; i < 2000; i++) {
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        const bool good = !connect(fd, (const struct sockaddr *)&a, sizeof a);
        close(fd);
        if (good) return true;
        web_sleep(5);
    }
    return false;
}

static void certificates_are_checked(void **state)
{
    char folder[200], own[64], text[400], cert[256];
    const char *items[] = {own};
    int port;
    snprintf(folder, sizeof folder, "%s", test_folder());
    if (!make_certificate(folder)) {
        print_message("skipped: no openssl program that makes a certificate\n");
        skip();
    }
    const pid_t pid = serve_tls(folder, &port);
    const bool listens = wait_listening(port);
    fetch_rules r = open_rules();
    rules_done(&r);
    url_hosts *h = NULL;
    snprintf(own, sizeof own, "localhost:%d 127.0.0.1:%d %s:%d", port, port, "127.0.0.1", server.port);
    assert_ok(url_hosts_create(&h, items, 1, "url-hosts"));
    r.hosts = h;
    free(test_write(folder, "ok", "HTTP/1.0 200 OK\r\n\r\nhello", 24));
    snprintf(text, sizeof text, "HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:%d/ok\r\n\r\n", server.port);
    free(test_write(folder, "down", text, strlen(text)));
    snprintf(cert, sizeof cert, "%s/cert.pem", folder);
    if (listens) {
        snprintf(text, sizeof text, "https://localhost:%d/ok", port);
        refused(&r, text, SIGHT_E_IO, "cannot be fetched: "); // nobody has signed it
        r.ca_file = cert;
        gives(&r, text, "hello");
        snprintf(text, sizeof text, "https://127.0.0.1:%d/ok", port);
        refused(&r, text, SIGHT_E_IO, "cannot be fetched: "); // it is another's
        snprintf(text, sizeof text, "https://localhost:%d/down", port);
        refused(&r, text, SIGHT_E_PERMISSION, "it leads from https to 'http://127.0.0.1");
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    rules_done(&r);
    assert_true(listens);
}

// ---- who waits ----

typedef struct seen {
    atomic_bool cancel;
    int64_t bytes, total, most;
} seen;

static bool is_cancelled(void *arg)
{
    return atomic_load(&((seen *)arg)->cancel);
}

static sight_err count(void *arg, int64_t bytes, int64_t total)
{
    seen *s = arg;
    s->bytes += bytes;
    s->total = total;
    if (s->bytes > s->most) return sight_fail(SIGHT_E_BUSY, "enough");
    return SIGHT_OK;
}

static void who_waits_hears_of_it_and_can_end_it(void **state)
{
    fetch_rules r = open_rules();
    seen s = {.most = 100};
    const fetch_watch w = {is_cancelled, count, &s};
    int fd;
    assert_ok(fetch(&r, &fd, "/ok", &w));
    assert_int_equal(s.bytes, 5);
    assert_int_equal(s.total, 5);
    close(fd);
    assert_ok(fetch(&r, &fd, "/close", &w));
    assert_int_equal(s.total, -1);
    close(fd);
    s.most = 11;
    assert_fails(fetch(&r, &fd, "/ok", &w), SIGHT_E_BUSY, "enough");
    atomic_store(&s.cancel, true);
    assert_fails(fetch(&r, &fd, "/hang", &w), SIGHT_E_CANCELLED, "the request was cancelled");
    rules_done(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bodies_come_whole_and_sealed),
        cmocka_unit_test(nothing_of_this_machine_is_told),
        cmocka_unit_test(what_is_too_large_is_not_read),
        cmocka_unit_test(answers_that_are_none_are_named),
        cmocka_unit_test(redirects_are_urls_like_the_first),
        cmocka_unit_test(only_public_addresses_are_connected_to),
        cmocka_unit_test(hosts_that_are_not_listed_are_not_asked),
        cmocka_unit_test(slow_servers_are_not_waited_for),
        cmocka_unit_test(certificates_are_checked),
        cmocka_unit_test(who_waits_hears_of_it_and_can_end_it),
    };
    return cmocka_run_group_tests_name("daemon/media/fetch", tests, set_up, tear_down);
}
