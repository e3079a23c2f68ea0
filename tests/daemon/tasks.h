// tests/daemon/tasks.h - requests as tasks in the test's own process, and what messages about the golden media are made of.
#ifndef SIGHT_TESTS_DAEMON_TASKS_H
#define SIGHT_TESTS_DAEMON_TASKS_H

#include "support/test.h"

#include "daemon/engine.h"
#include "daemon/task.h"

#define HYBRID TEST_GOLDEN_DIR "/hybrid"
#define CLIP   HYBRID "/cases/video-96x80-30f/v.mkv"
#define PIC    HYBRID "/cases/image-200x130/a.png"
#define OTHER  HYBRID "/cases/image-40x40/a.png"

#define USER(content)       "{\"role\": \"user\", \"content\": [" content "]}"
#define TEXT(s)             "{\"type\": \"text\", \"text\": \"" s "\"}"
#define IMAGE(p)            "{\"type\": \"image\", \"image\": \"" p "\"}"
#define VIDEO(p)            VIDEO_WITH(p, "")
#define VIDEO_WITH(p, more) "{\"type\": \"video\", \"video\": \"" p "\"" more "}"

#define HALF_LONG                                                                                 \
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "   \
    "sixteen seventeen eighteen nineteen twenty one two three four five six seven eight nine ten "
#define LONG                                                                                      \
    HALF_LONG "eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen twenty "

// who: NULL for nobody in particular. limits: NULL for the defaults. *out as task_create leaves it.
static inline sight_err task_try(task **out, engine *e, const char *json, const identity *who,
                                 const request_limits *limits)
{
    const request_source source = {.json = json, .size = strlen(json)};
    const request_limits usual = request_limits_default();
    request *r = NULL;
    if (!limits) limits = &usual;
    sight_err err = request_parse(&r, &source, limits, &engine_config(e)->generation);
    if (!err) r->who = who;
    if (!err) err = task_create(out, e, &r, limits);
    request_destroy(&r);
    return err;
}

static inline task *task_of(engine *e, const char *json)
{
    task *t;
    assert_ok(task_try(&t, e, json, NULL, NULL));
    return t;
}

#endif
