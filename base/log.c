#include "base/log.h"

#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// Bytes of a line that one message and one value may take when they are written, escapes and all.
#define MESSAGE_BYTES 2048
#define VALUE_BYTES   768
#define HEAD_BYTES    64 // time, level and priority

static atomic_int max_level = LOG_INFO;
static atomic_int as_format = LOG_AS_TEXT;
static atomic_int for_journal;

static const char *const level_names[] = {"error", "warning", "info", "debug"};

void log_set_level(log_level level)
{
    atomic_store(&max_level, (int)level);
}

bool log_level_parse(log_level *out, const char *word)
{
    for (int i = 0; i < 4; i++) {
        if (strcmp(word, level_names[i])) continue;
        *out = (log_level)i;
        return true;
    }
    return false;
}

void log_set_format(log_format format)
{
    atomic_store(&as_format, (int)format);
}

void log_set_journal(int journal)
{
    atomic_store(&for_journal, journal);
}

// ---- writing into a line of bounded size ----

typedef struct line {
    char *text;
    size_t n, end; // written, and where it must stop
    bool full;     // something did not fit
} line;

static void put(line *l, const char *text, size_t n)
{
    if (l->full || l->n + n > l->end) {
        l->full = true;
        return;
    }
    memcpy(l->text + l->n, text, n);
    l->n += n;
}

static void puts_to(line *l, const char *text)
{
    put(l, text, strlen(text));
}

