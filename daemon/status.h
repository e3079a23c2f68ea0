// daemon/status.h - the small JSON texts of the server thread: status, models, accepted, cancel.
#ifndef SIGHT_DAEMON_STATUS_H
#define SIGHT_DAEMON_STATUS_H

#include "daemon/watch/monitor.h"
#include "daemon/models/models.h"
#include "daemon/settings/options.h"
#include "daemon/ticket.h"

// What a status speaks about; all borrowed.
typedef struct status_view {
    models *models;
    const options *options;
    const server *server;
    const scheduler *queue;
    double now_s, uptime_s;
    int64_t served;
    bool stopping;
    const identity *who; // asks: without the right to see others' requests it sees its own
    const monitor *monitor; // NULL: alike
    const metrics *metrics; // NULL: nothing is counted
} status_view;

// What a status asks for: {"metrics": true}, or nothing. SIGHT_E_ARGUMENT; SIGHT_E_PERMISSION: who asks sees no metrics.
sight_err status_read_question(bool *with_metrics, const status_view *v, const char *json, size_t size);

// malloc; NULL: no memory. with_metrics: their text too.
char *status_json(const status_view *v, bool with_metrics);
char *status_models_json(const status_view *v);
char *status_accepted_json(const ticket *t, int place);

// The request that a cancel names: {"id": "..."}, and whose it is, "" for who asks: {"id": "...", "who": "..."}. SIGHT_E_ARGUMENT.
sight_err status_read_cancel(char id[SIGHT_ID_SIZE], char who[IDENTITY_NAME_SIZE], const char *json, size_t size);

#endif
