// Whole answers that share their steps, in this process: each is what it is alone, whatever the others do.
#include "agreeing_engine.h"
#include "tasks.h"

#include <pthread.h>

#include "daemon/batch.h"
#include "daemon/media/request_media.h"
#include "daemon/runner.h"

// What is asked, and how.
typedef struct asked {
    const char *media, *text, *fields;
} asked;

static const asked all_asked[] = {
    {"", "tell me more", "\"max_tokens\": 90, \"temperature\": 0"},
    {IMAGE(PIC) ", ", "what is this", "\"max_tokens\": 60, \"temperature\": 0.7, \"top_k\": 20, \"presence_penalty\": 1.5, \"seed\": 1"},
    {"", "count to ten", "\"max_tokens\": 40, \"temperature\": 1.2, \"seed\": 8, \"repetition_penalty\": 1.2"},
    {VIDEO(CLIP) ", ", "what happens", "\"max_tokens\": 70, \"temperature\": 0"},
    {"", "tell me more, and then some, about everything there is", "\"max_tokens\": 50, \"temperature\": 0"},
    {IMAGE(PIC) ", " VIDEO(CLIP) ", ", "compare them", "\"max_tokens\": 30, \"temperature\": 1, \"seed\": 5"},
};
enum { N = sizeof all_asked / sizeof all_asked[0] };

typedef struct heard {
    task *task;
    pipeline *p;
    char text[16384];
    int deltas, cancel_after; // deltas; 0: never
    atomic_bool cancel;
    atomic_bool over;
    json_t *end;
    bool failed;
} heard;

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER; // held: the engine thread waits

static void hear(void *arg, sight_event_kind kind, const json_t *body)
{
    heard *h = arg;
    if (kind == SIGHT_DELTA) {
        const size_t used = strlen(h->text);
        snprintf(h->text + used, sizeof h->text - used, "%s", json_string_value(json_object_get(body, "text")));
        if (++h->deltas == h->cancel_after) atomic_store(&h->cancel, true);
    }
    if (kind == SIGHT_DONE || kind == SIGHT_ERROR) h->end = json_incref((json_t *)body);
    h->failed |= kind == SIGHT_ERROR;
}

static heard *ask(const asked *q, const char *drafts, int cancel_after)
{
    char json[4096];
    snprintf(json, sizeof json,
             "{\"messages\": [{\"role\": \"user\", \"content\": [%s{\"type\": \"text\", \"text\": \"%s\"}]}], "
             "\"enable_thinking\": false, \"drafts\": %s, %s}", q->media, q->text, drafts, q->fields);
    heard *h = calloc(1, sizeof *h);
    assert_non_null(h);
    h->cancel_after = cancel_after;
    h->task = task_of(model, json);
    assert_ok(pipeline_create(&h->p, h->task, &h->cancel, hear, h));
    return h;
}

static void forget(heard *h)
{
    pipeline_destroy(&h->p);
    task_destroy(&h->task);
    json_decref(h->end);
    free(h);
}

static int64_t drafted(const heard *h)
{
    return json_integer_value(json_object_get(json_object_get(h->end, "usage"), "drafted_tokens"));
}

static const char *reason(const heard *h)
{
    const char *word = json_string_value(json_object_get(h->end, "finish_reason"));
    return word ? word : "";
}

static heard *answer_alone(const asked *q, const char *drafts)
{
    heard *h = ask(q, drafts, 0);
    while (pipeline_step(h->p, 100) != PIPELINE_OVER) continue;
    return h;
}

// As the engine thread does it: a step of those that answer, a slice of one that reads.
static void run_together(heard *const *h, int n)
{
    for (int over = 0, turn = 0; over < n; turn++) {
        pipeline *p[N];
        double took_s[N];
        int answering = 0, reading = -1;
        over = 0;
        for (int i = 0; i < n; i++) {
            const pipeline_state state = pipeline_state_of(h[i]->p);
            if (state == PIPELINE_ANSWERING) p[answering++] = h[i]->p;
            else if (state == PIPELINE_OVER) over++;
            else if (reading < 0 || turn % (i + 2) == 0) reading = i;
        }
        if (answering) batch_answer(p, took_s, answering);
        for (int i = 0; i < answering; i++) assert_true(took_s[i] > 0);
        if (reading >= 0) pipeline_step(h[reading]->p, 5);
    }
}

