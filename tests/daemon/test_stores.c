// Nothing twice: pasts by turns, features at other places, each identity's own, and never another bit.
#include "daemon/stores.h"

#include <dirent.h>
#include <unistd.h>

#include "daemon/store/disk.h"

static engine *open_on(disk *d)
{
    engine_options o = engine_options_default();
    engine *e;
    o.disk = d;
    o.model = HYBRID "/model";
    o.threads = 2;
    o.step_rows = 128;
    o.reuse = true;
    assert_ok(engine_open(&e, &o));
    return e;
}

static engine *open_engine(void)
{
    return open_on(NULL);
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
    const reading whole = read_as(e, USER(VIDEO_WITH(CLIP, ", \"frames\": 7" BIG)), NULL);
    assert_int_equal(whole.encoded, 4);
    const reading again = read_as(e, USER(TEXT("x") "," VIDEO_WITH(CLIP, ", \"frames\": 7" BIG)), NULL);
    assert_int_equal(again.encoded, 0);
    assert_int_equal(again.spared.media, 1);
    // The store forgets a piece in the middle.
    task *t = make_task(e, USER(TEXT("y") "," VIDEO_WITH(CLIP, ", \"frames\": 7" BIG)), NULL);
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

typedef struct told {
    char text[4096];
    int64_t tokens, media, features; // of usage
} told;

static int64_t number(const json_t *usage, const char *name)
{
    const json_t *value = json_object_get(usage, name);
    assert_true(json_is_integer(value));
    return json_integer_value(value);
}

static void hear(void *arg, sight_event_kind kind, const json_t *body)
{
    told *t = arg;
    if (kind == SIGHT_DELTA) {
        strncat(t->text, json_string_value(json_object_get(body, "text")), sizeof t->text - 1 - strlen(t->text));
    }
    if (kind != SIGHT_DONE) return;
    const json_t *usage = json_object_get(body, "usage");
    t->tokens = number(usage, "reused_tokens");
    t->media = number(usage, "reused_media");
    t->features = number(usage, "reused_features");
}

static told ask(engine *e, const char *messages, int32_t drafts)
{
    told out = {0};
    task *t = make_task(e, messages, NULL);
    t->asked->drafts = drafts;
    atomic_bool never = false;
    assert_ok(pipeline_run(t, &never, hear, &out));
    task_destroy(&t);
    return out;
}

// ---- over a restart ----

// A daemon's life: its store and its engine, opened and closed.
typedef struct life {
    disk *disk;
    engine *e;
} life;

static life begin_life(const char *folder, int64_t bytes)
{
    life l;
    assert_ok(disk_open(&l.disk, folder, bytes));
    l.e = open_on(l.disk);
    return l;
}

static disk_usage end_life(life *l)
{
    engine_close(&l->e);
    disk_settle(l->disk);
    const disk_usage u = disk_get_usage(l->disk);
    char *line = disk_warning(l->disk);
    free(line);
    disk_close(&l->disk);
    return u;
}

#define CONVERSATION SYSTEM("Watch. " LONG) "," USER(VIDEO(CLIP) "," TEXT(LONG "what?"))
#define MORE         "," ANSWERED("A ball. " LONG) "," Q2

static void a_restart_forgets_nothing(void **state)
{
    char folder[400];
    snprintf(folder, sizeof folder, "%s/life", test_folder());
    life l = begin_life(folder, 1 << 30);
    const reading first = read_as(l.e, CONVERSATION, NULL);
    assert_int_equal(first.spared.tokens, 0);
    assert_true(first.encoded > 1);
    const reading more = read_as(l.e, CONVERSATION MORE, NULL);
    assert_true(more.spared.tokens > 200);
    assert_true(end_life(&l).items >= 5);

    l = begin_life(folder, 1 << 30);
    const reading again = read_as(l.e, CONVERSATION MORE, NULL);
    assert_true(again.spared.tokens > more.spared.tokens);
    assert_int_equal(again.encoded, 0);
    assert_int_equal(again.spared.media, 1);
    const prefix_usage kept = prefix_store_usage(engine_prefix(l.e));
    assert_true(kept.pasts > 0);
    const reading warm = read_as(l.e, CONVERSATION MORE, NULL); // from memory now
    assert_true(warm.spared.tokens >= again.spared.tokens);
    end_life(&l);

    l = begin_life(folder, 1 << 30);
    const reading moved = read_as(l.e, USER(TEXT("First: ") "," VIDEO(CLIP)), NULL);
    assert_int_equal(moved.spared.tokens, 0);
    assert_int_equal(moved.encoded, 0);
    assert_int_equal(moved.spared.media, 1);
    assert_true(moved.spared.features > 0);
    end_life(&l);
}

static void identities_stay_apart_over_restarts(void **state)
{
    char folder[400];
    snprintf(folder, sizeof folder, "%s/people", test_folder());
    const identity_terms all = {.rights = IDENTITY_ALL_RIGHTS};
    for (int i = 0; i < 3; i++) {
        identity_table *people;
        identity *who;
        assert_ok(identity_table_create(&people));
        assert_ok(identity_table_get(people, &who, i == 1 ? "bob" : "ann", true, &all));
        life l = begin_life(folder, 1 << 30);
        const reading r = read_as(l.e, CONVERSATION, who);
        assert_int_equal(r.spared.tokens > 0, i == 2);
        assert_int_equal(r.spared.media, i == 2);
        end_life(&l);
        identity_table_destroy(&people);
    }
}

// Whatever file is hurt, gone or lacks room: the same bits come, and what can be reused is.
static void hurt_files_only_cost_work(void **state)
{
    char folder[400], path[700];
    snprintf(folder, sizeof folder, "%s/hurt", test_folder());
    life l = begin_life(folder, 1 << 30);
    read_as(l.e, CONVERSATION MORE, NULL);
    const int32_t items = end_life(&l).items;
    for (int32_t i = 0; i < items; i++) {
        DIR *dir = opendir(folder);
        assert_non_null(dir);
        int32_t at = 0;
        for (struct dirent *d; (d = readdir(dir));) {
            if (strlen(d->d_name) < 32 || at++ != i) continue;
            snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
            assert_int_equal(i % 2 ? unlink(path) : truncate(path, 100), 0);
        }
        closedir(dir);
        l = begin_life(folder, 1 << 30);
        read_as(l.e, CONVERSATION MORE, NULL);
        end_life(&l);
    }
    l = begin_life(folder, 200000); // hardly anything fits
    read_as(l.e, CONVERSATION MORE, NULL);
    assert_true(end_life(&l).bytes <= 200000);
}

// Another form of keys and values computes other numbers: what is there is not for it.
static void another_model_finds_nothing(void **state)
{
    char folder[400];
    snprintf(folder, sizeof folder, "%s/other", test_folder());
    life l = begin_life(folder, 1 << 30);
    read_as(l.e, CONVERSATION, NULL);
    end_life(&l);
    engine_options o = engine_options_default();
    assert_ok(disk_open(&o.disk, folder, 1 << 30));
    o.model = HYBRID "/model";
    o.threads = 2;
    o.step_rows = 128;
    o.reuse = true;
    o.kv_type = TENSOR_F32;
    assert_ok(engine_open(&l.e, &o));
    l.disk = o.disk;
    const reading r = read_as(l.e, CONVERSATION, NULL);
    assert_int_equal(r.spared.tokens + r.spared.media, 0);
    end_life(&l);
}

// Answers with guesses ahead and without, from the start, from memory and from disk; and what they say of it.
static void answers_are_the_same(void **state)
{
    char folder[400];
    snprintf(folder, sizeof folder, "%s/answers", test_folder());
    told first = {0};
    for (int round = 0; round < 3; round++) {
        life l = begin_life(folder, 1 << 30);
        for (int32_t drafts = 0; drafts < 3; drafts += 2) {
            const told t = ask(l.e, CONVERSATION, drafts);
            const bool any = round > 0 || drafts > 0;
            if (!any) first = t;
            assert_string_equal(t.text, first.text);
            assert_int_equal(t.tokens > 0, any);
            assert_int_equal(t.media, any);
            assert_int_equal(t.features, 0);
        }
        const told moved = ask(l.e, USER(TEXT("x") "," VIDEO(CLIP) "," TEXT("what?")), 2);
        assert_int_equal(moved.media, 1);
        assert_int_equal(moved.features > 0, moved.tokens == 0);
        end_life(&l);
    }
    assert_true(strlen(first.text) > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_are_found_again),
        cmocka_unit_test(the_same_picture_at_another_place),
        cmocka_unit_test(a_clip_is_taken_in_parts),
        cmocka_unit_test(nobody_finds_what_another_has_read),
        cmocka_unit_test(a_restart_forgets_nothing),
        cmocka_unit_test(identities_stay_apart_over_restarts),
        cmocka_unit_test(hurt_files_only_cost_work),
        cmocka_unit_test(another_model_finds_nothing),
        cmocka_unit_test(answers_are_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
