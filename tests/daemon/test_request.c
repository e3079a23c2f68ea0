#include "support/test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "daemon/media/base64.h"
#include "daemon/media/fetch.h"
#include "daemon/request.h"
#include "daemon/media/request_media.h"

static const generation_config defaults = {
    .do_sample = true, .temperature = 0.7, .top_p = 0.8, .top_k = 20, .repetition_penalty = 1};

#define HELLO "\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}]"

static sight_err parse_bytes(request **out, const char *json, size_t size)
{
    static const request_part parts[2] = {{"picture", 7}, {"", 0}};
    const request_source source = {.json = json, .size = size, .parts = parts, .n_parts = 2};
    request_limits limits = request_limits_default();
    limits.max_media = 3;
    limits.max_media_bytes = 1000;
    limits.max_json_bytes = 1 << 20;
    return request_parse(out, &source, &limits, &defaults);
}

static sight_err parse(request **out, const char *json)
{
    return parse_bytes(out, json, strlen(json));
}

// A request with one content part.
static sight_err parse_part(request **out, const char *part)
{
    char json[8192];
    snprintf(
        json, sizeof json,
        "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"?\"}, "
        "%s]}]}",
        part);
    return parse(out, json);
}

static void refused(const char *json, sight_err code, const char *text)
{
    request *r = NULL;
    assert_fails(parse(&r, json), code, text);
    assert_null(r);
}

static void part_refused(const char *part, sight_err code, const char *text)
{
    request *r = NULL;
    assert_fails(parse_part(&r, part), code, text);
    assert_null(r);
}

static void field_refused(const char *field, const char *text)
{
    char json[512];
    snprintf(json, sizeof json, "{" HELLO ", %s}", field);
    refused(json, SIGHT_E_ARGUMENT, text);
}

static bool warns(const request *r, const char *text)
{
    size_t i;
    json_t *line;
    json_array_foreach(r->warnings, i, line)
    {
        if (strstr(json_string_value(line), text)) return true;
    }
    return false;
}

static void silence_means_the_checkpoint_s_defaults(void **state)
{
    request *r;
    assert_ok(parse(&r, "{" HELLO "}"));
    assert_float_equal(r->sampling.temperature, 0.7, 1e-9);
    assert_int_equal(r->sampling.top_k, 20);
    assert_float_equal(r->sampling.repetition_penalty, 1, 0);
    assert_int_equal(r->chat.enable_thinking, -1);
    assert_true(r->stream);
    assert_false(r->seed_given);
    assert_int_equal(r->max_tokens, 0);
    assert_int_equal(json_array_size(r->warnings), 0);
    request_destroy(&r);
    assert_null(r);
    generation_config greedy = defaults;
    greedy.do_sample = false;
    const request_source source = {.json = "{" HELLO "}", .size = strlen("{" HELLO "}")};
    const request_limits limits = request_limits_default();
    assert_ok(request_parse(&r, &source, &limits, &greedy));
    assert_float_equal(r->sampling.temperature, 0, 0);
    request_destroy(&r);
}

static void every_field_is_read(void **state)
{
    request *r;
    assert_ok(
        parse(&r, "{" HELLO ", \"model\": \"m\", \"temperature\": 0, \"top_p\": 0.5, \"top_k\": -1,"
                  "\"min_p\": 0.1, \"presence_penalty\": 1.5, \"frequency_penalty\": -2,"
                  "\"repetition_penalty\": 1.1, \"seed\": -3, \"stop\": [\"a\", \"bc\"],"
                  "\"max_completion_tokens\": 7, \"enable_thinking\": false, \"stream\": false,"
                  "\"add_vision_id\": true, \"tools\": [{}], \"n\": 1,"
                  "\"response_format\": {\"type\": \"text\"}}"));
    assert_string_equal(r->model, "m");
    assert_float_equal(r->sampling.temperature, 0, 0);
    assert_int_equal(r->sampling.top_k, 0);
    assert_float_equal(r->sampling.frequency_penalty, -2, 0);
    assert_true(r->seed_given);
    assert_true(r->sampling.seed == (uint64_t)-3);
    assert_int_equal(r->n_stop, 2);
    assert_string_equal(r->stop[1], "bc");
    assert_int_equal(r->max_tokens, 7);
    assert_int_equal(r->chat.enable_thinking, 0);
    assert_true(r->chat.add_vision_id);
    assert_false(r->stream);
    assert_int_equal(json_array_size(r->tools), 1);
    assert_int_equal(json_array_size(r->warnings), 0);
    request_destroy(&r);
}

