// clients/cli/args.h - options of a subcommand, from one table.
//
// "--name value", "--name=value", "-n value" and flags; options may stand anywhere; "--" ends them.
// Threads: one.
#ifndef SIGHT_CLI_ARGS_H
#define SIGHT_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

typedef enum arg_kind {
    ARG_FLAG,   // bool *
    ARG_TEXT,   // const char **
    ARG_NUMBER, // double *, within [min, max]
    ARG_COUNT,  // int64_t *, within [min, max]
    ARG_TIME,   // double *: seconds, "m:ss" or "h:mm:ss"
    ARG_LIST,   // arg_list *: may be given several times
} arg_kind;

#define ARG_LIST_MAX 16

typedef struct arg_list {
    const char *items[ARG_LIST_MAX];
    size_t n;
} arg_list;

typedef struct arg_option {
    const char *name; // without dashes
    char letter;      // 0: none
    arg_kind kind;
    void *out;
    const char *value; // what to call it in the help ("N", "DIR")
    const char *help;
    double min, max; // numbers and counts
} arg_option;

typedef struct arg_spec {
    const char *command;    // "ask"
    const char *positional; // "[MEDIA...] QUESTION"
    const char *summary;    // one sentence
    const arg_option *options;
    size_t n_options;
} arg_spec;

// What is no option is moved to the front of argv (argv[0..*n_positional-1]).
// SIGHT_E_ARGUMENT with a sentence. *wants_help: --help was among them.
sight_err args_parse(const arg_spec *spec, int argc, char **argv, int *n_positional,
                     bool *wants_help);
// The subcommand's help on stdout.
void args_help(const arg_spec *spec);

#endif
