// sight top: what the daemon is doing, once a second, until q.
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "base/clock.h"
#include "clients/cli/args.h"
#include "clients/cli/cli.h"
#include "clients/cli/connect.h"
#include "clients/cli/overview.h"
#include "clients/cli/terminal.h"
#include "sight/client.h"

#define CALL_MS 5000

typedef struct top {
    const connect_options *to;
    sight_client *client; // NULL: not connected
    json_t *status;       // the last one; NULL: none yet
    char note[256];       // below the table
    int selected;
    double every_s;
} top;

static volatile sig_atomic_t leaving;

static void on_leave(int number)
{
    leaving = 1;
}

static void on_resize(int number) // ends the wait for a key
{
}

// ---- the daemon ----

static sight_err take_status(top *t)
{
    char *reply = NULL;
    sight_err err = t->client ? SIGHT_OK : connect_running(&t->client, t->to, 2000);
    if (!err) err = sight_client_call(t->client, &reply, SIGHT_STATUS, NULL, NULL, 0, CALL_MS);
    json_t *status = err ? NULL : json_loads(reply, 0, NULL);
    if (!err && !status) err = sight_fail(SIGHT_E_PROTOCOL, "the server's reply is no JSON");
    free(reply);
    if (err) {
        sight_client_close(&t->client);
        return err;
    }
    json_decref(t->status);
    t->status = status;
    return SIGHT_OK;
}

static const json_t *selected_request(const top *t)
{
    return json_array_get(json_object_get(t->status, "requests"), (size_t)t->selected);
}

// Ends the selected request: one's own, or with the right to do so another's.
static void cancel_selected(top *t)
{
    const json_t *r = selected_request(t);
    char *reply = NULL, *json = NULL;
    if (t->selected < 0 || !r || !t->client) return;
    json_t *body = json_pack("{s:O, s:O}", "id", json_object_get(r, "id"), "who", json_object_get(r, "who"));
    if (body) json = json_dumps(body, JSON_COMPACT);
    json_decref(body);
    if (!json) return;
    sight_err err = sight_client_call(t->client, &reply, SIGHT_CANCEL, json, NULL, 0, CALL_MS);
    const bool found = !err && strstr(reply, "true");
    snprintf(t->note, sizeof t->note, "%s", err ? sight_error() : found ? "cancelled" : "it has ended already");
    free(reply);
    free(json);
}

// ---- the terminal ----

static void measure(int *width, int *height)
{
    struct winsize w = {0};
    *width = 80;
    *height = 24;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || !w.ws_col || !w.ws_row) return;
    *width = w.ws_col;
    *height = w.ws_row;
}

static int count_lines(const char *text)
{
    int n = 0;
    for (; (text = strchr(text, '\n')); text++) n++;
    return n;
}

// Lines of a text onto the screen, each with what stood behind it wiped; those that do not fit are left out.
static void show(const char *text, int height)
{
    fputs("\033[H", stdout);
    for (int row = 1; *text && row < height; row++) {
        const size_t n = strcspn(text, "\n");
        fwrite(text, 1, n, stdout);
        fputs("\033[K\r\n", stdout);
        text += n + (text[n] != 0);
    }
    fputs("\033[J", stdout);
    fflush(stdout);
}

static void draw(top *t)
{
    int width, height;
    measure(&width, &height);
    overview_look look = {.width = width, .colour = terminal_out_colour(), .selected = t->selected};
    buf out;
    buf_init(&out);
    if (t->status) {
        overview_write(&out, t->status, &look);
        const int over = count_lines(buf_text(&out)) + 3 - height;
        const int n = (int)json_array_size(json_object_get(t->status, "requests"));
        if (over > 0 && n > 1) {
            buf_clear(&out);
            look.rows = n - over - 1 > 1 ? n - over - 1 : 1;
            overview_write(&out, t->status, &look);
        }
    }
    buf_printf(&out, "\n%.*s\n", width, *t->note ? t->note : "q quits, up and down select, c cancels");
    if (!buf_failed(&out)) show(buf_text(&out), height);
    buf_done(&out);
}

