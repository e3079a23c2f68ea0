// daemon/watch/notify.h - tells systemd how the service is, without libsystemd.
//
// Protocol: sd_notify(3), a datagram to the socket named by NOTIFY_SOCKET. Without that variable
// every call does nothing. Threads: one at a time.
#ifndef SIGHT_DAEMON_NOTIFY_H
#define SIGHT_DAEMON_NOTIFY_H

// state: "READY=1", "STOPPING=1", "WATCHDOG=1", "STATUS=...". Failures are of no interest here.
void notify_send(const char *state);
// Seconds between two WATCHDOG=1 that systemd expects, halved; 0: none.
double notify_watchdog_s(void);

#endif
