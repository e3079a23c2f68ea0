#include "support/test.h"

#include <dirent.h>
#include <jansson.h>

#include "base/buf.h"
#include "checkpoint/config.h"
#include "checkpoint/safetensors.h"
#include "text/chat.h"
#include "text/prompt.h"

#define MAX_MEDIA 8
#define MAX_PAIRS 64

typedef struct golden {
    tokenizer *t;
    chat *chat;
    model_config config;
    json_t *c; // case.json
    safetensors *expected;
    prompt_media media[MAX_MEDIA];
    int32_t n_media;
    double times[MAX_MEDIA][MAX_PAIRS];
} golden;

static char *join(const char *a, const char *b)
{
    buf path;
    buf_init(&path);
    buf_printf(&path, "%s/%s", a, b);
    return buf_take(&path);
}

// The mean time of each pair of frames, as sampled from a clip of `total` frames at `fps`.
static int32_t pair_times(double *out, int32_t total, double fps)
{
    int32_t n = (int32_t)((double)total / fps * 2);
    if (n < 4) n = 4;
    if (n > total) n = total;
    int32_t pairs = (n + 1) / 2;
    for (int32_t i = 0; i < pairs; i++) {
        double sum = 0;
        for (int32_t k = 2 * i; k < 2 * i + 2; k++) {
            int32_t frame = k < n ? k : n - 1; // an odd count repeats the last
            double at = n > 1 ? (double)frame * (total - 1) / (n - 1) : 0;
            int32_t index = (int32_t)at;
            double part = at - index;
            if (part > 0.5 || (part == 0.5 && index % 2)) index++;
            sum += index / fps;
        }
        out[i] = sum / 2;
    }
    return pairs;
}

static void add_media(golden *g, const char *tensor, bool video, const char *name)
{
    int64_t at = safetensors_find(g->expected, tensor);
    tensor_view v;
    if (at < 0) return;
    assert_true(safetensors_view(g->expected, &v, (size_t)at));
    const int32_t *grid = v.data;
    for (int64_t i = 0; i < v.shape[0]; i++, grid += 3) {
        prompt_media *m = &g->media[g->n_media];
        *m = (prompt_media){ video, grid[0], grid[1] / 2, grid[2] / 2, g->times[g->n_media] };
        if (video) {
            int32_t total = strstr(name, "-7f") ? 7 : 30;
            double fps = total == 7 ? 30000.0 / 1001 : 10;
            assert_int_equal(pair_times(g->times[g->n_media], total, fps), m->t);
        }
        g->n_media++;
    }
}

static void check_prompt(const golden *g, const prompt *p)
{
    const json_t *ids = json_object_get(g->c, "input_ids");
    tensor_view v;
    int32_t features = 0;
    assert_int_equal(p->n, json_array_size(ids));
    for (int32_t i = 0; i < p->n; i++)
        assert_int_equal(p->ids[i], json_integer_value(json_array_get(ids, (size_t)i)));
    assert_true(safetensors_view(g->expected, &v,
                                 (size_t)safetensors_find(g->expected, "position_ids")));
    assert_memory_equal(p->positions, v.data, 3 * (size_t)p->n * sizeof *p->positions);
    assert_int_equal(p->next_position - p->n,
                     json_integer_value(json_object_get(g->c, "rope_delta")));
    for (int32_t i = 0; i < g->n_media; i++)
        features += g->media[i].t * g->media[i].h * g->media[i].w;
    assert_int_equal(p->n_visual, features);
    for (int32_t i = 0; i < p->n; i++) {
        bool pad = p->ids[i] == g->config.image_token || p->ids[i] == g->config.video_token;
        assert_int_equal(p->visual[i], pad);
    }
}

static void run_case(golden *g, const char *folder, const char *name)
{
    char *dir = join(folder, name), *path = join(dir, "case.json"), *text;
    json_error_t e;
    size_t n;
    prompt p = { 0 };
    g->c = json_load_file(path, JSON_ALLOW_NUL, &e);
    if (!g->c) fail_msg("%s: %s", path, e.text);
    free(path);
    path = join(dir, "expected.safetensors");
    assert_ok(safetensors_open(&g->expected, path));
    g->n_media = 0;
    add_media(g, "image_grid_thw", false, name);
    add_media(g, "video_grid_thw", true, name);
    const json_t *request = json_object_get(g->c, "request");
    chat_options o = { .enable_thinking = json_is_true(json_object_get(g->c, "enable_thinking")) };
    assert_ok(chat_render(g->chat, &text, &n, json_object_get(request, "messages"), NULL, &o));
    assert_string_equal(text, json_string_value(json_object_get(g->c, "prompt_before_media")));
    assert_ok(prompt_build(&p, g->t, text, n, g->media, g->n_media, &g->config));
    check_prompt(g, &p);
    prompt_done(&p);
    free(text);
    safetensors_close(&g->expected);
    json_decref(g->c);
    free(path);
    free(dir);
}

