// tests/cuda/pages.h - pages of keys and values that lie on both sides, and a GPU beside plain C, exact and fast.
#ifndef TESTS_CUDA_PAGES_H
#define TESTS_CUDA_PAGES_H

#include "cuda/pair.h"

typedef struct rig {
    sides exact, fast;
} rig;

static inline sight_err side_open(sides *s, bool exact)
{
    const kernels_options cpu = {.threads = 1, .simd = SIMD_PLAIN, .exact = true};
    const kernels_options gpu = {.threads = 1, .simd = SIMD_PLAIN, .exact = exact,
                                 .device = {DEVICE_CUDA, 0}, .device_bytes = (int64_t)256 << 20};
    const sight_err err = kernels_create(&s->cpu, &cpu);
    return err ? err : kernels_create(&s->gpu, &gpu);
}

static inline int rig_open(void **state)
{
    static rig r;
    r = (rig){0};
    *state = &r;
    if (!side_open(&r.exact, true) && !side_open(&r.fast, false)) return 0;
    fprintf(stderr, "%s\n", sight_error());
    return -1;
}

static inline int rig_close(void **state)
{
    rig *r = *state;
    sides *both[] = {&r->exact, &r->fast};
    for (int i = 0; i < 2; i++) {
        kernels_destroy(&both[i]->gpu);
        kernels_destroy(&both[i]->cpu);
    }
    return 0;
}

// ---- pages on both sides ----

typedef struct paged {
    const sides *s;
    kv_view plain, device;
    void *pages[64], *device_pages[64];
    void *table; // device: [n] of device_pages
    int64_t n, G, C;
    size_t bytes; // of a block
} paged;

#define BLOCK_OFFSET 64 // a page does not begin where its block does

// All bytes 0xff, which as numbers are NaN: what was not written must not be read into results.
static inline paged paged_new(const sides *s, tensor_type type, int64_t tokens, int32_t page_rows,
                       int64_t G, int64_t C)
{
    paged p = {.s = s, .n = (tokens + page_rows - 1) / page_rows, .G = G, .C = C};
    p.bytes = BLOCK_OFFSET + (size_t)kv_page_bytes(type, page_rows, G, C);
    assert_true(p.n <= 64);
    for (int64_t i = 0; i < p.n; i++) {
        p.pages[i] = malloc(p.bytes);
        assert_non_null(p.pages[i]);
        memset(p.pages[i], 0xff, p.bytes);
        assert_ok(kernels_alloc(&p.device_pages[i], s->gpu, p.bytes, "a test's page"));
        kernels_write(s->gpu, p.device_pages[i], p.pages[i], p.bytes);
    }
    assert_ok(kernels_alloc(&p.table, s->gpu, sizeof p.pages, "a test's table of pages"));
    kernels_write(s->gpu, p.table, p.device_pages, sizeof p.pages);
    p.plain = (kv_view){NULL, BLOCK_OFFSET, type, page_rows};
    p.device = (kv_view){p.table, BLOCK_OFFSET, type, page_rows};
    return p;
}

static inline void paged_free(paged *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        free(p->pages[i]);
        kernels_free(p->s->gpu, p->device_pages[i]);
    }
    kernels_free(p->s->gpu, p->table);
}

// Rows of both sides as tokens past ..., the same bytes afterwards.
static inline void paged_write(paged *p, const pair *k, const pair *v, int64_t past, int64_t n)
{
    p->plain.blocks = p->pages;
    op_kv_write(p->s->cpu, &p->plain, k->plain, v->plain, past, n, p->G, p->C);
    op_kv_write(p->s->gpu, &p->device, k->device, v->device, past, n, p->G, p->C);
}

static inline void paged_check(const paged *p)
{
    unsigned char *got = malloc(p->bytes);
    assert_non_null(got);
    for (int64_t i = 0; i < p->n; i++) {
        assert_ok(kernels_read(p->s->gpu, got, p->device_pages[i], p->bytes));
        assert_memory_equal(got, p->pages[i], p->bytes);
    }
    free(got);
}

#endif
