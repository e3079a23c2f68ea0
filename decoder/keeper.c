#define _GNU_SOURCE // close_range
#include "decoder/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "decoder/av.h"
#include "decoder/confine.h"
#include "decoder/confine_filter.h"
#include "decoder/job.h"
#include "decoder/resize_passes.h"

typedef struct kept {
    pid_t pid; // 0: this place is free
    int leash;
    bool ending; // the daemon has let go of it
} kept;

typedef struct keeper {
    keeper_child *run;
    confine confine;
    int ended; // signalfd of SIGCHLD
    kept children[KEEPER_CHILDREN];
} keeper;

// What it does not need: the daemon's files, its terminal, its signals. Ctrl-C and systemd's SIGTERM go to a whole group;
// the daemon says when it is over.
static bool settle(keeper *k)
{
    close_range(KEEPER_SOCKET + 1, ~0U, 0);
    fcntl(KEEPER_SOCKET, F_SETFD, FD_CLOEXEC);
#ifndef CONFINE_SANITIZED
    const int null = open("/dev/null", O_RDWR);
    for (int i = 0; null >= 0 && i < 3; i++) dup2(null, i);
    if (null > 2) close(null);
#endif
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++) signal(ignored[i], SIG_IGN);
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    if (sigprocmask(SIG_SETMASK, &child, NULL)) return false;
    k->ended = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    return k->ended >= 0;
}

// ---- children ----

static void be_child(int socket, const keeper *k, const keeper_spawn *s, pid_t parent)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(socket, KEEPER_SOCKET); // in place of the keeper's own
    close_range(KEEPER_SOCKET + 1, ~0U, 0);
    const confine_limits limits = {s->memory_bytes, s->cpu_s};
    const uint32_t layers = confine_child(&k->confine, &limits);
    k->run(KEEPER_SOCKET, layers);
    _exit(0);
}

static void tell_end(int leash, int status)
{
    send(leash, &status, sizeof status, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(leash);
}

static kept *free_place(keeper *k)
{
    for (int i = 0; i < KEEPER_CHILDREN; i++) {
        if (!k->children[i].pid) return &k->children[i];
    }
    return NULL;
}

static void spawn(keeper *k, const keeper_spawn *s, int socket, int leash)
{
    kept *place = free_place(k);
    const pid_t self = getpid(), pid = place ? fork() : -1;
    if (pid == 0) be_child(socket, k, s, self);
    close(socket);
    if (pid < 0) {
        tell_end(leash, W_EXITCODE(1, 0));
        return;
    }
    *place = (kept){.pid = pid, .leash = leash};
}

static void reap(keeper *k)
{
    struct signalfd_siginfo told;
    while (read(k->ended, &told, sizeof told) > 0) continue;
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        for (int i = 0; i < KEEPER_CHILDREN; i++) {
            kept *c = &k->children[i];
            if (c->pid != pid) continue;
            tell_end(c->leash, status);
            c->pid = 0;
        }
    }
}

// ---- the loop ----

// false: the daemon is gone.
static bool hear(keeper *k)
{
    keeper_spawn s;
    int fds[2], n = 2;
    const long size = job_receive(KEEPER_SOCKET, &s, sizeof s, fds, &n, 0);
    if (size <= 0) return size < 0 && errno == EAGAIN;
    if (size == (long)sizeof s && s.size == sizeof s && n == 2) {
        spawn(k, &s, fds[0], fds[1]);
        return true;
    }
    for (int i = 0; i < n; i++) close(fds[i]);
    return true;
}

static void wait_for(keeper *k, struct pollfd *p)
{
    p[0] = (struct pollfd){KEEPER_SOCKET, POLLIN, 0};
    p[1] = (struct pollfd){k->ended, POLLIN, 0};
    for (int i = 0; i < KEEPER_CHILDREN; i++) {
        const kept *c = &k->children[i];
        p[2 + i] = (struct pollfd){c->pid && !c->ending ? c->leash : -1, POLLIN, 0};
    }
    if (poll(p, 2 + KEEPER_CHILDREN, -1) < 0) {
        for (int i = 0; i < 2 + KEEPER_CHILDREN; i++) p[i].revents = 0;
    }
}

// Were it not for this, PR_SET_PDEATHSIG would end them, and somebody else would have to bury them.
static void end_children(const keeper *k)
{
    for (int i = 0; i < KEEPER_CHILDREN; i++) {
        if (k->children[i].pid) kill(k->children[i].pid, SIGKILL);
    }
    while (waitpid(-1, NULL, 0) > 0) continue;
}

// What every child would otherwise do for itself.
static void warm_up(void)
{
    av_silence();
    resize_passes_best();
    avcodec_find_decoder(AV_CODEC_ID_H264);
    av_find_input_format("mov");
}

int keeper_run(keeper_child *child)
{
    keeper k = {.run = child};
    struct pollfd p[2 + KEEPER_CHILDREN];
    if (!settle(&k)) return 1;
    prctl(PR_SET_NAME, "sight-decoder");
    warm_up();
    confine_begin(&k.confine);
    do {
        wait_for(&k, p);
        // Nothing is ever sent on a leash: it is readable when the daemon has let go of it.
        for (int i = 0; i < KEEPER_CHILDREN; i++) {
            if (!p[2 + i].revents) continue;
            kill(k.children[i].pid, SIGKILL);
            k.children[i].ending = true;
        }
        if (p[1].revents) reap(&k);
    } while (!p[0].revents || hear(&k));
    end_children(&k);
    confine_done(&k.confine);
    return 0;
}
