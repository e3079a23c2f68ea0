// tests/cuda_on_cpu/fiber.h - stacks that take turns on one thread: x86-64 and arm64, known to ASan and TSan.
//
// Threads: all fibers of a launch run on the thread that runs the launch.
#ifndef SIGHT_TESTS_FIBER_H
#define SIGHT_TESTS_FIBER_H

#include <stdbool.h>
#include <stddef.h>

#define FIBER_STACK_BYTES ((size_t)256 << 10) // address space; pages come when touched

typedef struct fiber {
    void *sp;
    void *stack; // NULL: the thread's own
    size_t bytes;
    void *fake_stack; // ASan's
    struct fiber *next_free;
} fiber;

// NULL: no memory.
fiber *fiber_create(void);
// Begins anew on f's stack with its next fiber_switch. entry may not return.
void fiber_reset(fiber *f, void (*entry)(void), bool abandoned);
// What entry does first: tells ASan where it is, and where it came from.
void fiber_entered(fiber *from);
void fiber_switch(fiber *from, fiber *to);

#endif
