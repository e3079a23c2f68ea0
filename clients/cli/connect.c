#define _GNU_SOURCE
#include "clients/cli/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "clients/cli/terminal.h"

#define PRIVATE_IDLE_S  "300"
#define START_SECONDS   120.0
#define ENDPOINT_SIZE   512

static const char ipc_prefix[] = "ipc://";

// FNV-1a, to give each model's private daemon its own socket name.
static uint64_t hash(uint64_t h, const char *text)
{
    for (; *text; text++) h = (h ^ (unsigned char)*text) * 1099511628211ULL;
    return h;
}

// The folder of the default socket (made, 0700), and there a name for this model.
static sight_err private_endpoint(char *out, size_t size, const connect_options *options)
{
    char folder[ENDPOINT_SIZE];
    sight_err err = sight_default_endpoint(folder, sizeof folder);
    if (err) return err;
    if (strncmp(folder, ipc_prefix, sizeof ipc_prefix - 1)) {
        return sight_fail(SIGHT_E_INTERNAL, "'%s' is no ipc endpoint", folder);
    }
    if (!strcmp(folder, "ipc:///run/sightd/sightd.sock") && geteuid() != 0) {
        snprintf(folder, sizeof folder, "ipc:///tmp/sightd-%d/sightd.sock", (int)geteuid());
    }
    char *path = folder + sizeof ipc_prefix - 1, *slash = strrchr(path, '/');
    if (!slash) return sight_fail(SIGHT_E_INTERNAL, "'%s' has no folder", folder);
    *slash = 0;
    if (mkdir(path, 0700) && errno != EEXIST) {
        return sight_fail(SIGHT_E_IO, "cannot make the folder '%s': %s", path, strerror(errno));
    }
    char real[PATH_MAX];
    const char *model = options->model, *weights = options->weights ? options->weights : "";
    const char *name = model && realpath(model, real) ? real : model ? model : "";
    uint64_t id = hash(hash(14695981039346656037ULL, name), weights);
    if (options->mmproj) id = hash(id * 31, options->mmproj); // another tower, another daemon
    if (options->device) id = hash(id * 41, options->device);
    for (size_t i = 0; i < options->lora.n; i++) id = hash(id * 37, options->lora.items[i]);
    snprintf(out, size, "ipc://%s/private-%016llx.sock", path, (unsigned long long)id);
    return SIGHT_OK;
}

// sightd beside this program, else wherever PATH has one.
static void daemon_path(char *out, size_t size)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = 0;
        char *slash = strrchr(self, '/');
        if (slash) {
            *slash = 0;
            int written = snprintf(out, size, "%s/sightd", self);
            if (written > 0 && (size_t)written < size && !access(out, X_OK)) return;
        }
    }
    snprintf(out, size, "sightd");
}

// Runs the daemon detached from this program's terminal; its messages go to log_fd.
static pid_t spawn(const char *program, const connect_options *options, const char *endpoint,
                   int log_fd)
{
    char threads[16];
    const char *argv[24 + 2 * ARG_LIST_MAX];
    int n = 0;
    argv[n++] = program;
    argv[n++] = "--private";
    argv[n++] = PRIVATE_IDLE_S;
    argv[n++] = "--endpoint";
    argv[n++] = endpoint;
    if (options->model) {
        argv[n++] = "--model";
        argv[n++] = options->model;
    }
    if (options->mmproj) {
        argv[n++] = "--mmproj";
        argv[n++] = options->mmproj;
    }
    for (size_t i = 0; i < options->lora.n; i++) {
        argv[n++] = "--lora";
        argv[n++] = options->lora.items[i];
    }
    if (options->threads) {
        snprintf(threads, sizeof threads, "%d", (int)options->threads);
        argv[n++] = "--threads";
        argv[n++] = threads;
    }
    if (options->weights) {
        argv[n++] = "--weights";
        argv[n++] = options->weights;
    }
    if (options->device) {
        argv[n++] = "--device";
        argv[n++] = options->device;
    }
    argv[n] = NULL;
    pid_t pid = fork();
    if (pid) return pid;
    setsid();
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, 0);
        dup2(null, 1);
    }
    dup2(log_fd, 2);
    execvp(program, (char *const *)argv);
    dprintf(2, "cannot run '%s': %s\n", program, strerror(errno));
    _exit(127);
}

// What the daemon has written so far, without the last line's end.
static void read_log(char *log, size_t size, int log_fd)
{
    ssize_t n = pread(log_fd, log, size - 1, 0);
    log[n > 0 ? n : 0] = 0;
    while (n > 0 && log[n - 1] == '\n') log[--n] = 0;
}

// The last "preparing weights: N %" that the daemon wrote; whether it is a new one.
static bool read_percent(int *percent, int log_fd)
{
    static const char words[] = "preparing weights: ";
    char log[4096];
    struct stat st;
    const off_t size = fstat(log_fd, &st) ? 0 : st.st_size;
    const off_t at = size > (off_t)sizeof log - 1 ? size - (off_t)sizeof log + 1 : 0;
    const ssize_t n = pread(log_fd, log, sizeof log - 1, at);
    log[n > 0 ? n : 0] = 0;
    int last = *percent;
    for (char *s = log; (s = strstr(s, words)); s++) last = atoi(s + sizeof words - 1);
    const bool news = last != *percent;
    *percent = last;
    return news;
}

