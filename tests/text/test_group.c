// The ranks of a split model as one, on two devices that are both the CPU.
#include "text/ranks.h"

#include "checkpoint/prepare.h"
#include "text/cache_parts.h"
#include "text/cache_save.h"
#include "text/job.h"
#include "text/model_parts.h"

#define VOCAB(d) ((int64_t)checkpoint_config((d)->c)->text.vocab)

static void open_group(device *d, const checkpoint *c, const golden_case *g)
{
    *d = (device){.c = c, .g = g, .k = golden_kernels(1, true), .second = golden_kernels(1, true)};
}

// Its model, pool and an empty sequence.
static void open_model(device *d, const checkpoint *c, int64_t budget)
{
    const cache_options o = {.kv_type = TENSOR_F32, .budget_bytes = budget};
    open_group(d, c, NULL);
    assert_ok(create_model(d));
    assert_ok(text_group_pool(&d->pool, d->m, &o));
    assert_ok(sequence_create(&d->s, d->pool));
}

static void check_case(const char *model, const char *name, double limit)
{
    checkpoint *c = golden_open(model);
    golden_case g;
    device d, alone = {.c = c, .g = &g, .k = golden_kernels(1, true)};
    load_case(&g, c, model, name);
    open_group(&d, c, &g);
    run_device(&alone);
    run_device(&d);
    check_group(&d, &alone, &g, limit);
    close_device(&d);
    close_device(&alone);
    golden_free(&g);
    checkpoint_close(&c);
}

// Limits as in test_split.c.
static void a_group_answers_as_one(void **state)
{
    check_case("hybrid", "text-long", 1e-4);
    check_case("hybrid", "video-96x80-30f", 6e-4);
    check_case("hybrid-deepstack", "images-two-turns", 6e-4);
    check_case("qwen3vl", "images-two-turns", 6e-4);
}

// The same weights in few bits, whole and in two parts: sums round differently, and nothing else.
static void weights_in_few_bits_are_split_too(void **state)
{
    checkpoint *c = golden_open("hybrid");
    const prepare_options o = {.form = WEIGHTS_INT4};
    golden_case g;
    device d, alone = {.c = c, .g = &g, .k = golden_kernels(1, true)};
    load_case(&g, c, "hybrid", "text");
    assert_ok(checkpoint_prepare(c, &o));
    open_group(&d, c, &g);
    run_device(&alone);
    run_device(&d);
    if (alone.err || d.err) fail_msg("%s%s", alone.error, d.error);
    assert_close(d.logits, alone.logits, g.n * VOCAB(&d), 1e-4, "few bits");
    assert_memory_equal(d.ids, alone.ids, (size_t)g.n_greedy * sizeof *g.greedy);
    close_device(&d);
    close_device(&alone);
    golden_free(&g);
    checkpoint_close(&c);
}

// Half of the MLP's width does not end with a group of 32.
static void groups_that_do_not_divide_are_refused(void **state)
{
    checkpoint *c = golden_open("hybrid");
    const prepare_options o = {.form = WEIGHTS_INT8};
    device d;
    assert_ok(checkpoint_prepare(c, &o));
    open_group(&d, c, NULL);
    assert_fails(create_model(&d), SIGHT_E_UNSUPPORTED, "down_proj.weight: inputs 0 to 79 of a matrix cannot be cut out of its groups of 32");
    close_device(&d);
    checkpoint_close(&c);
}

// ---- pasts of all ranks ----

static segment text_of(sequence *s, const int32_t *ids, const int32_t *positions, int32_t n, float *logits)
{
    return (segment){.seq = s, .n = n, .ids = ids, .positions = positions, .position_stride = n, .n_logits = 1,
                     .logits = logits};
}

// ids that count from `first`, at their places.
static void read_text(device *d, sequence *s, int32_t first, int32_t n, float *logits)
{
    int32_t ids[200], positions[600];
    assert_true(n <= 200);
    const int32_t at = (int32_t)sequence_length(s);
    for (int32_t i = 0; i < n; i++) ids[i] = (first + 7 * i) % 300;
    for (int32_t i = 0; i < 3 * n; i++) positions[i] = at + i % n;
    const segment seg = text_of(s, ids, positions, n, logits);
    assert_ok(text_model_step(d->m, &seg, 1));
}

