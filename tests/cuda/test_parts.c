// Copies of several parts at once: every byte of each, and nothing beside them.
#include "cuda/pair.h"

enum { PARTS = 7 };

static void parts(void **state)
{
    const sides *s = *state;
    const int64_t lengths[PARTS] = {0, 1, 3, 64, 1023, 4096 + 4, 20000};
    for (int shift = 0; shift < 4; shift++) {
        const int64_t room = 30000;
        pair from = pair_normal(s, room, 1, 7, 0), to = pair_room(s, room, 0);
        copy_part list[PARTS], plain[PARTS];
        memset(to.plain, 0, (size_t)room * sizeof(float));
        pair_send(&to);
        int64_t at = 0;
        for (int i = 0; i < PARTS; i++) {
            const int64_t odd = i % 2 ? shift : 0; // aligned ones and others
            list[i] = (copy_part){to.device + at + shift, from.device + at + odd,
                                  (size_t)lengths[i] * sizeof(float)};
            plain[i] = (copy_part){to.plain + at + shift, from.plain + at + odd, list[i].bytes};
            at += (lengths[i] + 8) / 4 * 4;
        }
        op_copy_parts(s->gpu, list, PARTS);
        op_copy_parts(s->cpu, plain, PARTS);
        pair_check(&to, 0, "parts");
        pair_free(&from);
        pair_free(&to);
    }
}

// Where parts lie is not part of a step's kind: one of the same shape runs as the same graph,
// elsewhere.
static void in_steps(void **state)
{
    const sides *s = *state;
    pair from = pair_normal(s, 1000, 1, 9, 0), to = pair_room(s, 1000, 0);
    memset(to.plain, 0, 1000 * sizeof(float));
    pair_send(&to);
    for (int i = 0; i < 8; i++) {
        const copy_part part = {to.device + 100 * i, from.device + 100 * i, 100 * sizeof(float)};
        kernels_step_begin(s->gpu);
        op_copy_parts(s->gpu, &part, 1);
        assert_ok(kernels_step_end(s->gpu));
    }
    memcpy(to.plain, from.plain, 800 * sizeof(float));
    pair_check(&to, 0, "parts in steps");
    pair_free(&from);
    pair_free(&to);
}

static void nothing(void **state)
{
    const sides *s = *state;
    op_copy_parts(s->gpu, NULL, 0);
    assert_ok(kernels_status(s->gpu));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts),
        cmocka_unit_test(in_steps),
        cmocka_unit_test(nothing),
    };
    return sides_run(tests);
}
