// Children that do what they must not, or nothing, or lie: this program is its own decoder program, whose children do
// what the medium's bytes tell them, under the confinement that the real ones have.
#define _GNU_SOURCE // syscalls by number
#include "support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <seccomp.h>

#include "decoder/confine.h"
#include "decoder/confine_filter.h"
#include "decoder/decoders.h"
#include "decoder/image.h"
#include "decoder/job.h"
#include "decoder/keeper.h"
#include "decoder/video.h"

// ---- the children ----

static void say(const reply *r, const char *text)
{
    job_send(KEEPER_SOCKET, r, sizeof *r, text, text ? strlen(text) : 0, NULL, 0, 0);
}

static void tell(const char *format, long long value)
{
    char text[200];
    const reply r = {.kind = REPLY_ERROR, .code = SIGHT_E_MEDIA};
    snprintf(text, sizeof text, format, value);
    say(&r, text);
}

static void frame_of(int32_t number, int32_t slot, int32_t width, int32_t height)
{
    const reply r = {.kind = REPLY_FRAME, .number = number, .slot = slot, .width = width, .height = height};
    say(&r, NULL);
}

static void picture(void)
{
    const reply r = {.kind = REPLY_PICTURE, .width = 8, .height = 8, .format = "png"};
    say(&r, NULL);
}

static void done(void)
{
    const reply r = {.kind = REPLY_DONE};
    say(&r, NULL);
}

static void *idle(void *arg)
{
    return arg;
}

static void *spin(void *arg)
{
    for (;;) continue;
    return arg;
}

static long long exhaust(void)
{
    long long mib = 0;
    for (; mib < 4096; mib++) {
        char *p = malloc(1 << 20);
        if (!p) break;
        memset(p, 1, 1 << 20);
    }
    return mib;
}

