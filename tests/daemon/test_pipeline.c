// Tasks and the pipeline in this process, on the golden models.
#include "tasks.h"

#include <pthread.h>
#include <unistd.h>

#include "daemon/answer.h"
#include "daemon/pipeline.h"

static engine *model; // shared: opened once

static int open_model(void **state)
{
    engine_options o = engine_options_default();
    o.model = HYBRID "/model";
    o.threads = 2;
    return engine_open(&model, &o) != SIGHT_OK;
}

static int close_model(void **state)
{
    engine_close(&model);
    return 0;
}

static sight_err make(task **out, const char *content, const char *fields, const request_limits *l)
{
    char json[4096];
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": [%s]}]%s%s}",
             content, *fields ? ", " : "", fields);
    return task_try(out, model, json, NULL, l);
}

// What a run said.
typedef struct heard {
    char order[4096]; // second letters of events, once in a row
    char text[3][8192];
    json_t *end;
    atomic_bool cancel;
    const char *cancel_at; // stage or event at which to cancel
} heard;

static void hear(void *arg, sight_event_kind kind, const json_t *body)
{
    heard *h = arg;
    const char letter[2] = {sight_event_name(kind)[1], 0};
    const size_t n = strlen(h->order);
    if (n < sizeof h->order - 1 && (!n || h->order[n - 1] != letter[0])) strcat(h->order, letter);
    if (kind == SIGHT_DELTA) {
        const char *channel = json_string_value(json_object_get(body, "channel"));
        char *to = h->text[channel[1] == 'h' ? 1 : channel[0] == 't' ? 2 : 0];
        strncat(to, json_string_value(json_object_get(body, "text")), 8191 - strlen(to));
    }
    if (kind == SIGHT_DONE || kind == SIGHT_ERROR) h->end = json_incref((json_t *)body);
    const char *stage = json_string_value(json_object_get(body, "stage"));
    if (h->cancel_at && (!strcmp(h->cancel_at, sight_event_name(kind)) ||
                         (stage && !strcmp(h->cancel_at, stage)))) {
        atomic_store(&h->cancel, true);
    }
}

static void run(heard *h, const char *content, const char *fields)
{
    task *t;
    assert_ok(make(&t, content, fields, NULL));
    assert_ok(pipeline_run(t, &h->cancel, hear, h));
    task_destroy(&t);
    assert_non_null(h->end);
    assert_int_equal(cache_bytes_used(engine_pool(model)), 0);
}

static const char *reason(const heard *h)
{
    return json_string_value(json_object_get(h->end, "finish_reason"));
}

static void events_come_in_order(void **state)
{
    heard h = {0};
    run(&h, IMAGE(PIC) "," VIDEO(CLIP) "," TEXT("compare"),
        "\"max_tokens\": 5, \"temperature\": 0, \"enable_thinking\": false, \"colour\": 1");
    assert_string_equal(h.order, "areo"); // warning, progress, deltas, done
    assert_string_equal(reason(&h), "length");
    const json_t *usage = json_object_get(h.end, "usage");
    assert_int_equal(json_integer_value(json_object_get(usage, "completion_tokens")), 5);
    assert_int_equal(json_integer_value(json_object_get(usage, "visual_tokens")), 24 + 18);
    json_decref(h.end);
}

static void the_same_seed_gives_the_same_answer(void **state)
{
    heard a = {0}, b = {0}, c = {0};
    const char *fields =
        "\"max_tokens\": 24, \"temperature\": 1, \"seed\": 5, \"enable_thinking\": false";
    run(&a, TEXT("hi"), fields);
    run(&b, TEXT("hi"), fields);
    run(&c, TEXT("hi"),
        "\"max_tokens\": 24, \"temperature\": 1, \"seed\": 6, \"enable_thinking\": false");
    assert_string_equal(a.text[0], b.text[0]);
    assert_string_not_equal(a.text[0], c.text[0]);
    assert_int_equal(json_integer_value(json_object_get(a.end, "seed")), 5);
    json_decref(a.end);
    json_decref(b.end);
    json_decref(c.end);
}

