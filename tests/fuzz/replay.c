// Replays a fuzz target over every file of its corpus folders, for builds without libFuzzer.
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay_folder(const char *folder)
{
    DIR *d = opendir(folder);
    if (!d) {
        fprintf(stderr, "no corpus folder '%s'\n", folder);
        return -1;
    }
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        char path[4096], *data;
        size_t size;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (file_read(&data, &size, path, (size_t)1 << 28)) {
            fprintf(stderr, "%s\n", sight_error());
            closedir(d);
            return -1;
        }
        LLVMFuzzerTestOneInput((const uint8_t *)data, size);
        free(data);
        n++;
    }
    closedir(d);
    return n;
}

int main(int argc, char **argv)
{
    int n = 0;
    for (int i = 1; i < argc; i++) {
        int m = replay_folder(argv[i]);
        if (m < 0) return 1;
        n += m;
    }
    printf("%d inputs\n", n);
    return n ? 0 : 1;
}