// A person at a terminal is told what the daemon warned of (that the bundled model is small).
static void show_warnings(int log_fd)
{
    char log[4096], *rest = NULL;
    if (!terminal_err()) return;
    read_log(log, sizeof log, log_fd);
    for (char *line = strtok_r(log, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *sentence = strstr(line, " warning ");
        if (sentence) terminal_warning(sentence + 9);
    }
}

// The last line that the daemon wrote before it ended, as the error.
static sight_err report_death(int log_fd, int status)
{
    char log[4096];
    read_log(log, sizeof log, log_fd);
    char *line = strrchr(log, '\n');
    line = line ? line + 1 : log;
    char *sentence = strstr(line, " error ");
    sentence = sentence ? sentence + 7 : line;
    // sightd's exit codes are those of sight.
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    sight_err err = code == 4 ? SIGHT_E_MODEL : code == 2 ? SIGHT_E_ARGUMENT
                  : code == 6 ? SIGHT_E_MEMORY : SIGHT_E_NOT_FOUND;
    return sight_fail(err, "%s", *sentence ? sentence : "sightd ended without a word");
}

// A log file that has no name any more, to read the daemon's last words from.
static int open_log(void)
{
    char name[] = "/tmp/sight-log-XXXXXX";
    int fd = mkstemp(name);
    if (fd >= 0) unlink(name);
    return fd;
}

static sight_err start_private(sight_client **out, const connect_options *options,
                               const char *endpoint)
{
    char program[PATH_MAX];
    daemon_path(program, sizeof program);
    int log_fd = open_log();
    if (log_fd < 0) return sight_fail(SIGHT_E_IO, "cannot make a file in /tmp: %s", strerror(errno));
    pid_t pid = spawn(program, options, endpoint, log_fd);
    if (pid < 0) {
        close(log_fd);
        return sight_fail(SIGHT_E_MEMORY, "cannot start '%s': %s", program, strerror(errno));
    }
    sight_err err = SIGHT_E_TIMEOUT;
    double start = clock_now_s(), heard = start;
    int percent = -1;
    while (err && clock_now_s() - heard < START_SECONDS) {
        int status;
        if (waitpid(pid, &status, WNOHANG) == pid) {
            // Another `sight` may have started one at the same moment: then that one answers.
            if (sight_client_connect(out, endpoint, 1000) == SIGHT_OK) err = SIGHT_OK;
            else err = report_death(log_fd, status);
            close(log_fd);
            return err;
        }
        if (read_percent(&percent, log_fd)) heard = clock_now_s();
        if (percent >= 0 && percent < 100) {
            terminal_progress("preparing weights, once: %d %%", percent);
        } else if (clock_now_s() - start > 0.3) {
            terminal_progress("starting sightd ...");
        }
        err = sight_client_connect(out, endpoint, 200);
    }
    terminal_clear();
    if (!err) show_warnings(log_fd);
    close(log_fd);
    return err;
}

// What is set in the environment, an empty text being nothing.
static const char *set_value(const char *given, const char *variable)
{
    const char *value = given ? given : getenv(variable);
    return value && *value ? value : NULL;
}

// Whether what is asked for is a daemon of one's own.
static bool wants_private(const connect_options *o)
{
    return o->model || o->weights || o->device || o->lora.n;
}

static const char *chosen_endpoint(const connect_options *o)
{
    return o->endpoint || !wants_private(o) ? set_value(o->endpoint, "SIGHT_ENDPOINT") : NULL;
}

bool connect_is_remote(const connect_options *options)
{
    const char *endpoint = chosen_endpoint(options);
    return endpoint && !strncmp(endpoint, "tcp://", 6);
}

sight_err connect_running(sight_client **out, const connect_options *options, int timeout_ms)
{
    const bool remote = connect_is_remote(options);
    const sight_connect_options o = {
        .size = sizeof o, .endpoint = chosen_endpoint(options), .timeout_ms = timeout_ms,
        .key_file = remote ? set_value(options->key, "SIGHT_KEY") : options->key,
        .server_key = remote ? set_value(options->server_key, "SIGHT_SERVER_KEY") : options->server_key,
    };
    return sight_client_open(out, &o);
}

sight_err connect_open(sight_client **out, const connect_options *options)
{
    if (chosen_endpoint(options)) return connect_running(out, options, 5000);
    char endpoint[ENDPOINT_SIZE];
    sight_err err;
    if (!wants_private(options)) {
        err = sight_default_endpoint(endpoint, sizeof endpoint);
        if (err) return err;
        err = sight_client_connect(out, endpoint, 0);
        if (err != SIGHT_E_NOT_FOUND) return err;
    }
    err = private_endpoint(endpoint, sizeof endpoint, options);
    if (err) return err;
    err = sight_client_connect(out, endpoint, 0);
    if (err != SIGHT_E_NOT_FOUND && err != SIGHT_E_TIMEOUT) return err;
    return start_private(out, options, endpoint);
}
