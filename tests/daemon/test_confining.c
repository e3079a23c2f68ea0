// The daemon and its decoder children: used for media, lost and found, stopped, left behind by none.
#include "running.h"

#define PICTURE GOLDEN "/cases/image-200x130/a.png"
#define ASK                                                                                        \
    "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\", \"image\": \"" PICTURE "\"}," \
    "{\"type\": \"text\", \"text\": \"what is it\"}]}], \"temperature\": 0, \"max_tokens\": 8, \"enable_thinking\": false}"

static void start(running *r, const char *option, const char *value, const char *other, const char *word)
{
    const char *const args[] = {"--model", GOLDEN "/model", "--threads", "1", "--reuse=no", option, value, other, word,
                                NULL};
    daemon_start(r, args);
}

// Asks; the answer's text or the error's sentence, and which.
static sight_event_kind ask(sight_client *c, char text[512])
{
    sight_event_kind kind;
    json_t *end = ask_to_end(c, ASK, &kind);
    snprintf(text, 512, "%s", text_at(end, kind == SIGHT_ERROR ? "message" : "text"));
    json_decref(end);
    return kind;
}

static json_t *decoders_status(sight_client *c)
{
    json_t *status = get_status(c), *d = json_incref(json_object_get(status, "decoders"));
    json_decref(status);
    assert_non_null(d);
    return d;
}

static bool is_confined(sight_client *c)
{
    char *reply;
    assert_ok(sight_client_call(c, &reply, SIGHT_PLAN, ASK, NULL, 0, 60000));
    json_t *plan = json_loads(reply, 0, NULL);
    const json_t *confined = json_object_get(json_array_get(json_object_get(plan, "media"), 0), "confined");
    const bool yes = json_is_true(confined);
    assert_true(json_is_boolean(confined));
    json_decref(plan);
    free(reply);
    return yes;
}

// The processes that one has started, by all of its threads.
static int started_by(pid_t pid, pid_t *out, int most)
{
    char path[320];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/children", pid, e->d_name);
        FILE *f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
        while (f && n < most && fscanf(f, "%d", &out[n]) == 1) n++;
        if (f) fclose(f);
    }
    if (d) closedir(d);
    return n;
}

// 0: this kernel does not tell.
static pid_t keeper_of(const running *r)
{
    pid_t all[8];
    return started_by(r->pid, all, 8) == 1 ? all[0] : 0;
}

static bool is_gone(pid_t pid)
{
    char path[64], state = 'Z';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f) return true;
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1) state = 'Z';
    fclose(f);
    return state == 'Z'; // nobody may be there to bury it
}

static void wait_until_gone(pid_t pid)
{
    for (int i = 0; i < 4000 && !is_gone(pid); i++) pause_ms(5);
    assert_true(is_gone(pid));
}

static void answers_are_alike(void **state)
{
    char text[2][512];
    for (int off = 0; off < 2; off++) {
        running r;
        start(&r, "--confine", off ? "off" : "auto", NULL, NULL);
        sight_client *c = daemon_connect(&r);
        assert_int_equal(is_confined(c), !off);
        assert_int_equal(ask(c, text[off]), SIGHT_DONE);
        json_t *d = decoders_status(c);
        assert_int_equal(json_is_true(json_object_get(d, "process")), !off);
        if (!off) {
            assert_int_equal(json_integer_value(json_object_get(d, "crashed")), 0);
            assert_true(json_integer_value(json_object_get(d, "started")) >= 3);
        }
        json_decref(d);
        sight_client_close(&c);
        daemon_stop(&r);
        assert_int_equal(daemon_logged(&r, "confine = off"), off);
    }
    assert_string_equal(text[0], text[1]);
    assert_true(text[0][0] != 0);
}

