// daemon/engine_parts.h - what engine.c and engine_open.c share.
#ifndef SIGHT_DAEMON_ENGINE_PARTS_H
#define SIGHT_DAEMON_ENGINE_PARTS_H

#include <pthread.h>

#include "daemon/engine.h"
#include "daemon/engine_ranks.h"
#include "daemon/watch/measure.h"

#define ENGINE_MAX_WARNINGS 4

struct engine {
    char *dir, *name;
    model_config config;
    checkpoint *weights;
    tokenizer *tokens;
    chat *template;
    kernels *k, *beside; // beside: the tower's, k itself with the CPU
    engine_ranks ranks; // k's device and those of the others
    text_model *text;
    tower *eyes;
    cache_pool *pool;
    prefix_store *prefix;
    feature_store *features;
    bool features_shared; // they are another replica's
    int64_t context;
    uint8_t *allowed; // [vocab]
    int32_t eos[CONFIG_MAX_EOS], n_eos;
    int32_t turn_end; // -1: none
    pthread_mutex_t forms_lock;
    grammar_vocabulary *forms; // NULL: not asked for yet
    engine_memory memory;
    metrics *metrics; // borrowed
    struct disk *disk; // alike
    int index, replica;
    measured measured;
    char warnings[ENGINE_MAX_WARNINGS][256];
    int n_warnings;
};

// Opens everything that the options ask for, part by part; on failure the engine is half open, for engine_close. Codes of engine_open.
sight_err engine_open_parts(engine *e, const engine_options *o);

#endif