static void compare_all(bool guesses)
{
    static const char *const ways[] = {"0", "3", "\"auto\""};
    heard *alone[N];
    for (int i = 0; i < N; i++) alone[i] = answer_alone(&all_asked[i], "0");
    for (int w = 0; w < 3; w++) {
        heard *h[N];
        int64_t guessed = 0;
        for (int i = 0; i < N; i++) h[i] = ask(&all_asked[i], i % 3 == 2 && w == 1 ? "0" : ways[w], 0);
        run_together(h, N);
        for (int i = 0; i < N; i++) {
            assert_false(h[i]->failed);
            assert_string_equal(h[i]->text, alone[i]->text);
            assert_string_equal(reason(h[i]), reason(alone[i]));
            guessed += drafted(h[i]);
            forget(h[i]);
        }
        if (w == 0) assert_int_equal(guessed, 0);
        if (w == 1 && guesses) assert_true(guessed > 50);
        assert_int_equal(cache_bytes_used(engine_pool(model)), 0);
    }
    for (int i = 0; i < N; i++) forget(alone[i]);
}

static void answers_are_those_that_come_alone(void **state)
{
    (void)state;
    compare_all(true);
}

static void so_are_those_of_the_bundled_model(void **state)
{
    (void)state;
    static const weights_form forms[] = {WEIGHTS_STORED, WEIGHTS_INT8};
    engine *const before = model;
    for (int i = 0; i < 2; i++) {
        engine_options o = engine_options_default();
        o.model = TEST_SOURCE_DIR "/models/mini";
        o.threads = 2;
        o.weights.form = forms[i];
        o.weights.cache = "none";
        assert_ok(engine_open(&model, &o));
        compare_all(text_model_has_mtp(engine_text(model)));
        engine_close(&model);
    }
    model = before;
}

// One is cancelled while it answers with the others, another while it reads.
static void who_is_cancelled_leaves_the_others_alone(void **state)
{
    (void)state;
    heard *alone[N];
    for (int i = 0; i < N; i++) alone[i] = answer_alone(&all_asked[i], "0");
    for (int after = 1; after < 14; after += 3) {
        heard *h[N];
        for (int i = 0; i < N; i++) h[i] = ask(&all_asked[i], "2", i == 0 ? after : i == 4 ? after + 5 : 0);
        atomic_store(&h[5]->cancel, after % 2 == 0);
        run_together(h, N);
        for (int i = 0; i < N; i++) {
            const bool cut = i == 0 || i == 4 || (i == 5 && after % 2 == 0);
            assert_false(h[i]->failed);
            assert_string_equal(reason(h[i]), cut ? "cancelled" : reason(alone[i]));
            if (cut) assert_int_equal(strncmp(h[i]->text, alone[i]->text, strlen(h[i]->text)), 0);
            else assert_string_equal(h[i]->text, alone[i]->text);
            forget(h[i]);
        }
        assert_int_equal(cache_bytes_used(engine_pool(model)), 0);
    }
    for (int i = 0; i < N; i++) forget(alone[i]);
}

// ---- through the engine thread ----

static pipeline_state step(void *arg, int wait_ms)
{
    heard *h = arg;
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
    const pipeline_state state = pipeline_step(h->p, wait_ms);
    if (state == PIPELINE_OVER) atomic_store(&h->over, true);
    return state;
}

static void answer(void *const *args, pipeline_state *states, double *took_s, int n)
{
    pipeline *p[RUNNER_TOGETHER] = {NULL};
    for (int i = 0; i < n; i++) p[i] = ((heard *)args[i])->p;
    batch_answer(p, took_s, n);
    for (int i = 0; i < n; i++) {
        states[i] = pipeline_state_of(p[i]);
        if (states[i] == PIPELINE_OVER) atomic_store(&((heard *)args[i])->over, true);
    }
}

static void the_engine_thread_gives_the_same(void **state)
{
    (void)state;
    const runner_work work = {.step = step, .answer = answer, .slices_s = 0.001};
    heard *alone[N], *h[2 * N];
    runner *r;
    for (int i = 0; i < N; i++) alone[i] = answer_alone(&all_asked[i], "0");
    assert_ok(runner_create(&r, &work));
    pthread_mutex_lock(&gate);
    for (int i = 0; i < 2 * N; i++) {
        h[i] = ask(&all_asked[i % N], i < N ? "\"auto\"" : "1", i == N ? 3 : 0);
        const runner_claim claim = {.class = i % 3, .who = all_asked + i % 2, .client = "x", .client_size = 1};
        assert_ok(runner_add(r, h[i], &claim));
    }
    pthread_mutex_unlock(&gate);
    runner_destroy(&r); // waits for all
    for (int i = 0; i < 2 * N; i++) {
        assert_true(atomic_load(&h[i]->over));
        assert_false(h[i]->failed);
        if (i == N) assert_string_equal(reason(h[i]), "cancelled");
        else assert_string_equal(h[i]->text, alone[i % N]->text);
        forget(h[i]);
    }
    for (int i = 0; i < N; i++) forget(alone[i]);
    assert_int_equal(cache_bytes_used(engine_pool(model)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_those_that_come_alone),
        cmocka_unit_test(so_are_those_of_the_bundled_model),
        cmocka_unit_test(who_is_cancelled_leaves_the_others_alone),
        cmocka_unit_test(the_engine_thread_gives_the_same),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
