#include "daemon/access/endpoints.h"

#include <string.h>
#include <sys/stat.h>

#include "base/log.h"

static sight_err check_all(const endpoints *e, bool keys)
{
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < e->n && !err; i++) {
        err = endpoint_check(e->at[i], keys);
        for (size_t j = 0; j < i && !err; j++) {
            if (!strcmp(e->at[i], e->at[j])) err = sight_fail(SIGHT_E_ARGUMENT, "endpoint: '%s' is given twice", e->at[i]);
        }
    }
    return err;
}

sight_err endpoints_choose(endpoints *out, const option_list *given, bool keys)
{
    *out = (endpoints){.n = given->n ? given->n : 1};
    for (size_t i = 0; i < ENDPOINTS_MAX; i++) out->locks[i].fd = -1;
    if (given->n > ENDPOINTS_MAX) {
        out->n = 0;
        return sight_fail(SIGHT_E_ARGUMENT, "endpoint is given %zu times, the limit is %d", given->n, ENDPOINTS_MAX);
    }
    for (size_t i = 0; i < given->n; i++) out->at[i] = given->items[i];
    sight_err err = SIGHT_OK;
    if (given->n == 0) {
        err = endpoint_own(out->own, sizeof out->own);
        out->at[0] = out->own;
    }
    return err ? err : check_all(out, keys);
}

// A folder that was there before keeps its mode, which may be tighter than the socket's.
static void warn_of_closed_folder(const char *endpoint)
{
    char folder[ENDPOINT_MAX];
    struct stat st;
    const char *path = endpoint_path(endpoint), *slash = path ? strrchr(path, '/') : NULL;
    if (!slash || slash == path) return;
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = 0;
    if (stat(folder, &st) || st.st_mode & 011) return;
    log_line(LOG_WARNING, "socket-mode lets others in, but the folder '%s' with its mode %04o does not", folder,
             (unsigned)st.st_mode & 07777);
}

sight_err endpoints_lock(endpoints *e, unsigned open_to)
{
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < e->n && !err; i++) {
        err = endpoint_lock_take(&e->locks[i], e->at[i], open_to);
        if (!err && open_to) warn_of_closed_folder(e->at[i]);
    }
    return err;
}

void endpoints_release(endpoints *e)
{
    for (size_t i = 0; i < e->n; i++) endpoint_lock_release(&e->locks[i]);
    e->n = 0;
}
