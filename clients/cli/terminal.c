#include "clients/cli/terminal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool progress_shown;

static bool colour_on(int fd)
{
    const char *term = getenv("TERM");
    return isatty(fd) && term && strcmp(term, "dumb") && !getenv("NO_COLOR");
}

bool terminal_err_colour(void)
{
    return colour_on(STDERR_FILENO);
}

bool terminal_out_colour(void)
{
    return colour_on(STDOUT_FILENO);
}

bool terminal_err(void)
{
    return isatty(STDERR_FILENO);
}

void terminal_progress(const char *format, ...)
{
    if (!terminal_err()) return;
    char line[200];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    bool dim = terminal_err_colour();
    fprintf(stderr, "\r\033[K%s%s%s", dim ? "\033[2m" : "", line, dim ? "\033[0m" : "");
    fflush(stderr);
    progress_shown = true;
}

void terminal_clear(void)
{
    if (!progress_shown) return;
    fprintf(stderr, "\r\033[K");
    fflush(stderr);
    progress_shown = false;
}

void terminal_note(const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    terminal_clear();
    bool dim = terminal_err_colour();
    fprintf(stderr, "%s%s%s\n", dim ? "\033[2m" : "", line, dim ? "\033[0m" : "");
}

void terminal_warning(const char *sentence)
{
    terminal_clear();
    bool colour = terminal_err_colour();
    fprintf(stderr, "%swarning:%s %s\n", colour ? "\033[33m" : "", colour ? "\033[0m" : "",
            sentence);
}