static void do_system(const char *what)
{
    if (!strcmp(what, "open")) tell("open gave %lld", open("/etc/passwd", O_RDONLY) < 0 ? errno : 0);
    if (!strcmp(what, "socket")) tell("socket gave %lld", socket(AF_INET, SOCK_STREAM, 0));
    if (!strcmp(what, "fork")) tell("fork gave %lld", fork());
    if (!strcmp(what, "execve")) tell("execve gave %lld", execl("/bin/true", "true", NULL));
    if (!strcmp(what, "kill")) tell("kill gave %lld", kill(1, 0));
    if (!strcmp(what, "ptrace")) tell("ptrace gave %lld", syscall(SYS_ptrace, 16, 1, 0, 0));
    if (!strcmp(what, "unshare")) tell("unshare gave %lld", syscall(SYS_unshare, 0x10000000));
    if (!strcmp(what, "memfd")) tell("memfd gave %lld", syscall(SYS_memfd_create, "x", 0));
    if (!strcmp(what, "io_uring")) tell("io_uring gave %lld", syscall(425, 8, NULL));
    if (!strcmp(what, "code")) {
        tell("code gave %lld", mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    }
    if (!strcmp(what, "hidden")) {
        tell("hidden gave %lld", mmap(NULL, 4096, PROT_READ, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED);
    }
    if (!strcmp(what, "threads")) {
        pthread_t t;
        const int failed = pthread_create(&t, NULL, idle, NULL);
        if (!failed) pthread_join(t, NULL);
        tell("threads gave %lld", failed);
    }
    if (!strcmp(what, "memory")) tell("%lld MiB", exhaust());
    if (!strcmp(what, "files")) {
        int n = 0;
        for (int fd = 0; fd < 1000; fd++) n += lseek(fd, 0, SEEK_CUR) >= 0 || errno != EBADF;
        tell("%lld files", n);
    }
    if (!strcmp(what, "environment")) {
        long long n = 0;
        for (char **v = environ; v && *v; v++) n += strncmp(*v, "LD_", 3) && !strstr(*v, "SAN_OPTIONS=");
        tell("%lld variables", n);
    }
    if (!strcmp(what, "crash")) raise(SIGSEGV);
    if (!strcmp(what, "fault")) *(volatile int *)(uintptr_t)strtoul("8", NULL, 10) = 1;
    if (!strcmp(what, "leave")) _exit(3);
    pthread_t other;
    if (!strcmp(what, "spin-twice")) pthread_create(&other, NULL, spin, NULL);
    while (!strncmp(what, "spin", 4)) continue;
    if (!strcmp(what, "hang")) prctl(PR_SET_NAME, "hanging");
    while (!strcmp(what, "hang")) poll(NULL, 0, 1000);
}

// The first of two children that get the same slot hangs, the second finds its mark there.
static void hang_once(int slot)
{
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, slot, 0);
    if (p == MAP_FAILED) _exit(7);
    if (!*p) {
        *p = 1;
        do_system("hang");
    }
    picture(), frame_of(0, 0, 16, 16), done();
}

static void do_lies(const char *what)
{
    reply r = {.kind = REPLY_ERROR, .code = SIGHT_E_MEDIA};
    if (!strcmp(what, "short")) job_send(KEEPER_SOCKET, "x", 1, NULL, 0, NULL, 0, 0);
    if (!strcmp(what, "code-ok")) r.code = SIGHT_OK, say(&r, "fine");
    if (!strcmp(what, "code-cancelled")) r.code = SIGHT_E_CANCELLED, say(&r, "no");
    if (!strcmp(what, "code-wild")) r.code = 12345, say(&r, "no");
    if (!strcmp(what, "wordless")) say(&r, NULL);
    if (!strcmp(what, "kind")) r.kind = 77, say(&r, NULL);
    if (!strcmp(what, "terminal")) say(&r, "\033[2Jred \xff\xc3( \xc3\xa9\n");
    if (!strcmp(what, "no-size")) r.kind = REPLY_PICTURE, r.width = -5, r.height = 4, strcpy(r.format, "png"), say(&r, NULL);
    if (!strcmp(what, "no-end")) r.kind = REPLY_PICTURE, r.width = r.height = 4, memset(r.format, 'a', 16), say(&r, NULL);
    if (!strcmp(what, "early")) picture(), done();
    if (!strcmp(what, "slot")) picture(), frame_of(0, 1, 16, 16);
    if (!strcmp(what, "number")) picture(), frame_of(7, 0, 16, 16);
    if (!strcmp(what, "size")) picture(), frame_of(0, 0, 4096, 4096);
    if (!strcmp(what, "twice")) picture(), frame_of(0, 0, 16, 16), frame_of(0, 0, 16, 16);
    if (!strcmp(what, "order")) frame_of(0, 0, 16, 16);
    if (!strcmp(what, "good")) picture(), frame_of(0, 0, 16, 16), done();
    r.kind = REPLY_STATE;
    if (!strcmp(what, "state")) say(&r, "this is no state of a clip"), done();
    if (!strcmp(what, "empty-state")) done();
    r.kind = REPLY_ALIVE;
    while (!strcmp(what, "alive")) say(&r, NULL), poll(NULL, 0, 20);
}

static void misbehave(int socket, uint32_t layers)
{
    static job j;
    int fds[3], n = 3;
    char what[64] = "";
    const reply ready = {.kind = REPLY_READY, .code = layers};
    say(&ready, NULL);
    if (job_receive(socket, &j, sizeof j, fds, &n, 0) != (long)sizeof j || n < 1) _exit(9);
    if (pread(fds[0], what, sizeof what - 1, 0) < 1) _exit(8);
    do_system(what);
    if (!strcmp(what, "hang-once")) hang_once(fds[1]);
    do_lies(what);
}

// ---- the daemon's side ----

static decoders *children;

static const decoders_options usual = {.program = "/proc/self/exe", .memory_bytes = 64 << 20, .seconds = 60,
                                       .silence_s = 60, .most = 4};

static int open_children(void **state)
{
    assert_int_equal(setenv("SECRET", "word", 1), 0); // which they must not have
    assert_ok(decoders_create(&children, &usual));
    return 0;
}

static int close_children(void **state)
{
    decoders_destroy(&children);
    return 0;
}

static sight_err ask(const char *what)
{
    const image_limits limits = {.decoders = children};
    frame *f = NULL;
    image_info info;
    sight_err err = image_read(&f, &info, what, strlen(what), "a.png", 16, 16, &limits);
    frame_unref(&f);
    return err;
}

static void assert_says(const char *what, sight_err code, const char *text)
{
    sight_err err = ask(what);
    if (err != code || !strstr(sight_error(), text)) {
        fail_msg("%s: %s '%s', not %s '%s'", what, sight_err_name(err), sight_error(), sight_err_name(code), text);
    }
}

static void test_what_is_forbidden(void **state)
{
    if (!decoders_get_status(children).seccomp) skip();
    assert_says("open", SIGHT_E_MEDIA, "open gave 13");
    static const char *const ended[] = {"socket", "fork", "execve", "ptrace", "unshare", "memfd", "io_uring"};
    for (size_t i = 0; i < sizeof ended / sizeof *ended; i++) assert_says(ended[i], SIGHT_E_MEDIA, "SIGSYS");
#ifndef CONFINE_SANITIZED
    static const char *const also[] = {"kill", "code", "hidden"};
    for (size_t i = 0; i < sizeof also / sizeof *also; i++) assert_says(also[i], SIGHT_E_MEDIA, "SIGSYS");
#endif
    assert_says("threads", SIGHT_E_MEDIA, "threads gave 0");
}

static void test_what_a_child_has(void **state)
{
    assert_says("environment", SIGHT_E_MEDIA, "0 variables");
    assert_says("files", SIGHT_E_MEDIA, "6 files"); // 0, 1, 2, its socket, the medium, the slot
}

static void test_limits(void **state)
{
#ifndef CONFINE_SANITIZED
    int mib = 0;
    assert_int_equal(ask("memory"), SIGHT_E_MEDIA);
    assert_int_equal(sscanf(sight_error(), "%d", &mib), 1);
    assert_true(mib >= 32 && mib <= 64);
#endif
}

// The same question to children with other limits.
static void assert_says_within(double seconds, double silence_s, const char *what, const char *text)
{
    decoders_options o = usual;
    decoders *own = NULL, *before = children;
    o.seconds = seconds;
    o.silence_s = silence_s;
    assert_ok(decoders_create(&own, &o));
    children = own;
    assert_says(what, SIGHT_E_TIMEOUT, text);
    assert_int_equal(decoders_get_status(own).timed_out, 1);
    children = before;
    decoders_destroy(&own);
}

static void test_times(void **state)
{
    assert_says_within(60, 0.3, "hang", "silent for 0.3 s, the limit (decoder-timeout), while reading 'a.png'");
    assert_says_within(1, 60, "alive", "reading 'a.png' took over 1 s of waiting, the limit (decoder-seconds)");
    assert_says_within(1, 60, "spin", "the limit (decoder-seconds)"); // the kernel's second or the daemon's
    assert_says_within(1, 60, "spin-twice", "the limit (decoder-seconds)"); // the kernel's, where there are two processors
}

static void test_ends(void **state)
{
#ifndef CONFINE_SANITIZED // they answer signals themselves
    assert_says("fault", SIGHT_E_MEDIA, "the decoder ended on signal 11 while reading 'a.png'");
#endif
    assert_says("leave", SIGHT_E_MEDIA, "ended without a word (3) while reading 'a.png'");
    assert_ok(ask("good"));
}

static void test_lies(void **state)
{
    static const char *const lies[] = {"short",  "code-ok", "code-cancelled", "code-wild", "wordless", "kind",   "no-size",
                                       "no-end", "early",   "slot",           "number",    "size",     "twice", "order"};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        assert_says(lies[i], SIGHT_E_MEDIA, "the decoder talked nonsense while reading 'a.png'");
    }
    assert_says("terminal", SIGHT_E_MEDIA, "?[2Jred ?" "?( \xc3\xa9?");
    const decoders_status s = decoders_get_status(children);
    assert_int_equal(s.working, 0);
    assert_true(s.crashed >= 14);
}