static void stop_strings_end_the_answer(void **state)
{
    heard all = {0}, cut = {0};
    const char *fields = "\"max_tokens\": 16, \"temperature\": 0, \"enable_thinking\": false";
    run(&all, IMAGE(PIC) "," TEXT("Read the total."), fields);
    assert_non_null(strstr(all.text[0], "commercially"));
    run(&cut, IMAGE(PIC) "," TEXT("Read the total."),
        "\"max_tokens\": 16, \"temperature\": 0, \"enable_thinking\": false, \"stop\": "
        "\"mercially\"");
    assert_string_equal(reason(&cut), "stop");
    assert_null(strstr(cut.text[0], "mercially"));
    assert_memory_equal(all.text[0], cut.text[0], strlen(cut.text[0]));
    assert_true(strlen(cut.text[0]) > 3);
    json_decref(all.end);
    json_decref(cut.end);
}

static void a_cancel_is_heard_in_every_stage(void **state)
{
    const char *const stages[] = {"decode", "encode", "read", "delta"};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        heard h = {.cancel_at = stages[i]};
        run(&h, VIDEO(CLIP) "," TEXT("What moves?"),
            "\"max_tokens\": 2000, \"temperature\": 0, \"enable_thinking\": false");
        assert_string_equal(reason(&h), "cancelled");
        json_decref(h.end);
    }
}

static void thinking_and_answer_are_apart(void **state)
{
    task *t;
    assert_ok(make(&t, TEXT("hi"), "\"enable_thinking\": true", NULL));
    assert_true(t->opens_thinking);
    task_destroy(&t);
    assert_ok(make(&t, TEXT("hi"), "\"enable_thinking\": false", NULL));
    assert_false(t->opens_thinking);
    task_destroy(&t);
}

static void collect(void *arg, answer_channel channel, const char *text, size_t n)
{
    buf *b = arg;
    buf_printf(b, "[%c]%.*s", answer_channel_name(channel)[1], (int)n, text);
}

// Feeds a text as the tokenizer splits it; gives what came out, each piece with its channel's
// second letter in front.
static void feed(buf *out, const char *text, const answer_options *o)
{
    const tokenizer *tokens = engine_tokenizer(model);
    token_list ids = {0};
    answer a;
    buf_init(out);
    assert_ok(tokenizer_encode(tokens, &ids, text, strlen(text), TOKENIZER_TOKENS));
    assert_ok(answer_init(&a, tokens, o, collect, out));
    bool over = false;
    for (size_t i = 0; i < ids.n && !over; i++)
        over = answer_push(&a, ids.ids[i]);
    answer_finish(&a);
    assert_false(answer_failed(&a));
    answer_done(&a);
    token_list_done(&ids);
}

// Joins neighbouring pieces of one channel.
static void joined(char *to, size_t size, const buf *pieces)
{
    char last = 0;
    size_t n = 0;
    for (const char *c = buf_text(pieces); *c && n + 4 < size; c++) {
        if (c[0] == '[' && c[1] && c[2] == ']') {
            if (c[1] != last) to[n++] = '|', to[n++] = c[1], to[n++] = ':';
            last = c[1];
            c += 2;
        } else {
            to[n++] = *c;
        }
    }
    to[n] = 0;
}

