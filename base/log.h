// base/log.h - one line per event on stderr, for programs (daemon and clients) only.
//
// A line is a message and named fields, as text (`2026-11-21 20:49:18.123 info request ended id=q1 tokens=42`) or as a JSON
// object. Whatever it is made of, it is one line of valid UTF-8 and, as JSON, one object: control characters are
// escaped, bytes that are not UTF-8 too, and what is too long is cut.
//
// Libraries do not log; they return errors. Threads: any; lines are never mixed.
#ifndef SIGHT_BASE_LOG_H
#define SIGHT_BASE_LOG_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>


typedef enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG } log_level;
typedef enum log_format { LOG_AS_TEXT, LOG_AS_JSON } log_format;

// Lines above this level are dropped. Default LOG_INFO.
void log_set_level(log_level level);
bool log_level_parse(log_level *out, const char *word); // "warning"; false: there is no such level
void log_set_format(log_format format);

// With journal = 1 each line carries the "<N>" priority prefix that systemd reads, and as text neither time nor level.
void log_set_journal(int journal);

typedef struct log_field {
    const char *key;  // of the program's own, plain ASCII
    const char *text; // NULL: a number
    double number;
} log_field;

// A field without a value (NULL, NAN) is left out.
#define LOG_TEXT(key, value)   ((log_field){(key), (value), NAN})
#define LOG_NUMBER(key, value) ((log_field){(key), NULL, (double)(value)})

void log_event(log_level level, const char *message, const log_field *fields, size_t n);
// The message alone.
void log_line(log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

// The line that would be written, without time, priority and newline, for tests and fuzzing. Gives its length; size is
// at least LOG_LINE_SIZE.
size_t log_format_line(char *out, log_format format, log_level level, const char *message, const log_field *fields,
                       size_t n);
#define LOG_LINE_SIZE 4096 // what a pipe takes in one piece

#endif
