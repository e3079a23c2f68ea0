// clients/cli/cli.h - what the subcommands of `sight` share.
//
// A subcommand is one file and one function that gets its own arguments and gives an exit code.
// Threads: the program has one; the engine's pool belongs to the in-process commands.
#ifndef SIGHT_CLI_H
#define SIGHT_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "clients/cli/args.h"

// Exit codes, as documented in sight(1).
enum {
    EXIT_OK = 0,
    EXIT_FAILED = 1,    // anything that has no code of its own
    EXIT_USAGE = 2,     // wrong arguments, or a request the server refuses as wrong
    EXIT_MEDIA = 3,     // a picture or clip that cannot be read
    EXIT_MODEL = 4,     // a checkpoint that cannot be loaded
    EXIT_NO_SERVER = 5, // no sightd to ask, or it went away
    EXIT_LIMIT = 6,     // over a ceiling, or the queue is full
    EXIT_DENIED = 7,    // a right that who asks lacks, or a server that does not let them in
    EXIT_CANCELLED = 130,
};

typedef int cli_command(int argc, char **argv);

int cli_ask(int argc, char **argv);
int cli_chat(int argc, char **argv);
int cli_plan(int argc, char **argv);
int cli_trace(int argc, char **argv);
int cli_tokenize(int argc, char **argv);
int cli_prompt(int argc, char **argv);
int cli_bench(int argc, char **argv);
int cli_compare(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_top(int argc, char **argv);
int cli_models(int argc, char **argv);
int cli_keys(int argc, char **argv);

// The whole program, for main and for tests.
int cli_main(int argc, char **argv);

// Reads a command's arguments; true when it is over, with *status: help was shown, or an error
// printed.
bool cli_args(const arg_spec *spec, int argc, char **argv, int *n, int *status);

// Prints "sight: sentence" on stderr (colour on a terminal) and gives the exit code.
int cli_fail(sight_err code, const char *sentence);
int cli_exit_code(sight_err code);
// The same after talking to a daemon: connecting failed, or the error stored is the daemon's.
int cli_fail_asking(sight_err code, bool connecting);

#endif