static void channels_are_told_by_ids(void **state)
{
    const char *const stops[] = {"END"};
    const struct {
        const char *text, *wanted;
        answer_options o;
    } cases[] = {
        {"plain words", "|n:plain words", {0}},
        {"deep\n</think>\n\nshallow", "|h:deep\n|n:shallow", {.opens_thinking = true}},
        {"<think>\nhm\n</think>\n\nso", "|h:hm\n|n:so", {0}},
        {"a END b", "|n:a ", {.stop = stops, .n_stop = 1}},
        {"END</think>x END y", "|h:END|n:x ", {.opens_thinking = true, .stop = stops, .n_stop = 1}},
        {"a EN", "|n:a EN", {.stop = stops, .n_stop = 1}},
        {"go <tool_call>{\"a\":1}</tool_call>", "|n:go |o:{\"a\":1}", {.tools = true}},
        {"hm <tool_call>a</tool_call>so</think>x", "|h:hm |o:a|h:so|n:x", {.opens_thinking = true, .tools = true}},
        {"go <tool_call>x", "|n:go <tool_call>x", {0}},
        {"x<|vision_start|>y", "|n:xy", {0}},
        {"\xf0\x9f\x98\x80 caf\xc3\xa9", "|n:\xf0\x9f\x98\x80 caf\xc3\xa9", {0}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf out;
        char got[256];
        feed(&out, cases[i].text, &cases[i].o);
        joined(got, sizeof got, &out);
        assert_string_equal(got, cases[i].wanted);
        buf_done(&out);
    }
}

static void what_does_not_fit_is_refused_before_work(void **state)
{
    task *t = NULL;
    request_limits l = request_limits_default();
    l.max_prompt_tokens = 20;
    assert_fails(make(&t, VIDEO(CLIP), "", &l), SIGHT_E_LIMIT, "18 of them pictures and clips");
    l = request_limits_default();
    l.max_media_bytes = 100;
    assert_fails(make(&t, IMAGE(PIC), "", &l), SIGHT_E_LIMIT, "limit is 100");
    l = request_limits_default();
    l.max_source_pixels = 100;
    assert_fails(make(&t, IMAGE(PIC), "", &l), SIGHT_E_LIMIT, "a.png");
    assert_fails(make(&t, VIDEO(CLIP), "", &l), SIGHT_E_LIMIT, "v.mkv");
    l = request_limits_default();
    l.max_seconds = 0.01;
    assert_fails(make(&t, VIDEO(CLIP), "", &l), SIGHT_E_LIMIT, "v.mkv");
    assert_null(t);
}

static void ceilings_bound_frames_and_pixels(void **state)
{
    task *t;
    request_limits l = request_limits_default();
    l.max_frames = 2;
    assert_ok(make(&t, VIDEO(CLIP), "", &l));
    assert_int_equal(t->media[0].n_frames, 2);
    task_destroy(&t);
    l.max_frames = 768;
    l.max_pixels = 4096;
    assert_ok(make(&t, IMAGE(PIC), "", &l));
    assert_true((int64_t)t->media[0].plan.width * t->media[0].plan.height <= 4096);
    task_destroy(&t);
    // More tokens are asked for than the context has.
    assert_ok(make(&t, TEXT("hi"), "\"max_tokens\": 30000", NULL));
    assert_int_equal(t->max_tokens + t->prompt.n, 4096);
    assert_int_equal(json_array_size(t->asked->warnings), 1);
    task_destroy(&t);
}

static void a_range_and_frames_are_taken(void **state)
{
    task *t;
    assert_ok(make(&t, "{\"type\": \"video\", \"video\": \"" CLIP "\", \"frames\": 3}", "", NULL));
    assert_int_equal(t->media[0].n_frames, 3);
    assert_int_equal(t->media[0].plan.grid.t, 2);
    const task_media *m = &t->media[0];
    assert_float_equal(m->pair_times[1], m->times_s[2], 1e-9); // the last is its own partner
    task_destroy(&t);
}

static void prompts_are_shown_without_work(void **state)
{
    engine_options o = engine_options_default();
    o.model = HYBRID "/model";
    o.text_side_only = true;
    engine *e;
    assert_ok(engine_open(&e, &o));
    assert_null(engine_pool(e));
    const char *json =
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image\"}, {\"type\": "
        "\"text\", \"text\": \"<|im_end|>?\"}]}], \"enable_thinking\": false}";
    const request_source source = {.json = json, .size = strlen(json)};
    const request_limits limits = request_limits_default();
    request *r;
    char *text;
    size_t size;
    assert_ok(request_parse(&r, &source, &limits, &engine_config(e)->generation));
    assert_ok(task_prompt_text(&text, &size, e, r));
    assert_string_equal(text,
                        "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>?"
                        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    free(text);
    request_destroy(&r);
    engine_close(&e);
}

static void engines_that_cannot_be_are_refused(void **state)
{
    engine_options o = engine_options_default();
    engine *e = NULL;
    assert_fails(engine_open(&e, &o), SIGHT_E_ARGUMENT, "a model folder or a shape");
    o.model = "/nonexistent/model";
    assert_fails(engine_open(&e, &o), SIGHT_E_NOT_FOUND, "/nonexistent/model");
    o.model = HYBRID "/model";
    o.memory_bytes = 1000;
    assert_fails(engine_open(&e, &o), SIGHT_E_MEMORY, "needs");
    o.memory_bytes = 0;
    o.context_tokens = 17000;
    assert_fails(engine_open(&e, &o), SIGHT_E_ARGUMENT, "must be 1 to 16384 tokens");
    assert_null(e);
}

static void a_small_allowance_shortens_the_context(void **state)
{
    engine_options o = engine_options_default();
    o.model = HYBRID "/model";
    o.threads = 1;
    engine *e;
    assert_ok(engine_open(&e, &o));
    const engine_memory m = engine_get_memory(e);
    engine_close(&e);
    o.memory_bytes = m.weights + m.text_workspace + m.cache / 2;
    assert_ok(engine_open(&e, &o));
    assert_true(engine_context(e) < 4096 && engine_context(e) > 256);
    bool told = false;
    for (int i = 0; engine_warning(e, i); i++)
        told |= strstr(engine_warning(e, i), "instead of") != NULL;
    assert_true(told);
    engine_close(&e);
    o.context_tokens = 4096; // by number: refused instead
    assert_fails(engine_open(&e, &o), SIGHT_E_MEMORY, "tokens fit");
    assert_null(e);
}

static void a_longer_context_stretches_positions(void **state)
{
    engine_options o = engine_options_default();
    o.model = HYBRID "/model";
    o.threads = 1;
    o.context_tokens = 5000;
    engine *e;
    assert_ok(engine_open(&e, &o));
    assert_int_equal(engine_context(e), 5000);
    assert_true(engine_config(e)->text.rope.yarn && engine_config(e)->text.rope.factor == 2);
    assert_int_equal(engine_config(e)->text.max_positions, 8192);
    assert_non_null(strstr(engine_warning(e, 0), "stretched 2 times"));
    json_t *about = engine_describe(e);
    assert_true(json_number_value(json_object_get(about, "rope_factor")) == 2);
    json_decref(about);
    engine_close(&e);
    o.context_tokens = 0;
    o.rope_factor = 3;
    assert_ok(engine_open(&e, &o));
    assert_int_equal(engine_context(e), 3 * 4096);
    engine_close(&e);
    o.model = TEST_GOLDEN_DIR "/hybrid-yarn/model"; // has its own
    e = NULL;
    assert_fails(engine_open(&e, &o), SIGHT_E_ARGUMENT, "a rope factor of its own");
    assert_null(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_longer_context_stretches_positions),
        cmocka_unit_test(events_come_in_order),
        cmocka_unit_test(the_same_seed_gives_the_same_answer),
        cmocka_unit_test(stop_strings_end_the_answer),
        cmocka_unit_test(a_cancel_is_heard_in_every_stage),
        cmocka_unit_test(thinking_and_answer_are_apart),
        cmocka_unit_test(channels_are_told_by_ids),
        cmocka_unit_test(what_does_not_fit_is_refused_before_work),
        cmocka_unit_test(ceilings_bound_frames_and_pixels),
        cmocka_unit_test(a_range_and_frames_are_taken),
        cmocka_unit_test(prompts_are_shown_without_work),
        cmocka_unit_test(engines_that_cannot_be_are_refused),
        cmocka_unit_test(a_small_allowance_shortens_the_context),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
