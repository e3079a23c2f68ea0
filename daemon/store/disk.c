#include "daemon/store/disk.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "daemon/store/disk_parts.h"

#define BUCKETS 4096
// What waits to be written, unless it is a single item.
#define MOST_WAITING ((int64_t)512 << 20)

typedef struct node {
    disk_item item;
    int64_t bytes;   // of the file
    blob *payload;   // set: waits to be written, or is being written
    bool forgotten;  // meanwhile: it goes as soon as it is there
    struct node *next, *next_write; // of the same bucket; to be written
    struct node *older, *younger;
} node;

struct disk_load {
    disk *owner;
    disk_item item;
    int64_t most;
    bool over, abandoned;
    blob *payload;
    disk_load *next;
};

typedef enum trouble { STRANGERS, DAMAGED, FAILED, TROUBLES } trouble;

struct disk {
    disk_folder folder;
    char *path;
    int64_t budget;
    pthread_t thread;
    bool started;

    pthread_mutex_t mutex; // guards what follows
    pthread_cond_t work, changed;
    bool stop, busy;
    node *buckets[BUCKETS];
    node *oldest, *youngest;
    int32_t n, kind_items[DISK_KINDS];
    int64_t bytes, kind_bytes[DISK_KINDS];
    node *first_write, **last_write;
    int64_t waiting; // bytes
    disk_load *first_load, **last_load;
    char warnings[TROUBLES][512]; // "": none
    bool told[TROUBLES];
    int64_t evicted, damaged, failed, added;
};

// ---- the index ----

static node **bucket_of(disk *d, disk_kind kind, const uint8_t name[SIPHASH_BYTES])
{
    uint32_t h;
    memcpy(&h, name, sizeof h);
    return &d->buckets[(h + (uint32_t)kind) % BUCKETS];
}

static node *look_up(disk *d, disk_kind kind, const uint8_t name[SIPHASH_BYTES])
{
    node *n = *bucket_of(d, kind, name);
    while (n && (n->item.kind != kind || memcmp(n->item.name, name, sizeof n->item.name))) n = n->next;
    return n;
}

static void put_youngest(disk *d, node *n)
{
    n->older = d->youngest;
    n->younger = NULL;
    *(d->youngest ? &d->youngest->younger : &d->oldest) = n;
    d->youngest = n;
}

static void take_out_of_row(disk *d, node *n)
{
    *(n->older ? &n->older->younger : &d->oldest) = n->younger;
    *(n->younger ? &n->younger->older : &d->youngest) = n->older;
}

static node *add_node(disk *d, const disk_item *item, int64_t bytes)
{
    node *n = calloc(1, sizeof *n);
    if (!n) return NULL;
    n->item = *item;
    n->bytes = bytes;
    node **bucket = bucket_of(d, item->kind, item->name);
    n->next = *bucket;
    *bucket = n;
    put_youngest(d, n);
    d->n++;
    d->bytes += bytes;
    d->kind_items[item->kind]++;
    d->kind_bytes[item->kind] += bytes;
    return n;
}

static void remove_node(disk *d, node *n)
{
    node **at = bucket_of(d, n->item.kind, n->item.name);
    while (*at != n) at = &(*at)->next;
    *at = n->next;
    take_out_of_row(d, n);
    d->n--;
    d->bytes -= n->bytes;
    d->kind_items[n->item.kind]--;
    d->kind_bytes[n->item.kind] -= n->bytes;
    blob_unref(&n->payload);
    free(n);
}

static void use(disk *d, node *n)
{
    take_out_of_row(d, n);
    put_youngest(d, n);
}

// ---- the thread ----

static void warn(disk *d, trouble what, const char *line)
{
    if (!d->told[what]) snprintf(d->warnings[what], sizeof d->warnings[what], "%s", line);
    d->told[what] = true;
}

static node *oldest_written(const disk *d)
{
    node *n = d->oldest;
    while (n && n->payload) n = n->younger;
    return n;
}

