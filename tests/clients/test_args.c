#include "support/test.h"

#include <math.h>

#include "clients/cli/args.h"

static bool flag;
static const char *text;
static double number, seconds;
static int64_t count;
static arg_list list;

static const arg_option options[] = {
    {"flag", 'f', ARG_FLAG, &flag, NULL, "a flag", 0, 0},
    {"text", 't', ARG_TEXT, &text, "TEXT", "a text", 0, 0},
    {"number", 0, ARG_NUMBER, &number, "X", "a number", -2, 2},
    {"count", 'n', ARG_COUNT, &count, "N", "a count", 1, 100},
    {"time", 0, ARG_TIME, &seconds, "TIME", "a time", 0, 0},
    {"list", 0, ARG_LIST, &list, "TEXT", "several", 0, 0},
};
static const arg_spec spec = {"try", "", "", options, sizeof options / sizeof *options};

static sight_err parse(int *n, bool *help, char **argv)
{
    int argc = 0;
    while (argv[argc]) argc++;
    return args_parse(&spec, argc, argv, n, help);
}

#define ARGS(...) ((char **)(const char *[]){__VA_ARGS__, NULL})

static void every_form_of_an_option_is_read(void **state)
{
    int n;
    bool help;
    char **argv = ARGS("a.png", "-f", "--text", "x y", "-n", "7", "b.mp4", "--number=-1.5", "--time",
                       "1:02:03.5", "--list", "p", "--list=q", "--", "--flag");
    assert_ok(parse(&n, &help, argv));
    assert_int_equal(n, 3);
    assert_string_equal(argv[0], "a.png");
    assert_string_equal(argv[1], "b.mp4");
    assert_string_equal(argv[2], "--flag");
    assert_true(flag && !help);
    assert_string_equal(text, "x y");
    assert_int_equal(count, 7);
    assert_true(number == -1.5 && fabs(seconds - 3723.5) < 1e-9);
    assert_int_equal(list.n, 2);
    assert_string_equal(list.items[1], "q");
}

static void a_lone_dash_is_no_option(void **state)
{
    int n;
    bool help;
    char **argv = ARGS("-");
    assert_ok(parse(&n, &help, argv));
    assert_int_equal(n, 1);
}

static void what_is_wrong_is_named(void **state)
{
    int n;
    bool help;
    const struct {
        char **argv;
        const char *words;
    } cases[] = {
        {ARGS("--none"), "there is no option --none"},
        {ARGS("-x"), "there is no option -x"},
        {ARGS("--text"), "--text needs a value (TEXT)"},
        {ARGS("--flag=1"), "--flag takes no value"},
        {ARGS("--number", "nan"), "--number needs a number, not 'nan'"},
        {ARGS("--number", "3"), "--number is 3, must be -2 to 2"},
        {ARGS("-n", "1.5"), "--count needs a whole number, not '1.5'"},
        {ARGS("-n", "0"), "--count is 0, must be 1 to 100"},
        {ARGS("--time", "1:x"), "--time needs seconds, m:ss or h:mm:ss, not '1:x'"},
        {ARGS("--time", "-5"), "--time needs"},
        {ARGS("--time", "1:2:3:4"), "--time needs"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_fails(parse(&n, &help, cases[i].argv), SIGHT_E_ARGUMENT, cases[i].words);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_form_of_an_option_is_read),
        cmocka_unit_test(a_lone_dash_is_no_option),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
