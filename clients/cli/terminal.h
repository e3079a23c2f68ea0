// clients/cli/terminal.h - colour and progress, only where a person looks at a terminal.
#ifndef SIGHT_CLI_TERMINAL_H
#define SIGHT_CLI_TERMINAL_H

#include <stdbool.h>

// Colour on stderr / stdout: a terminal, TERM not "dumb", NO_COLOR not set.
bool terminal_err_colour(void);
bool terminal_out_colour(void);
bool terminal_err(void); // stderr is a terminal

// One line on stderr that later ones replace; nothing where stderr is no terminal.
void terminal_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));
// Takes the progress line away.
void terminal_clear(void);
// A dim line on stderr.
void terminal_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void terminal_warning(const char *sentence);

#endif