static void lost_children_are_replaced(void **state)
{
    running r;
    pid_t waiting[16];
    char text[512], again[512];
    start(&r, NULL, NULL, NULL, NULL);
    sight_client *c = daemon_connect(&r);
    assert_int_equal(ask(c, text), SIGHT_DONE);
    const pid_t keeper = keeper_of(&r);
    const int n = keeper ? started_by(keeper, waiting, 16) : 0;
    for (int i = 0; i < n; i++) kill(waiting[i], SIGKILL);
    for (int i = 0; i < n; i++) wait_until_gone(waiting[i]);
    assert_int_equal(ask(c, again), SIGHT_DONE);
    assert_string_equal(text, again);
    if (keeper) {
        kill(keeper, SIGKILL);
        wait_until_gone(keeper);
        // One that was about to begin may be lost with it; the next is not.
        assert_int_equal(ask(c, again), SIGHT_DONE);
        assert_string_equal(text, again);
        assert_true(keeper_of(&r) != keeper);
    }
    sight_client_close(&c);
    daemon_stop(&r);
    if (!keeper) skip();
}

static void a_child_that_hangs_costs_one_request(void **state)
{
    running r;
    pid_t waiting[16];
    char text[512];
    start(&r, "--decoder-timeout", "1", NULL, NULL);
    sight_client *c = daemon_connect(&r);
    json_decref(decoders_status(c)); // it is up
    const pid_t keeper = keeper_of(&r);
    const int n = keeper ? started_by(keeper, waiting, 16) : 0; // one, which waits
    for (int i = 0; i < n; i++) kill(waiting[i], SIGSTOP);
    if (n) {
        sight_event_kind kind = ask(c, text);
        assert_int_equal(kind, SIGHT_ERROR);
        assert_non_null(strstr(text, "silent for 1 s, the limit (decoder-timeout)"));
        assert_non_null(strstr(text, "a.png"));
        for (int i = 0; i < 20 && kind == SIGHT_ERROR; i++) kind = ask(c, text); // machines can be busy
        assert_int_equal(kind, SIGHT_DONE);
        json_t *d = decoders_status(c);
        assert_true(json_integer_value(json_object_get(d, "timed_out")) >= 1);
        json_decref(d);
    }
    sight_client_close(&c);
    daemon_stop(&r);
    if (!n) skip();
}

// With a request whose child hangs; `how` is SIGTERM or SIGKILL.
static void end_while_reading(int how)
{
    running r;
    pid_t waiting[16];
    char id[SIGHT_ID_SIZE];
    start(&r, "--grace", "0", "--decoder-timeout", "600");
    sight_client *c = daemon_connect(&r);
    json_decref(decoders_status(c)); // it is up
    const pid_t keeper = keeper_of(&r);
    const int n = keeper ? started_by(keeper, waiting, 16) : 0;
    for (int i = 0; i < n; i++) kill(waiting[i], SIGSTOP);
    assert_ok(sight_client_ask(c, id, ASK, NULL, 0));
    for (;;) { // until a child has it
        json_t *d = decoders_status(c);
        const bool working = json_integer_value(json_object_get(d, "working")) > 0;
        json_decref(d);
        if (working || !n) break;
    }
    kill(r.pid, how);
    assert_int_equal(daemon_wait(&r, 30), how == SIGTERM ? 0 : -1);
    sight_client_close(&c);
    if (!keeper) skip();
    wait_until_gone(keeper);
    for (int i = 0; i < n; i++) wait_until_gone(waiting[i]);
}

static void nothing_is_left_when_it_is_stopped(void **state)
{
    end_while_reading(SIGTERM);
}

static void nothing_is_left_when_it_is_killed(void **state)
{
    end_while_reading(SIGKILL);
}

static void a_wrong_word_ends_it(void **state)
{
    running r;
    start(&r, "--confine", "maybe", NULL, NULL);
    assert_int_equal(daemon_wait(&r, 30), 2);
    assert_true(daemon_logged(&r, "confine is 'maybe', must be auto, require or off"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_alike),
        cmocka_unit_test(lost_children_are_replaced),
        cmocka_unit_test(a_child_that_hangs_costs_one_request),
        cmocka_unit_test(nothing_is_left_when_it_is_stopped),
        cmocka_unit_test(nothing_is_left_when_it_is_killed),
        cmocka_unit_test(a_wrong_word_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
