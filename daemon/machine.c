#define _GNU_SOURCE
#include "daemon/machine.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t available_bytes(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    if (!f) return INT64_MAX;
    char line[128];
    long long kib, bytes = INT64_MAX;
    while (fgets(line, sizeof line, f)) {
        if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1) bytes = kib * 1024;
    }
    fclose(f);
    return bytes;
}

// A number in a one-line file; INT64_MAX for "max" or no file.
static int64_t read_number(const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f) return INT64_MAX;
    long long n;
    int got = fscanf(f, "%lld", &n);
    fclose(f);
    return got == 1 && n >= 0 ? n : INT64_MAX;
}

int64_t machine_memory_bytes(void)
{
    int64_t bytes = available_bytes();
    // Page cache counts as used here although it can be given back, so only the limit itself is
    // compared.
    int64_t limit = read_number("/sys/fs/cgroup/memory.max");
    return limit < bytes ? limit : bytes;
}

int machine_processors(void)
{
    cpu_set_t mine;
    return sched_getaffinity(0, sizeof mine, &mine) ? 1 : CPU_COUNT(&mine);
}
