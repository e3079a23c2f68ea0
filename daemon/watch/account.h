// daemon/watch/account.h - what the service tells the log and the metrics about its requests.
//
// Threads: the server's.
#ifndef SIGHT_DAEMON_ACCOUNT_H
#define SIGHT_DAEMON_ACCOUNT_H

#include "daemon/ticket.h"

// A message came in that could be read.
void account_message(metrics *m, const server_message *message);
// It was not taken in. who may be NULL.
void account_refused(metrics *m, const server_message *message, const identity *who, sight_err code, const char *line);
// A request was taken in.
// It runs now.
void account_begun(metrics *m, const job *j);
void account_arrived(const ticket *t);
// An event went out, or could not (err).
void account_sent(metrics *m, size_t bytes, sight_err err);
// Once a second: how fast each answer comes.
void account_second(const scheduler *queue, double now_s);
// It has ended: counts it, and writes its line. now_s: as job.arrived_s.
void account_ended(const ticket *t, metrics *m, double now_s);

#endif