static void fields_out_of_range_are_named(void **state)
{
    field_refused("\"max_tokens\": -1", "'max_tokens' is -1, must be 1 to 32768");
    field_refused("\"max_tokens\": 0", "'max_tokens' is 0");
    field_refused("\"max_tokens\": 1.5", "'max_tokens' must be a whole number");
    field_refused("\"temperature\": NaN", "not valid JSON");
    field_refused("\"temperature\": \"NaN\"", "'temperature' must be a number");
    field_refused("\"temperature\": -0.1", "'temperature' is -0.1");
    field_refused("\"temperature\": 1e999", "not valid JSON");
    field_refused("\"top_p\": 0", "'top_p' is 0");
    field_refused("\"top_p\": 1.01", "'top_p' is 1.01");
    field_refused("\"top_k\": -2", "'top_k' is -2");
    field_refused("\"min_p\": 1", "'min_p' is 1");
    field_refused("\"presence_penalty\": 3", "'presence_penalty' is 3");
    field_refused("\"repetition_penalty\": 0", "'repetition_penalty' is 0");
    field_refused("\"seed\": \"x\"", "'seed' must be a whole number");
    field_refused("\"stop\": \"\"", "'stop' string has 0 bytes");
    field_refused("\"stop\": [1]", "'stop' must be");
    field_refused("\"stream\": 1", "'stream' must be true or false");
    field_refused("\"enable_thinking\": \"no\"", "'enable_thinking'");
    field_refused("\"tools\": {}", "'tools' must be a list");
    field_refused("\"tools\": [1]", "'tools' must be a list");
    field_refused("\"base_dir\": \"here\"", "'base_dir' must be an absolute path");
    field_refused("\"tool_choice\": \"required\"", "there are no 'tools'");
    field_refused("\"tools\": [{\"name\": \"a\"}], \"tool_choice\": \"must\"", "'tool_choice' must be auto, none, required");
    field_refused("\"tools\": [{\"name\": \"a\"}], \"tool_choice\": {\"type\": \"function\", \"function\": {\"name\": \"b\"}}",
                  "'tool_choice' names 'b'");
    field_refused("\"tools\": [{\"name\": \"a\"}], \"tool_choice\": \"required\", \"response_format\": {\"type\": \"json_object\"}",
                  "'response_format' for something else");
    field_refused("\"thinking_budget\": -3", "'thinking_budget' is -3");
    field_refused("\"repetition_guard\": 1", "'repetition_guard' must be true or false");
    field_refused("\"repetition_retry\": 0.8", "'repetition_retry' needs 'stream' false");
    field_refused("\"response_format\": \"json\"", "'response_format' must be an object");
    field_refused("\"response_format\": {}", "'response_format' must be an object with a 'type'");
    refused("{" HELLO ", \"n\": 2}", SIGHT_E_UNSUPPORTED, "'n'");
}

static void unknown_fields_are_named_in_warnings(void **state)
{
    request *r;
    assert_ok(parse(
        &r, "{\"messages\": [{\"role\": \"user\", \"colour\": 1, \"content\": [{\"type\": "
            "\"text\", \"text\": \"x\", \"size\": 2}, {\"type\": \"image\", \"attachment\": 0, "
            "\"fps\": 2}]}], \"temprature\": 1}"));
    assert_true(warns(r, "request: unknown field 'temprature'"));
    assert_true(warns(r, "messages[0]: unknown field 'colour'"));
    assert_true(warns(r, "messages[0].content[0]: unknown field 'size'"));
    assert_true(warns(r, "messages[0].content[1]: unknown field 'fps'"));
    request_destroy(&r);
}