// What is forked, or taken out as bytes and brought back, goes on with the very bits.
static void pasts_are_those_of_all_ranks(void **state)
{
    checkpoint *c = golden_open("hybrid");
    device d;
    open_model(&d, c, 0);
    const size_t bytes = (size_t)VOCAB(&d) * sizeof(float);
    float *want = golden_alloc(VOCAB(&d), sizeof *want), *got = golden_alloc(VOCAB(&d), sizeof *got);
    sequence *fork, *back, *taken;
    read_text(&d, d.s, 3, 100, want);
    assert_ok(sequence_fork(&fork, d.s));
    const int64_t blocks = sequence_blocks(d.s), block = cache_block_bytes(d.pool);
    const int64_t states = cache_states_bytes(d.pool);
    assert_int_equal(block, 2 * d.pool->memory.block_bytes);
    char *kept = golden_alloc(blocks * block + states, 1);
    assert_ok(sequence_save_blocks(d.s, kept, 0, 1));
    assert_ok(sequence_save_blocks(d.s, kept + block, 1, blocks - 1));
    const int64_t odd = states / 2 + 12; // from one rank's into the other's
    assert_ok(sequence_save_states(d.s, kept + blocks * block, 0, odd));
    assert_ok(sequence_save_states(d.s, kept + blocks * block + odd, odd, states - odd));
    read_text(&d, d.s, 5, 9, want);
    read_text(&d, fork, 5, 9, got);
    assert_memory_equal(got, want, bytes);

    assert_ok(sequence_create(&back, d.pool));
    assert_ok(sequence_share_blocks(back, fork, 1)); // the first is as it was
    for (int64_t b = 1; b < blocks; b++) assert_ok(sequence_add_block(back, kept + b * block));
    sequence_load_states(back, kept + blocks * block, 0, 100);
    sequence_load_states(back, kept + blocks * block + 100, 100, states - 100);
    assert_ok(sequence_restored(back, 100, 0));
    assert_ok(sequence_create(&taken, d.pool));
    assert_ok(sequence_allow_rewind(taken, 4));
    sequence_take_past(taken, &back);
    assert_null(back);
    assert_int_equal(sequence_length(sequence_of_rank(taken, 1)), 100);
    assert_int_equal(sequence_rewind_rows(sequence_of_rank(taken, 1)), 4);
    read_text(&d, taken, 5, 9, got);
    assert_memory_equal(got, want, bytes);
    sequence_drop(&taken);
    sequence_drop(&fork);
    free(kept);
    free(want);
    free(got);
    close_device(&d);
    checkpoint_close(&c);
}

// Rows that are taken back leave no trace on any rank.
static void steps_are_taken_back(void **state)
{
    checkpoint *c = golden_open("hybrid");
    device d;
    open_model(&d, c, 0);
    const size_t bytes = (size_t)VOCAB(&d) * sizeof(float);
    float *want = golden_alloc(VOCAB(&d), sizeof *want), *got = golden_alloc(VOCAB(&d), sizeof *got);
    sequence *other;
    const int32_t ids[4] = {9, 10, 11, 12}, positions[12] = {70, 71, 72, 73, 70, 71, 72, 73, 70, 71, 72, 73};
    read_text(&d, d.s, 3, 70, got);
    assert_ok(sequence_fork(&other, d.s));
    assert_ok(sequence_allow_rewind(d.s, 4));
    segment seg = text_of(d.s, ids, positions, 4, got);
    seg.rewindable = true;
    assert_ok(text_model_step(d.m, &seg, 1));
    assert_fails(text_model_rewind(d.m, d.s, 5), SIGHT_E_ARGUMENT, "5 rows");
    assert_ok(text_model_rewind(d.m, d.s, 2));
    seg = text_of(other, ids, positions, 2, want);
    seg.position_stride = 4;
    assert_ok(text_model_step(d.m, &seg, 1));
    for (int32_t rank = 0; rank < RANKS; rank++) assert_int_equal(sequence_length(sequence_of_rank(d.s, rank)), 72);
    read_text(&d, d.s, 5, 1, got);
    read_text(&d, other, 5, 1, want);
    assert_memory_equal(got, want, bytes);
    assert_ok(text_model_status(d.m));
    sequence_drop(&other);
    free(want);
    free(got);
    close_device(&d);
    checkpoint_close(&c);
}

// A prompt read in slices, with steps of others between them, gives the bits of one step.
static void slices_are_the_same_bits(void **state)
{
    checkpoint *c = golden_open("hybrid-deepstack");
    golden_case g;
    device d;
    load_case(&g, c, "hybrid-deepstack", "images-two-turns");
    open_model(&d, c, 0);
    const size_t bytes = (size_t)VOCAB(&d) * sizeof(float);
    float *want = golden_alloc(VOCAB(&d), sizeof *want), *got = golden_alloc(VOCAB(&d), sizeof *got);
    float *beside = golden_alloc(VOCAB(&d), sizeof *beside);
    const float *levels[CONFIG_MAX_DEEPSTACK];
    sequence *sliced, *other;
    text_job *job;
    assert_ok(sequence_create(&sliced, d.pool));
    assert_ok(sequence_create(&other, d.pool));
    segment seg = golden_segment(&g, d.s, 0, g.n, levels, checkpoint_config(c)->text.hidden);
    seg.n_logits = 1;
    seg.logits = want;
    assert_ok(text_model_step(d.m, &seg, 1));
    seg.seq = sliced;
    seg.logits = got;
    assert_ok(text_job_create(&job, d.m, MAX_ROWS));
    assert_ok(text_job_begin(job, &seg));
    int slices = 0;
    for (bool done = false; !done; slices++) {
        assert_ok(text_job_run(job, 1, &done));
        if (slices % 3 == 0) read_text(&d, other, slices, 2, beside);
    }
    assert_int_equal(slices, 2 * checkpoint_config(c)->text.n_layers);
    assert_memory_equal(got, want, bytes);
    seg.seq = other;
    assert_ok(text_job_begin(job, &seg)); // given up in the middle
    text_job_destroy(&job);
    assert_ok(text_model_status(d.m));
    sequence_drop(&other);
    sequence_drop(&sliced);
    free(want);
    free(got);
    free(beside);
    close_device(&d);
    golden_free(&g);
    checkpoint_close(&c);
}