// The length of the UTF-8 character at s, and the character; 0: there is none, *out is untouched.
static size_t read_char(const unsigned char *s, unsigned *out)
{
    static const unsigned char masks[] = {0x7f, 0x1f, 0x0f, 0x07};
    static const unsigned least[] = {0, 0x80, 0x800, 0x10000};
    const int more = *s < 0x80 ? 0 : (*s & 0xe0) == 0xc0 ? 1 : (*s & 0xf0) == 0xe0 ? 2 : (*s & 0xf8) == 0xf0 ? 3 : -1;
    if (more < 0) return 0;
    unsigned c = *s & masks[more];
    for (int i = 1; i <= more; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0; // the final NUL too
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return 0;
    *out = c;
    return (size_t)more + 1;
}

// Controls, line ends of all kinds, and what turns the direction of writing.
static bool is_unseen(unsigned c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

// A character that cannot stand as it is. bad: a byte that is no UTF-8.
static void put_escape(line *l, log_format format, unsigned c, bool bad)
{
    char code[16];
    if (c == '\n') strcpy(code, "\\n");
    else if (c == '\t') strcpy(code, "\\t");
    else if (c == '\r') strcpy(code, "\\r");
    else if (bad && format == LOG_AS_JSON) strcpy(code, "\\ufffd");
    else if (format == LOG_AS_TEXT && c < 0x100) snprintf(code, sizeof code, "\\x%02x", c);
    else snprintf(code, sizeof code, "\\u%04x", c);
    puts_to(l, code);
}

// Writes at most `bytes` of it, whole characters, and marks with ... what is left out.
static void put_escaped(line *l, log_format format, const char *text, size_t bytes, bool quotes)
{
    const size_t end = l->end, own = l->n + bytes;
    if (own < end) l->end = own;
    for (const unsigned char *s = (const unsigned char *)text; *s && !l->full;) {
        unsigned c = *s;
        const size_t n = read_char(s, &c);
        if (!n || is_unseen(c)) put_escape(l, format, c, !n);
        else if (quotes && (c == '"' || c == '\\')) put(l, c == '"' ? "\\\"" : "\\\\", 2);
        else put(l, (const char *)s, n);
        s += n ? n : 1;
    }
    const bool cut = l->full && own < end;
    l->end = end;
    if (!cut) return;
    l->full = false;
    puts_to(l, "...");
}

// Whether a value can stand in a text line without quotes.
static bool is_plain(const char *text)
{
    if (!*text) return false;
    for (const unsigned char *s = (const unsigned char *)text; *s;) {
        unsigned c = 0;
        const size_t n = read_char(s, &c);
        if (!n || is_unseen(c) || c == ' ' || c == '"' || c == '\\' || c == '=') return false;
        s += n;
    }
    return true;
}

static void put_value(line *l, log_format format, const log_field *f)
{
    if (!f->text) {
        char number[40];
        const bool whole = f->number == floor(f->number) && fabs(f->number) < 1e15;
        snprintf(number, sizeof number, whole ? "%.0f" : "%.6g", f->number);
        puts_to(l, number);
    } else if (format == LOG_AS_TEXT && is_plain(f->text)) {
        put_escaped(l, format, f->text, VALUE_BYTES, false);
    } else {
        puts_to(l, "\"");
        put_escaped(l, format, f->text, VALUE_BYTES, true);
        puts_to(l, "\"");
    }
}

// A field that does not fit is left out whole.
static void put_field(line *l, log_format format, const log_field *f)
{
    if (!f->text && !isfinite(f->number)) return;
    const size_t before = l->n;
    puts_to(l, format == LOG_AS_JSON ? ",\"" : " ");
    puts_to(l, f->key);
    puts_to(l, format == LOG_AS_JSON ? "\":" : "=");
    put_value(l, format, f);
    if (l->full) l->n = before;
    l->full = false;
}

size_t log_format_line(char *out, log_format format, log_level level, const char *message, const log_field *fields,
                       size_t n)
{
    const bool json = format == LOG_AS_JSON;
    line l = {out, 0, LOG_LINE_SIZE - HEAD_BYTES - 4, false}; // 4: the closing brace, a newline, a NUL
    if (json) {
        puts_to(&l, "\"level\":\"");
        puts_to(&l, level_names[level]);
        puts_to(&l, "\",\"message\":\"");
    }
    put_escaped(&l, format, message, MESSAGE_BYTES, json);
    if (json) puts_to(&l, "\"");
    for (size_t i = 0; i < n; i++) put_field(&l, format, &fields[i]);
    if (json) out[l.n++] = '}';
    out[l.n] = 0;
    return l.n;
}

// ---- lines with their heads ----

static size_t write_time(char *out, size_t size, log_format format)
{
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    const bool json = format == LOG_AS_JSON;
    if (json) gmtime_r(&now.tv_sec, &tm);
    else localtime_r(&now.tv_sec, &tm);
    size_t n = strftime(out, size, json ? "\"time\":\"%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &tm);
    return n + (size_t)snprintf(out + n, size - n, json ? ".%03ldZ\"," : ".%03ld ", now.tv_nsec / 1000000);
}

void log_event(log_level level, const char *message, const log_field *fields, size_t n_fields)
{
    static const int priority[] = {3, 4, 6, 7}; // syslog(3)
    if ((int)level > atomic_load(&max_level)) return;
    const log_format format = (log_format)atomic_load(&as_format);
    const bool journal = atomic_load(&for_journal), json = format == LOG_AS_JSON;
    char text[LOG_LINE_SIZE];
    size_t n = journal ? (size_t)snprintf(text, HEAD_BYTES, "<%d>", priority[level]) : 0;
    if (json) text[n++] = '{';
    if (json || !journal) n += write_time(text + n, HEAD_BYTES - n, format);
    if (!json && !journal) n += (size_t)snprintf(text + n, HEAD_BYTES - n, "%s ", level_names[level]);
    char body[LOG_LINE_SIZE];
    const size_t size = log_format_line(body, format, level, message, fields, n_fields);
    memcpy(text + n, body, size); // fits: a head is within HEAD_BYTES, which a line leaves free
    n += size;
    text[n++] = '\n';
    const ssize_t written = write(STDERR_FILENO, text, n); // one call: lines stay whole
    (void)written;
}

void log_line(log_level level, const char *format, ...)
{
    if ((int)level > atomic_load(&max_level)) return;
    char message[2048];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (n >= 0) log_event(level, message, NULL, 0);
}
