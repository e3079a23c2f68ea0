#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char line[1024];

const char *sight_err_name(sight_err code)
{
    static const char *const names[SIGHT_E_COUNT] = {
        "ok",        "argument", "media",      "model", "unsupported", "limit",   "memory",   "io",
        "not_found", "permission", "busy", "cancelled", "timeout",     "protocol", "internal",
    };
    return (unsigned)code < SIGHT_E_COUNT ? names[code] : "unknown";
}

// Paths and names in a message come from outside: no control character may reach a terminal.
static void make_printable(char *s)
{
    for (; *s; s++) {
        if ((unsigned char)*s < 0x20 || *s == 0x7f) *s = '?';
    }
}

void err_set(const char *format, ...)
{
    char fresh[sizeof line]; // arguments may point into the old line
    va_list args;
    va_start(args, format);
    vsnprintf(fresh, sizeof fresh, format, args);
    va_end(args);
    make_printable(fresh);
    memcpy(line, fresh, sizeof line);
}

void err_set_in(const char *format, ...)
{
    char fresh[sizeof line];
    va_list args;
    va_start(args, format);
    vsnprintf(fresh, sizeof fresh, format, args);
    va_end(args);
    make_printable(fresh);
    size_t n = strlen(fresh), rest = strlen(line);
    if (n + 2 < sizeof fresh) {
        memcpy(fresh + n, ": ", 2);
        n += 2;
    }
    if (rest > sizeof fresh - 1 - n) rest = sizeof fresh - 1 - n;
    memcpy(fresh + n, line, rest);
    fresh[n + rest] = 0;
    memcpy(line, fresh, sizeof line);
}

const char *sight_error(void)
{
    return line;
}
