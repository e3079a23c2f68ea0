#define _GNU_SOURCE // memfd_create, CLONE_THREAD
#include "decoder/confine_filter.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <linux/filter.h>
#include <seccomp.h>

#define LENGTH(list) (sizeof(list) / sizeof *(list))

// What decoding takes: memory, threads, time, and reading and writing what is open. No call that opens, connects,
// starts or signals anything.
static const int allowed[] = {
    SCMP_SYS(read),          SCMP_SYS(readv),         SCMP_SYS(pread64),          SCMP_SYS(write),
    SCMP_SYS(lseek),         SCMP_SYS(close),         SCMP_SYS(fstat),            SCMP_SYS(munmap),
    SCMP_SYS(mremap),        SCMP_SYS(madvise),       SCMP_SYS(brk),              SCMP_SYS(futex),
    SCMP_SYS(set_robust_list), SCMP_SYS(rseq),        SCMP_SYS(set_tid_address),  SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigaction),  SCMP_SYS(rt_sigreturn),  SCMP_SYS(sigaltstack),      SCMP_SYS(exit),
    SCMP_SYS(exit_group),    SCMP_SYS(restart_syscall), SCMP_SYS(clock_gettime),  SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep),   SCMP_SYS(gettimeofday),     SCMP_SYS(time),
    SCMP_SYS(sched_yield),   SCMP_SYS(sched_getaffinity), SCMP_SYS(getcpu),       SCMP_SYS(getpid),
    SCMP_SYS(gettid),        SCMP_SYS(getuid),        SCMP_SYS(geteuid),          SCMP_SYS(getgid),
    SCMP_SYS(getegid),       SCMP_SYS(getrandom),     SCMP_SYS(getrusage),        SCMP_SYS(sysinfo),
    SCMP_SYS(times),         SCMP_SYS(poll),          SCMP_SYS(ppoll),            SCMP_SYS(recvmsg),
    SCMP_SYS(recvfrom),      SCMP_SYS(sendmsg),       SCMP_SYS(sendto),
};

// What libraries try and can do without: it fails, as it does on machines that lack it.
static const int refused[] = {
    SCMP_SYS(open),       SCMP_SYS(openat),     SCMP_SYS(openat2),    SCMP_SYS(stat),       SCMP_SYS(lstat),
    SCMP_SYS(newfstatat), SCMP_SYS(statx),      SCMP_SYS(access),     SCMP_SYS(faccessat),  SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),   SCMP_SYS(readlinkat), SCMP_SYS(getcwd),     SCMP_SYS(getdents64), SCMP_SYS(statfs),
    SCMP_SYS(ioctl),      SCMP_SYS(fcntl),      SCMP_SYS(uname),      SCMP_SYS(mlock),      SCMP_SYS(membarrier),
    SCMP_SYS(sched_setaffinity), SCMP_SYS(sched_getscheduler), SCMP_SYS(sched_getparam),
    SCMP_SYS(get_mempolicy), SCMP_SYS(set_mempolicy), SCMP_SYS(mbind), SCMP_SYS(fadvise64), SCMP_SYS(readahead),
};

#ifdef CONFINE_SANITIZED
static const int for_sanitizers[] = {
    SCMP_SYS(mprotect), SCMP_SYS(mmap),   SCMP_SYS(prctl),       SCMP_SYS(prlimit64), SCMP_SYS(getrlimit),
    SCMP_SYS(tgkill),   SCMP_SYS(getppid), SCMP_SYS(personality), SCMP_SYS(setrlimit), SCMP_SYS(arch_prctl),
};
#endif

#ifndef CONFINE_SANITIZED
// Memory may be mapped, but not to run it, and not so that it would count as nobody's.
static int add_memory(scmp_filter_ctx c)
{
    const scmp_datum_t shared_nowhere = MAP_SHARED | MAP_ANONYMOUS;
    const struct scmp_arg_cmp no_code = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    int failed = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1, no_code);
    const scmp_datum_t fine[] = {0, MAP_SHARED, MAP_ANONYMOUS};
    for (size_t i = 0; i < LENGTH(fine) && !failed; i++) {
        failed = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 2, no_code,
                                  SCMP_A3(SCMP_CMP_MASKED_EQ, shared_nowhere, fine[i]));
    }
    return failed;
}
#endif

// Threads, but no processes; clone3 hides which, so that libc takes clone.
static int add_threads(scmp_filter_ctx c)
{
    int failed = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
                                  SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    if (!failed) failed = seccomp_rule_add(c, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
#ifndef CONFINE_SANITIZED
    if (!failed) {
        failed = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0));
    }
    if (!failed) { // asking, of itself
        failed = seccomp_rule_add(c, SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), 2, SCMP_A0(SCMP_CMP_EQ, 0, 0),
                                  SCMP_A2(SCMP_CMP_EQ, 0, 0));
    }
#endif
    return failed;
}

// A call that this machine's kernel does not have is no reason to do without the rest.
static int add_list(scmp_filter_ctx c, uint32_t action, const int *calls, size_t n)
{
    int failed = 0;
    for (size_t i = 0; i < n && !failed; i++) {
        failed = seccomp_rule_add(c, action, calls[i], 0);
        if (failed == -EDOM || failed == -EINVAL) failed = 0;
    }
    return failed;
}

static int add_rules(scmp_filter_ctx c)
{
    int failed = add_list(c, SCMP_ACT_ALLOW, allowed, LENGTH(allowed));
    if (!failed) failed = add_list(c, SCMP_ACT_ERRNO(EACCES), refused, LENGTH(refused));
#ifdef CONFINE_SANITIZED
    if (!failed) failed = add_list(c, SCMP_ACT_ALLOW, for_sanitizers, LENGTH(for_sanitizers));
#else
    if (!failed) failed = add_memory(c);
#endif
    if (!failed) failed = add_threads(c);
    return failed;
}

static bool read_program(struct sock_filter **out, uint16_t *size, int fd)
{
    const off_t bytes = lseek(fd, 0, SEEK_END);
    if (bytes <= 0 || bytes % (off_t)sizeof(struct sock_filter) || bytes / (off_t)sizeof(struct sock_filter) > 4096) {
        return false;
    }
    struct sock_filter *program = malloc((size_t)bytes);
    if (!program) return false;
    if (pread(fd, program, (size_t)bytes, 0) != bytes) {
        free(program);
        return false;
    }
    *out = program;
    *size = (uint16_t)((size_t)bytes / sizeof *program);
    return true;
}

bool confine_filter_make(struct sock_filter **out, uint16_t *size)
{
    scmp_filter_ctx c = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!c) return false;
    seccomp_attr_set(c, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    seccomp_attr_set(c, SCMP_FLTATR_CTL_OPTIMIZE, 2); // a tree: calls are many, and each one pays
    const int fd = memfd_create("filter", MFD_CLOEXEC);
    const bool made = fd >= 0 && !add_rules(c) && !seccomp_export_bpf(c, fd) && read_program(out, size, fd);
    if (fd >= 0) close(fd);
    seccomp_release(c);
    return made;
}