static void damaged_json_is_refused(void **state)
{
    refused("", SIGHT_E_ARGUMENT, "not valid JSON");
    refused("{", SIGHT_E_ARGUMENT, "not valid JSON");
    refused("[]", SIGHT_E_ARGUMENT, "must be a JSON object");
    refused("3", SIGHT_E_ARGUMENT, "must be a JSON object");
    refused("{\"messages\": \"hi\", \"messages\": 1}", SIGHT_E_ARGUMENT, "duplicate");
    refused("{\"messages\": [{\"role\": \"user\", \"content\": \"\xff\"}]}", SIGHT_E_ARGUMENT,
            "not valid JSON");
    refused("{\"messages\": [{\"role\": \"user\", \"content\": \"\\ud800\"}]}", SIGHT_E_ARGUMENT,
            "not valid JSON");
    refused("{}", SIGHT_E_ARGUMENT, "'messages' must be a list");
    refused("{\"messages\": []}", SIGHT_E_ARGUMENT, "at least one");
    refused("{\"messages\": [1]}", SIGHT_E_ARGUMENT, "messages[0] must be an object");
    refused("{\"messages\": [{\"role\": \"user\", \"content\": 5}]}", SIGHT_E_ARGUMENT,
            "messages[0]: 'content'");
    refused("{\"messages\": [{\"role\": \"user\", \"content\": [5]}]}", SIGHT_E_ARGUMENT,
            "messages[0].content[0] must be an object");
}

static void deep_nesting_is_refused(void **state)
{
    const size_t n = 50000; // 10,000 objects below
    char *json = malloc(2 * n + 1);
    memset(json, '[', n);
    memset(json + n, ']', n);
    json[2 * n] = 0;
    refused(json, SIGHT_E_ARGUMENT, "depth");
    for (size_t i = 0; i + 5 < n; i += 5)
        memcpy(json + i, "{\"a\":", 5);
    refused(json, SIGHT_E_ARGUMENT, "depth");
    free(json);
}

static void large_json_is_refused_before_it_is_read(void **state)
{
    const size_t n = (1 << 20) + 1;
    char *json = malloc(n);
    memset(json, ' ', n);
    request *r;
    assert_fails(parse_bytes(&r, json, n), SIGHT_E_LIMIT, "the limit is 1048576");
    free(json);
}

static void media_are_found_where_they_are(void **state)
{
    request *r;
    assert_ok(parse(
        &r, "{\"base_dir\": \"/films\", \"messages\": [{\"role\": \"user\", \"content\": ["
            "{\"type\": \"video\", \"video\": \"a b.mp4\", \"start\": \"1:30\", \"end\": 95.5, "
            "\"fps\": 0.5},"
            "{\"type\": \"image_url\", \"image_url\": {\"url\": \"data:image/png;base64,aGk=\", "
            "\"detail\": \"low\"}},"
            "{\"type\": \"video_url\", \"video_url\": {\"url\": \"file:///x/%41.mkv\"}, "
            "\"frames\": 8, \"max_pixels\": 100000}]}]}"));
    assert_int_equal(r->n_media, 3);
    assert_string_equal(r->media[0].path, "/films/a b.mp4");
    assert_string_equal(r->media[0].name, "a b.mp4");
    assert_float_equal(r->media[0].start_s, 90, 0);
    assert_float_equal(r->media[0].end_s, 95.5, 0);
    assert_float_equal(r->media[0].fps, 0.5, 0);
    assert_int_equal(r->media[1].kind, MEDIA_IMAGE);
    assert_int_equal(r->media[1].size, 2);
    assert_memory_equal(r->media[1].bytes, "hi", 2);
    assert_int_equal(r->media[2].kind, MEDIA_VIDEO);
    assert_string_equal(r->media[2].path, "/x/A.mkv");
    assert_int_equal(r->media[2].frames, 8);
    assert_int_equal(r->media[2].max_pixels, 100000);
    assert_int_equal(json_array_size(r->warnings), 0);
    // What the template sees holds no data.
    char *messages = json_dumps(r->messages, 0);
    assert_null(strstr(messages, "base64"));
    assert_non_null(strstr(messages, "{\"type\": \"image\"}"));
    free(messages);
    request_destroy(&r);
}

