// tests/cuda_on_cpu/shared.h - variables that kernels declare __shared__: where they are, and NaN in them.
//
// Each lies in a section of its own line's name (cuda_on_cpu.h), so they are found in the program's own table
// of sections, those of templates in its table of symbols. A kernel's are those that its first block changed.
#ifndef SIGHT_TESTS_SHARED_H
#define SIGHT_TESTS_SHARED_H

// Before each block: those that the kernel was seen to use, or all if it never ran.
void shared_poison(const void *kernel);
// After its first block.
void shared_note(const void *kernel);

#endif