static void test_lies_of_clips(void **state)
{
    const video_limits limits = {.decoders = children};
    video *v = NULL;
    static const char *const lies[] = {"state", "empty-state"};
    for (int i = 0; i < 2; i++) {
        sight_err err = video_open(&v, "a.mp4", lies[i], strlen(lies[i]), NULL, &limits);
        assert_int_equal(err, SIGHT_E_MEDIA);
        assert_non_null(strstr(sight_error(), "tells of a clip that cannot be"));
    }
    assert_int_equal(video_open(&v, "a.mp4", "order", 5, NULL, &limits), SIGHT_E_MEDIA);
    assert_non_null(strstr(sight_error(), "nonsense"));
    assert_null(v);
}

// ---- from outside ----

typedef struct question {
    const char *what;
    atomic_bool stop;
    sight_err err;
    char line[1024];
} question;

static bool is_stopped(void *arg)
{
    return atomic_load(&((question *)arg)->stop);
}

static decoders *patient;

static void *ask_apart(void *arg)
{
    question *q = arg;
    const image_limits limits = {.decoders = patient, .stop = is_stopped, .stop_arg = q};
    image_info info;
    frame *f = NULL;
    q->err = image_read(&f, &info, q->what, strlen(q->what), "b.png", 16, 16, &limits);
    snprintf(q->line, sizeof q->line, "%s", sight_error());
    frame_unref(&f);
    return NULL;
}

