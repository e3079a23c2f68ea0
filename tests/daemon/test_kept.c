// A daemon with a store: what it has looked at, the one after it knows, however the first one ended.
#include "daemon/running.h"

#define CLIP GOLDEN "/cases/video-96x80-30f/v.mkv"

static const char *ask_json(const char *question)
{
    static char json[1024];
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"video\", \"video\": \"%s\"}, "
             "{\"type\": \"text\", \"text\": \"%s\"}]}], \"max_tokens\": 8, \"enable_thinking\": false, \"temperature\": 0, \"stream\": false}", CLIP,
             question);
    return json;
}

typedef struct told {
    int64_t tokens, media;
    int32_t decoded; // progress events of that stage
    char *answer;
} told;

static told ask(const running *r, const char *question)
{
    told out = {0};
    sight_client *c = daemon_connect(r);
    char id[SIGHT_ID_SIZE];
    assert_ok(sight_client_ask(c, id, ask_json(question), NULL, 0));
    for (bool over = false; !over;) {
        sight_event_kind kind;
        json_t *body = next_event(c, id, &kind);
        const char *stage = json_string_value(json_object_get(body, "stage"));
        out.decoded += stage && !strcmp(stage, "decode");
        over = kind == SIGHT_DONE || kind == SIGHT_ERROR;
        assert_true(kind != SIGHT_ERROR);
        const json_t *usage = json_object_get(body, "usage");
        if (over) {
            out.tokens = json_integer_value(json_object_get(usage, "reused_tokens"));
            out.media = json_integer_value(json_object_get(usage, "reused_media"));
            out.answer = strdup(json_string_value(json_object_get(body, "answer")));
        }
        json_decref(body);
    }
    sight_client_close(&c);
    return out;
}

// What waits to be written is, sooner or later; a killed daemon has no last word.
static int count_files(const char *folder)
{
    int n = 0;
    DIR *d = opendir(folder);
    for (struct dirent *e; d && (e = readdir(d));) n += strlen(e->d_name) > 32 && strncmp(e->d_name, "new-", 4);
    if (d) closedir(d);
    return n;
}

static void kept_over_restarts(void **state)
{
    running r;
    char store[300];
    snprintf(store, sizeof store, "%s/store", test_folder());
    const char *const more[] = {"--model", GOLDEN "/model", "--threads", "2", "--store", store, NULL};
    daemon_start(&r, more);
    told first = ask(&r, "What?");
    assert_int_equal(first.tokens + first.media, 0);
    assert_true(first.decoded > 0 && *first.answer);
    for (int i = 0; count_files(store) < 3 && i < 6000; i++) pause_ms(10);
    kill(r.pid, SIGKILL);
    assert_int_equal(daemon_wait(&r, 30), -1);

    daemon_spawn(&r, more);
    told second = ask(&r, "What?");
    assert_true(second.tokens > 0);
    assert_int_equal(second.media, 1);
    assert_int_equal(second.decoded, 0);
    assert_string_equal(second.answer, first.answer);
    daemon_stop(&r);

    // Hurt files are told once, and cost only work.
    DIR *d = opendir(store);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        char path[700];
        if (strlen(e->d_name) <= 32) continue;
        snprintf(path, sizeof path, "%s/%s", store, e->d_name);
        assert_int_equal(truncate(path, 100), 0);
    }
    closedir(d);
    daemon_spawn(&r, more);
    told third = ask(&r, "What?");
    assert_int_equal(third.media, 0);
    assert_string_equal(third.answer, first.answer);
    daemon_stop(&r);
    assert_true(daemon_logged(&r, "damaged file"));

    // A folder that others may write to is no store.
    assert_int_equal(chmod(store, 0777), 0);
    daemon_spawn(&r, more);
    assert_true(daemon_wait(&r, 30) > 0);
    assert_true(daemon_logged(&r, "writable by nobody else"));
    free(first.answer);
    free(second.answer);
    free(third.answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(kept_over_restarts)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
