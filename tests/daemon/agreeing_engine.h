// tests/daemon/agreeing_engine.h - one engine for a program's tests, whose MTP block often guesses right.
#ifndef TESTS_DAEMON_AGREEING_ENGINE_H
#define TESTS_DAEMON_AGREEING_ENGINE_H

#include "daemon/engine.h"
#include "support/test.h"
#include "text/agreeing.h"

static engine *model; // shared by the tests

static int open_model(void **state)
{
    engine_options o = engine_options_default();
    o.model = agreeing_model(0.03f);
    o.threads = 2;
    return engine_open(&model, &o) != SIGHT_OK;
}

static int close_model(void **state)
{
    engine_close(&model);
    return 0;
}

#endif
