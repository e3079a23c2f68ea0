#include "block.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fiber.h"
#include "region.h"
#include "shared.h"

shim_index shim_thread_index, shim_block_index, shim_block_size, shim_grid_size;
void *shim_dynamic_shared;

typedef enum thread_state { NOT_BEGUN, RUNNING, READY, AT_BARRIER, IN_WARP, ENDED } thread_state;

typedef struct async_copy {
    void *to;
    const void *from; // NULL: zeros
    int group;
} async_copy;

typedef struct block_thread {
    thread_state state;
    fiber *on;
    shim_index index;
    shim_place place; // where it waits
    const char *what;
    shim_together *together;
    uint32_t mask;
    void *data;
    int result; // of a barrier
    async_copy *copies;
    int n_copies, room, group; // group: being filled
} block_thread;

typedef struct block_warp {
    uint32_t present; // lanes that have not ended
    uint32_t waiting; // in shim_meet
} block_warp;

// The block under way.
typedef struct block {
    const shim_kernel *kernel;
    const void *args;
    block_thread threads[SHIM_MAX_THREADS];
    block_warp warps[SHIM_MAX_THREADS / SHIM_WARP];
    int n, begun, ended, at_barrier, predicates;
    int last_at_barrier;
    bool reversed;
    int self; // the running thread, -1: none
    int ready[SHIM_MAX_THREADS], ready_at, n_ready; // a ring
    fiber main, *on, *came_from, *free;
    bool abandoned; // by the last launch: stacks hold ASan's marks
    bool failed;
    bool catching;
    char *caught;
    unsigned ordinal; // of launches
} block;

static block b;

static shim_index unfold(unsigned long long i, shim_index size)
{
    return (shim_index){(unsigned)(i % size.x), (unsigned)(i / size.x % size.y),
                        (unsigned)(i / size.x / size.y)};
}

// ---- reports ----

void block_catch_defects(bool catch_them)
{
    b.catching = catch_them;
}

char *block_take_defect(void)
{
    char *caught = b.caught;
    b.caught = NULL;
    return caught;
}

static void keep(const char *sentence)
{
    if (!b.catching) {
        fprintf(stderr, "cuda_on_cpu: %s\n", sentence);
        abort();
    }
    if (b.caught) return; // what follows from the first says less
    b.caught = malloc(strlen(sentence) + 1);
    if (b.caught) strcpy(b.caught, sentence);
}

void block_report(const char *format, ...)
{
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    keep(text);
}

static const char *base_name(const char *file)
{
    const char *slash = strrchr(file, '/');
    return slash ? slash + 1 : file;
}

void shim_defect(const char *file, int line, const char *format, ...)
{
    char what[512], text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof what, format, list);
    va_end(list);
    const shim_kernel *k = b.kernel;
    const shim_index i = b.self >= 0 ? b.threads[b.self].index : (shim_index){0};
    snprintf(text, sizeof text, "%s:%d: %s (kernel %s of %s:%d, block %u,%u,%u, thread %u,%u,%u)",
             base_name(file), line, what, k->name, base_name(k->file), k->line, shim_block_index.x,
             shim_block_index.y, shim_block_index.z, i.x, i.y, i.z);
    keep(text);
    b.failed = true;
    fiber_switch(b.on, &b.main); // for good
    abort();
}

// ---- taking turns ----

static void fiber_begin(void);

static fiber *fiber_take(void)
{
    fiber *f = b.free;
    if (f) b.free = f->next_free;
    else f = fiber_create();
    if (!f) {
        fprintf(stderr, "cuda_on_cpu: no memory for a fiber\n");
        abort();
    }
    fiber_reset(f, fiber_begin, b.abandoned);
    return f;
}

static void go(fiber *to)
{
    fiber *from = b.on;
    if (from == to) return;
    b.came_from = from;
    b.on = to;
    fiber_switch(from, to);
}

static void enter(int t)
{
    b.self = t;
    b.threads[t].state = RUNNING;
    shim_thread_index = b.threads[t].index;
}

static void make_ready(int t)
{
    b.threads[t].state = READY;
    b.ready[(b.ready_at + b.n_ready++) % SHIM_MAX_THREADS] = t;
}

static int take_ready(void)
{
    const int t = b.ready[b.ready_at];
    b.ready_at = (b.ready_at + 1) % SHIM_MAX_THREADS;
    b.n_ready--;
    return t;
}