static void open_model(golden *g, const char *name)
{
    char *dir = join(TEST_GOLDEN_DIR, name), *model = join(dir, "model");
    assert_ok(tokenizer_open(&g->t, model));
    assert_ok(chat_open(&g->chat, model, g->t, NULL));
    assert_ok(config_load(&g->config, model));
    free(model);
    free(dir);
}

static void close_model(golden *g)
{
    chat_close(&g->chat);
    tokenizer_close(&g->t);
}

static void golden_cases_have_the_references_ids_and_positions(void **state)
{
    static const char *const models[] = { "hybrid", "hybrid-deepstack", "hybrid-yarn", "qwen3vl" };
    int n = 0;
    for (size_t i = 0; i < 4; i++) {
        golden g = { 0 };
        open_model(&g, models[i]);
        char *dir = join(TEST_GOLDEN_DIR, models[i]), *cases = join(dir, "cases");
        DIR *d = opendir(cases);
        assert_non_null(d);
        for (struct dirent *e; (e = readdir(d));) {
            if (e->d_name[0] == '.') continue;
            run_case(&g, cases, e->d_name);
            n++;
        }
        closedir(d);
        free(cases);
        free(dir);
        close_model(&g);
    }
    assert_true(n >= 24);
}

static const char one_picture[] = "a<|vision_start|><|image_pad|><|vision_end|>b";
static const char one_video[] = "<|vision_start|><|video_pad|><|vision_end|>b";

static void a_video_may_keep_its_outer_pair(void **state)
{
    golden g = { 0 };
    double times[] = { 0.25, 1.35 };
    prompt_media m = { true, 2, 1, 3, times };
    prompt inner, outer;
    open_model(&g, "hybrid");
    assert_ok(prompt_build(&inner, g.t, one_video, sizeof one_video - 1, &m, 1, &g.config));
    g.config.video_outer_pair = true;
    assert_ok(prompt_build(&outer, g.t, one_video, sizeof one_video - 1, &m, 1, &g.config));
    assert_int_equal(outer.n, inner.n + 2);
    assert_int_equal(outer.ids[0], g.config.vision_start_token);
    assert_int_equal(outer.ids[outer.n - 2], g.config.vision_end_token);
    assert_int_equal(outer.next_position, inner.next_position + 2);
    prompt_done(&inner);
    prompt_done(&outer);
    close_model(&g);
}

static void media_must_match_the_text(void **state)
{
    golden g = { 0 };
    double times[] = { 0 };
    prompt_media two[] = { { false, 1, 2, 2, NULL }, { true, 1, 2, 2, times } };
    prompt p;
    size_t n = sizeof one_picture - 1;
    open_model(&g, "hybrid");
    assert_fails(prompt_build(&p, g.t, one_picture, n, NULL, 0, &g.config), SIGHT_E_ARGUMENT,
                 "have 1 pictures and videos, but 0 are given");
    assert_fails(prompt_build(&p, g.t, one_picture, n, two, 2, &g.config), SIGHT_E_ARGUMENT,
                 "have 1 pictures and videos, but 2 are given");
    assert_fails(prompt_build(&p, g.t, one_picture, n, two + 1, 1, &g.config), SIGHT_E_ARGUMENT,
                 "medium 1 is a video, but the messages have a picture there");
    two[0].h = 0;
    assert_fails(prompt_build(&p, g.t, one_picture, n, two, 1, &g.config), SIGHT_E_ARGUMENT,
                 "medium 1 has a grid of 1 x 0 x 2");
    two[0].h = two[0].w = 1 << 16;
    assert_fails(prompt_build(&p, g.t, one_picture, n, two, 1, &g.config), SIGHT_E_ARGUMENT,
                 "tokens");
    g.config.has_vision = false;
    assert_fails(prompt_build(&p, g.t, one_picture, n, two + 1, 1, &g.config), SIGHT_E_ARGUMENT,
                 "reads text only");
    close_model(&g);
}

static void a_clients_pad_is_no_picture(void **state)
{
    golden g = { 0 };
    char *text;
    size_t n;
    prompt p;
    open_model(&g, "hybrid");
    json_t *m = json_pack("[{s:s, s:[{s:s}, {s:s, s:s}]}]", "role", "user", "content", "type",
                          "image", "type", "text", "text", one_picture);
    prompt_media picture = { false, 1, 2, 3, NULL };
    assert_ok(chat_render(g.chat, &text, &n, m, NULL, NULL));
    assert_ok(prompt_build(&p, g.t, text, n, &picture, 1, &g.config));
    assert_int_equal(p.n_visual, 6);
    prompt_done(&p);
    free(text);
    json_decref(m);
    close_model(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_cases_have_the_references_ids_and_positions),
        cmocka_unit_test(a_video_may_keep_its_outer_pair),
        cmocka_unit_test(media_must_match_the_text),
        cmocka_unit_test(a_clients_pad_is_no_picture),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
