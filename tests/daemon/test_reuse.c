// What one prompt has read, the next need not: and answers do not change by it.
#include "tasks.h"

#include <unistd.h>

#include "daemon/store/borders.h"
#include "daemon/pipeline.h"
#include "daemon/stages.h"

typedef struct heard {
    char answer[4096];
    int32_t decoded, encoded; // progress events of these stages
    int32_t reused, prompt;
    json_t *end;
    atomic_bool cancel;
    int32_t cancel_after; // tokens read; 0: never
} heard;

static engine *open_with(bool reuse, int64_t bytes)
{
    engine_options o = engine_options_default();
    engine *e;
    o.model = HYBRID "/model";
    o.threads = 2;
    o.step_rows = 64; // many pieces
    o.reuse = reuse;
    o.reuse_bytes = bytes;
    assert_ok(engine_open(&e, &o));
    return e;
}

static void hear(void *arg, sight_event_kind kind, const json_t *body)
{
    heard *h = arg;
    if (kind == SIGHT_DELTA) {
        strncat(h->answer, json_string_value(json_object_get(body, "text")),
                sizeof h->answer - 1 - strlen(h->answer));
    }
    if (kind == SIGHT_DONE || kind == SIGHT_ERROR) h->end = json_incref((json_t *)body);
    const char *stage = json_string_value(json_object_get(body, "stage"));
    if (!stage) return;
    h->decoded += !strcmp(stage, "decode");
    h->encoded += !strcmp(stage, "encode");
    const int64_t done = json_integer_value(json_object_get(body, "done"));
    const int64_t total = json_integer_value(json_object_get(body, "total"));
    if (!strcmp(stage, "read")) {
        assert_true(json_number_value(json_object_get(body, "per_s")) > 0);
        const double left_s = json_number_value(json_object_get(body, "left_s"));
        assert_true(done < total ? left_s > 0 : left_s == 0);
    }
    if (!strcmp(stage, "read") && h->cancel_after && done >= h->cancel_after) {
        atomic_store(&h->cancel, true);
    }
}

static void count_piece(void *arg, const feed_piece *piece)
{
    heard *h = arg;
    h->encoded += piece->n_pairs;
}

static task *make(engine *e, const char *content)
{
    char json[8192];
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": [%s]}], "
             "\"max_tokens\": 12, \"temperature\": 0, \"enable_thinking\": false}", content);
    return task_of(e, json);
}

static void ask(heard *h, engine *e, const char *content)
{
    task *t = make(e, content);
    h->prompt = t->prompt.n;
    const sight_err err = pipeline_run(t, &h->cancel, hear, h);
    task_destroy(&t);
    if (err) fail_msg("%s", sight_error());
    const json_t *usage = json_object_get(h->end, "usage");
    h->reused = (int32_t)json_integer_value(json_object_get(usage, "reused_tokens"));
    json_decref(h->end);
}

static void check_same(engine *with, engine *without, const char *content, bool expect_reuse)
{
    heard a = {0}, b = {0};
    ask(&a, with, content);
    ask(&b, without, content);
    assert_string_equal(a.answer, b.answer);
    assert_int_equal(b.reused, 0);
    assert_true((a.reused > 0) == expect_reuse);
    if (strlen(a.answer) < 4) fail_msg("an answer of %zu bytes shows nothing", strlen(a.answer));
}

