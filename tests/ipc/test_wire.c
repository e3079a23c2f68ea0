#include "support/test.h"

#include "ipc/wire.h"

static wire_frame frame(const char *text)
{
    return (wire_frame){text, strlen(text)};
}

static void requests_come_back_as_they_went(void **state)
{
    wire_frame frames[6];
    wire_write_request(frames, "ask-1", SIGHT_ASK, "{}", 2);
    frames[4] = frame("picture");
    frames[5] = frame("");
    wire_request r;
    assert_ok(wire_read_request(&r, frames, 6));
    assert_string_equal(r.id, "ask-1");
    assert_int_equal(r.verb, SIGHT_ASK);
    assert_int_equal(r.json_size, 2);
    assert_int_equal(r.n_parts, 2);
    assert_memory_equal(r.parts[0].data, "picture", 7);
    assert_int_equal(r.parts[1].size, 0);
}

static void events_come_back_as_they_went(void **state)
{
    for (int k = 0; k < SIGHT_EVENT_COUNT; k++) {
        wire_frame frames[4];
        wire_event e;
        wire_write_event(frames, "x.Y_9", (sight_event_kind)k, "{\"a\":1}", 7);
        assert_ok(wire_read_event(&e, frames, 4));
        assert_int_equal(e.kind, k);
        assert_string_equal(e.id, "x.Y_9");
        assert_memory_equal(e.json, "{\"a\":1}", 7);
    }
}

static void all_verbs_have_words(void **state)
{
    for (int v = 0; v < SIGHT_VERB_COUNT; v++) {
        const char *name = sight_verb_name((sight_verb)v);
        assert_int_equal(sight_verb_parse(name, strlen(name)), v);
    }
    assert_null(sight_verb_name(SIGHT_VERB_COUNT));
    assert_null(sight_event_name(SIGHT_EVENT_COUNT));
    assert_int_equal(sight_verb_parse("as", 2), SIGHT_VERB_COUNT);
    assert_int_equal(sight_verb_parse("asks", 4), SIGHT_VERB_COUNT);
}

static void wrong_frames_are_named(void **state)
{
    wire_request r;
    wire_frame f[5] = {frame("SIGHT1"), frame("a"), frame("ask"), frame("{}"), frame("")};
    assert_fails(wire_read_request(&r, f, 0), SIGHT_E_PROTOCOL, "first frame");
    assert_fails(wire_read_request(&r, f, 1), SIGHT_E_PROTOCOL, "second frame");
    assert_fails(wire_read_request(&r, f, 3), SIGHT_E_PROTOCOL, "3 frames");
    assert_string_equal(r.id, "a"); // known by then: the refusal can carry it
    f[0] = frame("SIGHT2");
    assert_fails(wire_read_request(&r, f, 4), SIGHT_E_PROTOCOL, "SIGHT1");
    assert_string_equal(r.id, "");
    f[0] = frame("SIGHT1");
    f[2] = frame("sing");
    assert_fails(wire_read_request(&r, f, 4), SIGHT_E_PROTOCOL, "verb");
    f[2] = frame("watch");
    assert_fails(wire_read_request(&r, f, 4), SIGHT_E_UNSUPPORTED, "'watch'");
    f[2] = frame("unwatch");
    assert_fails(wire_read_request(&r, f, 4), SIGHT_E_UNSUPPORTED, "'unwatch'");
}

static void ids_are_checked(void **state)
{
    char longest[SIGHT_ID_MAX + 2];
    memset(longest, 'a', sizeof longest);
    assert_true(wire_id_is_good(longest, SIGHT_ID_MAX));
    assert_false(wire_id_is_good(longest, SIGHT_ID_MAX + 1));
    assert_false(wire_id_is_good("", 0));
    assert_false(wire_id_is_good("a b", 3));
    assert_false(wire_id_is_good("a\"b", 3));
    assert_false(wire_id_is_good("a\0b", 3));
    assert_false(wire_id_is_good("\xc3\xa9", 2));
    assert_true(wire_id_is_good("Az09-_.", 7));
}

static void too_many_parts_are_refused(void **state)
{
    wire_frame f[WIRE_HEAD_FRAMES + SIGHT_PARTS_MAX + 1];
    wire_request r;
    wire_write_request(f, "a", SIGHT_ASK, "{}", 2);
    for (int i = WIRE_HEAD_FRAMES; i < WIRE_HEAD_FRAMES + SIGHT_PARTS_MAX + 1; i++)
        f[i] = frame("");
    assert_ok(wire_read_request(&r, f, WIRE_HEAD_FRAMES + SIGHT_PARTS_MAX));
    assert_fails(wire_read_request(&r, f, WIRE_HEAD_FRAMES + SIGHT_PARTS_MAX + 1), SIGHT_E_PROTOCOL,
                 "65 binary parts");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_back_as_they_went),
        cmocka_unit_test(events_come_back_as_they_went),
        cmocka_unit_test(all_verbs_have_words),
        cmocka_unit_test(wrong_frames_are_named),
        cmocka_unit_test(ids_are_checked),
        cmocka_unit_test(too_many_parts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
