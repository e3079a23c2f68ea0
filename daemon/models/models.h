// daemon/models/models.h - the models of a daemon: which there are, which are loaded, and who uses them.
//
// A model is loaded with the daemon or with the first request for it, by a thread of its own while the others answer, and let
// go when it was not used for a while, or when another needs its memory: the one unused for longest first, never one in
// use. One that could not be loaded is tried again after a pause.
//
// Memory is counted by what it is of: the machine's, or a GPU's. A model with a share has that, whoever else is loaded; what shares
// leave belongs to those without one: an equal part each, or twice, four times that when it is too small, as far as it is not
// in use. Who waits for memory in use goes first: later requests for what stands in the way wait behind.
//
// A model may be open several times, on devices of each its own: replicas, for many requests (daemon/replica.h). They are loaded and
// let go together, and a use is of all of them. The first is the one that requests are planned with, so what it promises (context,
// memory) holds for all.
//
// Threads: any, but create and destroy. Engines are opened and closed on the registry's own thread (or, when it is
// destroyed, by who does that); between models_take and models_end an engine stays.
#ifndef SIGHT_DAEMON_MODELS_H
#define SIGHT_DAEMON_MODELS_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "daemon/engine.h"
#include "daemon/models/model_set.h"

typedef struct models models;

typedef enum model_state {
    MODEL_NOT_LOADED,
    MODEL_LOADING,
    MODEL_LOADED,
    MODEL_FAILED,   // and not to be tried again yet
    MODEL_UNLOADING,
    MODEL_STATES
} model_state;

// "not loaded", "loading", ...
const char *model_state_name(model_state state);

// How a model is to be opened.
typedef struct model_opening {
    const model_spec *spec;
    int index;        // in metrics
    const device_list *on; // as spec->device says
    int replica, replicas; // which of how many; they are opened in order
    engine *first;    // what the first of them was opened as; NULL: this one is
    int64_t bytes;    // of the memory of each it may take; 0: what is free
    bool last;        // it will not be offered more
    bool *elsewhere;  // out, false before: it was not opened there
    void (*progress)(void *arg, int percent); // any thread
    void *progress_arg;
    const atomic_bool *stop; // when it becomes true the opening may end, with SIGHT_E_CANCELLED
} model_opening;

// What the registry works with; daemon/models/model_open.h has the real ones.
typedef struct models_ops {
    sight_err (*open)(void *arg, engine **out, const model_opening *how);
    void (*close)(void *arg, engine **e);
    json_t *(*describe)(void *arg, const engine *e); // NULL: no memory
    sight_err (*devices)(void *arg, device_sets *out, const char *word); // word NULL: auto
    // Of a device, in bytes: all that there is and what models may take now.
    sight_err (*memory)(void *arg, int64_t *all, int64_t *free, device_id device);
    double (*now_s)(void *arg);
    void *arg;
} models_ops;

typedef struct models_options {
    models_ops ops;
    metrics *metrics; // may be NULL
    double retry_s;   // after a load that failed
} models_options;

// Copies the set. Opens nothing. SIGHT_E_MEMORY (no memory, or shares that do not fit: with the numbers), codes of ops.devices
// and ops.memory.
sight_err models_create(models **out, const model_set *set, const models_options *o);
// Opens those that are loaded at start, one after the other, and waits for them. The first failure's code.
sight_err models_open_first(models *m);
// Ends what is being opened, closes all. No use may be left. Accepts NULL; leaves NULL.
void models_destroy(models **m);
// From now on `changed` is called when a state or a percentage has, on the registry's thread; NULL: nobody is. When this
// returns, the one before is not called any more.
void models_listen(models *m, void (*changed)(void *arg), void *arg);

// Somebody's use of a model.
typedef struct model_use {
    struct model_entry *entry; // NULL: none
    engine *engine;            // NULL: not loaded yet; of several replicas the first
    uint64_t order;
    bool waits; // was counted among those who wait
} model_use;

// Begins a use of that model (its name or folder), of the first one for NULL. SIGHT_E_NOT_FOUND says which there are.
sight_err models_begin(models *m, model_use *use, const char *name);
// Gives use->engine if it is loaded; else it is being loaded, or will be, and asking again is worth it after `changed` (models_listen).
// What the last load failed with, while it is not tried again.
sight_err models_take(models *m, model_use *use);
// Waits for that. SIGHT_E_MEMORY, too, where memory for it is in use by others.
sight_err models_open(models *m, model_use *use, const char *name);
// The model that it is of: "" without one.
const char *models_name(const model_use *use);
int models_index(const model_use *use); // in metrics; -1 without one
// How many replicas it has, and the i-th; NULL: it is not loaded, or its device has failed.
int models_replicas(models *m, const model_use *use);
engine *models_replica(models *m, const model_use *use, int i);
// The device of the i-th replica has failed: it is not given out any more, nor opened again. How many are left; *news: that was
// not known before.
int models_lose(models *m, const model_use *use, int i, bool *news);
// How far the preparing of its weights is, in percent; -1: nothing is being prepared.
int models_percent(models *m, const model_use *use);
void models_end(models *m, model_use *use); // leaves it zeroed; accepts one that is

// Whether a request for that name (NULL: for none) is for a router, and which.
bool models_router(models *m, router_spec *out, const char *name);

// Now and then: lets go of what was not used for long.
void models_tick(models *m);
// Takes over another configuration: new models are there at once (and loaded, those that are at start); removed ones are closed when nobody uses them any
// more, and changed ones replaced likewise. Refused as a whole: codes of models_create.
sight_err models_apply(models *m, const model_set *set);

// [{"name", "state", ...}]: of loaded ones all that ops.describe says, of others "model" and what is configured; "error" and
// "retry_in_s" of failed ones, "users", "replicas" where there are several. NULL: no memory.
json_t *models_describe(models *m);
json_t *models_describe_one(models *m, const model_use *use);
json_t *models_describe_routers(models *m); // [{"name", "models", "confidence", "max_first_tokens"}]
// The name, and the engine's context (0: not loaded), of the model for requests that name none (of a router its first).
void models_first(models *m, char name[MODEL_NAME_SIZE], int64_t *context);
model_state models_state(models *m, const char *name); // NOT_LOADED where there is none
bool models_on_devices(models *m); // all of them are to lie on GPUs

#endif