static void answers_are_the_same(void **state)
{
    engine *with = open_with(true, 0), *without = open_with(false, 0);
    static const char *const questions[] = {
        LONG "what?", LONG "what?", LONG "who?", LONG LONG "when?", LONG LONG "when else?",
    };
    for (size_t i = 0; i < 5; i++) {
        char content[4096];
        snprintf(content, sizeof content, TEXT("%s"), questions[i]);
        check_same(with, without, content, i > 0);
    }
    check_same(with, without, IMAGE(PIC) "," TEXT(LONG "what?"), false);
    check_same(with, without, IMAGE(PIC) "," TEXT(LONG "where?"), true);
    check_same(with, without, IMAGE(OTHER) "," TEXT(LONG "where?"), false);
    check_same(with, without, VIDEO(CLIP) "," IMAGE(PIC) "," TEXT("what?"), false);
    check_same(with, without, VIDEO(CLIP) "," IMAGE(PIC) "," TEXT("why?"), true);
    check_same(with, without, VIDEO(CLIP) "," IMAGE(OTHER) "," TEXT("why?"), true);
    engine_close(&with);
    engine_close(&without);
}

// The very logits after a prompt, read from its start or from any kept past.
static void logits_are_the_same_bits(void **state)
{
    engine *e = open_with(true, 0);
    const size_t vocab = (size_t)engine_config(e)->text.vocab;
    float *first = malloc(vocab * sizeof *first), *again = malloc(vocab * sizeof *again);
    task *t = make(e, VIDEO(CLIP) "," IMAGE(PIC) "," TEXT(LONG LONG "what?"));
    int32_t reused[3];
    for (int i = 0; i < 3; i++) {
        output_row all = {.logits = i ? again : first};
        stages_options o = {.reuse = i > 0, .last = &all};
        stages *s;
        assert_ok(stages_create(&s, t, &o));
        reused[i] = stages_reused(s).tokens;
        assert_ok(stages_run(s));
        stages_destroy(&s);
        if (i) assert_memory_equal(first, again, vocab * sizeof *first);
    }
    assert_int_equal(reused[1], 0);
    assert_true(reused[2] > t->prompt.n / 2);
    task_destroy(&t);
    free(first);
    free(again);
    engine_close(&e);
}

// A past that ends inside a clip: decoding begins at the frame pair that is to be read next.
static void a_clip_goes_on_in_its_middle(void **state)
{
    engine *e = open_with(true, 0);
    const size_t vocab = (size_t)engine_config(e)->text.vocab;
    float *first = malloc(vocab * sizeof *first), *again = malloc(vocab * sizeof *again);
    task *t = make(e, "{\"type\": \"video\", \"video\": \"" CLIP "\", \"frames\": 7, "
                      "\"min_pixels\": 1400000}," TEXT("what?"));
    const prefix_medium *place = &t->places[0];
    assert_int_equal(t->media[0].plan.grid.t, 4);
    assert_int_equal(feed_pairs(t, &t->media[0]), 1);
    const prefix_prompt whole = {t->prompt.ids, t->prompt.n, t->places, 1, NULL};
    output_row all = {.logits = first};
    stages_options o = {.last = &all};
    stages *s;
    assert_ok(stages_create(&s, t, &o));
    for (stages_state now = STAGES_WORKED; now != STAGES_READ;) {
        assert_ok(stages_step(s, &now, 100));
        const int64_t at = sequence_length(stages_sequence(s));
        if (at > place->first + (place->end - place->first) * 3 / 5 && at < place->end &&
            prefix_store_usage(engine_prefix(e)).pasts == 0) {
            prefix_store_keep(engine_prefix(e), stages_sequence(s), &whole);
        }
    }
    stages_destroy(&s);
    assert_int_equal(prefix_store_usage(engine_prefix(e)).pasts, 1);
    heard h = {0};
    all = (output_row){.logits = again};
    o = (stages_options){.reuse = true, .last = &all};
    o.watch = (stage_watch){.piece = count_piece, .arg = &h};
    assert_ok(stages_create(&s, t, &o));
    assert_true(stages_reused(s).tokens > place->first && stages_reused(s).tokens < place->end);
    assert_ok(stages_run(s));
    stages_destroy(&s);
    assert_true(h.encoded == 2); // of four pairs
    assert_memory_equal(first, again, vocab * sizeof *first);
    task_destroy(&t);
    free(first);
    free(again);
    engine_close(&e);
}

