#define _GNU_SOURCE // unshare
#include "decoder/confine.h"

#include <fcntl.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "decoder/confine_filter.h"

// ---- Landlock ----

// The kernel's structs (include/uapi/linux/landlock.h), which headers of older systems have in part.
typedef struct landlock_rules {
    uint64_t files, network, scopes;
} landlock_rules;

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_restrict_self  446
#endif

// Everything that the kernel's version knows to forbid, and no rule that allows any of it.
static bool enter_landlock(void)
{
    const long version = syscall(SYS_landlock_create_ruleset, NULL, 0, 1); // LANDLOCK_CREATE_RULESET_VERSION
    if (version < 1) return false;
    landlock_rules r = {.files = (1 << 13) - 1};
    if (version >= 2) r.files |= 1 << 13; // REFER
    if (version >= 3) r.files |= 1 << 14; // TRUNCATE
    if (version >= 5) r.files |= 1 << 15; // IOCTL_DEV
    if (version >= 4) r.network = 3;      // bind and connect TCP
    if (version >= 6) r.scopes = 3;       // abstract sockets, signals
    const size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    const int fd = (int)syscall(SYS_landlock_create_ruleset, &r, size, 0);
    if (fd < 0) return false;
    const bool done = !syscall(SYS_landlock_restrict_self, fd, 0);
    close(fd);
    return done;
}

// ---- namespaces and rights ----

static bool enter_namespaces(void)
{
    const int own = CLONE_NEWNET | CLONE_NEWIPC;
    return !unshare(own | CLONE_NEWUSER) || !unshare(own);
}

static void drop_rights(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2];
    memset(none, 0, sizeof none);
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    syscall(SYS_capset, &head, none);
}

// ---- limits ----

static void write_word(const char *path, const char *word)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return;
    const ssize_t written = write(fd, word, strlen(word));
    (void)written; // the kernel's choice of whom to end is then its own
    close(fd);
}

// Pages of the whole and of data and stack, as /proc/self/statm has them (proc(5)).
static void measure(confine *c)
{
    long long all = 0, data = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f) return;
    if (fscanf(f, "%lld %*d %*d %*d %*d %lld", &all, &data) == 2) {
        const long page = sysconf(_SC_PAGESIZE);
        c->address_space = all * page;
        c->data = data * page;
    }
    fclose(f);
}

static void limit_between(int what, double soft, double hard)
{
    const rlim_t most_known = (rlim_t)1 << 62;
    const struct rlimit r = {soft < (double)most_known ? (rlim_t)soft : most_known,
                             hard < (double)most_known ? (rlim_t)hard : most_known};
    setrlimit(what, &r);
}

static void limit(int what, double most)
{
    limit_between(what, most, most);
}

// Memory that is the child's alone counts as data; what it maps of slots and files counts only in the address space,
// where threads also reserve far more than they use.
#define MAPPED_BYTES (16.0 * (1 << 30))

static void set_limits(const confine *c, const confine_limits *l)
{
#ifndef CONFINE_SANITIZED // whose shadow memory is terabytes of address space
    if (c->data) {
        limit(RLIMIT_DATA, (double)c->data + (double)l->memory_bytes);
        limit(RLIMIT_AS, (double)c->address_space + (double)l->memory_bytes + MAPPED_BYTES);
    }
    limit(RLIMIT_FSIZE, 0); // their reports may go to a file
#endif
    // SIGXCPU names the limit; at the hard one the kernel sends a SIGKILL like any other.
    limit_between(RLIMIT_CPU, ceil(l->cpu_s), ceil(l->cpu_s) + 1);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_NOFILE, 16);
    limit(RLIMIT_MEMLOCK, 0);
    limit(RLIMIT_MSGQUEUE, 0);
    limit(RLIMIT_NICE, 0);
    limit(RLIMIT_RTPRIO, 0);
}

// ---- all of it ----

void confine_begin(confine *c)
{
    *c = (confine){0};
    measure(c);
    write_word("/proc/self/oom_score_adj", "1000");
    limit(RLIMIT_CORE, 0);
#ifndef CONFINE_SANITIZED // whose reports want a look at themselves
    prctl(PR_SET_DUMPABLE, 0);
#endif
    if (enter_namespaces()) c->layers |= CONFINE_NAMESPACES;
    drop_rights();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) return; // neither of the others without it
    confine_filter_make(&c->filter, &c->filter_size);
    if (enter_landlock()) c->layers |= CONFINE_LANDLOCK;
}

void confine_done(confine *c)
{
    free(c->filter);
    *c = (confine){0};
}

uint32_t confine_child(const confine *c, const confine_limits *limits)
{
    set_limits(c, limits);
    if (!c->filter) return c->layers;
    const struct sock_fprog program = {c->filter_size, c->filter};
    const bool filtered = !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
    return c->layers | (filtered ? CONFINE_SECCOMP : 0);
}
