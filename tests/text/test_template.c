#include "support/test.h"

#include <jansson.h>

#include "base/buf.h"
#include "text/template.h"

static template *compile(const char *text)
{
    template *t;
    assert_ok(template_compile(&t, text, strlen(text), "t.jinja"));
    return t;
}

// What the reference renders, from make_template_cases.py.
static void cases_render_as_the_reference(void **state)
{
    json_error_t e;
    json_t *all = json_load_file(TEST_SOURCE_DIR "/tests/text/template_cases.json",
                                 JSON_ALLOW_NUL, &e);
    if (!all) fail_msg("%s", e.text);
    const json_t *variables = json_object_get(all, "variables"), *c;
    size_t i;
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        const char *source = json_string_value(json_object_get(c, "template"));
        const json_t *expected = json_object_get(c, "out");
        char *out;
        size_t n;
        template *t = compile(source);
        sight_err err = template_render(t, &out, &n, variables);
        if (err) fail_msg("%s: %s", source, sight_error());
        if (n != json_string_length(expected) || memcmp(out, json_string_value(expected), n) != 0)
            fail_msg("%s\ngot      %s\nexpected %s", source, out, json_string_value(expected));
        free(out);
        template_destroy(&t);
    }
    assert_true(i > 70);
    json_decref(all);
}

static void refuses_to_compile(const char *text, const char *sentence)
{
    template *t;
    assert_fails(template_compile(&t, text, strlen(text), "t.jinja"), SIGHT_E_UNSUPPORTED,
                 sentence);
}

static void what_is_beyond_it_is_refused_with_its_line(void **state)
{
    refuses_to_compile("a\n\n{% include 'x' %}",
                       "t.jinja:3: the statement 'include' is not supported");
    refuses_to_compile("{% for x in y recursive %}{% endfor %}", "t.jinja:1: recursive loops");
    refuses_to_compile("\n{{ x | nonsense }}", "t.jinja:2: there is no filter 'nonsense'");
    refuses_to_compile("{{ x | map('nonsense') }}", "there is no filter 'nonsense'");
    refuses_to_compile("{{ x | select('nonsense') }}", "there is no test 'nonsense'");
    refuses_to_compile("{{ x | selectattr('a', 'nonsense') }}", "there is no test 'nonsense'");
    refuses_to_compile("{{ x is nonsense }}", "there is no test 'nonsense'");
    refuses_to_compile("{{ x.nonsense() }}", "there is no method 'nonsense'");
    refuses_to_compile("{{ x }}\n{{ lipsum() }}", "t.jinja:2: there is no function 'lipsum'");
    refuses_to_compile("{{ f(*x) }}", "arguments by *");
    refuses_to_compile("{% macro m() %}{{ varargs }}{% endmacro %}", "'varargs' cannot stand here");
}

static void broken_syntax_is_refused_with_its_line(void **state)
{
    refuses_to_compile("{% if x %}\n{% for y in z %}\n{% endif %}", "t.jinja:3:");
    refuses_to_compile("{% if x %}", "'elif' is missing");
    refuses_to_compile("{{ x", "{{ is not closed");
    refuses_to_compile("{% if x", "{% is not closed");
    refuses_to_compile("\n{# x", "t.jinja:2: a comment is not closed");
    refuses_to_compile("{{ 'x }}", "a string is not closed");
    refuses_to_compile("{{ '\\u12' }}", "an escape that cannot be read");
    refuses_to_compile("{{ 1 + }}", "a value is missing");
    refuses_to_compile("{{ (1 }}", "a bracket closes");
    refuses_to_compile("{{ 1 2 }}", "'}}' is missing");
    refuses_to_compile("{{ x ! y }}", "a character that no expression has");
    refuses_to_compile("{% break %}", "there is no loop to leave");
    refuses_to_compile("{% set true = 1 %}", "'true' cannot be given a value");
    refuses_to_compile("{{ f(a=1, 2) }}", "without a name follows");
    refuses_to_compile("{{ 99999999999999999999 }}", "a number that cannot be read");
}

static void nesting_is_bounded(void **state)
{
    buf b;
    buf_init(&b);
    for (int i = 0; i < 100000; i++) buf_puts(&b, "{% if 1 %}");
    refuses_to_compile(buf_text(&b), "nested deeper than");
    buf_clear(&b);
    buf_puts(&b, "{{ ");
    for (int i = 0; i < 100000; i++) buf_puts(&b, "not ");
    buf_puts(&b, "1 }}");
    refuses_to_compile(buf_text(&b), "nested deeper than");
    buf_done(&b);
}

static void refuses_to_render(const char *text, sight_err code, const char *sentence)
{
    template *t = compile(text);
    json_t *variables = json_pack("{s:s, s:i}", "s", "text", "n", 1);
    char *out;
    size_t n;
    assert_fails(template_render(t, &out, &n, variables), code, sentence);
    json_decref(variables);
    template_destroy(&t);
}

