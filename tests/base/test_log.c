// Lines of the log: whatever is told, each is one line, and as JSON one object.
#include "support/test.h"

#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <unistd.h>

#include "base/log.h"

static char out[LOG_LINE_SIZE];

static const char *text_of(const char *message, const log_field *fields, size_t n)
{
    const size_t size = log_format_line(out, LOG_AS_TEXT, LOG_INFO, message, fields, n);
    assert_int_equal(size, strlen(out));
    return out;
}

// The JSON line as an object; fails the test when it is none.
static json_t *object_of(const char *message, const log_field *fields, size_t n)
{
    char whole[LOG_LINE_SIZE + 2] = "{";
    log_format_line(whole + 1, LOG_AS_JSON, LOG_WARNING, message, fields, n);
    for (const char *s = whole; *s; s++) assert_true((unsigned char)*s >= 0x20);
    json_error_t error;
    json_t *object = json_loads(whole, JSON_REJECT_DUPLICATES, &error);
    if (!object) fail_msg("%s: %s", error.text, whole);
    return object;
}

static void text_has_names_and_values(void **state)
{
    const log_field fields[] = {LOG_TEXT("id", "q1"), LOG_TEXT("identity", "uid 1000"), LOG_NUMBER("tokens", 42),
                                LOG_NUMBER("total_s", 1.5), LOG_TEXT("none", NULL), LOG_NUMBER("nan", NAN),
                                LOG_TEXT("empty", "")};
    assert_string_equal(text_of("request ended", fields, 7),
                        "request ended id=q1 identity=\"uid 1000\" tokens=42 total_s=1.5 empty=\"\"");
    assert_string_equal(text_of("alone", NULL, 0), "alone");
    const log_field large = LOG_NUMBER("n", 1234567890123.0);
    assert_string_equal(text_of("x", &large, 1), "x n=1234567890123");
}

static void what_users_chose_cannot_make_lines_or_colours(void **state)
{
    const log_field fields[] = {LOG_TEXT("id", "a\nerror all is lost"), LOG_TEXT("b", "\033[31mred"),
                                LOG_TEXT("c", "x=\"1\" \\"), LOG_TEXT("d", "\xff\xc0\x80"),
                                LOG_TEXT("e", "Stra\xc3\x9f" "e"), LOG_TEXT("f", "\xc2\x9b" "2J"),
                                LOG_TEXT("g", "a\xe2\x80\xae" "b")};
    assert_string_equal(text_of("one\ntwo\r", fields, 7),
                        "one\\ntwo\\r id=\"a\\nerror all is lost\" b=\"\\x1b[31mred\" c=\"x=\\\"1\\\" \\\\\" "
                        "d=\"\\xff\\xc0\\x80\" e=Stra\xc3\x9f" "e f=\"\\x9b2J\" g=\"a\\u202eb\"");
}

static void json_is_json_whatever_is_in_it(void **state)
{
    const log_field fields[] = {LOG_TEXT("id", "a\n\"}{\\ \x01\x7f"), LOG_TEXT("bad", "\xff\xed\xa0\x80."),
                                LOG_TEXT("cut", "\xe2\x82"), LOG_NUMBER("s", .25), LOG_NUMBER("inf", INFINITY)};
    json_t *o = object_of("it \"said\"\n", fields, 5);
    assert_string_equal(json_string_value(json_object_get(o, "message")), "it \"said\"\n");
    assert_string_equal(json_string_value(json_object_get(o, "level")), "warning");
    assert_string_equal(json_string_value(json_object_get(o, "id")), "a\n\"}{\\ \x01\x7f");
    assert_string_equal(json_string_value(json_object_get(o, "bad")), "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd.");
    assert_string_equal(json_string_value(json_object_get(o, "cut")), "\xef\xbf\xbd\xef\xbf\xbd");
    assert_true(json_real_value(json_object_get(o, "s")) == .25);
    assert_null(json_object_get(o, "inf"));
    json_decref(o);
}

// Every byte, at every length around the cuts, in message and values.
static void long_lines_are_cut_and_stay_whole(void **state)
{
    char message[6000], value[3000];
    for (int c = 1; c < 256; c += 7) {
        for (size_t n = 0; n < sizeof value - 1; n += 61) {
            memset(message, c, 2 * n);
            message[2 * n] = 0;
            memset(value, c, n);
            value[n] = 0;
            const log_field fields[] = {LOG_TEXT("a", value), LOG_TEXT("b", value), LOG_TEXT("c", value),
                                        LOG_TEXT("d", value), LOG_TEXT("e", value), LOG_NUMBER("f", n)};
            json_t *o = object_of(message, fields, 6);
            assert_int_equal(json_integer_value(json_object_get(o, "f")), n); // small fields find room
            json_decref(o);
            assert_null(strchr(text_of(message, fields, 6), '\n'));
            assert_true(strlen(out) < LOG_LINE_SIZE - 64);
        }
    }
}

static char *read_all(int fd)
{
    static char text[8192];
    const ssize_t n = pread(fd, text, sizeof text - 1, 0);
    assert_true(n >= 0);
    text[n] = 0;
    return text;
}

// What comes out on stderr.
static void lines_have_their_head(void **state)
{
    char path[] = "/tmp/test_log_XXXXXX";
    const int fd = mkstemp(path), before = dup(STDERR_FILENO);
    assert_true(fd >= 0 && before >= 0);
    unlink(path);
    dup2(fd, STDERR_FILENO);
    log_line(LOG_INFO, "hello %d", 1);
    log_line(LOG_DEBUG, "not this");
    log_set_format(LOG_AS_JSON);
    const log_field field = LOG_TEXT("id", "q1");
    log_event(LOG_ERROR, "lost", &field, 1);
    log_set_journal(1);
    log_event(LOG_WARNING, "slow", &field, 1);
    log_set_format(LOG_AS_TEXT);
    log_set_level(LOG_DEBUG);
    log_event(LOG_DEBUG, "seen", &field, 1);
    log_set_journal(0);
    log_set_level(LOG_INFO);
    dup2(before, STDERR_FILENO);
    close(before);
    char *lines[8], *text = read_all(fd);
    int n = 0;
    for (char *s = strtok(text, "\n"); s && n < 8; s = strtok(NULL, "\n")) lines[n++] = s;
    close(fd);
    assert_int_equal(n, 4);
    int year, ms;
    assert_int_equal(sscanf(lines[0], "%d-%*d-%*d %*d:%*d:%*d.%d info hello 1", &year, &ms), 2);
    assert_true(year > 2000 && ms < 1000);
    json_t *o = json_loads(lines[1], 0, NULL);
    assert_non_null(o);
    assert_string_equal(json_string_value(json_object_get(o, "id")), "q1");
    const char *time = json_string_value(json_object_get(o, "time"));
    assert_true(time && strlen(time) == 24 && time[10] == 'T' && time[23] == 'Z');
    json_decref(o);
    assert_int_equal(strncmp(lines[2], "<4>{\"time\":\"", 12), 0);
    assert_string_equal(lines[3], "<7>seen id=q1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_has_names_and_values),
        cmocka_unit_test(what_users_chose_cannot_make_lines_or_colours),
        cmocka_unit_test(json_is_json_whatever_is_in_it),
        cmocka_unit_test(long_lines_are_cut_and_stay_whole),
        cmocka_unit_test(lines_have_their_head),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