static void select_by(top *t, int by)
{
    const int n = (int)json_array_size(json_object_get(t->status, "requests"));
    t->selected += by;
    if (t->selected >= n) t->selected = n - 1;
    if (t->selected < -1) t->selected = -1;
}

static void take_keys(top *t)
{
    char keys[32];
    const ssize_t n = read(STDIN_FILENO, keys, sizeof keys - 1);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) leaving = 1; // nobody is there any more
    if (n <= 0) return;
    keys[n] = 0;
    t->note[0] = 0;
    if (!strcmp(keys, "\033[A") || *keys == 'k') select_by(t, -1);
    else if (!strcmp(keys, "\033[B") || *keys == 'j') select_by(t, 1);
    else if (*keys == 'c') cancel_selected(t);
    else if (*keys == 'q') leaving = 1;
}

static void watch(top *t)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    for (double next = 0; !leaving;) {
        double now = clock_now_s();
        if (now >= next) {
            if (take_status(t)) snprintf(t->note, sizeof t->note, "%s", sight_error());
            else if (!selected_request(t)) select_by(t, 0);
            next = now + t->every_s;
        }
        draw(t);
        now = clock_now_s();
        if (poll(&in, 1, next > now ? (int)((next - now) * 1e3) + 1 : 0) > 0) take_keys(t);
    }
}

// The whole screen for as long as it lasts, keys as they are pressed.
static sight_err run_on_terminal(top *t)
{
    struct termios before, raw;
    struct sigaction leave = {.sa_handler = on_leave}, resize = {.sa_handler = on_resize};
    sight_err err = take_status(t); // a daemon that is not there is told as usual
    if (err) return err;
    if (tcgetattr(STDIN_FILENO, &before)) return sight_fail(SIGHT_E_IO, "cannot set up the terminal: %s", strerror(errno));
    sigaction(SIGINT, &leave, NULL);
    sigaction(SIGTERM, &leave, NULL);
    sigaction(SIGHUP, &leave, NULL);
    sigaction(SIGWINCH, &resize, NULL);
    raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    fputs("\033[?1049h\033[?25l", stdout); // another screen, no cursor
    watch(t);
    fputs("\033[?25h\033[?1049l", stdout);
    fflush(stdout);
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    return SIGHT_OK;
}

static sight_err print_once(top *t)
{
    const overview_look look = {.colour = terminal_out_colour(), .selected = -1};
    sight_err err = take_status(t);
    if (err) return err;
    buf out;
    buf_init(&out);
    overview_write(&out, t->status, &look);
    fputs(buf_text(&out), stdout);
    err = buf_failed(&out) ? sight_fail(SIGHT_E_MEMORY, "no memory for a table") : SIGHT_OK;
    buf_done(&out);
    return err;
}

int cli_top(int argc, char **argv)
{
    connect_options to = {0};
    bool once = false;
    top t = {.to = &to, .selected = -1, .every_s = 1};
    const arg_option options[] = {
        CONNECT_ARGS(&to),
        {"interval", 'i', ARG_NUMBER, &t.every_s, "S", "seconds between two looks (1)", 0.1, 3600},
        {"once", '1', ARG_FLAG, &once, NULL, "one look, as where the output is no terminal", 0, 0},
    };
    arg_spec spec = {"top", "", "Shows what the daemon is doing, once a second. q quits, c cancels the request that is selected.",
                     options, sizeof options / sizeof *options};
    int n, status = EXIT_OK;
    if (cli_args(&spec, argc, argv, &n, &status)) return status;
    sight_err err = SIGHT_OK;
    const bool person = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO);
    if (n) err = sight_fail(SIGHT_E_ARGUMENT, "'%s' is one argument too many", argv[0]);
    else err = once || !person ? print_once(&t) : run_on_terminal(&t);
    const bool connecting = !t.client;
    sight_client_close(&t.client);
    json_decref(t.status);
    return err ? cli_fail_asking(err, connecting) : EXIT_OK;
}
