// daemon/fair.h - whose turn it is among those who want the same: priority, age, deadline, and what each has used.
//
// Engine time is counted for who asks (daemon/access/identity.h), and beneath for every connection: of two with the same claim
// the one who has used less goes first, so requests that are many or long bring nobody more than their share. Who was
// away gets no credit for it: an account begins with what the least of those at work has used.
//
// Pure arithmetic, times given by the caller. Threads: one at a time; the scheduler and the engine thread have one each.
#ifndef SIGHT_DAEMON_FAIR_H
#define SIGHT_DAEMON_FAIR_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

// In the order in which they go.
typedef enum fair_class { FAIR_INTERACTIVE, FAIR_CAMERA, FAIR_BATCH, FAIR_CLASSES } fair_class;

// "interactive", "camera", "batch". NULL outside.
const char *fair_class_name(fair_class class);
bool fair_class_parse(fair_class *out, const char *name);

// Who waits so long goes as one class up: nobody waits forever.
#define FAIR_AGE_S 20.0
// Deadlines count as long as an identity has used at most so much more than the least of the others.
#define FAIR_AHEAD_S 5.0

typedef struct fair fair;
typedef struct fair_account fair_account; // of one connection of one identity

sight_err fair_create(fair **out); // SIGHT_E_MEMORY
void fair_destroy(fair **f);       // with all accounts; accepts NULL; leaves NULL

// The account of that connection (bytes that name it) of that identity, for one more request. SIGHT_E_MEMORY.
sight_err fair_open(fair *f, fair_account **out, const void *who, const void *client, size_t client_size);
void fair_close(fair *f, fair_account **a); // one request less; accepts NULL; leaves NULL
void fair_charge(fair *f, fair_account *a, double seconds);

// What is waiting for its turn.
typedef struct fair_claim {
    fair_class class;
    double since_s;    // when it came
    double deadline_s; // by when it has to be over; 0: no matter when
    long order;        // of two that are alike in all else
    fair_account *account;
} fair_claim;

// Whether a goes before b: by class, in which age counts; who is not ahead of others; the earlier deadline; who has used
// less, by identity and by connection; the order.
bool fair_before(const fair *f, const fair_claim *a, const fair_claim *b, double now_s);

#endif