static void attachments_are_counted(void **state)
{
    request *r;
    assert_ok(parse_part(&r, "{\"type\": \"image\", \"attachment\": 0}"));
    assert_memory_equal(r->media[0].bytes, "picture", 7);
    assert_string_equal(r->media[0].name, "attachment 0");
    request_destroy(&r);
    assert_ok(parse_part(&r, "{\"type\": \"image\", \"attachment\": 1}"));
    assert_int_equal(r->media[0].size, 0); // its emptiness is found when it is opened
    assert_non_null(r->media[0].bytes);
    request_destroy(&r);
    part_refused("{\"type\": \"image\", \"attachment\": 2}", SIGHT_E_ARGUMENT,
                 "has 2 binary parts");
    part_refused("{\"type\": \"image\", \"attachment\": -1}", SIGHT_E_ARGUMENT, "'attachment'");
    part_refused("{\"type\": \"image\", \"attachment\": \"0\"}", SIGHT_E_ARGUMENT, "'attachment'");
    part_refused("{\"type\": \"image\", \"attachment\": 0, \"image\": \"/a\"}", SIGHT_E_ARGUMENT,
                 "not both");
}

static void places_that_cannot_be_are_refused(void **state)
{
    part_refused("{\"type\": \"image\", \"image\": \"a.png\"}", SIGHT_E_ARGUMENT, "relative path");
    part_refused("{\"type\": \"image\", \"image\": \"\"}", SIGHT_E_ARGUMENT, "empty");
    part_refused("{\"type\": \"image\", \"image\": \"/a\\u0000b\"}", SIGHT_E_ARGUMENT, "NUL");
    part_refused("{\"type\": \"image\", \"image\": 3}", SIGHT_E_ARGUMENT, "'image' must be");
    part_refused("{\"type\": \"image\", \"image\": \"https://x.org/a.png\"}", SIGHT_E_UNSUPPORTED,
                 "fetches nothing");
    part_refused("{\"type\": \"video\", \"video\": \"rtsp://camera\"}", SIGHT_E_UNSUPPORTED,
                 "fetches nothing");
    part_refused("{\"type\": \"image\", \"image\": \"file://host/a\"}", SIGHT_E_ARGUMENT,
                 "file URL");
    part_refused("{\"type\": \"image\", \"image\": \"file:///a%00b\"}", SIGHT_E_ARGUMENT,
                 "file URL");
    part_refused("{\"type\": \"image\", \"image\": \"file:///a%0\"}", SIGHT_E_ARGUMENT, "file URL");
    part_refused("{\"type\": \"image\", \"image\": \"data:image/png,abc\"}", SIGHT_E_UNSUPPORTED,
                 "base64");
    part_refused("{\"type\": \"image\", \"image\": \"data:;base64,a*\"}", SIGHT_E_ARGUMENT,
                 "base64");
    part_refused("{\"type\": \"video\", \"video\": [\"/a.png\"]}", SIGHT_E_UNSUPPORTED, "list");
    part_refused("{\"type\": \"hologram\"}", SIGHT_E_ARGUMENT, "'hologram'");
    part_refused("{\"type\": \"hologram\"}", SIGHT_E_ARGUMENT, "Unexpected item type in content.");
    part_refused("{\"type\": \"text\", \"text\": 3}", SIGHT_E_ARGUMENT, "'text' must be");
}

static void too_much_media_is_refused(void **state)
{
    part_refused(
        "{\"type\": \"image\", \"attachment\": 0}, {\"type\": \"image\", \"attachment\": 0}, "
        "{\"type\": \"image\", \"attachment\": 0}, {\"type\": \"image\", \"attachment\": 0}",
        SIGHT_E_LIMIT, "more than 3");
    char part[2048] = "{\"type\": \"image\", \"image\": \"data:;base64,";
    const size_t n = strlen(part);
    memset(part + n, 'A', 1600);
    strcpy(part + n + 1600, "\"}");
    part_refused(part, SIGHT_E_LIMIT, "limit is 1000");
}

