// kernels/limits.c - what this machine can do at most: streaming reads, and multiply-adds that
// touch nothing but registers.
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/sort.h"
#include "kernels/backend.h"
#include "kernels/cpu/limits.h"
#include "kernels/memory.h"

#define READ_BYTES ((size_t)512 << 20)
#define READ_PIECE ((int64_t)1 << 20)
#define READ_PASSES  11
#define LOOP_SECONDS 0.06
#define LOOP_PASSES 2

// ---- plain loops ----

static uint64_t plain_read(const void *p, size_t bytes)
{
    const uint64_t *v = p;
    uint64_t sum[4] = {0};
    for (size_t i = 0; i < bytes / 8; i += 4) {
        for (int j = 0; j < 4; j++) sum[j] ^= v[i + (size_t)j];
    }
    return sum[0] ^ sum[1] ^ sum[2] ^ sum[3];
}

static double plain_f32(int64_t rounds, float *sink)
{
    float sum[16] = {0}, x = *sink, y = 1e-9f;
    for (int64_t r = 0; r < rounds; r++) {
        for (int i = 0; i < 16; i++) sum[i] = sum[i] * x + y;
    }
    for (int i = 0; i < 16; i++) *sink += sum[i];
    return 2.0 * 16 * (double)rounds;
}

static limit_loops loops_for(simd_level level)
{
    limit_loops loops = {.read = plain_read, .f32 = plain_f32};
#if defined(__x86_64__)
    if (level >= SIMD_AVX2 && level <= SIMD_AVX512BF16) limits_avx2_fill(&loops);
    if (level >= SIMD_AVX512 && level <= SIMD_AVX512BF16) {
        limits_avx512_fill(&loops);
        // Limits are the machine's, not the level's: these count wherever the processor has them.
        if (simd_level_available(SIMD_AVX512BF16)) limits_avx512bf16_fill(&loops);
        if (__builtin_cpu_supports("avx512vnni")) limits_avx512vnni_fill(&loops);
    }
#endif
#if defined(__aarch64__)
    if (level == SIMD_NEON) limits_neon_fill(&loops);
#endif
    return loops;
}

// ---- measuring ----

typedef struct limit_job {
    limit_loops loops;
    limit_loop *loop;
    int64_t rounds;
    double operations[256]; // of each piece
    const char *memory;
} limit_job;

static void run_loop(void *arg, int64_t begin, int64_t end, int worker)
{
    limit_job *j = arg;
    for (int64_t i = begin; i < end; i++) {
        float sink = 1;
        j->operations[i] = j->loop(j->rounds, &sink);
        volatile float used = sink;
        (void)used;
    }
}

// Operations per second with every thread at it, in 10^9.
static double measure_loop(kernels *k, limit_job *j, limit_loop *loop)
{
    if (!loop) return 0;
    int n = threads_count(k->pool);
    double best = 0;
    j->loop = loop;
    j->rounds = 100000;
    for (int pass = 0; pass <= LOOP_PASSES;) {
        double start = clock_now_s(), total = 0;
        threads_for(k->pool, n, 1, run_loop, j);
        double seconds = clock_now_s() - start;
        if (seconds < LOOP_SECONDS / 2) { // finds the length first
            j->rounds = (int64_t)((double)j->rounds * (LOOP_SECONDS / (seconds + 1e-4) + 1));
            continue;
        }
        for (int i = 0; i < n; i++) total += j->operations[i];
        if (total / seconds > best) best = total / seconds;
        pass++;
    }
    return best / 1e9;
}

static void read_piece(void *arg, int64_t begin, int64_t end, int worker)
{
    limit_job *j = arg;
    volatile uint64_t used = j->loops.read(j->memory + begin, (size_t)(end - begin));
    (void)used;
}

static void touch_piece(void *arg, int64_t begin, int64_t end, int worker)
{
    memset((char *)((limit_job *)arg)->memory + begin, 1, (size_t)(end - begin));
}

// The median pass: what it is held against, a decoding step, is a median too.
static double measure_read(kernels *k, limit_job *j)
{
    void *p = mmap(NULL, READ_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return 0;
    double rates[READ_PASSES];
    j->memory = p;
    threads_for(k->pool, READ_BYTES, READ_PIECE, touch_piece, j);
    for (int pass = 0; pass < READ_PASSES; pass++) {
        double start = clock_now_s();
        threads_for(k->pool, READ_BYTES, READ_PIECE, read_piece, j);
        rates[pass] = (double)READ_BYTES / (clock_now_s() - start);
    }
    munmap(p, READ_BYTES);
    sort_doubles(rates, READ_PASSES);
    return rates[READ_PASSES / 2] / 1e9;
}

void kernels_measure_limits(kernels *k, machine_limits *out)
{
    if (kernels_on_device(k)) {
        limits_device_measure(k, out);
        return;
    }
    limit_job j = {.loops = loops_for(k->level)};
    out->read_gb_s = measure_read(k, &j);
    out->f32_gop_s = measure_loop(k, &j, j.loops.f32);
    out->bf16_gop_s = measure_loop(k, &j, j.loops.bf16);
    out->int8_gop_s = measure_loop(k, &j, j.loops.int8);
}