static void opening_media_can_be_ended(void **state)
{
    engine *e = open_with(true, 0);
    const char *json = "{\"messages\": [{\"role\": \"user\", \"content\": [" VIDEO(CLIP) "]}]}";
    const request_source source = {.json = json, .size = strlen(json)};
    const request_limits limits = request_limits_default();
    const atomic_bool cancel = true;
    request *r;
    task *t = NULL;
    assert_ok(request_parse(&r, &source, &limits, &engine_config(e)->generation));
    r->cancel = &cancel;
    assert_fails(task_create(&t, e, &r, &limits), SIGHT_E_CANCELLED, "cancelled");
    assert_null(t);
    request_destroy(&r);
    engine_close(&e);
}

static void media_in_the_past_are_not_opened_again(void **state)
{
    engine *e = open_with(true, 0);
    heard a = {0}, b = {0};
    ask(&a, e, VIDEO(CLIP) "," TEXT(LONG "what?"));
    ask(&b, e, VIDEO(CLIP) "," TEXT(LONG "who?"));
    assert_true(a.decoded && a.encoded);
    assert_int_equal(b.decoded + b.encoded, 0);
    assert_true(b.reused > 0 && b.reused < b.prompt);
    engine_close(&e);
}

static void a_cancelled_prompt_resumes(void **state)
{
    engine *e = open_with(true, 0), *plain = open_with(false, 0);
    heard cut = {.cancel_after = 100}, again = {0}, whole = {0};
    const char *content = VIDEO(CLIP) "," TEXT(LONG LONG "what?");
    ask(&cut, e, content);
    ask(&again, e, content);
    ask(&whole, plain, content);
    assert_true(again.reused > 0);
    assert_string_equal(again.answer, whole.answer);
    engine_close(&e);
    engine_close(&plain);
}

static char *copy_to(const char *folder, const char *name, const char *from)
{
    FILE *f = fopen(from, "rb");
    assert_non_null(f);
    static char bytes[1 << 20];
    const size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    return test_write(folder, name, bytes, n);
}

static void a_file_that_changed_is_read_again(void **state)
{
    engine *e = open_with(true, 0);
    char folder[256], content[1024];
    snprintf(folder, sizeof folder, "%s", test_folder());
    char *path = copy_to(folder, "a.png", PIC);
    snprintf(content, sizeof content, IMAGE("%s") "," TEXT(LONG "what?"), path);
    heard a = {0}, b = {0}, c = {0};
    ask(&a, e, content);
    free(copy_to(folder, "a.png", PIC)); // the same bytes: the same picture
    ask(&b, e, content);
    assert_true(b.reused > 0);
    free(copy_to(folder, "a.png", OTHER));
    ask(&c, e, content);
    assert_int_equal(c.reused, 0);
    // Between planning and looking, when it has not been looked at before.
    task *t = make(e, content);
    prefix_store_forget(engine_prefix(e), t->media[0].hash);
    feature_store_forget(engine_features(e), t->media[0].content);
    free(copy_to(folder, "a.png", PIC));
    heard d = {0};
    assert_fails(pipeline_run(t, &d.cancel, hear, &d), SIGHT_E_MEDIA, "changed while");
    json_decref(d.end);
    task_destroy(&t);
    free(path);
    engine_close(&e);
}