static void ranges_are_checked(void **state)
{
    part_refused("{\"type\": \"video\", \"video\": \"/a\", \"fps\": 0}", SIGHT_E_ARGUMENT,
                 "'fps' is 0");
    part_refused("{\"type\": \"video\", \"video\": \"/a\", \"fps\": -1}", SIGHT_E_ARGUMENT,
                 "'fps'");
    part_refused("{\"type\": \"video\", \"video\": \"/a\", \"fps\": NaN}", SIGHT_E_ARGUMENT,
                 "JSON");
    part_refused("{\"type\": \"video\", \"video\": \"/a\", \"start\": \"NaN\"}", SIGHT_E_ARGUMENT,
                 "'start'");
    part_refused("{\"type\": \"video\", \"video\": \"/a\", \"start\": -1}", SIGHT_E_ARGUMENT,
                 "'start'");
    part_refused("{\"type\": \"video\", \"video\": \"/a\", \"start\": 5, \"end\": 5}",
                 SIGHT_E_ARGUMENT, "'end' 5 s is not after 'start' 5 s");
    part_refused("{\"type\": \"video\", \"video\": \"/a\", \"frames\": 0}", SIGHT_E_ARGUMENT,
                 "'frames'");
    part_refused("{\"type\": \"video\", \"video\": \"/a\", \"frames\": 769}", SIGHT_E_ARGUMENT,
                 "must be 1 to 768");
    part_refused("{\"type\": \"image\", \"image\": \"/a\", \"min_pixels\": 9, \"max_pixels\": 8}",
                 SIGHT_E_ARGUMENT, "'min_pixels' 9 is over 'max_pixels' 8");
    part_refused("{\"type\": \"image\", \"image\": \"/a\", \"max_pixels\": -5}", SIGHT_E_ARGUMENT,
                 "'max_pixels'");
}

static void a_part_without_a_place_still_has_one_in_the_prompt(void **state)
{
    request *r;
    assert_ok(parse_part(&r, "{\"type\": \"image\"}"));
    assert_int_equal(r->n_media, 1);
    assert_null(r->media[0].path);
    assert_null(r->media[0].bytes);
    request_destroy(&r);
}

static void times_are_read(void **state)
{
    const struct {
        const char *text;
        double s;
    } good[] = {{"0", 0},
                {"90", 90},
                {"1.5", 1.5},
                {"0:30", 30},
                {"1:30.5", 90.5},
                {"90:00", 5400},
                {"1:02:03.25", 3723.25},
                {"00:00:00", 0}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        double s = -1;
        assert_ok(request_parse_time(&s, good[i].text, "start"));
        assert_float_equal(s, good[i].s, 1e-9);
    }
    const char *const bad[] = {"",   ":",   "1:",      ":30",         "1:60", "1:2:3:4", "-1",
                               "+1", "1e3", "nan",     "inf",         "0x10", "1.2.3",   "1:2.5:3",
                               " 1", "1 ",  "1:75:00", "99999999999", "."};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        double s = -1;
        assert_fails(request_parse_time(&s, bad[i], "start"), SIGHT_E_ARGUMENT, "start is");
        assert_float_equal(s, -1, 0);
    }
}

static void base64_follows_the_rfc(void **state)
{
    const struct {
        const char *text, *bytes;
    } good[] = {
        {"", ""},           {"Zg==", "f"},         {"Zm8=", "fo"},         {"Zm9v", "foo"},
        {"Zm9vYg", "foob"}, {"Zm9vYmE=", "fooba"}, {"Zm9vYmFy", "foobar"}, {"/+8=", "\xff\xef"}};
    uint8_t out[64];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t n = base64_decode(out, good[i].text, strlen(good[i].text));
        assert_int_equal(n, strlen(good[i].bytes));
        assert_memory_equal(out, good[i].bytes, (size_t)n);
    }
    const char *const bad[] = {"Z", "Zg=", "Zm9v=", "Z===", "Zm 9", "Zh==", "Zm9\n", "=", "===="};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (base64_decode(out, bad[i], strlen(bad[i])) != -1) fail_msg("'%s' was taken", bad[i]);
    }
}

static void files_may_wrap_a_request(void **state)
{
    const char *json =
        "{\"request\": {\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": "
        "\"image\", \"image\": \"a.png\"}]}]}, \"answer\": 1}";
    request_source source = {.json = json, .size = strlen(json), .base_dir = "/case"};
    const request_limits limits = request_limits_default();
    request *r;
    assert_ok(request_parse(&r, &source, &limits, &defaults));
    assert_string_equal(r->media[0].path, "/case/a.png");
    request_destroy(&r);
    source.base_dir = NULL;
    assert_fails(request_parse(&r, &source, &limits, &defaults), SIGHT_E_ARGUMENT, "'messages'");
}

static sight_err parse_with_urls(request **out, const char *place, const identity *who)
{
    char json[512];
    const char *hosts = "*.example.org";
    url_hosts *h = NULL;
    snprintf(json, sizeof json, "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": \"image_url\", \"image_url\": "
             "{\"url\": \"%s\"}}]}]}", place);
    const request_source source = {.json = json, .size = strlen(json), .who = who};
    assert_ok(url_hosts_create(&h, &hosts, 1, "url-hosts"));
    const fetch_rules rules = {.hosts = h};
    request_limits limits = request_limits_default();
    limits.urls = &rules;
    sight_err err = request_parse(out, &source, &limits, &defaults);
    url_hosts_destroy(&h);
    return err;
}

