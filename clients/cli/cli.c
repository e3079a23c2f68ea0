#include "clients/cli/cli.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/terminal.h"

static const struct {
    const char *name;
    cli_command *run;
    const char *what;
} commands[] = {
    {"ask", cli_ask, "ask a question about pictures and videos"},
    {"chat", cli_chat, "keep a conversation about them"},
    {"plan", cli_plan, "show frames, times, sizes, tokens and memory before any work"},
    {"status", cli_status, "what the daemon is doing"},
    {"top", cli_top, "the same, once a second"},
    {"models", cli_models, "what the daemon has loaded"},
    {"keys", cli_keys, "make and look at the keys of those who ask over a network"},
    {"bench", cli_bench, "measure speed and memory beside the machine's limits"},
    {"compare", cli_compare, "what another form of the weights costs in quality"},
    {"tokenize", cli_tokenize, "text to token ids"},
    {"prompt", cli_prompt, "the prompt a request becomes"},
    {"trace", cli_trace, "one request with every number on the way, for comparing"},
};

#define N_COMMANDS (sizeof commands / sizeof *commands)

int cli_exit_code(sight_err code)
{
    switch (code) {
    case SIGHT_OK: return EXIT_OK;
    case SIGHT_E_ARGUMENT:
    case SIGHT_E_UNSUPPORTED: return EXIT_USAGE;
    case SIGHT_E_MEDIA: return EXIT_MEDIA;
    case SIGHT_E_MODEL: return EXIT_MODEL;
    case SIGHT_E_LIMIT:
    case SIGHT_E_MEMORY:
    case SIGHT_E_BUSY: return EXIT_LIMIT;
    case SIGHT_E_CANCELLED: return EXIT_CANCELLED;
    default: return EXIT_FAILED;
    }
}

int cli_fail(sight_err code, const char *sentence)
{
    terminal_clear();
    bool colour = terminal_err_colour();
    fprintf(stderr, "%ssight:%s %s\n", colour ? "\033[31m" : "", colour ? "\033[0m" : "",
            sentence);
    return cli_exit_code(code);
}

int cli_fail_asking(sight_err code, bool connecting)
{
    int status = cli_fail(code, sight_error());
    if (code == SIGHT_E_PERMISSION) return EXIT_DENIED;
    bool unreachable = connecting && (code == SIGHT_E_NOT_FOUND || code == SIGHT_E_TIMEOUT);
    return unreachable || code == SIGHT_E_IO ? EXIT_NO_SERVER : status;
}

bool cli_args(const arg_spec *spec, int argc, char **argv, int *n, int *status)
{
    bool help;
    sight_err err = args_parse(spec, argc, argv, n, &help);
    if (err) *status = cli_fail(err, sight_error());
    else if (help) args_help(spec);
    return err || help;
}

static void print_help(void)
{
    printf("usage: sight COMMAND [OPTION...] [ARGUMENT...]\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        printf("  %-10s %s\n", commands[i].name, commands[i].what);
    }
    printf("\nsight COMMAND --help says more; so does man sight.\n"
           "First steps: sight ask clip.mp4 \"What happens?\"\n");
}

// What was printed may not have arrived: a disk is full. A reader that left has seen enough.
static int check_output(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) return status;
    struct pollfd out = {.fd = STDOUT_FILENO};
    if (poll(&out, 1, 0) == 1 && (out.revents & POLLERR)) return status;
    if (status != EXIT_OK) return status;
    return cli_fail(SIGHT_E_IO, "cannot write all of the output: the disk may be full");
}

static int run_command(int argc, char **argv)
{
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc - 2, argv + 2);
    }
    sight_fail(SIGHT_E_ARGUMENT, "there is no command '%s' (see sight --help)", argv[1]);
    return cli_fail(SIGHT_E_ARGUMENT, sight_error());
}

int cli_main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2 || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") ||
        !strcmp(argv[1], "help")) {
        print_help();
        return argc < 2 ? EXIT_USAGE : EXIT_OK;
    }
    if (!strcmp(argv[1], "--version")) {
        printf("sight %s\n", SIGHT_VERSION);
        return EXIT_OK;
    }
    return check_output(run_command(argc, argv));
}
