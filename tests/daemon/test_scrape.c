// The endpoint for monitors, as a monitor sees it.
#include "support/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/watch/metrics.h"
#include "daemon/watch/scrape.h"

static metrics *counted;
static atomic_bool well = true;

static void write_metrics(void *arg, buf *out)
{
    metrics_write(counted, out);
}

static bool write_health(void *arg, buf *out)
{
    buf_puts(out, atomic_load(&well) ? "ok\n" : "stuck\n");
    return atomic_load(&well);
}

static const scrape_source source = {write_metrics, write_health, NULL};

static scrape *open_any(void)
{
    scrape *s;
    assert_ok(scrape_open(&s, "127.0.0.1:0", &source));
    return s;
}

static int dial(const scrape *s)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const char *colon = strrchr(scrape_address(s), ':');
    assert_non_null(colon);
    a.sin_port = htons((uint16_t)atoi(colon + 1));
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    const struct timeval limit = {20, 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

// What comes back for these bytes, up to the end of the connection.
static const char *talk(const scrape *s, const char *bytes, size_t n)
{
    static char got[1 << 20];
    const int fd = dial(s);
    assert_int_equal(send(fd, bytes, n, MSG_NOSIGNAL), (ssize_t)n);
    size_t size = 0;
    for (ssize_t r; (r = recv(fd, got + size, sizeof got - 1 - size, 0)) > 0;) size += (size_t)r;
    got[size] = 0;
    close(fd);
    return got;
}

// Says that, waits for nothing. It may be answered and closed before all is sent.
static void toss(const scrape *s, const char *bytes, size_t n)
{
    const int fd = dial(s);
    assert_true(send(fd, bytes, n, MSG_NOSIGNAL) != 0);
    close(fd);
}

static const char *get(const scrape *s, const char *line)
{
    char request[256];
    const int n = snprintf(request, sizeof request, "%s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", line);
    return talk(s, request, (size_t)n);
}

static void expect_status(const char *got, const char *status)
{
    if (strncmp(got, status, strlen(status))) fail_msg("'%.60s' does not begin with '%s'", got, status);
}

static void metrics_are_served_as_text(void **state)
{
    scrape *s = open_any();
    metrics_add(counted, METRIC_EVENTS, 3);
    const char *got = get(s, "GET /metrics");
    expect_status(got, "HTTP/1.1 200 ");
    assert_non_null(strstr(got, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    assert_non_null(strstr(got, "\nsightd_events_total 3\n"));
    scrape_close(&s);
    assert_null(s);
}

static void health_has_its_status(void **state)
{
    scrape *s = open_any();
    const char *got = get(s, "GET /healthz");
    expect_status(got, "HTTP/1.1 200 ");
    assert_non_null(strstr(got, "\r\n\r\nok\n"));
    atomic_store(&well, false);
    got = get(s, "GET /healthz");
    expect_status(got, "HTTP/1.1 503 ");
    assert_non_null(strstr(got, "\r\n\r\nstuck\n"));
    atomic_store(&well, true);
    scrape_close(&s);
}

static void nothing_else_is_served(void **state)
{
    static const char *const paths[] = {"GET /", "GET /metrics/", "GET /metric", "GET /../metrics", "GET /etc/passwd",
                                        "GET //metrics", "GET /healthz/x"};
    static const char *const methods[] = {"POST /metrics", "PUT /metrics", "DELETE /healthz", "HEAD /metrics",
                                          "OPTIONS /", "BREW /metrics"};
    scrape *s = open_any();
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) expect_status(get(s, paths[i]), "HTTP/1.1 404 ");
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        const char *got = get(s, methods[i]);
        expect_status(got, "HTTP/1.1 405 ");
        assert_non_null(strstr(got, "Allow: GET\r\n"));
    }
    expect_status(get(s, "GET /metrics?x=1"), "HTTP/1.1 200 "); // monitors may add such
    scrape_close(&s);
}

static void nonsense_is_no_trouble(void **state)
{
    scrape *s = open_any();
    char long_head[100000];
    memset(long_head, 'a', sizeof long_head);
    memcpy(long_head, "GET /", 5);
    toss(s, "\r\n\r\n\0\xff\xff HTTP/9 \n\n", 18);
    toss(s, long_head, sizeof long_head);
    talk(s, "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999\r\n\r\n", 73);
    expect_status(get(s, "GET /healthz"), "HTTP/1.1 200 ");
    scrape_close(&s);
}

// Some hang at half a request and one does not read: others are served meanwhile, and closing waits for none.
static void slow_ones_hold_up_nobody(void **state)
{
    scrape *s = open_any();
    int slow[SCRAPE_CONNECTIONS - 2];
    const int n = (int)(sizeof slow / sizeof *slow);
    for (int i = 0; i < n; i++) {
        slow[i] = dial(s);
        assert_true(send(slow[i], "GET /metrics HT", 15, MSG_NOSIGNAL) == 15);
    }
    const char *whole = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_true(send(slow[0], whole + 15, strlen(whole) - 15, MSG_NOSIGNAL) > 0); // and never reads
    for (int i = 0; i < 20; i++) expect_status(get(s, "GET /metrics"), "HTTP/1.1 200 ");
    scrape_close(&s);
    for (int i = 0; i < n; i++) close(slow[i]);
}

static void addresses_are_checked(void **state)
{
    static const char *const good[] = {"9464", "127.0.0.1:9464", "[::1]:9464", "localhost:1", "0.0.0.0:80", "10.0.0.1:65535"};
    static const char *const bad[] = {"", "x", ":9464", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "host:9464", "::1:9464",
                                      "[::1]", "[zz]:1", "127.0.0.1:9464 ", "127.0.0.1:-1", "1e3", "http://127.0.0.1:1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_ok(scrape_check(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_fails(scrape_check(bad[i]), SIGHT_E_ARGUMENT, "metrics is '");
    }
    assert_true(scrape_is_local("9464") && scrape_is_local("127.3.2.1:1") && scrape_is_local("[::1]:1"));
    assert_false(scrape_is_local("0.0.0.0:1") || scrape_is_local("[::]:1") || scrape_is_local("10.0.0.1:1"));
    assert_true(scrape_same("9464", "127.0.0.1:9464") && scrape_same("localhost:1", "127.0.0.1:1") && scrape_same(NULL, NULL));
    assert_false(scrape_same("9464", "9465") || scrape_same("[::1]:1", "127.0.0.1:1") || scrape_same("9464", NULL));
    scrape *s = open_any(), *second = NULL;
    assert_int_equal(strncmp(scrape_address(s), "127.0.0.1:", 10), 0);
    assert_fails(scrape_open(&second, scrape_address(s), &source), SIGHT_E_BUSY, "cannot serve metrics at '127.0.0.1:");
    assert_null(second);
    scrape_close(&s);
    scrape_close(&s); // nothing
}

static int set_up(void **state)
{
    return metrics_create(&counted);
}

static int tear_down(void **state)
{
    metrics_destroy(&counted);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(metrics_are_served_as_text),
        cmocka_unit_test(health_has_its_status),
        cmocka_unit_test(nothing_else_is_served),
        cmocka_unit_test(nonsense_is_no_trouble),
        cmocka_unit_test(slow_ones_hold_up_nobody),
        cmocka_unit_test(addresses_are_checked),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
