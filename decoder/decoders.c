#define _GNU_SOURCE // POSIX_SPAWN flags, SOCK_CLOEXEC
#include "decoder/decoders.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "decoder/confine.h"
#include "decoder/confine_filter.h"
#include "decoder/decoders_parts.h"
#include "decoder/job.h"
#include "decoder/keeper.h"

#define MAX_READY 8
#define POLL_MS   50
// A keeper is there within a blink, but machines can be busy.
#define START_S 20.0
// For the keeper to end by itself, and to tell of a child's end.
#define END_MS  2000
#define TELL_MS 1000

struct decoders {
    decoders_options o; // defaults filled in
    char program[PATH_MAX];
    uint32_t layers; // of the first child
    char warning[200];

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t given;
    pid_t keeper; // 0: none
    int socket;   // to it, or -1
    decoder_child ready[MAX_READY];
    int32_t n_ready, working;
    int64_t started, crashed, timed_out;
};

// ---- the program ----

static bool is_program(const char *path)
{
    return !access(path, X_OK);
}

static sight_err find_program(decoders *d)
{
    if (d->o.program) {
        snprintf(d->program, sizeof d->program, "%s", d->o.program);
        if (is_program(d->program)) return SIGHT_OK;
        return sight_fail(SIGHT_E_NOT_FOUND, "there is no decoder program '%s'", d->program);
    }
    static const char name[] = "sight-decoder", *const beside[] = {"", "../libexec/sightd/"};
    char self[PATH_MAX - 64];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *slash = strrchr(self, '/');
    if (slash) slash[1] = 0;
    for (int i = 0; slash && i < 2; i++) {
        snprintf(d->program, sizeof d->program, "%s%s%s", self, beside[i], name);
        if (is_program(d->program)) return SIGHT_OK;
    }
    snprintf(d->program, sizeof d->program, "%s/%s", SIGHT_LIBEXEC_DIR, name);
    if (is_program(d->program)) return SIGHT_OK;
    return sight_fail(SIGHT_E_NOT_FOUND, "the program %s is neither beside '%s' nor at '%s': media cannot be opened in "
                      "confinement (confine = off does without)", name, self, d->program);
}

// ---- the keeper ----

static int no_files(posix_spawn_file_actions_t *actions, int socket)
{
    // A descriptor that is its own target would keep its close-on-exec flag: so it goes by way of another.
    const int other = KEEPER_SOCKET + 1;
    int failed = posix_spawn_file_actions_adddup2(actions, socket, other);
    if (!failed) failed = posix_spawn_file_actions_adddup2(actions, other, KEEPER_SOCKET);
    if (!failed) failed = posix_spawn_file_actions_addclose(actions, other);
    return failed;
}

#define MAX_VARIABLES 4

// Of this process's environment, which may hold secrets, what a program needs to be loaded.
static void pick_environment(char *out[MAX_VARIABLES + 1])
{
    static const char *const names[] = {
        "LD_LIBRARY_PATH",
#ifdef CONFINE_SANITIZED
        "TSAN_OPTIONS", "ASAN_OPTIONS", "UBSAN_OPTIONS",
#endif
    };
    int n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *value = getenv(names[i]);
        if (value) out[n++] = value - strlen(names[i]) - 1; // "NAME=value", as it lies in the environment
    }
    out[n] = NULL;
}

static int spawn_keeper(decoders *d, int socket)
{
    char *argv[] = {d->program, NULL}, *environment[MAX_VARIABLES + 1];
    pick_environment(environment);
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    sigemptyset(&none);
    if (posix_spawn_file_actions_init(&actions)) return ENOMEM;
    if (posix_spawnattr_init(&attributes)) {
        posix_spawn_file_actions_destroy(&actions);
        return ENOMEM;
    }
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int failed = no_files(&actions, socket);
    pid_t pid;
    if (!failed) failed = posix_spawn(&pid, d->program, &actions, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    if (!failed) d->keeper = pid;
    return failed;
}

static sight_err start_keeper(decoders *d)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair)) {
        return sight_fail(SIGHT_E_MEMORY, "no socket for decoders: %s", strerror(errno));
    }
    const int failed = spawn_keeper(d, pair[1]);
    close(pair[1]);
    if (failed) {
        close(pair[0]);
        return sight_fail(SIGHT_E_INTERNAL, "cannot start '%s': %s", d->program, strerror(failed));
    }
    d->socket = pair[0];
    return SIGHT_OK;
}

static void let_go(decoder_child *c)
{
    if (c->socket >= 0) close(c->socket);
    if (c->leash >= 0) close(c->leash);
    *c = (decoder_child){-1, -1};
}

static void pause_ms(int ms)
{
    const struct timespec t = {0, (long)ms * 1000000};
    nanosleep(&t, NULL);
}

