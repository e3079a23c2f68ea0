// Any bytes as a file of the store on disk: its name, its head, and payloads of every kind, as if they were sealed.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/store/disk_file.h"
#include "daemon/store/prefix_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned char sink;

static void read_all(const unsigned char *data, size_t n)
{
    for (size_t i = 0; i < n; i++) sink = data[i];
}

static void read_name(const uint8_t *data, size_t size)
{
    char name[200], again[DISK_NAME_SIZE];
    disk_item item;
    const size_t n = size < sizeof name - 1 ? size : sizeof name - 1;
    memcpy(name, data, n);
    name[n] = 0;
    if (!disk_file_read_name(&item, name)) return;
    disk_file_name(again, &item);
    if (strcmp(name, again)) abort();
}

static void read_head(const uint8_t *data, size_t size)
{
    static const uint8_t key[SIPHASH_KEY_BYTES] = {1};
    uint8_t head[DISK_HEAD_BYTES], made[DISK_HEAD_BYTES];
    disk_item item = {.kind = DISK_PAGES, .from = 0, .to = 128};
    if (size < sizeof head) return;
    memcpy(head, data, sizeof head);
    memcpy(item.name, data + 16, sizeof item.name); // as the file's name would say
    memcpy(item.scope, data + 32, sizeof item.scope);
    const int64_t payload = disk_file_size(head, &item);
    if (payload < 0 || (uint64_t)payload != size - sizeof head) return;
    disk_file_head(made, &item, data + sizeof head, (size_t)payload, key);
    const bool sealed = disk_file_is_sealed(head, data + sizeof head, (size_t)payload, key);
    if (sealed != !memcmp(head + 80, made + 80, 16)) abort();
}

static void read_payloads(const uint8_t *data, size_t size)
{
    int32_t from, to;
    if (size < 8) return;
    memcpy(&from, data, 4);
    memcpy(&to, data + 4, 4);
    const size_t n = size - 8;
    unsigned char *exact = malloc(n ? n : 1); // so that a read past the end is seen
    prefix_pages pages;
    prefix_states states;
    if (!exact) return;
    memcpy(exact, data + 8, n);
    if (prefix_pages_read(&pages, exact, n, from, to)) read_all(pages.data, (size_t)(pages.n * pages.block_bytes));
    if (prefix_states_read(&states, exact, n, to)) read_all(states.data, (size_t)states.bytes);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    if (data[0] % 3 == 0) read_name(data + 1, size - 1);
    if (data[0] % 3 == 1) read_head(data + 1, size - 1);
    if (data[0] % 3 == 2) read_payloads(data + 1, size - 1);
    return 0;
}
