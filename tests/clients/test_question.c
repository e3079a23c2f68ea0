#include "support/test.h"

#include "clients/cli/question.h"

static void pictures_and_clips_are_told_apart(void **state)
{
    const char *folder = test_folder();
    char *media[] = {test_write(folder, "a.bin", "\x89PNG\r\n\x1a\n....", 12),
                     test_write(folder, "b.bin", "\0\0\0\x18"
                                                 "ftypmp42",
                                12),
                     test_write(folder, "c.bin", "RIFF\0\0\0\0WEBP", 12)};
    question q;
    question_init(&q);
    q.start_s = 1.5;
    q.frames = 4;
    json_t *message;
    assert_ok(question_message(&q, &message, media, 3, "what?"));
    json_t *content = json_object_get(message, "content");
    assert_int_equal(json_array_size(content), 4);
    assert_string_equal(json_string_value(json_object_get(json_array_get(content, 0), "image")), media[0]);
    json_t *clip = json_array_get(content, 1);
    assert_string_equal(json_string_value(json_object_get(clip, "video")), media[1]);
    assert_true(json_number_value(json_object_get(clip, "start")) == 1.5);
    assert_int_equal(json_integer_value(json_object_get(clip, "frames")), 4);
    assert_string_equal(json_string_value(json_object_get(json_array_get(content, 2), "type")), "image");
    assert_string_equal(json_string_value(json_object_get(json_array_get(content, 3), "text")), "what?");
    json_decref(message);
    for (int i = 0; i < 3; i++) free(media[i]);
    question_done(&q);
}

static void files_can_be_attached(void **state)
{
    char *media[] = {test_write(test_folder(), "a", "BM....", 6)};
    question q;
    question_init(&q);
    q.attach = true;
    json_t *message;
    for (int i = 0; i < 2; i++) {
        assert_ok(question_message(&q, &message, media, 1, NULL));
        json_t *part = json_array_get(json_object_get(message, "content"), 0);
        assert_int_equal(json_integer_value(json_object_get(part, "attachment")), i);
        assert_null(json_object_get(part, "image"));
        json_decref(message);
    }
    assert_int_equal(q.n_parts, 2);
    assert_memory_equal(q.parts[1].data, "BM....", 6);
    question_done(&q);
    free(media[0]);
}

static void web_addresses_go_as_they_are(void **state)
{
    char *media[] = {(char *)"https://example.org/a.MP4?x=y.png", (char *)"HTTP://example.org/b.png", (char *)"http://example.org/c"};
    const char *const types[] = {"video", "image", "image"};
    char *other = (char *)"rtsp://camera/1";
    question q;
    json_t *message = NULL;
    question_init(&q);
    q.attach = true; // what another machine has is not attached
    q.start_s = 2;
    assert_ok(question_message(&q, &message, media, 3, "what?"));
    const json_t *content = json_object_get(message, "content");
    for (size_t i = 0; i < 3; i++) {
        const json_t *part = json_array_get(content, i);
        assert_string_equal(json_string_value(json_object_get(part, "type")), types[i]);
        assert_string_equal(json_string_value(json_object_get(part, types[i])), media[i]);
        assert_int_equal(json_object_get(part, "start") != NULL, i == 0);
    }
    assert_int_equal(q.n_parts, 0);
    json_decref(message);
    message = NULL;
    assert_fails(question_message(&q, &message, &other, 1, "?"), SIGHT_E_UNSUPPORTED, "no http:// or https:// address");
    question_done(&q);
}

static void bad_media_get_a_sentence(void **state)
{
    const char *folder = test_folder();
    char *empty = test_write(folder, "empty.mp4", "", 0), *missing = strdup("/no/such/file.png");
    char *asked_folder = strdup(folder);
    question q;
    question_init(&q);
    json_t *message = NULL;
    assert_fails(question_message(&q, &message, &empty, 1, "?"), SIGHT_E_MEDIA, "is empty");
    assert_fails(question_message(&q, &message, &missing, 1, "?"), SIGHT_E_MEDIA, "/no/such/file.png");
    assert_fails(question_message(&q, &message, &asked_folder, 1, "?"), SIGHT_E_MEDIA, "is a folder");
    assert_fails(question_message(&q, &message, NULL, 0, "\xff"), SIGHT_E_ARGUMENT, "not valid UTF-8");
    assert_null(message);
    free(empty);
    free(missing);
    free(asked_folder);
}

static void only_what_was_given_is_asked_for(void **state)
{
    question q;
    question_init(&q);
    json_t *messages = json_array();
    char *text;
    assert_ok(question_request(&q, &text, messages));
    assert_string_equal(text, "{\"messages\":[]}");
    free(text);
    q.temperature = 0;
    q.top_k = 0;
    q.max_tokens = 5;
    q.no_think = true;
    q.stop = (arg_list){{"x"}, 1};
    assert_ok(question_request(&q, &text, messages));
    assert_string_equal(text, "{\"messages\":[],\"max_tokens\":5,\"top_k\":0,\"temperature\":0.0,"
                              "\"enable_thinking\":false,\"stop\":[\"x\"]}");
    free(text);
    question_init(&q);
    q.use = "auto";
    q.confidence = true;
    assert_ok(question_request(&q, &text, messages));
    assert_string_equal(text, "{\"messages\":[],\"model\":\"auto\",\"confidence\":true}");
    free(text);
    json_decref(messages);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pictures_and_clips_are_told_apart),
        cmocka_unit_test(files_can_be_attached),
        cmocka_unit_test(web_addresses_go_as_they_are),
        cmocka_unit_test(bad_media_get_a_sentence),
        cmocka_unit_test(only_what_was_given_is_asked_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