static void kept_pasts_stay_within_their_budget(void **state)
{
    engine *e = open_with(true, 0);
    heard h = {0};
    ask(&h, e, TEXT(LONG "what?"));
    const prefix_usage one = prefix_store_usage(engine_prefix(e));
    assert_int_equal(one.pasts, 1);
    engine_close(&e);
    e = open_with(true, one.bytes + one.bytes / 2);
    static const char *const words[] = {"a", "b", "c", "d"};
    for (int i = 0; i < 4; i++) {
        char content[1024];
        snprintf(content, sizeof content, TEXT("%s " LONG "what?"), words[i]);
        heard again = {0};
        ask(&again, e, content);
        assert_int_equal(again.reused, 0);
        const prefix_usage now = prefix_store_usage(engine_prefix(e));
        assert_true(now.pasts == 1 && now.bytes <= now.budget);
        assert_int_equal(cache_bytes_used(engine_pool(e)), now.bytes);
    }
    engine_close(&e);
    e = open_with(true, 1); // nothing fits
    heard none = {0};
    ask(&none, e, TEXT(LONG "what?"));
    assert_int_equal(cache_bytes_used(engine_pool(e)), 0);
    engine_close(&e);
}

// Kept pasts take all that is free, and give way: no request fails for them.
static void a_tight_pool_serves_on(void **state)
{
    engine_options o = engine_options_default();
    o.model = HYBRID "/model";
    o.threads = 1;
    o.step_rows = 64;
    engine *e;
    assert_ok(engine_open(&e, &o));
    const engine_memory m = engine_get_memory(e);
    engine_close(&e);
    o.context_tokens = 512;
    o.reuse = true;
    o.reuse_bytes = (int64_t)1 << 40;
    o.memory_bytes = m.weights + m.text_workspace + 3 * m.states + 640 * m.per_token;
    assert_ok(engine_open(&e, &o));
    for (int i = 0; i < 12; i++) {
        char content[1024];
        heard h = {0};
        snprintf(content, sizeof content, TEXT("%d " LONG "what?"), i / 2);
        ask(&h, e, content);
        assert_true(cache_bytes_used(engine_pool(e)) <= engine_get_memory(e).cache_budget);
    }
    assert_true(prefix_store_usage(engine_prefix(e)).pasts > 0);
    engine_close(&e);
}

// Borders of pieces depend on what was read up to there alone, and media end with one.
static void pieces_end_with_media(void **state)
{
    engine *e = open_with(false, 0);
    task *a = make(e, TEXT(LONG) "," IMAGE(PIC) "," TEXT("x"));
    task *b = make(e, TEXT(LONG) "," IMAGE(PIC) "," IMAGE(PIC) "," TEXT(LONG LONG));
    const int32_t first = a->places[0].first, end = a->places[0].end;
    int32_t alike = 0; // tokens with which both begin
    while (a->prompt.ids[alike] == b->prompt.ids[alike]) alike++;
    assert_int_equal(end - first, 24);
    assert_memory_equal(&a->places[0], &b->places[0], sizeof a->places[0]);
    for (int32_t most = 32; most < 128; most += 7) {
        for (int32_t at = 0; at < end;) {
            const int32_t next = borders_next(a, at, most);
            assert_true(next > at && next - at <= most);
            if (next <= alike) assert_int_equal(borders_next(b, at, most), next);
            at = next;
        }
    }
    assert_int_equal(borders_next(a, end - 32, 40), end);
    assert_int_equal(borders_next(a, end - 40, 40), end);
    assert_int_equal(borders_next(a, end - 46, 40), end - 23); // two equal pieces
    assert_int_equal(borders_next(a, end - 60, 40), end - 20);
    assert_int_equal(borders_next(a, a->prompt.n - 1, 40), a->prompt.n);
    task_destroy(&a);
    task_destroy(&b);
    engine_close(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_are_the_same),
        cmocka_unit_test(logits_are_the_same_bits),
        cmocka_unit_test(a_clip_goes_on_in_its_middle),
        cmocka_unit_test(opening_media_can_be_ended),
        cmocka_unit_test(media_in_the_past_are_not_opened_again),
        cmocka_unit_test(a_cancelled_prompt_resumes),
        cmocka_unit_test(a_file_that_changed_is_read_again),
        cmocka_unit_test(kept_pasts_stay_within_their_budget),
        cmocka_unit_test(a_tight_pool_serves_on),
        cmocka_unit_test(pieces_end_with_media),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
