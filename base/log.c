#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static atomic_int max_level = LOG_INFO;
static atomic_int for_journal;

void log_set_level(log_level level)
{
    atomic_store(&max_level, (int)level);
}

void log_set_journal(int journal)
{
    atomic_store(&for_journal, journal);
}

void log_line(log_level level, const char *format, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    static const int priority[] = {3, 4, 6, 7}; // syslog(3)
    if ((int)level > atomic_load(&max_level)) return;

    char text[2048];
    int n;
    if (atomic_load(&for_journal)) {
        n = snprintf(text, sizeof text, "<%d>", priority[level]);
    } else {
        struct timespec now;
        struct tm tm;
        clock_gettime(CLOCK_REALTIME, &now);
        localtime_r(&now.tv_sec, &tm);
        n = (int)strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
        n += snprintf(text + n, sizeof text - (size_t)n, ".%03ld %s ", now.tv_nsec / 1000000,
                      names[level]);
    }
    va_list args;
    va_start(args, format);
    int m = vsnprintf(text + n, sizeof text - (size_t)n - 1, format, args);
    va_end(args);
    if (m < 0) return;
    n += m;
    if (n > (int)sizeof text - 2) n = (int)sizeof text - 2;
    text[n++] = '\n';
    ssize_t written = write(STDERR_FILENO, text, (size_t)n); // one call: lines stay whole
    (void)written;
}
