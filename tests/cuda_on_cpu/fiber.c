#define _GNU_SOURCE
#include "fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// Saves the registers that a function must keep and *sp, then takes up `to`.
void shim_switch_stack(void **sp, void *to);

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl shim_switch_stack\n"
        ".type shim_switch_stack, @function\n"
        "shim_switch_stack:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size shim_switch_stack, .-shim_switch_stack\n");

// Six registers, where to return to, and a word that keeps the stack aligned as after a call.
#define SAVED_WORDS 8
#define RETURN_WORD 6
#elif defined(__aarch64__)
__asm__(".text\n"
        ".globl shim_switch_stack\n"
        ".type shim_switch_stack, @function\n"
        "shim_switch_stack:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size shim_switch_stack, .-shim_switch_stack\n");

#define SAVED_WORDS 20
#define RETURN_WORD 11
#else
#error "fibers know x86-64 and arm64"
#endif

#define GUARD_BYTES ((size_t)64 << 10)

fiber *fiber_create(void)
{
    fiber *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    char *p = mmap(NULL, GUARD_BYTES + FIBER_STACK_BYTES, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED || mprotect(p + GUARD_BYTES, FIBER_STACK_BYTES, PROT_READ | PROT_WRITE)) {
        if (p != MAP_FAILED) munmap(p, GUARD_BYTES + FIBER_STACK_BYTES);
        free(f);
        return NULL;
    }
    f->stack = p + GUARD_BYTES;
    f->bytes = FIBER_STACK_BYTES;
    return f;
}

void fiber_reset(fiber *f, void (*entry)(void), bool abandoned)
{
#if defined(__SANITIZE_ADDRESS__)
    if (abandoned) __asan_unpoison_memory_region(f->stack, f->bytes);
#endif
    uintptr_t *sp = (uintptr_t *)((char *)f->stack + f->bytes) - SAVED_WORDS;
    memset(sp, 0, SAVED_WORDS * sizeof *sp);
    sp[RETURN_WORD] = (uintptr_t)entry;
    f->sp = sp;
    f->fake_stack = NULL;
}

void fiber_entered(fiber *from)
{
#if defined(__SANITIZE_ADDRESS__)
    const void *bottom;
    size_t bytes;
    __sanitizer_finish_switch_fiber(NULL, &bottom, &bytes);
    if (!from->stack) {
        from->stack = (void *)bottom;
        from->bytes = bytes;
    }
#endif
}

void fiber_switch(fiber *from, fiber *to)
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->bytes);
#endif
    shim_switch_stack(&from->sp, to->sp);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(from->fake_stack, NULL, NULL);
#endif
}
