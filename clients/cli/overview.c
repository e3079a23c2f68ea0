#include "clients/cli/overview.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define LINE_SIZE 512

// ---- numbers for people ----

void overview_bytes(char *out, size_t size, double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int u = 0;
    for (; bytes >= 1024 && u < 4; u++) bytes /= 1024;
    snprintf(out, size, u && bytes < 10 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
}

void overview_seconds(char *out, size_t size, double s)
{
    s = s > 0 ? fmin(s, 1e10) : 0; // also what is no number
    const long n = (long)s;
    if (s < 0.1) snprintf(out, size, "%.0f ms", s * 1e3);
    else if (s < 10) snprintf(out, size, "%.1f s", s);
    else if (s < 60) snprintf(out, size, "%ld s", n);
    else if (s < 3600) snprintf(out, size, "%ld min %ld s", n / 60, n % 60);
    else if (s < 86400) snprintf(out, size, "%ld h %ld min", n / 3600, n / 60 % 60);
    else snprintf(out, size, "%ld d %ld h", n / 86400, n / 3600 % 24);
}

static double number_at(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static const char *text_at(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static bool has(const json_t *o, const char *key)
{
    return json_object_get(o, key) != NULL;
}

// ---- lines ----

// A line that is cut at the width; what is no visible ASCII becomes '?', so nothing can move the cursor.
typedef struct line {
    char text[LINE_SIZE];
    size_t n;
} line;

static void add(line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(line *l, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(l->text + l->n, sizeof l->text - l->n, format, args);
    va_end(args);
    if (n > 0) l->n = l->n + (size_t)n < sizeof l->text ? l->n + (size_t)n : sizeof l->text - 1;
}

static void add_bytes(line *l, const char *before, double bytes)
{
    char text[32];
    overview_bytes(text, sizeof text, bytes);
    add(l, "%s%s", before, text);
}

static void add_seconds(line *l, const char *before, double s)
{
    char text[32];
    overview_seconds(text, sizeof text, s);
    add(l, "%s%s", before, text);
}

static void put(buf *out, line *l, const overview_look *look, const char *colour)
{
    size_t n = l->n;
    if (look->width > 0 && n > (size_t)look->width) n = (size_t)look->width;
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)l->text[i] < 0x20 || (unsigned char)l->text[i] > 0x7e) l->text[i] = '?';
    }
    while (n && l->text[n - 1] == ' ') n--;
    const bool coloured = look->colour && *colour;
    if (coloured) buf_puts(out, colour);
    buf_add(out, l->text, n);
    if (coloured) buf_puts(out, "\033[0m");
    buf_putc(out, '\n');
}

// ---- the daemon ----

static void write_head(buf *out, const json_t *s, const overview_look *look)
{
    line l = {.n = 0};
    add(&l, "sightd %s  %s  %s", text_at(s, "version"), text_at(s, "model"), text_at(s, "state"));
    add_seconds(&l, "  up ", number_at(s, "uptime_s"));
    add(&l, "  %.0f client%s", number_at(s, "connections"), number_at(s, "connections") == 1 ? "" : "s");
    const json_t *engine = json_object_get(s, "engine");
    if (engine && !json_is_true(json_object_get(engine, "alive"))) {
        add_seconds(&l, "  ENGINE STUCK for ", number_at(engine, "turn_s"));
    }
    put(out, &l, look, "\033[1m");
}

static void write_queue(buf *out, const json_t *s, const overview_look *look)
{
    const json_t *q = json_object_get(s, "queue"), *e = json_object_get(s, "ended");
    line l = {.n = 0};
    add(&l, "requests  %.0f running, %.0f waiting, %.0f being priced", number_at(q, "running"), number_at(q, "waiting"),
        number_at(q, "arrived") + number_at(q, "planning"));
    if (e) {
        const double failed = number_at(e, "error") + number_at(e, "timeout");
        const double cut = number_at(e, "cancelled") + number_at(e, "gone") + number_at(e, "stopped");
        add(&l, "; done %.0f, failed %.0f, ended early %.0f, refused %.0f", number_at(e, "done"), failed, cut,
            number_at(s, "refused"));
    }
    put(out, &l, look, "");
}

static void write_rates(buf *out, const json_t *s, const overview_look *look)
{
    const json_t *r = json_object_get(s, "rates");
    line l = {.n = 0};
    if (!r) return;
    add(&l, "speed     %.1f tokens/s written, %.0f read", number_at(r, "generated_per_s"), number_at(r, "read_per_s"));
    if (has(r, "batch")) add(&l, "; %.1f answers in a step", number_at(r, "batch"));
    put(out, &l, look, "");
}

static void write_replicas(buf *out, const json_t *s, const overview_look *look)
{
    size_t i;
    json_t *r;
    line l = {.n = 0};
    json_array_foreach(json_object_get(s, "replicas"), i, r) {
        add(&l, "%s%.0f: %.0f running", i ? "; " : "replicas  ", number_at(r, "replica"), number_at(r, "running"));
        add_seconds(&l, ", busy for ", number_at(r, "busy_s"));
    }
    if (l.n) put(out, &l, look, "");
}

static void add_times(line *l, const char *what, const json_t *of)
{
    const char *priority;
    json_t *t;
    json_object_foreach((json_t *)of, priority, t) {
        add(l, "%s%s", l->n > 10 ? "; " : "", what);
        if (strcmp(priority, "interactive")) add(l, " (%s)", priority);
        add_seconds(l, " ", number_at(t, "p50"));
        add_seconds(l, ", 95 % in ", number_at(t, "p95"));
    }
}

static void write_times(buf *out, const json_t *s, const overview_look *look)
{
    line l = {.n = 0};
    add(&l, "times     ");
    add_times(&l, "first token", json_object_get(s, "first_token_s"));
    add_times(&l, "next", json_object_get(s, "token_gap_s"));
    if (l.n > 10) put(out, &l, look, "");
}

static void write_memory(buf *out, const json_t *s, const overview_look *look)
{
    const json_t *memory = json_object_get(s, "memory");
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(memory, "models"), i, m) {
        line l = {.n = 0};
        add(&l, "%-9s %s", i ? "" : "models", text_at(m, "model"));
        if (json_is_true(json_object_get(m, "loaded"))) {
            add_bytes(&l, ": weights ", number_at(m, "weights"));
            add_bytes(&l, ", caches ", number_at(m, "caches"));
            add_bytes(&l, " of ", number_at(m, "cache_budget"));
            add_bytes(&l, ", promised ", number_at(m, "promised"));
        } else {
            add(&l, ": not loaded");
        }
        put(out, &l, look, "");
    }
    line l = {.n = 0};
    if (!memory) return;
    add_bytes(&l, "memory    ", number_at(memory, "resident"));
    add(&l, " in RAM");
    put(out, &l, look, "");
}