static void values_of_the_wrong_type_are_refused_with_their_line(void **state)
{
    refuses_to_render("\n{{ missing.x }}", SIGHT_E_ARGUMENT, "t.jinja:2: 'missing' is undefined");
    refuses_to_render("{{ s.x.y }}", SIGHT_E_ARGUMENT, "'str object' has no attribute 'x'");
    refuses_to_render("{{ s + n }}", SIGHT_E_ARGUMENT, "can only concatenate str");
    refuses_to_render("{{ 1 % 0 }}", SIGHT_E_ARGUMENT, "division by zero");
    refuses_to_render("{{ 2 ** 64 }}", SIGHT_E_ARGUMENT, "does not fit 64 bits");
    refuses_to_render("{{ 9223372036854775807 + 1 }}", SIGHT_E_ARGUMENT, "does not fit 64 bits");
    refuses_to_render("{{ (-9223372036854775807 - 1) // -1 }}", SIGHT_E_ARGUMENT, "64 bits");
    refuses_to_render("{{ [1].append(2) }}", SIGHT_E_ARGUMENT, "is unsafe");
    refuses_to_render("{{ s.split('') }}", SIGHT_E_ARGUMENT, "empty separator");
    refuses_to_render("{% for x in n %}{% endfor %}", SIGHT_E_ARGUMENT,
                      "'int' object is not iterable");
    refuses_to_render("{% set a, b = 1, 2, 3 %}", SIGHT_E_ARGUMENT, "3 values for 2 names");
    refuses_to_render("{% set s.x = 1 %}", SIGHT_E_ARGUMENT, "non-namespace object");
    refuses_to_render("{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", SIGHT_E_ARGUMENT, "macro 'm'");
    refuses_to_render("{{ s | trim(1, 2) }}", SIGHT_E_ARGUMENT, "does not take these arguments");
    refuses_to_render("{{ s.replace('x') }}", SIGHT_E_ARGUMENT, "misses its argument 'new'");
    refuses_to_render("{{ range(200000) }}", SIGHT_E_ARGUMENT, "Range too big");
    refuses_to_render("{{ missing | tojson }}", SIGHT_E_ARGUMENT, "not JSON serializable");
}

static void raise_exception_gives_its_message_alone(void **state)
{
    refuses_to_render("{{ raise_exception('No ' ~ s ~ '.') }}", SIGHT_E_ARGUMENT, "No text.");
    assert_string_equal(sight_error(), "No text.");
}

static void work_is_bounded(void **state)
{
    refuses_to_render(
        "{% for a in range(9999) %}{% for b in range(9999) %}{% endfor %}{% endfor %}",
        SIGHT_E_LIMIT, "");
    refuses_to_render("{% set x = range(99999) %}{% for a in x %}{{ -1 in x }}{% endfor %}",
                      SIGHT_E_LIMIT, "steps");
    refuses_to_render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", SIGHT_E_LIMIT,
                      "levels deep");
    refuses_to_render("{{ 'x' * 9999999999 }}", SIGHT_E_LIMIT, "64 MiB");
    refuses_to_render("{% set ns = namespace(s='xx') %}{% for i in range(99) %}"
                      "{% set ns.s = ns.s + ns.s %}{% endfor %}", SIGHT_E_LIMIT, "64 MiB");
    refuses_to_render("{% set x = 'x' * 1000000 %}{% for i in range(99) %}{{ x }}{% endfor %}",
                      SIGHT_E_LIMIT, "64 MiB");
    refuses_to_render("{% set ns = namespace(l=[0]) %}{% for i in range(9999) %}"
                      "{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}", SIGHT_E_LIMIT, "64 MiB");
    refuses_to_render("{% set ns = namespace(l=[0]) %}{% for i in range(99) %}"
                      "{% set ns.l = ns.l + ns.l %}{% endfor %}", SIGHT_E_LIMIT, "");
}

static void source_that_is_not_text_is_refused(void **state)
{
    template *t;
    assert_fails(template_compile(&t, "a\n\xff", 3, "t.jinja"), SIGHT_E_MODEL,
                 "t.jinja:2: not UTF-8");
    size_t n = (size_t)2 << 20;
    char *big = calloc(1, n);
    assert_fails(template_compile(&t, big, n, "t.jinja"), SIGHT_E_MODEL, "the limit is");
    free(big);
}

static void variables_are_read_as_json(void **state)
{
    template *t =
        compile("{{ a }}{{ b }}{{ c[0] }}{{ c | length }}{{ range }}{{ '\\x00' | length }}");
    json_t *v = json_pack("{s:f, s:n, s:[s%], s:i}", "a", 0.5, "b", "c", "\0y", 2, "range", 3);
    char *out;
    size_t n;
    assert_ok(template_render(t, &out, &n, v));
    assert_int_equal(n, 12);
    assert_memory_equal(out, "0.5None\0y131", 12);
    free(out);
    json_decref(v);
    template_destroy(&t);
    template_destroy(&t);
}

static void the_date_is_todays(void **state)
{
    template *t = compile("{{ strftime_now('%Y') }}");
    json_t *v = json_object();
    char *out;
    size_t n;
    assert_ok(template_render(t, &out, &n, v));
    assert_true(atoi(out) >= 2024);
    free(out);
    json_decref(v);
    template_destroy(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cases_render_as_the_reference),
        cmocka_unit_test(what_is_beyond_it_is_refused_with_its_line),
        cmocka_unit_test(broken_syntax_is_refused_with_its_line),
        cmocka_unit_test(nesting_is_bounded),
        cmocka_unit_test(values_of_the_wrong_type_are_refused_with_their_line),
        cmocka_unit_test(raise_exception_gives_its_message_alone),
        cmocka_unit_test(work_is_bounded),
        cmocka_unit_test(source_that_is_not_text_is_refused),
        cmocka_unit_test(variables_are_read_as_json),
        cmocka_unit_test(the_date_is_todays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