// The children that it has end with it.
static void end_keeper(decoders *d)
{
    if (d->socket >= 0) close(d->socket);
    d->socket = -1;
    while (d->n_ready) let_go(&d->ready[--d->n_ready]);
    if (!d->keeper) return;
    for (int ms = 0; ms < END_MS; ms += 5) {
        if (waitpid(d->keeper, NULL, WNOHANG)) {
            d->keeper = 0;
            return;
        }
        pause_ms(5);
    }
    kill(d->keeper, SIGKILL);
    waitpid(d->keeper, NULL, 0);
    d->keeper = 0;
}

// ---- children ----

static bool make_pairs(int session[2], int leash[2])
{
    const int kind = SOCK_SEQPACKET | SOCK_CLOEXEC;
    if (socketpair(AF_UNIX, kind, 0, session)) return false;
    if (!socketpair(AF_UNIX, kind, 0, leash)) return true;
    close(session[0]);
    close(session[1]);
    return false;
}

static void tell(const decoders *d, decoder_event what)
{
    if (d->o.tell) d->o.tell(d->o.tell_arg, what, d->working);
}

// Asks the keeper for one; it is there when it says REPLY_READY. false: the keeper does not take it (errno).
static bool ask_for_child(decoders *d, decoder_child *out)
{
    int session[2], leash[2];
    if (!make_pairs(session, leash)) return false;
    const keeper_spawn s = {sizeof s, d->o.memory_bytes, d->o.seconds};
    const int fds[] = {session[1], leash[1]};
    const bool sent = job_send(d->socket, &s, sizeof s, NULL, 0, fds, 2, MSG_DONTWAIT);
    close(session[1]);
    close(leash[1]);
    *out = (decoder_child){session[0], leash[0]};
    if (!sent) {
        let_go(out);
        return false;
    }
    d->started++;
    tell(d, DECODER_STARTED);
    return true;
}

// A keeper that was ended from outside is started again.
static sight_err new_child(decoders *d, decoder_child *out)
{
    for (int i = 0; i < 2; i++) {
        if (d->socket < 0) {
            sight_err err = start_keeper(d);
            if (err) return err;
        }
        if (ask_for_child(d, out)) return SIGHT_OK;
        if (errno == EMFILE || errno == ENFILE) {
            return sight_fail(SIGHT_E_MEMORY, "no decoder can be started: %s", strerror(errno));
        }
        end_keeper(d);
    }
    return sight_fail(SIGHT_E_INTERNAL, "'%s' does not start decoders", d->program);
}

// A child that waits says nothing but that it is ready; when its leash speaks or nobody has the other end of its socket,
// it is dead.
static bool is_well(const decoder_child *c)
{
    struct pollfd p[2] = {{c->leash, POLLIN, 0}, {c->socket, 0, 0}}; // of the latter POLLHUP
    return poll(p, 2, 0) == 0;
}

static void fill_up(decoders *d)
{
    while (d->socket >= 0 && d->n_ready < d->o.ready) {
        if (!ask_for_child(d, &d->ready[d->n_ready])) return; // noticed by the next who needs one
        d->n_ready++;
    }
}

static sight_err take_locked(decoders *d, decoder_child *out)
{
    while (d->n_ready) {
        decoder_child c = d->ready[0]; // who waits longest is ready
        memmove(d->ready, d->ready + 1, (size_t)--d->n_ready * sizeof c);
        if (is_well(&c)) {
            *out = c;
            return SIGHT_OK;
        }
        let_go(&c);
    }
    return new_child(d, out);
}

static void wait_a_little(decoders *d)
{
    const struct timespec deadline = clock_deadline(POLL_MS);
    pthread_cond_timedwait(&d->given, &d->mutex, &deadline);
}

sight_err decoders_take(decoders *d, decoder_child *out, bool (*stop)(void *), void *stop_arg)
{
    sight_err err = SIGHT_OK;
    pthread_mutex_lock(&d->mutex);
    while (!err && d->working >= d->o.most) {
        wait_a_little(d);
        if (stop && stop(stop_arg)) err = sight_fail(SIGHT_E_CANCELLED, "waiting for a decoder was stopped");
    }
    if (!err) err = take_locked(d, out);
    if (!err) {
        d->working++;
        fill_up(d);
        tell(d, DECODER_TAKEN);
    }
    pthread_mutex_unlock(&d->mutex);
    return err;
}

void decoders_give(decoders *d, decoder_child *c, decoder_event end)
{
    let_go(c);
    pthread_mutex_lock(&d->mutex);
    d->working--;
    d->crashed += end == DECODER_CRASHED;
    d->timed_out += end == DECODER_TIMED_OUT;
    tell(d, end);
    pthread_cond_signal(&d->given);
    pthread_mutex_unlock(&d->mutex);
}

