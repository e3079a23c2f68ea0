// A GPU that fails under a daemon: everybody is told, the service ends with its sentence, and nothing hangs. The
// service runs in this process, on the shim's GPU, so that faults can be had when they are wanted.
#include "running.h"

#include <pthread.h>

#include "daemon/models/model_open.h"
#include "daemon/settings/options.h"
#include "daemon/service.h"
#ifdef SIGHT_CUDA_SHIM
#include "kernels/cuda/state.h"
#include "shim.h"

#define ENDLESS                                                                                    \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}], \"temperature\": 0, "             \
    "\"max_tokens\": 4000}"

typedef struct service_thread {
    running r;
    options o;
    models *models;
    model_use use; // keeps its model, to be looked at
    service_signals signals;
    pthread_t thread;
    sight_err err;
    char line[256];
} service_thread;

static void *serve(void *arg)
{
    service_thread *s = arg;
    const endpoints at = {.at = {s->r.endpoint}, .n = 1};
    s->err = service_run(s->models, &s->o, &at, &s->signals);
    snprintf(s->line, sizeof s->line, "%s", s->err ? sight_error() : "");
    return NULL;
}

static sight_err open_on(service_thread *s, const char *model, const char *device, int64_t bytes)
{
    options_set_defaults(&s->o);
    s->o.model = strdup(model);
    s->o.device = strdup(device);
    s->o.engine.threads = 1;
    s->o.engine.device_bytes = bytes;
    s->o.engine.context_tokens = 4096;
    s->o.queue.max_running = 2;
    model_set set;
    const models_options mo = model_open_options(NULL);
    sight_err err = model_set_make(&set, &s->o);
    if (err) return err;
    err = models_create(&s->models, &set, &mo);
    model_set_done(&set);
    return err ? err : models_open(s->models, &s->use, NULL);
}

static sight_err open_on_gpu(service_thread *s, const char *model, int64_t bytes)
{
    return open_on(s, model, "cuda:0", bytes);
}

static void close_models(service_thread *s)
{
    if (s->models) models_end(s->models, &s->use);
    models_destroy(&s->models);
    options_done(&s->o);
}

static void start_on(service_thread *s, const char *device)
{
    static char endless[256];
    *s = (service_thread){0};
    daemon_prepare(&s->r);
    char folder[200];
    snprintf(folder, sizeof folder, "%s/run", s->r.folder);
    mkdir(folder, 0700);
    if (!*endless) endless_model(endless, sizeof endless);
    assert_ok(open_on(s, endless, device, (int64_t)512 << 20));
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void start(service_thread *s)
{
    start_on(s, "cuda:0");
}

static void end(service_thread *s)
{
    close_models(s);
    shim_mend();
    assert_int_equal(shim_used_memory(0), 0);
    assert_int_equal(shim_used_memory(1), 0);
}

// The sentence names the GPU that it was.
static void expect_lost_on(sight_client *c, const char *id, const char *device)
{
    sight_event_kind kind;
    for (;;) {
        json_t *body = next_event(c, id, &kind);
        if (kind == SIGHT_ERROR) {
            assert_string_equal(text_at(body, "code"), "internal");
            assert_non_null(strstr(text_at(body, "message"), device));
        }
        json_decref(body);
        assert_int_not_equal(kind, SIGHT_DONE);
        if (kind == SIGHT_ERROR) return;
    }
}

static void expect_lost(sight_client *c, const char *id)
{
    expect_lost_on(c, id, "cuda:0: ");
}

// Two run, one waits, when the GPU fails.
static void everybody_is_told(void **state)
{
    service_thread s;
    char id[3][SIGHT_ID_SIZE];
    start(&s);
    sight_client *c = daemon_connect(&s.r), *other = daemon_connect(&s.r);
    assert_ok(sight_client_ask(c, id[0], ENDLESS, NULL, 0));
    json_decref(wait_event(c, id[0], SIGHT_DELTA));
    assert_ok(sight_client_ask(other, id[1], ENDLESS, NULL, 0));
    assert_ok(sight_client_ask(c, id[2], ENDLESS, NULL, 0));
    json_decref(wait_event(other, id[1], SIGHT_ACCEPTED));
    json_decref(wait_event(c, id[2], SIGHT_ACCEPTED));
    shim_fail_after(20, cudaErrorIllegalAddress);
    expect_lost(c, id[0]);
    expect_lost(other, id[1]);
    expect_lost(c, id[2]);
    pthread_join(s.thread, NULL); // by itself
    assert_int_equal(s.err, SIGHT_E_INTERNAL);
    assert_non_null(strstr(s.line, "illegal"));
    assert_int_equal(engine_status(s.use.engine), SIGHT_E_INTERNAL);
    sight_client_close(&c);
    sight_client_close(&other);
    end(&s);
}

// After a healthy stop all of the GPU's memory is given back.
static void a_healthy_one_ends_as_asked(void **state)
{
    service_thread s;
    char id[SIGHT_ID_SIZE];
    start(&s);
    json_t *about = engine_describe(s.use.engine);
    assert_string_equal(text_at(about, "device"), "cuda:0");
    json_decref(about);
    sight_client *c = daemon_connect(&s.r);
    assert_ok(sight_client_ask(c, id, ENDLESS, NULL, 0));
    for (int i = 0; i < 30; i++) json_decref(wait_event(c, id, SIGHT_DELTA));
    s.signals.stops = 2;
    for (sight_event_kind kind = SIGHT_ALIVE; kind != SIGHT_ERROR && kind != SIGHT_DONE;) {
        json_decref(next_event(c, id, &kind));
    }
    sight_client_close(&c);
    pthread_join(s.thread, NULL);
    assert_int_equal(s.err, SIGHT_OK);
    // Tokens were drawn by graphs, and by few different ones.
    const cuda_step *steps = &engine_kernels(s.use.engine)->cuda->step;
    printf("%lld steps, %lld graphs\n", (long long)steps->steps, (long long)steps->graphs_made);
    assert_true(steps->steps >= 30 && steps->graphs_made >= 1 && steps->graphs_made <= 8);
    end(&s);
}

// Whole answers, of both replicas at once and of one GPU alone: the same.
static void replicas_answer_alike(void **state)
{
    enum { N = 4 };
    static char texts[2][N][4096];
    static const char *const devices[] = {"cuda:0", "cuda:0/cuda:1"};
    for (int round = 0; round < 2; round++) {
        service_thread s;
        sight_client *c[N];
        char id[N][SIGHT_ID_SIZE];
        start_on(&s, devices[round]);
        for (int i = 0; i < N; i++) {
            char json[256];
            snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": \"question %d\"}], \"temperature\": %g, "
                     "\"seed\": 5, \"max_tokens\": 6, \"stream\": false, \"enable_thinking\": false}", i, i % 2 ? 0.8 : 0);
            c[i] = daemon_connect(&s.r);
            assert_ok(sight_client_ask(c[i], id[i], json, NULL, 0));
        }
        for (int i = 0; i < N; i++) {
            json_t *done = wait_event(c[i], id[i], SIGHT_DONE);
            snprintf(texts[round][i], sizeof texts[round][i], "%s", text_at(done, "answer"));
            json_decref(done);
            sight_client_close(&c[i]);
        }
        s.signals.stops = 1;
        pthread_join(s.thread, NULL);
        assert_int_equal(s.err, SIGHT_OK);
        end(&s);
    }
    for (int i = 0; i < N; i++) assert_string_equal(texts[0][i], texts[1][i]);
}