// Nobody can go on, and not all have ended.
static void report_stuck(void)
{
    for (int t = 0; t < b.n; t++) {
        block_thread *at = &b.threads[t];
        if (at->state != IN_WARP) continue;
        const int warp = t / SHIM_WARP * SHIM_WARP;
        for (int lane = 0; lane < SHIM_WARP; lane++) {
            if (!(at->mask >> lane & 1)) continue;
            const block_thread *other = &b.threads[warp + lane];
            if (other->state == IN_WARP && other->together == at->together && other->mask == at->mask) continue;
            b.self = t;
            shim_defect(at->place.file, at->place.line, "%s with mask %08x waits for lane %d, which is in %s, line %d",
                        at->what, at->mask, lane,
                        other->state == AT_BARRIER ? "__syncthreads" : other->what, other->place.line);
        }
    }
    shim_defect(b.kernel->file, b.kernel->line, "threads wait for each other");
}

static void fiber_give(fiber *f)
{
    f->next_free = b.free;
    b.free = f;
}

// The running thread waits: others go on. Returns when it is its turn again.
static void yield(void)
{
    if (b.n_ready) {
        const int t = take_ready();
        enter(t);
        go(b.threads[t].on);
    } else if (b.begun < b.n) {
        go(fiber_take());
    } else {
        report_stuck();
    }
}

static void begin_next(void)
{
    const int i = b.begun++, t = b.reversed ? b.n - 1 - i : i;
    b.threads[t].on = b.on;
    enter(t);
    b.kernel->run(b.args);
}

static void end_thread(void)
{
    block_thread *t = &b.threads[b.self];
    if (b.at_barrier) {
        const block_thread *other = &b.threads[b.last_at_barrier];
        shim_defect(other->place.file, other->place.line,
                    "not all threads reach __syncthreads: this one has ended, %u,%u,%u waits",
                    other->index.x, other->index.y, other->index.z);
    }
    t->state = ENDED;
    b.warps[b.self / SHIM_WARP].present &= ~(1u << b.self % SHIM_WARP);
    b.ended++;
}

// A fiber's life: threads one after the other, until others that waited can go on.
static void fiber_begin(void)
{
    fiber_entered(b.came_from);
    while (b.begun < b.n && !b.n_ready) {
        begin_next();
        end_thread();
    }
    if (b.ended < b.n && !b.n_ready) report_stuck();
    fiber_give(b.on);
    if (b.ended == b.n) go(&b.main);
    const int t = take_ready();
    enter(t);
    go(b.threads[t].on);
    abort();
}

// ---- what threads do together ----

static bool same_place(shim_place x, shim_place y)
{
    return x.line == y.line && !strcmp(x.file, y.file);
}

int shim_barrier(int predicate, shim_place place)
{
    block_thread *self = &b.threads[b.self];
    if (b.ended) {
        shim_defect(place.file, place.line, "not all threads reach __syncthreads: %d of %d have ended", b.ended, b.n);
    }
    const shim_place other = b.threads[b.last_at_barrier].place;
    if (b.at_barrier && !same_place(place, other)) {
        shim_defect(place.file, place.line, "not all threads reach this __syncthreads: others wait in line %d of %s",
                    other.line, base_name(other.file));
    }
    self->place = place;
    self->state = AT_BARRIER;
    b.last_at_barrier = b.self;
    b.predicates += predicate != 0;
    if (++b.at_barrier < b.n) {
        yield();
        return self->result;
    }
    const int result = b.predicates;
    b.at_barrier = b.predicates = 0;
    self->state = RUNNING;
    for (int i = 0; i < b.n; i++) {
        const int t = b.reversed ? b.n - 1 - i : i;
        b.threads[t].result = result;
        if (t != b.self) make_ready(t);
    }
    return result;
}

int shim_lane(void)
{
    return b.self % SHIM_WARP;
}

uint32_t shim_present_lanes(void)
{
    return b.warps[b.self / SHIM_WARP].present;
}

// Whether all lanes of the mask wait in the same thing.
static bool all_there(const block_thread *lanes, uint32_t mask, shim_together *together)
{
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        const block_thread *lane = &lanes[__builtin_ctz(rest)];
        if (lane->mask != mask || lane->together != together) return false;
    }
    return true;
}

void shim_meet(shim_together *together, uint32_t mask, void *data, const char *what, shim_place place)
{
    block_thread *self = &b.threads[b.self];
    block_warp *warp = &b.warps[b.self / SHIM_WARP];
    block_thread *lanes = self - b.self % SHIM_WARP;
    const uint32_t mine = 1u << b.self % SHIM_WARP;
    if (!(mask & mine)) {
        shim_defect(place.file, place.line, "%s with mask %08x, which lacks the calling lane", what, mask);
    }
    if (mask & ~warp->present) {
        shim_defect(place.file, place.line, "%s with mask %08x, but lanes %08x have ended or never were", what, mask,
                    mask & ~warp->present);
    }
    self->state = IN_WARP;
    self->place = place;
    self->what = what;
    self->together = together;
    self->mask = mask;
    self->data = data;
    warp->waiting |= mine;
    if ((warp->waiting & mask) != mask || !all_there(lanes, mask, together)) {
        yield();
        return;
    }
    void *all[SHIM_WARP] = {0};
    for (uint32_t rest = mask; rest; rest &= rest - 1) {
        const int lane = __builtin_ctz(rest);
        all[lane] = lanes[lane].data;
    }
    warp->waiting &= ~mask;
    self->state = RUNNING;
    together(all, mask);
    const int first = b.self / SHIM_WARP * SHIM_WARP;
    for (int i = 0; i < SHIM_WARP; i++) {
        const int lane = b.reversed ? SHIM_WARP - 1 - i : i;
        if (mask >> lane & 1 && first + lane != b.self) make_ready(first + lane);
    }
}