static void wait_until_working(int n)
{
    for (int i = 0; i < 4000 && decoders_get_status(patient).working != n; i++) usleep(2500);
    assert_int_equal(decoders_get_status(patient).working, n);
}

static int open_patient(void **state)
{
    const decoders_options o = {.program = "/proc/self/exe", .silence_s = 60, .seconds = 60, .most = 2, .ready = 1};
    assert_ok(decoders_create(&patient, &o));
    return 0;
}

static int close_patient(void **state)
{
    decoders_destroy(&patient);
    return 0;
}

static void test_cancel(void **state)
{
    question q[3] = {{.what = "hang"}, {.what = "spin"}, {.what = "good"}};
    pthread_t t[3];
    for (int i = 0; i < 2; i++) assert_int_equal(pthread_create(&t[i], NULL, ask_apart, &q[i]), 0);
    wait_until_working(2);
    assert_int_equal(pthread_create(&t[2], NULL, ask_apart, &q[2]), 0); // waits for a place, and gives up
    atomic_store(&q[2].stop, true);
    pthread_join(t[2], NULL);
    assert_int_equal(q[2].err, SIGHT_E_CANCELLED);
    for (int i = 0; i < 2; i++) {
        atomic_store(&q[i].stop, true);
        pthread_join(t[i], NULL);
        assert_int_equal(q[i].err, SIGHT_E_CANCELLED);
        assert_non_null(strstr(q[i].line, "reading 'b.png' was stopped"));
    }
    assert_int_equal(decoders_get_status(patient).working, 0);
}

static int children_of(int64_t keeper, long *pids, int most)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%lld/task/%lld/children", (long long)keeper, (long long)keeper);
    FILE *f = fopen(path, "r");
    if (!f) return -1;
    int n = 0;
    while (n < most && fscanf(f, "%ld", &pids[n]) == 1) n++;
    fclose(f);
    return n;
}

static void wait_until_buried(int64_t keeper, long pid)
{
    bool there = true;
    for (int i = 0; there && i < 4000; i++) {
        long pids[16];
        const int n = children_of(keeper, pids, 16);
        there = false;
        for (int k = 0; k < n; k++) there |= pids[k] == pid;
        if (there) usleep(2500);
    }
    assert_false(there);
}

// Whether it has got so far as to hang.
static bool is_hanging(long pid)
{
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%ld/comm", pid);
    FILE *f = fopen(path, "r");
    if (!f) return false;
    if (!fgets(name, sizeof name, f)) name[0] = 0;
    fclose(f);
    return !strcmp(name, "hanging\n");
}

// Waits until a child other than `before` hangs; 0: none does.
static long wait_until_hanging(long before)
{
    for (int i = 0; i < 4000; i++) {
        long pids[16];
        const int n = children_of(decoders_get_status(patient).keeper_pid, pids, 16);
        for (int k = 0; k < n; k++) {
            if (pids[k] != before && is_hanging(pids[k])) return pids[k];
        }
        usleep(2500);
    }
    return 0;
}

static bool tells_of_children(void)
{
    long pids[16];
    return children_of(decoders_get_status(patient).keeper_pid, pids, 16) >= 0;
}

static void test_killed_from_outside(void **state)
{
    if (!tells_of_children()) skip();
    question q = {.what = "hang"};
    pthread_t t;
    const int64_t crashed = decoders_get_status(patient).crashed;
    assert_int_equal(pthread_create(&t, NULL, ask_apart, &q), 0);
    const long first = wait_until_hanging(0);
    assert_true(first > 0);
    assert_int_equal(kill((pid_t)first, SIGKILL), 0);
    const long second = wait_until_hanging(first); // one more has the job
    assert_true(second > 0);
    assert_int_equal(kill((pid_t)second, SIGKILL), 0);
    pthread_join(t, NULL);
    assert_int_equal(q.err, SIGHT_E_MEDIA);
    assert_string_equal(q.line, "the decoder ended on signal 9 while reading 'b.png'");
    assert_int_equal(decoders_get_status(patient).crashed, crashed + 2);
    // Those that wait are killed too, and nobody notices.
    long pids[16];
    const int64_t keeper = decoders_get_status(patient).keeper_pid;
    const int n = children_of(keeper, pids, 16);
    for (int i = 0; i < n; i++) kill((pid_t)pids[i], SIGKILL);
    for (int i = 0; i < n; i++) wait_until_buried(keeper, pids[i]);
    question next = {.what = "good"};
    ask_apart(&next);
    assert_int_equal(next.err, SIGHT_OK);
}