static void write_stores(buf *out, const json_t *s, const overview_look *look)
{
    size_t i;
    json_t *t;
    const json_t *stores = json_object_get(s, "stores");
    json_array_foreach(stores, i, t) {
        line l = {.n = 0};
        const double hits = number_at(t, "hits"), all = hits + number_at(t, "misses");
        add(&l, "%-9s %s: %.0f entries", i ? "" : "stores", text_at(t, "store"), number_at(t, "entries"));
        add_bytes(&l, ", ", number_at(t, "bytes"));
        add(&l, "; found %.0f of %.0f", hits, all);
        put(out, &l, look, "");
    }
}

// ---- the requests ----

typedef struct column {
    const char *title;
    int width;
    bool right;
    int rank; // those of a higher one go first when there is no room
    void (*write)(line *l, const json_t *request);
} column;

static void write_serial(line *l, const json_t *r)
{
    add(l, "%.0f", number_at(r, "n"));
}

static void write_id(line *l, const json_t *r)
{
    add(l, "%s", text_at(r, "id"));
}

static void write_who(line *l, const json_t *r)
{
    add(l, "%s", text_at(r, "who"));
}

static void write_model(line *l, const json_t *r)
{
    add(l, "%s", text_at(r, "model"));
}

static void write_priority(line *l, const json_t *r)
{
    add(l, "%s", text_at(r, "priority"));
}

static void write_state(line *l, const json_t *r)
{
    add(l, "%s", text_at(r, "state"));
    if (number_at(r, "place") > 0) add(l, " %.0f", number_at(r, "place"));
}

