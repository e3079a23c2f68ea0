// Several models on one GPU, each with its share of the memory: what each answers is what it answers alone, loading
// one goes on beside another's work, and closing one gives its memory back. On the shim's GPU.
#include "running.h"

#ifdef SIGHT_CUDA_SHIM
#include <pthread.h>

#include "daemon/models/model_open.h"
#include "daemon/settings/options.h"
#include "daemon/pipeline.h"
#include "shim.h"
#include "tasks.h"

#define MIB ((int64_t)1 << 20)
#define SHARES(a, b)                                                                               \
    "device = cuda:0\nthreads = 1\n[model first]\nmodel = " GOLDEN "/model\nload = use\ndevice-memory = " a                  \
    "\n[model second]\nmodel = " TEST_GOLDEN_DIR "/qwen3vl/model\nload = use\ndevice-memory = " b "\n"

static sight_err open_models(models **out, const char *text)
{
    options o;
    model_set set = {0};
    const models_options mo = model_open_options(NULL);
    options_set_defaults(&o);
    o.engine.context_tokens = 2048;
    sight_err err = options_read_text(&o, text, "f");
    if (!err) err = options_check(&o);
    if (!err) err = model_set_make(&set, &o);
    if (!err) err = models_create(out, &set, &mo);
    model_set_done(&set);
    options_done(&o);
    return err;
}

typedef struct heard {
    char answer[2048];
    bool over;
} heard;

static void hear(void *arg, sight_event_kind kind, const json_t *body)
{
    heard *h = arg;
    if (kind == SIGHT_ERROR) printf("%s\n", text_at(body, "message"));
    if (kind == SIGHT_DELTA) strncat(h->answer, text_at(body, "text"), sizeof h->answer - 1 - strlen(h->answer));
    h->over |= kind == SIGHT_DONE;
}

// A question about a picture, under way.
typedef struct asked {
    task *task;
    pipeline *pipeline;
    atomic_bool cancel;
    heard heard;
} asked;

static void begin(asked *a, engine *e)
{
    static const char json[] =
        "{\"messages\": [" USER(IMAGE(OTHER) "," TEXT("What is this?")) "], \"temperature\": 0, "
        "\"max_tokens\": 12, \"enable_thinking\": false}";
    *a = (asked){0};
    a->task = task_of(e, json);
    assert_ok(pipeline_create(&a->pipeline, a->task, &a->cancel, hear, &a->heard));
}

static void end(asked *a)
{
    assert_true(a->heard.over && a->heard.answer[0]);
    pipeline_destroy(&a->pipeline);
    task_destroy(&a->task);
}

static void answer_alone(char *out, size_t size, const char *model)
{
    engine *e;
    engine_options o = engine_options_default();
    o.model = model;
    o.threads = 1;
    o.device = (device_id){DEVICE_CUDA, 0};
    o.device_bytes = 512 * MIB;
    o.context_tokens = 2048;
    assert_ok(engine_open(&e, &o));
    asked a;
    begin(&a, e);
    while (pipeline_step(a.pipeline, 100) != PIPELINE_OVER) continue;
    snprintf(out, size, "%s", a.heard.answer);
    end(&a);
    engine_close(&e);
    assert_int_equal(shim_used_memory(0), 0);
}

static char first_alone[2048], second_alone[2048];

static int answer_both_alone(void **state)
{
    answer_alone(first_alone, sizeof first_alone, GOLDEN "/model");
    answer_alone(second_alone, sizeof second_alone, TEST_GOLDEN_DIR "/qwen3vl/model");
    return 0;
}

static void answers_are_those_of_each_alone(void **state)
{
    models *m;
    model_use first = {0}, second = {0};
    assert_ok(open_models(&m, SHARES("15%", "20%")));
    assert_ok(models_open(m, &first, "first"));
    const size_t one = shim_used_memory(0);
    assert_in_range(one, 600 * MIB, 4096 * MIB / 100 * 15 + MIB);
    assert_ok(models_open(m, &second, "second"));
    assert_in_range(shim_used_memory(0) - one, 800 * MIB, 4096 * MIB / 100 * 20 + MIB);
    asked a, b;
    begin(&a, first.engine);
    begin(&b, second.engine);
    // Step by step in turns, as the runner does.
    for (bool more = true; more;) {
        more = pipeline_step(a.pipeline, 100) != PIPELINE_OVER;
        more |= pipeline_step(b.pipeline, 100) != PIPELINE_OVER;
    }
    assert_string_equal(a.heard.answer, first_alone);
    assert_string_equal(b.heard.answer, second_alone);
    end(&a);
    end(&b);
    models_end(m, &first);
    models_end(m, &second);
    models_destroy(&m);
    assert_int_equal(shim_used_memory(0), 0);
}

// Loads and closes the other one again and again until told to end.
typedef struct other_work {
    models *m;
    atomic_bool stop;
    int rounds;
    sight_err err;
} other_work;

static void *load_and_close(void *arg)
{
    other_work *w = arg;
    while (!w->err && (w->rounds < 2 || !atomic_load(&w->stop))) {
        model_use use = {0};
        w->err = models_open(w->m, &use, "second");
        models_end(w->m, &use);
        models_tick(w->m);
        while (!w->err && models_state(w->m, "second") != MODEL_NOT_LOADED) {
            pause_ms(1);
            models_tick(w->m);
        }
        w->rounds++;
    }
    return NULL;
}

static void one_is_loaded_and_closed_while_another_answers(void **state)
{
    models *m;
    model_use first = {0};
    assert_ok(open_models(&m, SHARES("15%", "20%\nunload-after = 0.001")));
    assert_ok(models_open(m, &first, "first"));
    const size_t one = shim_used_memory(0);
    other_work w = {.m = m};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, load_and_close, &w), 0);
    for (int i = 0; i < 3; i++) {
        asked a;
        begin(&a, first.engine);
        while (pipeline_step(a.pipeline, 100) != PIPELINE_OVER) continue;
        assert_string_equal(a.heard.answer, first_alone);
        end(&a);
    }
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    assert_ok(w.err);
    assert_int_equal(shim_used_memory(0), one); // the other's is back
    models_end(m, &first);
    models_destroy(&m);
    assert_int_equal(shim_used_memory(0), 0);
}

static void shares_over_all_of_it_are_refused(void **state)
{
    models *m = NULL;
    assert_fails(open_models(&m, SHARES("60%", "41%")), SIGHT_E_MEMORY,
                 "the models' shares of the memory of cuda:0 come to 4137 MiB (first 2458, second 1679), 4096 MiB are there");
    assert_null(m);
    // Without shares they divide what is free.
    assert_ok(open_models(&m, "device = cuda:0\nthreads = 1\n[model first]\nmodel = " GOLDEN "/model\n[model second]\nmodel = "
                              TEST_GOLDEN_DIR "/qwen3vl/model\n"));
    assert_ok(models_open_first(m));
    assert_in_range(shim_used_memory(0), 3300 * MIB, 4096 * MIB);
    models_destroy(&m);
    assert_int_equal(shim_used_memory(0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_of_each_alone),
        cmocka_unit_test(one_is_loaded_and_closed_while_another_answers),
        cmocka_unit_test(shares_over_all_of_it_are_refused),
    };
    return cmocka_run_group_tests(tests, answer_both_alone, NULL);
}

#else

int main(void)
{
    printf("this build has no shim of a GPU\n");
    return 77;
}

#endif