// One of two fails: who runs there is told, the other goes on, and takes what comes; then it fails too.
static void one_of_two_replicas_fails(void **state)
{
    service_thread s;
    char id[4][SIGHT_ID_SIZE];
    start_on(&s, "cuda:0/cuda:1");
    sight_client *c = daemon_connect(&s.r), *other = daemon_connect(&s.r), *third = daemon_connect(&s.r);
    assert_ok(sight_client_ask(c, id[0], ENDLESS, NULL, 0));
    json_decref(wait_event(c, id[0], SIGHT_DELTA));
    assert_ok(sight_client_ask(other, id[1], ENDLESS, NULL, 0));
    json_decref(wait_event(other, id[1], SIGHT_DELTA));
    shim_fail_only(1);
    shim_fail_after(20, cudaErrorIllegalAddress);
    expect_lost_on(other, id[1], "cuda:1: ");
    json_decref(wait_event(c, id[0], SIGHT_DELTA)); // goes on
    // With max_running 2 one more runs, and another waits: nothing goes to the lost one.
    assert_ok(sight_client_ask(other, id[2], ENDLESS, NULL, 0));
    json_decref(wait_event(other, id[2], SIGHT_DELTA));
    assert_ok(sight_client_ask(third, id[3], ENDLESS, NULL, 0));
    json_decref(wait_event(third, id[3], SIGHT_ACCEPTED));
    json_decref(wait_event(c, id[0], SIGHT_DELTA));
    json_t *about = models_describe(s.models);
    const json_t *replicas = json_object_get(json_array_get(about, 0), "replicas");
    assert_string_equal(text_at(json_array_get(replicas, 0), "state"), "loaded");
    assert_string_equal(text_at(json_array_get(replicas, 1), "state"), "lost");
    json_decref(about);
    shim_fail_only(-1);
    shim_fail_after(20, cudaErrorIllegalAddress);
    expect_lost(c, id[0]);
    expect_lost(other, id[2]);
    expect_lost(third, id[3]);
    pthread_join(s.thread, NULL);
    assert_int_equal(s.err, SIGHT_E_INTERNAL);
    assert_non_null(strstr(s.line, "illegal"));
    sight_client_close(&c);
    sight_client_close(&other);
    sight_client_close(&third);
    end(&s);
}

// The plan is made before anything is loaded.
static void what_does_not_fit_is_refused(void **state)
{
    service_thread s = {0};
    assert_fails(open_on_gpu(&s, GOLDEN "/model", (int64_t)66 << 20), SIGHT_E_MEMORY, "cuda:0");
    assert_null(s.use.engine);
    close_models(&s);
    assert_fails(open_on_gpu(&s, GOLDEN "/model", (int64_t)1 << 46), SIGHT_E_MEMORY, "cuda:0 has");
    close_models(&s);
    assert_int_equal(shim_used_memory(0), 0);
}

// A fault at any time while it is opened is an error, without a leak.
static void faults_while_opening(void **state)
{
    for (int n = 0; n < 400; n += 57) {
        service_thread s = {0};
        shim_fail_after(n, cudaErrorECCUncorrectable);
        sight_err err = open_on_gpu(&s, GOLDEN "/model", (int64_t)512 << 20);
        if (err) {
            assert_null(s.use.engine);
            assert_non_null(strstr(sight_error(), "cuda:0"));
        }
        close_models(&s);
        shim_mend();
        assert_int_equal(shim_used_memory(0), 0);
    }
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    shim_set_devices(2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_is_told), cmocka_unit_test(a_healthy_one_ends_as_asked),
        cmocka_unit_test(replicas_answer_alike), cmocka_unit_test(one_of_two_replicas_fails),
        cmocka_unit_test(what_does_not_fit_is_refused), cmocka_unit_test(faults_while_opening)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
int main(void)
{
    printf("skipped: only the shim's GPU fails when it is told to\n");
    return 77;
}
#endif
