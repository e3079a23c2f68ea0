#include "daemon/store/disk_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char magic[8] = {'S', 'I', 'G', 'H', 'T', 'K', 'P', 'T'};
static const char *const suffixes[DISK_KINDS] = {"states", "pages", "rows"};

typedef struct head {
    char magic[8];
    uint32_t version, kind;
    uint8_t name[SIPHASH_BYTES], scope[SIPHASH_BYTES];
    int32_t from, to;
    uint64_t size;
    uint8_t unused[16]; // zeros
    uint8_t seal[SIPHASH_BYTES]; // of all before it and of the payload
} head;

_Static_assert(sizeof(head) == DISK_HEAD_BYTES, "a head has no gaps");

// ---- names ----

void disk_file_name(char out[DISK_NAME_SIZE], const disk_item *item)
{
    for (int i = 0; i < SIPHASH_BYTES; i++) snprintf(out + 2 * i, 3, "%02x", item->name[i]);
    snprintf(out + 2 * SIPHASH_BYTES, DISK_NAME_SIZE - 2 * SIPHASH_BYTES, "-%d-%d.%s", item->from, item->to,
             suffixes[item->kind]);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Only what disk_file_name writes is a name: what is read is written again and compared.
bool disk_file_read_name(disk_item *out, const char *file)
{
    disk_item item = {0};
    char suffix[8], again[DISK_NAME_SIZE];
    if (strlen(file) >= DISK_NAME_SIZE || strlen(file) < 2 * SIPHASH_BYTES) return false;
    for (int i = 0; i < SIPHASH_BYTES; i++) {
        const int high = hex_digit(file[2 * i]), low = hex_digit(file[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        item.name[i] = (uint8_t)(high << 4 | low);
    }
    if (sscanf(file + 2 * SIPHASH_BYTES, "-%9d-%9d.%7s", &item.from, &item.to, suffix) != 3) return false;
    while (item.kind < DISK_KINDS && strcmp(suffix, suffixes[item.kind])) item.kind++;
    if (item.kind == DISK_KINDS || item.from < 0 || item.to < item.from) return false;
    disk_file_name(again, &item);
    if (strcmp(again, file)) return false;
    *out = item;
    return true;
}

// ---- heads ----

static void seal_of(uint8_t out[SIPHASH_BYTES], const head *h, const void *payload, size_t size,
                    const uint8_t key[SIPHASH_KEY_BYTES])
{
    siphash s;
    siphash_init(&s, key);
    siphash_add(&s, h, offsetof(head, seal));
    siphash_add(&s, payload, size);
    siphash_finish(&s, out);
}

void disk_file_head(uint8_t out[DISK_HEAD_BYTES], const disk_item *item, const void *payload, size_t size,
                    const uint8_t key[SIPHASH_KEY_BYTES])
{
    head h = {.version = DISK_VERSION, .kind = (uint32_t)item->kind, .from = item->from, .to = item->to,
              .size = size};
    memcpy(h.magic, magic, sizeof magic);
    memcpy(h.name, item->name, sizeof h.name);
    memcpy(h.scope, item->scope, sizeof h.scope);
    seal_of(h.seal, &h, payload, size, key);
    memcpy(out, &h, sizeof h);
}

int64_t disk_file_size(const uint8_t bytes[DISK_HEAD_BYTES], const disk_item *item)
{
    static const uint8_t zeros[sizeof((head *)0)->unused];
    head h;
    memcpy(&h, bytes, sizeof h);
    if (memcmp(h.magic, magic, sizeof magic) || memcmp(h.unused, zeros, sizeof zeros) || h.version != DISK_VERSION || h.kind != (uint32_t)item->kind ||
        memcmp(h.name, item->name, sizeof h.name) || memcmp(h.scope, item->scope, sizeof h.scope) ||
        h.from != item->from || h.to != item->to || h.size > INT64_MAX / 2) {
        return -1;
    }
    return (int64_t)h.size;
}

bool disk_file_is_sealed(const uint8_t bytes[DISK_HEAD_BYTES], const void *payload, size_t size,
                         const uint8_t key[SIPHASH_KEY_BYTES])
{
    head h;
    uint8_t seal[SIPHASH_BYTES];
    memcpy(&h, bytes, sizeof h);
    seal_of(seal, &h, payload, size, key);
    return !memcmp(seal, h.seal, sizeof seal);
}
