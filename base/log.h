// base/log.h - one line per event on stderr, for programs (daemon and clients) only.
//
// Libraries do not log; they return errors. Threads: any; lines are never mixed.
#ifndef SIGHT_BASE_LOG_H
#define SIGHT_BASE_LOG_H

typedef enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG } log_level;

// Lines above this level are dropped. Default LOG_INFO.
void log_set_level(log_level level);

// With journal = 1 each line carries the "<N>" priority prefix that systemd reads.
void log_set_journal(int journal);

void log_line(log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