void decoders_distrust(decoders *d)
{
    pthread_mutex_lock(&d->mutex);
    if (d->keeper) kill(d->keeper, SIGKILL); // whoever needs a child next notices
    pthread_mutex_unlock(&d->mutex);
}

int decoders_wait_status(const decoder_child *c)
{
    struct pollfd p = {c->leash, POLLIN, 0};
    int status;
    if (poll(&p, 1, TELL_MS) <= 0) return -1;
    return recv(c->leash, &status, sizeof status, MSG_DONTWAIT) == (ssize_t)sizeof status ? status : -1;
}

const decoders_options *decoders_get_options(const decoders *d)
{
    return &d->o;
}

// ---- opening ----

static sight_err hear_first(decoders *d, const decoder_child *c)
{
    uint8_t bytes[sizeof(reply) + 1];
    struct pollfd p = {c->socket, POLLIN, 0};
    const int ready = poll(&p, 1, (int)(START_S * 1000));
    if (ready == 0) return sight_fail(SIGHT_E_TIMEOUT, "'%s' does not start a decoder in %g s", d->program, START_S);
    const long n = ready < 0 ? -1 : job_receive(c->socket, bytes, sizeof bytes, NULL, NULL, 0);
    reply_message *m = malloc(sizeof *m);
    if (!m) return sight_fail(SIGHT_E_MEMORY, "no memory for decoders");
    const bool good = n > 0 && n <= (long)sizeof bytes && job_parse_reply(m, bytes, (size_t)n) &&
                      m->head.kind == REPLY_READY;
    d->layers = good ? m->head.code : 0;
    free(m);
    return good ? SIGHT_OK : sight_fail(SIGHT_E_INTERNAL, "'%s' does not start decoders", d->program);
}

static sight_err check_layers(decoders *d)
{
    const bool seccomp = d->layers & CONFINE_SECCOMP, landlock = d->layers & CONFINE_LANDLOCK;
    if (seccomp && landlock) return SIGHT_OK;
    const char *lacks = seccomp ? "Landlock" : landlock ? "seccomp" : "seccomp and Landlock";
    if (d->o.require) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "confine is 'require', and this system lacks %s", lacks);
    }
    snprintf(d->warning, sizeof d->warning, "decoders are confined without %s, which this system lacks", lacks);
    return SIGHT_OK;
}

static void set_options(decoders *d, const decoders_options *o)
{
    d->o = o ? *o : (decoders_options){0};
    if (d->o.memory_bytes <= 0) d->o.memory_bytes = (int64_t)4 << 30;
    if (!(d->o.seconds > 0)) d->o.seconds = 900;
    if (!(d->o.silence_s > 0)) d->o.silence_s = 30;
    if (d->o.most < 1) d->o.most = 16;
    if (d->o.most > KEEPER_CHILDREN / 2) d->o.most = KEEPER_CHILDREN / 2;
    if (d->o.ready < 1) d->o.ready = 2;
    if (d->o.ready > MAX_READY) d->o.ready = MAX_READY;
}

sight_err decoders_create(decoders **out, const decoders_options *options)
{
    decoders *d = calloc(1, sizeof *d);
    if (!d) return sight_fail(SIGHT_E_MEMORY, "no memory for decoders");
    d->socket = -1;
    pthread_mutex_init(&d->mutex, NULL);
    clock_cond_init(&d->given);
    set_options(d, options);
    sight_err err = find_program(d);
    if (!err) err = new_child(d, &d->ready[0]);
    if (!err) d->n_ready = 1;
    if (!err) err = hear_first(d, &d->ready[0]);
    if (!err) err = check_layers(d);
    if (err) decoders_destroy(&d);
    else *out = d;
    return err;
}

void decoders_destroy(decoders **p)
{
    decoders *d = *p;
    if (!d) return;
    end_keeper(d);
    pthread_cond_destroy(&d->given);
    pthread_mutex_destroy(&d->mutex);
    free(d);
    *p = NULL;
}

decoders_status decoders_get_status(decoders *d)
{
    pthread_mutex_lock(&d->mutex);
    const decoders_status s = {.seccomp = d->layers & CONFINE_SECCOMP,
                               .landlock = d->layers & CONFINE_LANDLOCK,
                               .namespaces = d->layers & CONFINE_NAMESPACES,
                               .started = d->started, .crashed = d->crashed, .timed_out = d->timed_out,
                               .working = d->working, .waiting = d->n_ready, .keeper_pid = d->keeper};
    pthread_mutex_unlock(&d->mutex);
    return s;
}

const char *decoders_warning(const decoders *d)
{
    return d->warning[0] ? d->warning : NULL;
}