// Lets go of files until all that is there or will be is within the budget. Holds the mutex, but not while a file
// goes, which may take a while; nobody else writes one of that name meanwhile.
static void make_room(disk *d)
{
    for (node *n; d->bytes > d->budget && (n = oldest_written(d));) {
        const disk_item item = n->item;
        remove_node(d, n);
        d->evicted++;
        pthread_mutex_unlock(&d->mutex);
        disk_folder_remove(&d->folder, &item);
        pthread_mutex_lock(&d->mutex);
    }
}

static void do_write(disk *d)
{
    node *n = d->first_write;
    d->first_write = n->next_write;
    if (!d->first_write) d->last_write = &d->first_write;
    make_room(d); // its bytes are counted already
    pthread_mutex_unlock(&d->mutex);
    const int failed = disk_folder_write(&d->folder, &n->item, n->payload);
    pthread_mutex_lock(&d->mutex);
    d->waiting -= n->bytes;
    blob_unref(&n->payload);
    if (!failed && n->forgotten) disk_folder_remove(&d->folder, &n->item);
    if (failed) {
        char line[512];
        snprintf(line, sizeof line, "cannot write to the store '%.200s': %s; what is not written is not kept "
                 "over a restart", d->path, strerror(failed));
        warn(d, FAILED, line);
        d->failed++;
    }
    if (failed || n->forgotten) remove_node(d, n);
}

static void drop_damaged(disk *d, const disk_item *item)
{
    char line[512], name[DISK_NAME_SIZE];
    disk_file_name(name, item);
    snprintf(line, sizeof line, "the store '%.200s' has a damaged file, %s: it is removed and made again, and so are "
             "others like it", d->path, name);
    warn(d, DAMAGED, line);
    d->damaged++;
    disk_folder_remove(&d->folder, item);
}

static void do_load(disk *d)
{
    disk_load *l = d->first_load;
    d->first_load = l->next;
    if (!d->first_load) d->last_load = &d->first_load;
    blob *payload = NULL;
    disk_outcome outcome = DISK_GONE;
    const bool wanted = !l->abandoned;
    pthread_mutex_unlock(&d->mutex);
    if (wanted) outcome = disk_folder_read(&d->folder, &payload, &l->item, l->most);
    if (outcome == DISK_READ) disk_folder_touch(&d->folder, &l->item);
    pthread_mutex_lock(&d->mutex);
    node *n = look_up(d, l->item.kind, l->item.name);
    if (wanted && outcome == DISK_DAMAGED) drop_damaged(d, &l->item);
    if (wanted && n && !n->payload && (outcome == DISK_DAMAGED || outcome == DISK_GONE)) remove_node(d, n);
    l->payload = payload;
    l->over = true;
    if (!l->abandoned) return;
    blob_unref(&l->payload);
    free(l);
}

// Somebody waits for what is read, nobody for what is written.
static void *disk_main(void *arg)
{
    disk *d = arg;
    pthread_mutex_lock(&d->mutex);
    for (;;) {
        d->busy = d->first_load || d->first_write;
        if (d->first_load) do_load(d);
        else if (d->first_write) do_write(d);
        pthread_cond_broadcast(&d->changed);
        if (d->first_load || d->first_write) continue;
        d->busy = false;
        if (d->stop) break;
        pthread_cond_wait(&d->work, &d->mutex);
    }
    pthread_mutex_unlock(&d->mutex);
    return NULL;
}

// ---- opening and closing ----

static sight_err take_files(disk *d)
{
    disk_found *found;
    int32_t n, strangers;
    sight_err err = disk_folder_list(&d->folder, &found, &n, &strangers);
    if (err) return err;
    for (int32_t i = 0; i < n && !err; i++) {
        if (!look_up(d, found[i].item.kind, found[i].item.name)) {
            if (!add_node(d, &found[i].item, found[i].bytes)) {
                err = sight_fail(SIGHT_E_MEMORY, "no memory for the list of a store's files");
            }
        } else {
            disk_folder_remove(&d->folder, &found[i].item);
        }
    }
    free(found);
    if (strangers) {
        char line[512];
        snprintf(line, sizeof line, "the store '%.200s' holds %d files that are not its own; they are left alone",
                 d->path, strangers);
        warn(d, STRANGERS, line);
    }
    pthread_mutex_lock(&d->mutex);
    make_room(d);
    pthread_mutex_unlock(&d->mutex);
    return err;
}

