#define _GNU_SOURCE
#include "shared.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "region.h"

#define SECTION_PREFIX "shim_shared_"
#define MAX_SECTIONS 512
#define MAX_KERNELS 1024

typedef struct section {
    char *data;
    size_t bytes;
} section;

typedef struct used {
    const void *kernel;
    bool noted;
    uint8_t sections[MAX_SECTIONS / 8];
} used;

static section sections[MAX_SECTIONS];
static int n_sections = -1; // not looked for
static used kernels[MAX_KERNELS];
static int n_kernels;

static int take_base(struct dl_phdr_info *info, size_t size, void *base)
{
    *(uintptr_t *)base = info->dlpi_addr;
    return 1; // the program comes first
}

static void add(char *data, size_t bytes)
{
    if (n_sections < MAX_SECTIONS) sections[n_sections++] = (section){data, bytes};
}

// The compiler ignores the section of a template's variables. They are the only ones inside of functions (_ZZ)
// whose symbols are shared between object files.
static void find_symbols(const char *image, const ElfW(Shdr) *table, const ElfW(Shdr) *symbols, uintptr_t base)
{
    const ElfW(Sym) *s = (const ElfW(Sym) *)(image + symbols->sh_offset);
    const char *names = image + table[symbols->sh_link].sh_offset;
    for (size_t i = 0; i < symbols->sh_size / sizeof *s; i++) {
        const unsigned bind = ELF64_ST_BIND(s[i].st_info);
        if (bind == STB_LOCAL || ELF64_ST_TYPE(s[i].st_info) != STT_OBJECT || s[i].st_shndx == SHN_UNDEF ||
            s[i].st_shndx >= SHN_LORESERVE || !(table[s[i].st_shndx].sh_flags & SHF_WRITE)) continue;
        if (!strncmp(names + s[i].st_name, "_ZZ", 3)) add((char *)base + s[i].st_value, s[i].st_size);
    }
}

static void find_in(const char *image, size_t bytes)
{
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)image;
    if (bytes < sizeof *head || memcmp(head->e_ident, ELFMAG, SELFMAG)) return;
    const ElfW(Shdr) *table = (const ElfW(Shdr) *)(image + head->e_shoff);
    const char *names = image + table[head->e_shstrndx].sh_offset;
    uintptr_t base = 0;
    dl_iterate_phdr(take_base, &base);
    for (int i = 0; i < head->e_shnum; i++) {
        const ElfW(Shdr) *at = &table[i];
        if (!strncmp(names + at->sh_name, SECTION_PREFIX, strlen(SECTION_PREFIX))) {
            add((char *)base + at->sh_addr, at->sh_size);
        }
        if (at->sh_type == SHT_SYMTAB) find_symbols(image, table, at, base);
    }
}

static void find(void)
{
    n_sections = 0;
    const int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    struct stat s;
    if (fd < 0) return;
    if (!fstat(fd, &s)) {
        char *image = mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (image != MAP_FAILED) {
            find_in(image, (size_t)s.st_size);
            munmap(image, (size_t)s.st_size);
        }
    }
    close(fd);
}

static used *used_by(const void *kernel)
{
    const unsigned start = (unsigned)((uintptr_t)kernel / 16 % MAX_KERNELS);
    for (unsigned i = 0; i < MAX_KERNELS; i++) {
        used *u = &kernels[(start + i) % MAX_KERNELS];
        if (u->kernel == kernel) return u;
        if (u->kernel) continue;
        if (n_kernels > MAX_KERNELS / 2) return NULL;
        n_kernels++;
        u->kernel = kernel;
        return u;
    }
    return NULL;
}

void shared_poison(const void *kernel)
{
    if (n_sections < 0) find();
    const used *u = used_by(kernel);
    for (int i = 0; i < n_sections; i++) {
        if (!u || !u->noted || u->sections[i / 8] >> i % 8 & 1) region_poison(sections[i].data, sections[i].bytes);
    }
}

__attribute__((no_sanitize("address", "thread", "undefined"))) static bool changed(const section *s)
{
    const volatile uint16_t *p = (const volatile uint16_t *)s->data;
    for (size_t i = 0; i < s->bytes / 2; i++) {
        if (p[i] != REGION_POISON) return true;
    }
    return s->bytes % 2 && ((const volatile uint8_t *)s->data)[s->bytes - 1] != 0x7f;
}

void shared_note(const void *kernel)
{
    used *u = used_by(kernel);
    if (!u || u->noted) return;
    u->noted = true;
    for (int i = 0; i < n_sections; i++) {
        if (changed(&sections[i])) u->sections[i / 8] |= (uint8_t)(1u << i % 8);
    }
}
