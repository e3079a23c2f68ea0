#include "support/test.h"

#include <math.h>
#include <unistd.h>

uint64_t test_random_bits(test_random *r)
{
    r->state ^= r->state >> 12;
    r->state ^= r->state << 25;
    r->state ^= r->state >> 27;
    return r->state * 2685821657736338717ULL;
}

static double uniform(test_random *r)
{
    return ((double)(test_random_bits(r) >> 11) + 0.5) / 9007199254740992.0;
}

float test_random_normal(test_random *r)
{
    double a = uniform(r), b = uniform(r);
    return (float)(sqrt(-2 * log(a)) * cos(6.283185307179586 * b));
}

int64_t test_random_range(test_random *r, int64_t lo, int64_t hi)
{
    return lo + (int64_t)(test_random_bits(r) % (uint64_t)(hi - lo + 1));
}

static char *folders[64];
static int n_folders;

static void remove_folders(void)
{
    for (int i = 0; i < n_folders; i++) {
        char command[512];
        snprintf(command, sizeof command, "rm -rf '%s'", folders[i]);
        if (system(command)) fprintf(stderr, "could not remove %s\n", folders[i]);
        free(folders[i]);
    }
    n_folders = 0;
}

const char *test_folder(void)
{
    char name[] = "/tmp/sight-test-XXXXXX";
    if (n_folders == 64 || !mkdtemp(name)) fail_msg("no folder for the test");
    if (n_folders == 0) atexit(remove_folders);
    folders[n_folders] = strdup(name);
    return folders[n_folders++];
}

char *test_write(const char *folder, const char *name, const void *data, size_t size)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) fail_msg("cannot write %s", path);
    return strdup(path);
}