// Signals are for other threads; and a limit on the size of files is an error of write, not the end.
static bool start(disk *d)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    d->started = !pthread_create(&d->thread, NULL, disk_main, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return d->started;
}

sight_err disk_open(disk **out, const char *folder, int64_t budget_bytes)
{
    disk *d = calloc(1, sizeof *d);
    if (!d) return sight_fail(SIGHT_E_MEMORY, "no memory for a store on disk");
    d->folder = (disk_folder){.fd = -1, .lock_fd = -1};
    d->last_write = &d->first_write;
    d->last_load = &d->first_load;
    d->budget = budget_bytes;
    pthread_mutex_init(&d->mutex, NULL);
    pthread_cond_init(&d->work, NULL);
    clock_cond_init(&d->changed);
    d->path = strdup(folder);
    sight_err err = d->path ? disk_folder_open(&d->folder, folder)
                            : sight_fail(SIGHT_E_MEMORY, "no memory for a store on disk");
    if (!err) err = take_files(d);
    if (!err && !start(d)) err = sight_fail(SIGHT_E_MEMORY, "cannot start a thread for the store on disk");
    if (err) disk_close(&d);
    else *out = d;
    return err;
}

void disk_close(disk **pd)
{
    disk *d = *pd;
    if (!d) return;
    pthread_mutex_lock(&d->mutex);
    d->stop = true;
    pthread_cond_signal(&d->work);
    pthread_mutex_unlock(&d->mutex);
    if (d->started) pthread_join(d->thread, NULL);
    while (d->oldest) remove_node(d, d->oldest);
    disk_folder_close(&d->folder);
    pthread_cond_destroy(&d->work);
    pthread_cond_destroy(&d->changed);
    pthread_mutex_destroy(&d->mutex);
    free(d->path);
    free(d);
    *pd = NULL;
}

const uint8_t *disk_key(const disk *d)
{
    return d->folder.key;
}

// ---- asking ----

bool disk_has(disk *d, disk_kind kind, const uint8_t name[SIPHASH_BYTES], int32_t *from)
{
    pthread_mutex_lock(&d->mutex);
    const node *n = look_up(d, kind, name);
    const bool has = n && !n->forgotten;
    if (has && from) *from = n->item.from;
    pthread_mutex_unlock(&d->mutex);
    return has;
}

sight_err disk_lengths(disk *d, disk_kind kind, int32_t **out, int32_t *n)
{
    pthread_mutex_lock(&d->mutex);
    int32_t *list = malloc((size_t)(d->n + 1) * sizeof *list), count = 0;
    for (const node *i = d->oldest; list && i; i = i->younger) {
        if (i->item.kind == kind) list[count++] = i->item.to;
    }
    pthread_mutex_unlock(&d->mutex);
    if (!list) return sight_fail(SIGHT_E_MEMORY, "no memory for the list of a store's files");
    *out = list;
    *n = count;
    return SIGHT_OK;
}

int64_t disk_added(disk *d)
{
    pthread_mutex_lock(&d->mutex);
    const int64_t n = d->added;
    pthread_mutex_unlock(&d->mutex);
    return n;
}

char *disk_warning(disk *d)
{
    char *line = NULL;
    pthread_mutex_lock(&d->mutex);
    for (int i = 0; i < TROUBLES && !line; i++) {
        if (!*d->warnings[i]) continue;
        line = strdup(d->warnings[i]);
        *d->warnings[i] = 0;
    }
    pthread_mutex_unlock(&d->mutex);
    return line;
}