static void urls_are_noted_to_be_fetched(void **state)
{
    request *r = NULL;
    assert_ok(parse_with_urls(&r, "HTTPS://CDN.example.org/a/b.png?key=1#x", NULL));
    assert_string_equal(r->media[0].url, "https://cdn.example.org/a/b.png?key=1");
    assert_string_equal(r->media[0].name, "b.png");
    assert_null(r->media[0].path);
    assert_int_equal(r->media[0].fd, -1);
    assert_true(request_wants_fetching(r));
    request_destroy(&r);
    assert_fails(parse_with_urls(&r, "http://example.org/a", NULL), SIGHT_E_PERMISSION,
                 "messages[0].content[0]: 'http://example.org/a' is not fetched: 'example.org' port 80 is not among");
    assert_fails(parse_with_urls(&r, "rtsp://a.example.org/a", NULL), SIGHT_E_UNSUPPORTED, "only http:// and https://");
    assert_fails(parse_with_urls(&r, "http://a.example.org:80@b.example.org/", NULL), SIGHT_E_ARGUMENT, "names a user");
    identity_table *table = NULL;
    identity *who = NULL;
    const identity_terms terms = {.rights = IDENTITY_ALL_RIGHTS & ~(1u << RIGHT_URLS)};
    assert_ok(identity_table_create(&table));
    assert_ok(identity_table_get(table, &who, "door", true, &terms));
    assert_fails(parse_with_urls(&r, "http://a.example.org/a", who), SIGHT_E_PERMISSION, "'urls'");
    identity_table_destroy(&table);
    assert_null(r);
}

static void files_are_kept_for_another_reading(void **state)
{
    char *path = test_write(test_folder(), "a.png", "bytes", 5), part[512];
    request *first = NULL, *second = NULL;
    media_files kept = {0};
    const request_limits limits = request_limits_default();
    snprintf(part, sizeof part, "{\"type\": \"image\", \"attachment\": 0}, {\"type\": \"image\", \"image\": \"%s\"}", path);
    assert_ok(parse_part(&first, part));
    assert_ok(parse_part(&second, part));
    assert_ok(request_open_media(first, &limits));
    request_keep_files(&kept, first);
    request_destroy(&first);
    assert_int_equal(unlink(path), 0);
    request_take_files(second, &kept);
    assert_null(kept.fds);
    assert_int_equal(second->media[0].fd, -1);
    char byte;
    assert_int_equal(pread(second->media[1].fd, &byte, 1, 4), 1);
    assert_int_equal(byte, 's');
    assert_ok(request_open_media(second, &limits)); // nothing is left to open
    request_keep_files(&kept, second);
    request_keep_files(&kept, second); // in place of those
    request *other = NULL;
    assert_ok(parse_part(&other, "{\"type\": \"image\", \"attachment\": 0}"));
    request_take_files(other, &kept); // of another request: let go
    assert_int_equal(other->media[0].fd, -1);
    assert_null(kept.fds);
    request_destroy(&second);
    request_destroy(&other);
    media_files_done(&kept);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_means_the_checkpoint_s_defaults),
        cmocka_unit_test(every_field_is_read),
        cmocka_unit_test(fields_out_of_range_are_named),
        cmocka_unit_test(unknown_fields_are_named_in_warnings),
        cmocka_unit_test(damaged_json_is_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(large_json_is_refused_before_it_is_read),
        cmocka_unit_test(media_are_found_where_they_are),
        cmocka_unit_test(attachments_are_counted),
        cmocka_unit_test(places_that_cannot_be_are_refused),
        cmocka_unit_test(too_much_media_is_refused),
        cmocka_unit_test(ranges_are_checked),
        cmocka_unit_test(a_part_without_a_place_still_has_one_in_the_prompt),
        cmocka_unit_test(times_are_read),
        cmocka_unit_test(base64_follows_the_rfc),
        cmocka_unit_test(files_may_wrap_a_request),
        cmocka_unit_test(urls_are_noted_to_be_fetched),
        cmocka_unit_test(files_are_kept_for_another_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
