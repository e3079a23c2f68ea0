// daemon/status.h - the small JSON texts of the server thread: status, models, accepted, cancel.
#ifndef SIGHT_DAEMON_STATUS_H
#define SIGHT_DAEMON_STATUS_H

#include "daemon/options.h"
#include "daemon/ticket.h"

// What a status speaks about; all borrowed.
typedef struct status_view {
    const engine *model;
    const options *options;
    const server *server;
    const scheduler *queue;
    double now_s, uptime_s;
    int64_t served;
    bool stopping;
    const identity *who; // asks: without the right to see others' requests it sees its own
} status_view;

// malloc; NULL: no memory.
char *status_json(const status_view *v);
char *status_models_json(const status_view *v);
char *status_accepted_json(const ticket *t, int place);

// The request that a cancel names: {"id": "..."}, and whose it is, "" for who asks: {"id": "...", "who": "..."}. SIGHT_E_ARGUMENT.
sight_err status_read_cancel(char id[SIGHT_ID_SIZE], char who[IDENTITY_NAME_SIZE], const char *json, size_t size);

#endif
