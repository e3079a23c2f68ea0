// Nothing twice: pasts by turns, features at other places, each identity's own, and never another bit.
#include "daemon/stores.h"

static engine *open_engine(void)
{
    engine_options o = engine_options_default();
    engine *e;
    o.model = HYBRID "/model";
    o.threads = 2;
    o.step_rows = 128;
    o.reuse = true;
    assert_ok(engine_open(&e, &o));
    return e;
}

#define RULES SYSTEM("Answer briefly. " LONG)
#define Q1    USER(TEXT(LONG "what?"))
#define Q2    USER(TEXT(LONG "who?"))

// Where the nth turn of messages ends.
static int32_t turn_end(engine *e, const char *messages, int nth)
{
    task *t = make_task(e, messages, NULL);
    int32_t i = 0;
    while (i < t->prompt.n && nth) nth -= t->prompt.ids[i++] == engine_turn_end(e);
    task_destroy(&t);
    assert_int_equal(nth, 0);
    return i;
}

#define NEAR 64 // half a step: a turn's end has a past at most so far before it

// Another first question after the same system prompt; the same conversation, longer; an edited turn.
static void turns_are_found_again(void **state)
{
    engine *e = open_engine();
    const int32_t rules = turn_end(e, RULES "," Q1, 1), one = turn_end(e, RULES "," Q1, 2);
    assert_int_equal(read_as(e, RULES "," Q1, NULL).spared.tokens, 0);
    const int32_t other = read_as(e, RULES "," USER(TEXT("Who?")), NULL).spared.tokens;
    assert_in_range(other, rules - NEAR, rules);
    const int32_t longer = read_as(e, RULES "," Q1 "," ANSWERED("It is " LONG) "," Q2, NULL).spared.tokens;
    assert_in_range(longer, one - NEAR, one);
    const int32_t two = turn_end(e, RULES "," Q1 "," ANSWERED("It is " LONG) "," Q2, 4);
    const int32_t same = read_as(e, RULES "," Q1 "," ANSWERED("It is " LONG) "," Q2, NULL).spared.tokens;
    assert_in_range(same, two - NEAR, two);
    const int32_t edited = read_as(e, RULES "," Q1 "," ANSWERED("That was " LONG) "," Q2, NULL).spared.tokens;
    assert_in_range(edited, one - NEAR, one);
    const int32_t front = read_as(e, SYSTEM("Say much. " LONG) "," Q1, NULL).spared.tokens;
    assert_int_equal(front, 0);
    engine_close(&e);
}

static void the_same_picture_at_another_place(void **state)
{
    engine *e = open_engine();
    const reading first = read_as(e, USER(IMAGE(PIC) "," TEXT("what?")), NULL);
    assert_int_equal(first.encoded, 1);
    assert_int_equal(first.spared.media, 0);
    const reading later = read_as(e, USER(TEXT("Look: ") "," IMAGE(PIC) "," TEXT("what?")), NULL);
    assert_int_equal(later.encoded, 0);
    assert_int_equal(later.spared.tokens, 0);
    assert_int_equal(later.spared.media, 1);
    assert_int_equal(later.spared.features, 24);
    const reading two = read_as(e, USER(IMAGE(OTHER) "," IMAGE(PIC) "," IMAGE(PIC)), NULL);
    assert_int_equal(two.encoded, 1);
    assert_int_equal(two.spared.media, 2);
    assert_int_equal(two.spared.features, 48);
    // Cut otherwise, it is another.
    const reading large = read_as(e, USER(TEXT("Look: ") ",{\"type\": \"image\", \"image\": \"" PIC
                                          "\", \"min_pixels\": 90000}"), NULL);
    assert_int_equal(large.encoded, 1);
    engine_close(&e);
}

// A clip of which some frames were seen before, in the same pairs: the others are decoded.
static void a_clip_is_taken_in_parts(void **state)
{
    engine *e = open_engine();
#define BIG ", \"min_pixels\": 1400000"
    const reading whole = read_as(e, USER(VIDEO(CLIP, ", \"frames\": 7" BIG)), NULL);
    assert_int_equal(whole.encoded, 4);
    const reading again = read_as(e, USER(TEXT("x") "," VIDEO(CLIP, ", \"frames\": 7" BIG)), NULL);
    assert_int_equal(again.encoded, 0);
    assert_int_equal(again.spared.media, 1);
    // The store forgets a piece in the middle.
    task *t = make_task(e, USER(TEXT("y") "," VIDEO(CLIP, ", \"frames\": 7" BIG)), NULL);
    const task_media *m = &t->media[0];
    feature_store *s = engine_features(e);
    blob *kept[4];
    uint8_t names[4][SIPHASH_BYTES];
    for (int32_t i = 0; i < 4; i++) {
        const feature_piece p = {.content = m->content, .is_video = true, .width = m->plan.width,
                                 .height = m->plan.height, .n_pairs = 1, .frames = m->indices + 2 * i,
                                 .n_frames = i < 3 ? 2 : 1};
        feature_store_name(s, names[i], &p);
        kept[i] = feature_store_find(s, names[i]);
        assert_non_null(kept[i]);
    }
    for (int hole = 0; hole < 16; hole++) {
        feature_store_forget(s, m->content);
        for (int32_t i = 0; i < 4; i++) {
            if (!(hole >> i & 1)) feature_store_keep(s, names[i], m->content, kept[i]);
        }
        reading part, plain;
        prefix_store_forget(engine_prefix(e), m->hash);
        read_task(&part, e, t, true);
        read_task(&plain, e, t, false);
        assert_int_equal(part.encoded, __builtin_popcount((unsigned)hole));
        assert_int_equal(part.spared.media, hole == 0);
        assert_memory_equal(part.logits, plain.logits,
                            (size_t)engine_config(e)->text.vocab * sizeof *part.logits);
        free(part.logits);
        free(plain.logits);
    }
    for (int32_t i = 0; i < 4; i++) blob_unref(&kept[i]);
    task_destroy(&t);
    engine_close(&e);
}

static void nobody_finds_what_another_has_read(void **state)
{
    identity_table *people;
    identity *ann, *bob;
    const identity_terms all = {.rights = IDENTITY_ALL_RIGHTS};
    assert_ok(identity_table_create(&people));
    assert_ok(identity_table_get(people, &ann, "ann", true, &all));
    assert_ok(identity_table_get(people, &bob, "bob", true, &all));
    engine *e = open_engine();
    const identity *const who[] = {ann, bob, NULL};
    for (int i = 0; i < 3; i++) {
        const reading first = read_as(e, RULES "," USER(IMAGE(PIC) "," TEXT(LONG "what?")), who[i]);
        assert_int_equal(first.spared.tokens + first.spared.media + first.spared.features, 0);
        assert_int_equal(first.encoded, 1);
    }
    for (int i = 0; i < 3; i++) {
        const reading again = read_as(e, RULES "," USER(IMAGE(PIC) "," TEXT(LONG "who?")), who[i]);
        assert_true(again.spared.tokens > 0);
        assert_int_equal(again.spared.media, 1);
        const reading moved = read_as(e, USER(TEXT("x") "," IMAGE(PIC)), who[i]);
        assert_int_equal(moved.spared.features, 24);
    }
    engine_close(&e);
    identity_table_destroy(&people);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_are_found_again),
        cmocka_unit_test(the_same_picture_at_another_place),
        cmocka_unit_test(a_clip_is_taken_in_parts),
        cmocka_unit_test(nobody_finds_what_another_has_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
