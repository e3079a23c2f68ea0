// Kept features: what a name says, what goes first, what the budget holds.
#include "support/test.h"

#include "daemon/store/feature_store.h"

static const uint8_t key[SIPHASH_KEY_BYTES] = {3}, scope[SIPHASH_BYTES] = {4};

static feature_store *new_store(int64_t budget, disk *d)
{
    feature_store *s;
    const feature_options o = {.budget_bytes = budget, .key = key, .scope = scope, .disk = d};
    assert_ok(feature_store_create(&s, &o));
    return s;
}

static void keep(feature_store *s, uint8_t number, uint8_t content, size_t bytes)
{
    const uint8_t name[SIPHASH_BYTES] = {number}, of[SIPHASH_BYTES] = {content};
    blob *b = blob_create(bytes);
    assert_non_null(b);
    memset(b->data, number, bytes);
    feature_store_keep(s, name, of, b);
    blob_unref(&b);
}

static bool has(feature_store *s, uint8_t number)
{
    const uint8_t name[SIPHASH_BYTES] = {number};
    blob *b = feature_store_find(s, name);
    const bool found = b != NULL;
    if (found) assert_int_equal(b->data[0], number);
    blob_unref(&b);
    return found;
}

static void the_oldest_goes_first(void **state)
{
    feature_store *s = new_store(3000, NULL);
    for (uint8_t i = 1; i <= 3; i++) keep(s, i, i, 1000);
    assert_true(has(s, 1)); // used: younger than the others now
    keep(s, 4, 4, 1000);
    assert_false(has(s, 2));
    assert_true(has(s, 1) && has(s, 3) && has(s, 4));
    keep(s, 5, 5, 3001); // fits nowhere, and drives nothing out
    assert_false(has(s, 5));
    assert_int_equal(feature_store_usage(s).pieces, 3);
    keep(s, 6, 6, 3000);
    assert_int_equal(feature_store_usage(s).pieces, 1);
    assert_int_equal(feature_store_usage(s).bytes, 3000);
    assert_true(has(s, 6));
    const uint8_t name[SIPHASH_BYTES] = {6};
    blob *held = feature_store_find(s, name); // stays as long as somebody has it
    keep(s, 7, 7, 2000);
    assert_false(has(s, 6));
    assert_int_equal(held->data[2999], 6);
    blob_unref(&held);
    feature_store_destroy(&s);
    s = new_store(0, NULL);
    keep(s, 1, 1, 1);
    assert_false(has(s, 1));
    feature_store_destroy(&s);
}

static void a_medium_is_forgotten_whole(void **state)
{
    feature_store *s = new_store(1 << 20, NULL);
    for (uint8_t i = 1; i <= 100; i++) keep(s, i, i % 2, 10);
    const uint8_t odd[SIPHASH_BYTES] = {1};
    feature_store_forget(s, odd);
    for (uint8_t i = 1; i <= 100; i++) assert_int_equal(has(s, i), i % 2 == 0);
    const uint8_t name[SIPHASH_BYTES] = {2};
    feature_store_drop(s, name);
    assert_false(has(s, 2));
    assert_int_equal(feature_store_usage(s).pieces, 49);
    assert_int_equal(feature_store_usage(s).bytes, 490);
    feature_store_destroy(&s);
}

// Whatever changes the rows, or whose they are, changes the name.
static void names_say_everything(void **state)
{
    identity_table *people;
    identity *ann, *bob;
    const identity_terms terms = {.rights = IDENTITY_ALL_RIGHTS};
    assert_ok(identity_table_create(&people));
    assert_ok(identity_table_get(people, &ann, "ann", true, &terms));
    assert_ok(identity_table_get(people, &bob, "bob", true, &terms));
    feature_store *s = new_store(1000, NULL);
    static const int64_t frames[2][4] = {{1, 2, 3, 4}, {1, 2, 3, 5}};
    static const uint8_t content[2][SIPHASH_BYTES] = {{1}, {2}};
    const feature_piece one = {.who = ann, .content = content[0], .is_video = true, .width = 64, .height = 32,
                               .n_pairs = 2, .frames = frames[0], .n_frames = 4};
    feature_piece all[8];
    for (int i = 0; i < 8; i++) all[i] = one;
    all[1].who = bob;
    all[2].content = content[1];
    all[3].is_video = false;
    all[4].width = 32;
    all[5].height = 64;
    all[6].frames = frames[1];
    all[7].n_frames = 3;
    uint8_t names[8][SIPHASH_BYTES];
    for (int i = 0; i < 8; i++) {
        feature_store_name(s, names[i], &all[i]);
        for (int j = 0; j < i; j++) assert_memory_not_equal(names[i], names[j], sizeof names[i]);
    }
    uint8_t again[SIPHASH_BYTES];
    feature_store_name(s, again, &one);
    assert_memory_equal(again, names[0], sizeof again);
    feature_store_destroy(&s);
    identity_table_destroy(&people);
}

// With a disk, what memory has let go of is still there, and what is forgotten is not.
static void the_disk_holds_more(void **state)
{
    char folder[400];
    snprintf(folder, sizeof folder, "%s/features", test_folder());
    disk *d;
    assert_ok(disk_open(&d, folder, 1 << 20));
    feature_store *s = new_store(1000, d);
    keep(s, 1, 1, 1000);
    keep(s, 2, 2, 1000);
    assert_false(has(s, 1));
    const uint8_t name[SIPHASH_BYTES] = {1};
    assert_true(feature_store_has(s, name));
    disk_load *l = feature_store_load(s, name, 1000);
    assert_non_null(l);
    blob *b = NULL;
    while (!disk_load_poll(l, 1000, &b)) continue;
    disk_load_end(&l);
    assert_non_null(b);
    assert_int_equal(b->size, 1000);
    assert_int_equal(b->data[500], 1);
    blob_unref(&b);
    feature_store_drop(s, name);
    assert_false(feature_store_has(s, name));
    assert_null(feature_store_load(s, name, 1000));
    feature_store_destroy(&s);
    disk_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_oldest_goes_first),
        cmocka_unit_test(a_medium_is_forgotten_whole),
        cmocka_unit_test(names_say_everything),
        cmocka_unit_test(the_disk_holds_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