// ---- failures ----

// What one rank has no room for is said as that rank says it, changes nothing, and the group goes on.
static void a_step_without_room_is_refused(void **state)
{
    checkpoint *c = golden_open("hybrid");
    device d;
    open_model(&d, c, 0);
    float *logits = golden_alloc(VOCAB(&d), sizeof *logits);
    read_text(&d, d.s, 3, 60, logits);
    cache_pool *second = d.pool->peers[0];
    second->memory.budget = second->memory.held; // not a block more
    int32_t ids[70], positions[210];
    for (int i = 0; i < 70; i++) ids[i] = i;
    for (int i = 0; i < 210; i++) positions[i] = 60 + i % 70;
    const segment seg = text_of(d.s, ids, positions, 70, logits);
    assert_fails(text_model_step(d.m, &seg, 1), SIGHT_E_MEMORY, "the cache's budget");
    for (int32_t rank = 0; rank < RANKS; rank++) {
        assert_int_equal(sequence_length(sequence_of_rank(d.s, rank)), 60);
        assert_int_equal(sequence_blocks(sequence_of_rank(d.s, rank)), 1);
    }
    sequence *fork = NULL;
    assert_fails(sequence_fork(&fork, d.s), SIGHT_E_MEMORY, "the cache's budget");
    assert_null(fork);
    second->memory.budget = 0;
    assert_ok(text_model_status(d.m));
    assert_ok(text_model_step(d.m, &seg, 1));
    free(logits);
    close_device(&d);
    checkpoint_close(&c);
}

// A rank that gives up in a step: nobody waits for it, and everything that follows says so.
static void a_rank_that_is_lost_ends_all(void **state)
{
    checkpoint *c = golden_open("hybrid");
    device d;
    open_model(&d, c, 0);
    float *logits = golden_alloc(VOCAB(&d), sizeof *logits);
    read_text(&d, d.s, 3, 10, logits);
    text_job *job;
    assert_ok(text_job_create(&job, d.m, MAX_ROWS));
    const int32_t id = 5, positions[3] = {10, 10, 10};
    const segment seg = text_of(d.s, &id, positions, 1, logits);
    assert_ok(text_job_begin(job, &seg)); // so that the next slice is past the place where ranks agree
    collective_end(d.m->group);
    bool done = true;
    assert_fails(text_job_run(job, 1e12, &done), SIGHT_E_INTERNAL, "has given up");
    assert_false(done);
    assert_fails(text_model_step(d.m, &seg, 1), SIGHT_E_INTERNAL, "has given up");
    assert_fails(text_model_status(d.m), SIGHT_E_INTERNAL, "has given up");
    text_job_destroy(&job);
    free(logits);
    close_device(&d);
    checkpoint_close(&c);
}

static void what_cannot_be_split_is_refused(void **state)
{
    checkpoint *c = golden_open("hybrid");
    text_model *m = NULL;
    kernels *k[7];
    for (int i = 0; i < 7; i++) k[i] = golden_kernels(1, true);
    assert_fails(text_group_create(&m, c, k, 7, MAX_ROWS), SIGHT_E_UNSUPPORTED, "do not divide among 7 devices");
    kernels *const twice[RANKS] = {k[0], k[0]};
    assert_fails(text_group_create(&m, c, twice, RANKS, MAX_ROWS), SIGHT_E_ARGUMENT, "on the same device");
    assert_fails(text_group_create(&m, c, k, RANKS, 0), SIGHT_E_ARGUMENT, "0 rows");
    assert_null(m);
    for (int i = 0; i < 7; i++) kernels_destroy(&k[i]);
    checkpoint_close(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_in_few_bits_are_split_too),
        cmocka_unit_test(groups_that_do_not_divide_are_refused), cmocka_unit_test(a_group_answers_as_one),         cmocka_unit_test(pasts_are_those_of_all_ranks),
        cmocka_unit_test(steps_are_taken_back),           cmocka_unit_test(slices_are_the_same_bits),
        cmocka_unit_test(a_step_without_room_is_refused), cmocka_unit_test(a_rank_that_is_lost_ends_all),
        cmocka_unit_test(what_cannot_be_split_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
