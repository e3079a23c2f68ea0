// tests/daemon/running.h - a sightd of this build, started for a test on a socket of its own.
#ifndef TESTS_DAEMON_RUNNING_H
#define TESTS_DAEMON_RUNNING_H

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <jansson.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "sight/client.h"
#include "support/test.h"

#define GOLDEN TEST_GOLDEN_DIR "/hybrid"

typedef struct running {
    char folder[128], endpoint[200], log[200];
    pid_t pid;
} running;

static inline void pause_ms(int ms)
{
    const struct timespec t = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

// A copy of the golden model whose answers never end by themselves: its end token has no text, so
// that it is never drawn.
static inline void endless_model(char *out, size_t size)
{
    snprintf(out, size, "%s", test_folder());
    DIR *d = opendir(GOLDEN "/model");
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.' || !strcmp(e->d_name, "generation_config.json")) continue;
        char from[512], to[512];
        snprintf(from, sizeof from, GOLDEN "/model/%s", e->d_name);
        snprintf(to, sizeof to, "%s/%s", out, e->d_name);
        assert_int_equal(symlink(from, to), 0);
    }
    closedir(d);
    const char *config = "{\"eos_token_id\": [2055], \"do_sample\": false}";
    free(test_write(out, "generation_config.json", config, strlen(config)));
}

// Starts sightd --endpoint ... with more arguments (NULL-ended); does not wait for it.
static inline void daemon_spawn(running *r, const char *const *more)
{
    const char *argv[32] = {TEST_BINARY_DIR "/sightd", "--endpoint", r->endpoint};
    int n = 3;
    for (int i = 0; more && more[i]; i++)
        argv[n++] = more[i];
    r->pid = fork();
    assert_true(r->pid >= 0);
    if (r->pid) return;
    prctl(PR_SET_PDEATHSIG, SIGKILL); // a test that fails leaves nothing running
    const int log = open(r->log, O_CREAT | O_WRONLY | O_APPEND, 0600);
    dup2(log, 1);
    dup2(log, 2);
    setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
    execv(argv[0], (char *const *)argv);
    _exit(127);
}

static inline void daemon_prepare(running *r)
{
    snprintf(r->folder, sizeof r->folder, "%s", test_folder());
    snprintf(r->endpoint, sizeof r->endpoint, "ipc://%s/run/s.sock", r->folder);
    snprintf(r->log, sizeof r->log, "%s/log", r->folder);
}

static inline const char *endpoint_file(const running *r)
{
    return r->endpoint + strlen("ipc://");
}

// A loopback TCP port that nothing listens at: below those that connections are given, so that no other program is handed
// it before it is used.
static inline int free_port(void)
{
    static int tried;
    for (int i = 0; i < 1000; i++) {
        const int port = 10000 + ((int)getpid() * 17 + 101 * tried++) % 5900;
        const struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        const int fd = socket(AF_INET, SOCK_STREAM, 0);
        const bool bound = bind(fd, (const struct sockaddr *)&at, sizeof at) == 0;
        close(fd);
        if (bound) return port;
    }
    fail_msg("no free port");
    return 0;
}

static inline void daemon_start(running *r, const char *const *more)
{
    daemon_prepare(r);
    daemon_spawn(r, more);
}

static inline sight_client *daemon_connect(const running *r)
{
    sight_client *c;
    assert_ok(sight_client_connect(&c, r->endpoint, 60000));
    return c;
}

// Waits for its end and gives the exit code, -1 for a death by signal.
static inline int daemon_wait(running *r, double seconds)
{
    const double start = clock_now_s();
    int status;
    while (waitpid(r->pid, &status, WNOHANG) == 0) {
        if (clock_now_s() - start > seconds) {
            kill(r->pid, SIGKILL);
            waitpid(r->pid, &status, 0);
            fail_msg("sightd did not end within %g s", seconds);
        }
        pause_ms(5);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline void daemon_stop(running *r)
{
    kill(r->pid, SIGTERM);
    assert_int_equal(daemon_wait(r, 30), 0);
}

static inline bool daemon_logged(const running *r, const char *text)
{
    static char log[1 << 16];
    FILE *f = fopen(r->log, "r");
    if (!f) return false;
    log[fread(log, 1, sizeof log - 1, f)] = 0;
    fclose(f);
    return strstr(log, text) != NULL;
}

// The next event of that request, others dropped; fails the test after 60 s.
static inline json_t *next_event(sight_client *c, const char *id, sight_event_kind *kind)
{
    for (;;) {
        sight_event e;
        assert_ok(sight_client_next(c, &e, 60000));
        if (strcmp(e.id, id)) continue;
        *kind = e.kind;
        json_t *body = json_loadb(e.json, e.json_size, 0, NULL);
        assert_non_null(body);
        return body;
    }
}

// Reads events until one of that kind; an end of another kind fails the test.
static inline json_t *wait_event(sight_client *c, const char *id, sight_event_kind wanted)
{
    for (;;) {
        sight_event_kind kind;
        json_t *body = next_event(c, id, &kind);
        if (kind == wanted) return body;
        char *text = json_dumps(body, 0);
        if (kind == SIGHT_DONE || kind == SIGHT_ERROR) {
            fail_msg("%s ended with %s %s", id, sight_event_name(kind), text);
        }
        free(text);
        json_decref(body);
    }
}

static inline const char *text_at(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

// How a request ends: `done`, with the deltas joined under "text", or `error`. Fails the test after 60 s without an event.
static inline json_t *end_of(sight_client *c, const char *id, sight_event_kind *kind)
{
    char text[8192] = "";
    for (;;) {
        json_t *body = next_event(c, id, kind);
        if (*kind == SIGHT_DELTA) strncat(text, text_at(body, "text"), sizeof text - 1 - strlen(text));
        if (*kind == SIGHT_DONE) json_object_set_new(body, "text", json_string(text));
        if (*kind == SIGHT_DONE || *kind == SIGHT_ERROR) return body;
        json_decref(body);
    }
}

static inline json_t *ask_to_end(sight_client *c, const char *json, sight_event_kind *kind)
{
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, json, NULL, 0));
    return end_of(c, id, kind);
}

// Fails the test unless a request ended so; code may be NULL for any, or have what it is about behind it: "permission medium".
static inline void assert_refused(const json_t *end, sight_event_kind kind, const char *code, const char *says)
{
    char is[96];
    const bool with_about = code && strchr(code, ' ');
    snprintf(is, sizeof is, "%s%s%s", text_at(end, "code"), with_about ? " " : "", with_about ? text_at(end, "about") : "");
    assert_int_equal(kind, SIGHT_ERROR);
    if (code) assert_string_equal(is, code);
    if (!strstr(text_at(end, "message"), says)) fail_msg("'%s' does not say '%s'", text_at(end, "message"), says);
}

static inline json_t *get_status(sight_client *c)
{
    char *reply;
    assert_ok(sight_client_call(c, &reply, SIGHT_STATUS, NULL, NULL, 0, 30000));
    json_t *status = json_loads(reply, 0, NULL);
    free(reply);
    assert_non_null(status);
    return status;
}

static inline size_t count_requests(sight_client *c)
{
    json_t *status = get_status(c);
    const size_t n = json_array_size(json_object_get(status, "requests"));
    json_decref(status);
    return n;
}

#endif