static void test_killed_once(void **state)
{
    if (!tells_of_children()) skip();
    question q = {.what = "hang-once"};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, ask_apart, &q), 0);
    const long first = wait_until_hanging(0);
    assert_true(first > 0);
    assert_int_equal(kill((pid_t)first, SIGKILL), 0);
    pthread_join(t, NULL);
    if (q.err) fail_msg("%s", q.line);
    assert_int_equal(decoders_get_status(patient).working, 0);
}

static void *open_apart(void *arg)
{
    question *q = arg;
    const video_limits limits = {.decoders = patient, .stop = is_stopped, .stop_arg = q};
    video *v = NULL;
    q->err = video_open(&v, "b.mp4", q->what, strlen(q->what), NULL, &limits);
    snprintf(q->line, sizeof q->line, "%s", sight_error());
    video_close(&v);
    return NULL;
}

static void test_opening_killed(void **state)
{
    if (!tells_of_children()) skip();
    question q = {.what = "hang"};
    pthread_t t;
    long pid = 0;
    assert_int_equal(pthread_create(&t, NULL, open_apart, &q), 0);
    for (int i = 0; i < 2; i++) {
        pid = wait_until_hanging(pid);
        assert_true(pid > 0);
        assert_int_equal(kill((pid_t)pid, SIGKILL), 0);
    }
    pthread_join(t, NULL);
    assert_int_equal(q.err, SIGHT_E_MEDIA);
    assert_string_equal(q.line, "the decoder ended on signal 9 while reading 'b.mp4'");
}

static void test_keeper_killed(void **state)
{
    if (!tells_of_children()) skip();
    question q = {.what = "hang-once"}, next = {.what = "good"};
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, ask_apart, &q), 0);
    assert_true(wait_until_hanging(0) > 0);
    const int64_t keeper = decoders_get_status(patient).keeper_pid;
    kill((pid_t)keeper, SIGKILL);
    pthread_join(t, NULL);
    if (q.err) fail_msg("%s", q.line); // a child of the next keeper has read it
    assert_true(decoders_get_status(patient).keeper_pid != keeper);
    ask_apart(&next);
    assert_int_equal(next.err, SIGHT_OK);
}

static void test_stopped_from_outside(void **state)
{
    long pids[16];
    decoders_options o = usual;
    decoders *own = NULL, *before = children;
    o.silence_s = 0.5;
    o.ready = 1;
    assert_ok(decoders_create(&own, &o)); // with one child, which waits
    const int n = children_of(decoders_get_status(own).keeper_pid, pids, 16);
    if (n == 1) {
        children = own;
        kill((pid_t)pids[0], SIGSTOP);
        assert_says("good", SIGHT_E_TIMEOUT, "silent for 0.5 s");
        sight_err err = ask("good");
        for (int i = 0; err == SIGHT_E_TIMEOUT && i < 20; i++) err = ask("good"); // machines can be busy
        assert_int_equal(err, SIGHT_OK);
        children = before;
    }
    decoders_destroy(&own);
    if (n != 1) skip();
}

static void test_keeper_stopped(void **state)
{
    decoders_options o = usual;
    decoders *own = NULL, *before = children;
    o.silence_s = 0.5;
    o.ready = 1;
    assert_ok(decoders_create(&own, &o));
    const int64_t keeper = decoders_get_status(own).keeper_pid;
    children = own;
    kill((pid_t)keeper, SIGSTOP);
    sight_err err = SIGHT_OK;
    for (int i = 0; i < 5 && !err; i++) err = ask("good"); // those that waited work, the next one never comes
    assert_int_equal(err, SIGHT_E_TIMEOUT);
    for (int i = 0; i < 20 && err; i++) err = ask("good"); // machines can be busy
    assert_int_equal(err, SIGHT_OK);
    assert_true(decoders_get_status(own).keeper_pid != keeper);
    children = before;
    decoders_destroy(&own);
}

// ---- layers ----