// ---- copies that land late ----

static bool copies_grow(block_thread *t)
{
    const int room = t->room ? 2 * t->room : 16;
    async_copy *more = realloc(t->copies, (size_t)room * sizeof *more);
    if (!more) return false;
    t->copies = more;
    t->room = room;
    return true;
}

void shim_copy_begin(void *shared, const void *from, bool good, shim_place place)
{
    block_thread *t = &b.threads[b.self];
    if ((uintptr_t)shared % 16 || (good && (uintptr_t)from % 16)) {
        shim_defect(place.file, place.line, "an asynchronous copy from or to an address that is no multiple of 16");
    }
    if (t->n_copies == t->room && !copies_grow(t)) {
        shim_defect(place.file, place.line, "no memory for asynchronous copies");
    }
    region_poison(shared, 16);
    t->copies[t->n_copies++] = (async_copy){shared, good ? from : NULL, t->group};
}

void shim_copy_commit(void)
{
    b.threads[b.self].group++;
}

void shim_copy_wait(int left)
{
    block_thread *t = &b.threads[b.self];
    int kept = 0;
    for (int i = 0; i < t->n_copies; i++) {
        const async_copy c = t->copies[i];
        if (c.group >= t->group - left) t->copies[kept++] = c;
        else if (c.from) memcpy(c.to, c.from, 16);
        else memset(c.to, 0, 16);
    }
    t->n_copies = kept;
}

// ---- launches ----

static void block_run(shim_index index)
{
    shim_block_index = index;
    b.begun = b.ended = b.at_barrier = b.predicates = b.ready_at = b.n_ready = 0;
    for (int t = 0; t < b.n; t++) {
        b.threads[t].state = NOT_BEGUN;
        b.threads[t].n_copies = b.threads[t].group = 0;
    }
    for (int w = 0; w < (b.n + SHIM_WARP - 1) / SHIM_WARP; w++) {
        const int lanes = b.n - w * SHIM_WARP;
        b.warps[w] = (block_warp){lanes < SHIM_WARP ? (1u << lanes) - 1 : ~0u, 0};
    }
    b.self = -1;
    b.on = &b.main;
    go(fiber_take());
}

static void launch_begin(const shim_kernel *k, const void *args)
{
    b.kernel = k;
    b.args = args;
    b.n = (int)(k->block.x * k->block.y * k->block.z);
    b.reversed = b.ordinal++ % 2;
    b.failed = false;
    b.main.stack = NULL; // whichever thread this is
    shim_block_size = k->block;
    shim_grid_size = k->grid;
    for (int t = 0; t < b.n; t++) b.threads[t].index = unfold((unsigned)t, k->block);
}

// Fibers of a launch that failed stay where they are; new ones are made.
static void forget_fibers(void)
{
    for (int t = 0; t < b.n; t++) {
        const thread_state s = b.threads[t].state;
        if (s == NOT_BEGUN || s == ENDED) continue;
        bool there = false;
        for (fiber *f = b.free; f; f = f->next_free) there = there || f == b.threads[t].on;
        if (!there) fiber_give(b.threads[t].on);
    }
    b.abandoned = true;
}

bool block_run_all(const shim_kernel *k, const void *args)
{
    region dynamic;
    if (!region_create(&dynamic, k->shared_bytes)) {
        block_report("kernel %s: no memory for %zu bytes of shared memory", k->name, k->shared_bytes);
        return false;
    }
    shim_dynamic_shared = dynamic.data;
    launch_begin(k, args);
    const unsigned long long blocks = (unsigned long long)k->grid.x * k->grid.y * k->grid.z;
    for (unsigned long long i = 0; i < blocks && !b.failed; i++) {
        region_poison(dynamic.data, dynamic.bytes);
        shared_poison(k->address);
        block_run(unfold(b.reversed ? blocks - 1 - i : i, k->grid));
        if (i == 0) shared_note(k->address);
    }
    if (b.failed) forget_fibers();
    region_destroy(&dynamic);
    return !b.failed;
}