disk_usage disk_get_usage(disk *d)
{
    pthread_mutex_lock(&d->mutex);
    disk_usage u = {.items = d->n, .bytes = d->bytes, .budget = d->budget, .evicted = d->evicted,
                    .damaged = d->damaged, .failed = d->failed};
    memcpy(u.kind_items, d->kind_items, sizeof u.kind_items);
    memcpy(u.kind_bytes, d->kind_bytes, sizeof u.kind_bytes);
    pthread_mutex_unlock(&d->mutex);
    return u;
}

void disk_settle(disk *d)
{
    pthread_mutex_lock(&d->mutex);
    while (d->busy || d->first_load || d->first_write) pthread_cond_wait(&d->changed, &d->mutex);
    pthread_mutex_unlock(&d->mutex);
}

// ---- writing ----

static void queue_write(disk *d, const disk_item *item, blob *payload, int64_t bytes)
{
    node *n = add_node(d, item, bytes);
    if (!n) return;
    n->payload = blob_ref(payload);
    *d->last_write = n;
    d->last_write = &n->next_write;
    d->waiting += bytes;
    pthread_cond_signal(&d->work);
}

void disk_put(disk *d, const disk_item *item, blob *payload)
{
    const int64_t bytes = DISK_HEAD_BYTES + (int64_t)payload->size;
    pthread_mutex_lock(&d->mutex);
    node *n = look_up(d, item->kind, item->name);
    if (n) use(d, n);
    else if (bytes <= d->budget && (!d->waiting || d->waiting + bytes <= MOST_WAITING)) {
        queue_write(d, item, payload, bytes);
        d->added++;
    }
    pthread_mutex_unlock(&d->mutex);
}

void disk_forget(disk *d, disk_kind kind, const uint8_t name[SIPHASH_BYTES])
{
    pthread_mutex_lock(&d->mutex);
    node *n = look_up(d, kind, name);
    if (n && n->payload) n->forgotten = true;
    else if (n) {
        disk_folder_remove(&d->folder, &n->item);
        remove_node(d, n);
    }
    pthread_mutex_unlock(&d->mutex);
}

// ---- reading ----

disk_load *disk_load_begin(disk *d, const disk_item *item, int64_t most_bytes)
{
    disk_load *l = calloc(1, sizeof *l);
    if (!l) return NULL;
    *l = (disk_load){.owner = d, .item = *item, .most = most_bytes};
    pthread_mutex_lock(&d->mutex);
    node *n = look_up(d, item->kind, item->name);
    const bool there = n && !n->forgotten && n->item.from == item->from && n->item.to == item->to;
    if (there) use(d, n);
    if (there && n->payload) {
        l->payload = blob_ref(n->payload);
        l->over = true;
    } else if (there) {
        *d->last_load = l;
        d->last_load = &l->next;
        pthread_cond_signal(&d->work);
    }
    pthread_mutex_unlock(&d->mutex);
    if (!there) free(l);
    return there ? l : NULL;
}

bool disk_load_poll(disk_load *l, int wait_ms, blob **out)
{
    disk *d = l->owner;
    const struct timespec deadline = clock_deadline(wait_ms);
    pthread_mutex_lock(&d->mutex);
    int waited = 0;
    while (!l->over && wait_ms > 0 && waited != ETIMEDOUT) {
        waited = pthread_cond_timedwait(&d->changed, &d->mutex, &deadline);
    }
    const bool over = l->over;
    if (over) {
        *out = l->payload;
        l->payload = NULL;
    }
    pthread_mutex_unlock(&d->mutex);
    return over;
}

void disk_load_end(disk_load **pl)
{
    disk_load *l = *pl;
    if (!l) return;
    disk *d = l->owner;
    pthread_mutex_lock(&d->mutex);
    const bool over = l->over;
    l->abandoned = !over;
    pthread_mutex_unlock(&d->mutex);
    if (over) {
        blob_unref(&l->payload);
        free(l);
    }
    *pl = NULL;
}