// Each layer alone: in a process of its own, which tells by its exit code.
static int try_layers(void)
{
    confine c;
    confine_begin(&c);
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) return 1;
    if (c.layers & CONFINE_LANDLOCK) {
        if (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES) return 2;
        if (open("/tmp/x", O_CREAT | O_WRONLY, 0600) >= 0) return 3;
    }
    if (c.layers & CONFINE_NAMESPACES) {
        const struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9), .sin_addr = {htonl(INADDR_LOOPBACK)}};
        const int s = socket(AF_INET, SOCK_DGRAM, 0);
        if (s >= 0 && !connect(s, (const struct sockaddr *)&to, sizeof to)) return 4; // not even a loopback is up
        close(s);
    }
    if (!c.filter) return 77;
    const confine_limits limits = {1 << 30, 10};
    if (!(confine_child(&c, &limits) & CONFINE_SECCOMP)) return 5;
    return open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES ? 6 : 0;
}

static void test_layers(void **state)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) _exit(try_layers());
    int status;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) fail_msg("signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == 77) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void test_require(void **state)
{
    decoders_options o = usual;
    decoders *d = NULL;
    const decoders_status s = decoders_get_status(children);
    o.require = true;
    if (s.seccomp && s.landlock) {
        assert_ok(decoders_create(&d, &o));
        assert_null(decoders_warning(d));
    } else {
        assert_fails(decoders_create(&d, &o), SIGHT_E_UNSUPPORTED, "confine is 'require'");
        assert_non_null(decoders_warning(children));
    }
    decoders_destroy(&d);
}

// ---- a kernel that lacks things ----

#define LACKING "lacking" // the name under which this program takes such a one for granted

static void lack(void)
{
    scmp_filter_ctx c = seccomp_init(SCMP_ACT_ALLOW);
    seccomp_rule_add(c, SCMP_ACT_ERRNO(ENOSYS), 444, 0); // landlock_create_ruleset
    seccomp_rule_add(c, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 0);
    seccomp_rule_add(c, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_SECCOMP));
    if (!c || seccomp_load(c)) _exit(5);
    seccomp_release(c);
}

static void test_lacking_kernel(void **state)
{
    char self[512], path[600];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = 0;
    snprintf(path, sizeof path, "%s/" LACKING, test_folder());
    assert_int_equal(symlink(self, path), 0);
    decoders_options o = usual;
    decoders *own = NULL, *before = children;
    o.program = path;
    o.require = true;
    assert_fails(decoders_create(&own, &o), SIGHT_E_UNSUPPORTED,
                 "confine is 'require', and this system lacks seccomp and Landlock");
    o.require = false;
    assert_ok(decoders_create(&own, &o));
    assert_string_equal(decoders_warning(own),
                        "decoders are confined without seccomp and Landlock, which this system lacks");
    const decoders_status s = decoders_get_status(own);
    assert_false(s.seccomp || s.landlock || s.namespaces);
    children = own;
    assert_ok(ask("good"));
    assert_says("open", SIGHT_E_MEDIA, "open gave 0"); // nothing else keeps it from that
    children = before;
    decoders_destroy(&own);
}

int main(int argc, char **argv)
{
    int kind = 0;
    socklen_t size = sizeof kind;
    if (!getsockopt(KEEPER_SOCKET, SOL_SOCKET, SO_TYPE, &kind, &size) && kind == SOCK_SEQPACKET) {
        if (argc && strstr(argv[0], "/" LACKING)) lack();
        _exit(keeper_run(misbehave));
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers),
        cmocka_unit_test(test_require),
        cmocka_unit_test(test_lacking_kernel),
        cmocka_unit_test(test_what_is_forbidden),
        cmocka_unit_test(test_what_a_child_has),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_times),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_lies),
        cmocka_unit_test(test_lies_of_clips),
        cmocka_unit_test(test_stopped_from_outside),
        cmocka_unit_test(test_keeper_stopped),
        cmocka_unit_test_setup_teardown(test_cancel, open_patient, close_patient),
        cmocka_unit_test_setup_teardown(test_killed_from_outside, open_patient, close_patient),
        cmocka_unit_test_setup_teardown(test_killed_once, open_patient, close_patient),
        cmocka_unit_test_setup_teardown(test_opening_killed, open_patient, close_patient),
        cmocka_unit_test_setup_teardown(test_keeper_killed, open_patient, close_patient),
    };
    return cmocka_run_group_tests(tests, open_children, close_children);
}
