// sight bench --profile: where each work's time goes.
#include <stdio.h>
#include <string.h>

#include "clients/cli/bench.h"

static const struct {
    const char *key, *words;
} works[BENCH_WORKS] = {
    {"prefill_512", "prefill, 512 tokens"},
    {"prefill_2048", "prefill, 2048 tokens"},
    {"prefill_8192", "prefill, 8192 tokens"},
    {"decode", "decode"},
    {"decode_4096", "decode at depth 4096"},
    {"batch8_decode", "decode, 8 sequences together"},
    {"batch32_decode", "decode, 32 sequences together"},
    {"drafts", "answers with drafts"},
    {"vision_640x480", "picture 640x480, encode"},
    {"vision_1920x1080", "picture 1920x1080, encode"},
};

static int work_named(const char *name, size_t n)
{
    for (int w = 0; w < BENCH_WORKS; w++) {
        if (strlen(works[w].key) == n && !strncmp(works[w].key, name, n)) return w;
    }
    return -1;
}

sight_err bench_parse_works(unsigned *out, const char *names)
{
    unsigned bits = 0;
    for (const char *at = names;; at++) {
        const size_t n = strcspn(at, ",");
        const int w = work_named(at, n);
        if (w < 0) {
            return sight_fail(SIGHT_E_ARGUMENT,
                              "--only: '%.*s' is none of prefill_512, prefill_2048, prefill_8192, "
                              "decode, decode_4096, batch8_decode, batch32_decode, drafts, "
                              "vision_640x480, vision_1920x1080",
                              n > 40 ? 40 : (int)n, at);
        }
        bits |= 1u << w;
        at += n;
        if (!*at) break;
    }
    *out = bits;
    return SIGHT_OK;
}

// What an op's arithmetic can reach here at best: the integer products' peak, or float32's. Where
// bf16 has the higher one, bf16 weights may use it. A GPU is held against its bf16 products alone.
static double peak_of(const profile_row *r, const machine_limits *l)
{
    if (l->f32_gop_s <= 0) return l->bf16_gop_s;
    if (r->op[0] == 'p' && (r->op[9] == '4' || r->op[9] == '8')) return l->int8_gop_s;
    if (r->op[0] == 'p' && r->op[9] == 'b' && l->bf16_gop_s > l->f32_gop_s) return l->bf16_gop_s;
    return l->f32_gop_s;
}

static double percent(double part, double whole)
{
    return whole > 0 ? 100 * part / whole : 0;
}

static void print_row(const profile_row *r, double whole, const machine_limits *l)
{
    const double gb_s = r->bytes / 1e9 / r->seconds, gop_s = r->operations / 1e9 / r->seconds;
    printf("  %-20s %5.1f %% %8lld calls %8.2f ms %7.1f GB/s (%3.0f %%) %8.1f Gop/s (%3.0f %%)\n", r->op,
           percent(r->seconds, whole), (long long)r->calls, 1e3 * r->seconds, gb_s,
           percent(gb_s, l->read_gb_s), gop_s, percent(gop_s, peak_of(r, l)));
}

void bench_profile_print(const profile *profiles, const machine_limits *limits)
{
    for (int w = 0; w < BENCH_WORKS; w++) {
        profile p = profiles[w];
        if (!p.n) continue;
        profile_sort(&p);
        double inside = 0;
        printf("\n%s: %.2f ms; of the time, reached (of this machine's limit)\n", works[w].words, 1e3 * p.seconds);
        for (int i = 0; i < p.n; i++) {
            print_row(&p.rows[i], p.seconds, limits);
            inside += p.rows[i].seconds;
        }
        printf("  %-20s %5.1f %%\n", "outside of ops", percent(p.seconds - inside, p.seconds));
    }
}

static json_t *row_json(const profile_row *r, double whole)
{
    return json_pack("{s:s, s:I, s:f, s:f, s:f}", "op", r->op, "calls", (json_int_t)r->calls, "share",
                     whole > 0 ? r->seconds / whole : 0, "gb_s", r->bytes / 1e9 / r->seconds, "gop_s",
                     r->operations / 1e9 / r->seconds);
}

json_t *bench_profile_json(const profile *profiles)
{
    json_t *all = json_object();
    for (int w = 0; w < BENCH_WORKS; w++) {
        profile p = profiles[w];
        if (!p.n) continue;
        profile_sort(&p);
        json_t *ops = json_array();
        for (int i = 0; i < p.n; i++) json_array_append_new(ops, row_json(&p.rows[i], p.seconds));
        json_object_set_new(all, works[w].key, json_pack("{s:f, s:o}", "seconds", p.seconds, "ops", ops));
    }
    return all;
}