static void write_stage(line *l, const json_t *r)
{
    const double total = number_at(r, "total");
    add(l, "%s", text_at(r, "stage"));
    if (total > 0) add(l, " %.0f %%", 100 * number_at(r, "done") / total);
    if (number_at(r, "left_s") > 0) add_seconds(l, " ", number_at(r, "left_s"));
}

static void write_prompt(line *l, const json_t *r)
{
    if (has(r, "prompt_tokens")) add(l, "%.0f", number_at(r, "prompt_tokens"));
}

static void write_tokens(line *l, const json_t *r)
{
    if (number_at(r, "generated_tokens") > 0) {
        add(l, "%.0f/%.0f", number_at(r, "generated_tokens"), number_at(r, "max_tokens"));
    }
}

static void write_speed(line *l, const json_t *r)
{
    if (number_at(r, "tokens_per_s") > 0) add(l, "%.1f", number_at(r, "tokens_per_s"));
    else if (number_at(r, "per_s") > 0) add(l, "%.0f", number_at(r, "per_s"));
}

static void write_age(line *l, const json_t *r)
{
    add_seconds(l, "", number_at(r, "age_s"));
}

static const column columns[] = {
    {"N", 6, true, 7, write_serial},       {"ID", 16, false, 0, write_id},
    {"WHO", 12, false, 3, write_who},      {"MODEL", 14, false, 6, write_model},
    {"PRIORITY", 11, false, 8, write_priority}, {"STATE", 10, false, 1, write_state},
    {"STAGE", 18, false, 2, write_stage},  {"PROMPT", 7, true, 9, write_prompt},
    {"TOKENS", 12, true, 5, write_tokens}, {"TOK/S", 7, true, 4, write_speed},
    {"AGE", 12, true, 2, write_age},
};

#define N_COLUMNS (sizeof columns / sizeof *columns)

// The highest rank at which the columns fit.
static int choose_rank(int width)
{
    int rank = 9;
    for (; rank > 0 && width > 0; rank--) {
        int sum = 0;
        for (size_t i = 0; i < N_COLUMNS; i++) sum += columns[i].rank <= rank ? columns[i].width + 1 : 0;
        if (sum - 1 <= width) break;
    }
    return rank;
}

static void add_cell(line *l, const column *c, const char *text)
{
    if (l->n) add(l, " ");
    add(l, c->right ? "%*.*s" : "%-*.*s", c->width, c->width, text);
}

static void write_row(buf *out, const json_t *request, int rank, const overview_look *look, const char *colour)
{
    line l = {.n = 0};
    for (size_t i = 0; i < N_COLUMNS; i++) {
        line cell = {.n = 0};
        if (columns[i].rank > rank) continue;
        if (request) columns[i].write(&cell, request);
        else add(&cell, "%s", columns[i].title);
        add_cell(&l, &columns[i], cell.text);
    }
    put(out, &l, look, colour);
}

static void write_requests(buf *out, const json_t *s, const overview_look *look)
{
    const json_t *list = json_object_get(s, "requests");
    const int n = (int)json_array_size(list), rank = choose_rank(look->width);
    const int most = look->rows > 0 && look->rows < n ? look->rows : n;
    if (n == 0) return;
    // The selected one is always among those shown.
    const int from = look->selected >= most ? look->selected - most + 1 : 0;
    buf_putc(out, '\n');
    write_row(out, NULL, rank, look, "\033[2m");
    for (int i = from; i < from + most; i++) {
        const json_t *r = json_array_get(list, (size_t)i);
        const bool running = !strcmp(text_at(r, "state"), "running");
        write_row(out, r, rank, look, i == look->selected ? "\033[7m" : running ? "\033[32m" : "");
    }
    line l = {.n = 0};
    add(&l, "and %d more", n - most);
    if (most < n) put(out, &l, look, "\033[2m");
}

void overview_write(buf *out, const json_t *status, const overview_look *look)
{
    write_head(out, status, look);
    write_queue(out, status, look);
    write_rates(out, status, look);
    write_replicas(out, status, look);
    write_times(out, status, look);
    write_memory(out, status, look);
    write_stores(out, status, look);
    write_requests(out, status, look);
}
