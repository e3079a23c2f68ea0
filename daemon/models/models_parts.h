// daemon/models/models_parts.h - what models.c, models_change.c, models_memory.c and models_tell.c share. The registry's lock guards all of it.
#ifndef SIGHT_DAEMON_MODELS_PARTS_H
#define SIGHT_DAEMON_MODELS_PARTS_H

#include <pthread.h>

#include "daemon/models/models.h"

typedef struct model_entry {
    model_spec spec;
    models *of;
    int index; // in metrics
    device_sets on; // of each replica
    int64_t share; // bytes, of each device of each replica; 0: none
    model_state state;
    engine *engine; // the first of these; NULL: not loaded
    engine *replicas[DEVICE_LIST_MAX]; // [on.n]
    bool lost[DEVICE_LIST_MAX];        // whose device has failed
    int refs;       // uses that name it
    int users;      // of these, those that have the engine
    int waiting;    // of these, those that wait for it
    uint64_t order; // of the first of those
    bool eager;     // to be loaded though nobody waits for it
    bool blocked;   // waits for memory that is in use
    bool leaving;   // not configured any more
    double used_s;  // when the last user left
    double retry_s; // of a failed one: not before
    sight_err err;
    char line[256];    // what it failed with
    int64_t budget;    // bytes that it was opened with, of each device of each replica
    int64_t too_small; // bytes with which opening failed for memory
    int percent; // of its weights prepared; -1: nothing is
    bool placed; // its device is settled
    char *dir; // the folder or file that it is in; NULL: not found
} model_entry;

// A device that models lie on.
typedef struct model_group {
    device_id device;
    int64_t all, allowance; // bytes; allowance: for all models
    bool bounded;           // by a setting; else by what was free when it was looked at
    model_entry *blocked;   // waits for memory that is in use
} model_group;

struct models {
    models_ops ops;
    metrics *metrics;
    double pause_s;
    pthread_t thread;
    bool started;
    pthread_mutex_t listening; // guards the two below; taken with nothing else held
    void (*listen)(void *arg);
    void *listen_arg;
    atomic_bool stop;
    pthread_mutex_t lock; // guards what follows
    pthread_cond_t changed;
    model_set set;
    model_entry **entries; // [n], with those that are leaving
    int n;
    model_group *groups; // [n_groups]
    int n_groups;
    uint64_t orders;
    bool starting; // somebody waits in models_open
};

// ---- models.c ----

double models_now(models *m);
void models_signal(models *m); // wakes the registry's thread and whoever waits with it; with the lock
void models_tell(models *m);   // whoever listens; without the lock

// ---- models_change.c ----

// Entries of a set, without devices. *out [set->n_models] is malloced. SIGHT_E_MEMORY.
sight_err models_make_entries(models *m, model_entry ***out, const model_set *set);
void models_entry_destroy(model_entry **e);
void models_destroy_entries(model_entry **entries, int n);
void models_drop_if_gone(models *m, model_entry *e); // one that nobody knows any more
model_entry *models_find(models *m, const char *name); // by name or folder; NULL: none
void models_name_all(models *m);                       // in metrics

// ---- models_memory.c ----

model_group *models_group(models *m, device_id device); // NULL: none
bool models_is_on(const model_entry *e, device_id device);
int models_times_on(const model_entry *e, device_id device); // how many of its replicas are
// Who waits for memory on one of e's devices; NULL: nobody, or e itself.
model_entry *models_blocked(models *m, const model_entry *e);
void models_block(models *m, const model_entry *e, model_entry *by); // there; NULL: nobody
// Devices, shares and allowances of a set, for entries [n] as yet unlinked. *groups is malloced.
sight_err models_share_out(models *m, model_entry **entries, int n, const model_set *set, model_group **groups,
                           int *n_groups);

typedef enum model_offer {
    OFFER_LOAD,  // e->budget is set
    OFFER_EVICT, // *victim has to go first
    OFFER_WAIT,  // what stands in the way is in use
    OFFER_NEVER, // e->err and e->line say why
} model_offer;

// What is to be done so that e, which is wanted, can be loaded.
model_offer models_offer(models *m, model_entry *e, model_entry **victim);
// With how much e is to be opened, once it was offered: alone on its devices it takes what is free then, not what
// was when the daemon began.
void models_how(models *m, const model_entry *e, model_opening *how);
// Whether a use has to stand back for somebody who waits for this model's memory.
bool models_stands_back(models *m, const model_entry *e, uint64_t order);

#endif
