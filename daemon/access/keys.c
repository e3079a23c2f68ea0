#include "daemon/access/keys.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define MAX_KEYS 1000

typedef struct entry_list {
    keys_entry *items;
    size_t n;
    uint64_t looks; // of the folder, when it was read
} entry_list;

struct keys {
    char folder[PATH_MAX];
    char server_secret[KEY_SIZE];
    entry_list list;
};

// ---- one file ----

static bool means_nothing_bad(const char *name)
{
    static const char *const known[] = {"name", "email", "organization", "version", "created", "comment"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (!strcmp(name, known[i])) return true;
    }
    return false;
}

sight_err keys_read_terms(identity_terms *out, char *odd, size_t odd_size, const key_file *file, const char *what)
{
    identity_terms t = {.rights = KEYS_DEFAULT_RIGHTS};
    sight_err err = SIGHT_OK;
    *odd = 0;
    for (size_t i = 0; i < file->text.n && !err; i++) {
        const zpl_item *item = &file->text.items[i];
        char where[PATH_MAX + 64];
        if (strcmp(item->section, "metadata")) continue;
        snprintf(where, sizeof where, "%s: %.40s", what, item->name);
        err = identity_terms_put(&t, item->name, item->value, where);
        if (err != SIGHT_E_NOT_FOUND) continue;
        err = SIGHT_OK;
        if (!means_nothing_bad(item->name)) snprintf(odd, odd_size, "%s means nothing here", where);
    }
    if (err) identity_terms_done(&t);
    else *out = t;
    return err;
}

sight_err keys_check_name(const char *name)
{
    if (!key_name_is_good(name)) {
        return sight_fail(SIGHT_E_ARGUMENT, "'%.60s' is no name for a key: 1 to %d letters, digits, '-', '_' and '.'", name,
                          KEY_NAME_SIZE - 1);
    }
    if (!strcmp(name, KEYS_SERVER) || !strcmp(name, IDENTITY_TCP)) {
        return sight_fail(SIGHT_E_ARGUMENT, "no key is named '%s': that is %s", name,
                          strcmp(name, IDENTITY_TCP) ? "the server's own (sight keys server)" : "who comes without a key");
    }
    return SIGHT_OK;
}

// Whether it is a client's key: not the server's, no hidden file of an editor. "door.key" gives "door", which may be no good name.
static bool name_of(char name[NAME_MAX + 1], const char *file)
{
    const size_t n = strlen(file), suffix = strlen(KEY_SUFFIX);
    if (n <= suffix || n > NAME_MAX || file[0] == '.' || strcmp(file + n - suffix, KEY_SUFFIX)) return false;
    memcpy(name, file, n - suffix);
    name[n - suffix] = 0;
    return strcmp(name, KEYS_SERVER) != 0;
}

static sight_err read_entry(keys_entry *out, const char *path, const char *name, keys_tell *tell, void *arg)
{
    key_file file;
    char odd[512];
    sight_err err = key_read(&file, path);
    if (err) return err;
    keys_entry e = {0};
    snprintf(e.name, sizeof e.name, "%s", name);
    memcpy(e.key, file.public_key, KEY_SIZE);
    err = keys_read_terms(&e.terms, odd, sizeof odd, &file, path);
    if (!err && *odd && tell) tell(arg, odd);
    key_done(&file);
    if (!err) *out = e;
    return err;
}

// ---- the folder ----

static void list_done(entry_list *l)
{
    for (size_t i = 0; i < l->n; i++) identity_terms_done(&l->items[i].terms);
    free(l->items);
    *l = (entry_list){0};
}

static const keys_entry *find(const entry_list *l, const char *key)
{
    for (size_t i = 0; i < l->n; i++) {
        if (!strcmp(l->items[i].key, key)) return &l->items[i];
    }
    return NULL;
}

static sight_err add(entry_list *l, const keys_entry *e, const char *path)
{
    const keys_entry *same = find(l, e->key);
    if (same) return sight_fail(SIGHT_E_ARGUMENT, "'%s' holds the same key as %s.key", path, same->name);
    if (l->n == MAX_KEYS) return sight_fail(SIGHT_E_LIMIT, "'%s' is one key too many, the limit is %d", path, MAX_KEYS);
    if (!l->items) l->items = calloc(MAX_KEYS, sizeof *l->items);
    if (!l->items) return sight_fail(SIGHT_E_MEMORY, "no memory for keys");
    l->items[l->n++] = *e;
    return SIGHT_OK;
}

// What can be seen of a file from outside, as a number. Those of a folder are added up: their order says nothing.
static uint64_t looks_of(const char *name, const struct stat *st)
{
    const uint64_t parts[] = {st->st_ino, (uint64_t)st->st_size, (uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec,
                              st->st_mode};
    uint64_t h = 14695981039346656037u; // FNV-1a
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 1099511628211u;
    for (size_t i = 0; i < sizeof parts; i++) h = (h ^ ((const unsigned char *)parts)[i]) * 1099511628211u;
    return h;
}

// One file of the folder into the list; with tell what is wrong with it is told, and it is left out.
static sight_err read_file(entry_list *l, const char *folder, const char *file, keys_tell *tell, void *arg)
{
    char path[PATH_MAX], name[NAME_MAX + 1];
    keys_entry e;
    if (!name_of(name, file)) return SIGHT_OK;
    const int size = snprintf(path, sizeof path, "%s/%s", folder, file);
    sight_err err = size >= (int)sizeof path ? sight_fail(SIGHT_E_ARGUMENT, "the path '%.200s' is too long", folder)
                                             : keys_check_name(name);
    if (!err) err = read_entry(&e, path, name, tell, arg);
    if (!err && (err = add(l, &e, path))) identity_terms_done(&e.terms);
    if (!err || !tell || err == SIGHT_E_MEMORY) return err;
    tell(arg, sight_error());
    return SIGHT_OK;
}

// What the folder's key files look like now.
static sight_err look(uint64_t *looks, const char *folder)
{
    DIR *d = opendir(folder);
    if (!d) return file_fail("open the folder of keys", folder, errno);
    *looks = 0;
    for (struct dirent *e; (e = readdir(d));) {
        char name[NAME_MAX + 1];
        struct stat st;
        if (name_of(name, e->d_name) && !fstatat(dirfd(d), e->d_name, &st, 0)) *looks += looks_of(name, &st);
    }
    closedir(d);
    return SIGHT_OK;
}

// The looks are taken before the files are read: what changes meanwhile is read once more.
static sight_err read_folder(entry_list *out, const char *folder, keys_tell *tell, void *arg)
{
    entry_list l = {0};
    sight_err err = look(&l.looks, folder);
    if (err) return err;
    DIR *d = opendir(folder);
    if (!d) return file_fail("open the folder of keys", folder, errno);
    for (struct dirent *e; !err && (e = readdir(d));) err = read_file(&l, folder, e->d_name, tell, arg);
    closedir(d);
    if (err) list_done(&l);
    else *out = l;
    return err;
}

// ---- the whole ----

static sight_err read_server_key(keys *k, const char *given)
{
    char path[PATH_MAX];
    const char *credentials = getenv("CREDENTIALS_DIRECTORY");
    const int n = snprintf(path, sizeof path, "%s/%s%s", credentials ? credentials : "", KEYS_SERVER, KEY_SECRET);
    if (given) snprintf(path, sizeof path, "%s", given);
    else if (!credentials || n >= (int)sizeof path || access(path, F_OK)) {
        if (snprintf(path, sizeof path, "%s/%s%s", k->folder, KEYS_SERVER, KEY_SECRET) >= (int)sizeof path) {
            return sight_fail(SIGHT_E_ARGUMENT, "the path '%.200s' is too long", k->folder);
        }
    }
    key_file file;
    sight_err err = key_read_secret(&file, path);
    if (err == SIGHT_E_NOT_FOUND) {
        return sight_fail(err, "there is no server key at '%s'; make one: sight keys server --folder '%s'", path, k->folder);
    }
    if (err) return err;
    memcpy(k->server_secret, file.secret_key, KEY_SIZE);
    key_done(&file);
    return SIGHT_OK;
}

sight_err keys_open(keys **out, const char *folder, const char *server_key)
{
    if (strlen(folder) >= PATH_MAX - 64) return sight_fail(SIGHT_E_ARGUMENT, "keys: the path is too long");
    keys *k = calloc(1, sizeof *k);
    if (!k) return sight_fail(SIGHT_E_MEMORY, "no memory for keys");
    snprintf(k->folder, sizeof k->folder, "%s", folder);
    sight_err err = read_server_key(k, server_key);
    if (!err) err = read_folder(&k->list, folder, NULL, NULL);
    if (err) keys_close(&k);
    else *out = k;
    return err;
}

void keys_close(keys **p)
{
    keys *k = *p;
    if (!k) return;
    list_done(&k->list);
    explicit_bzero(k->server_secret, sizeof k->server_secret);
    free(k);
    *p = NULL;
}

const char *keys_server_secret(const keys *k)
{
    return k->server_secret;
}

size_t keys_count(const keys *k)
{
    return k->list.n;
}

const keys_entry *keys_get(const keys *k, size_t i)
{
    return &k->list.items[i];
}

const keys_entry *keys_find(const keys *k, const char *public_key)
{
    return find(&k->list, public_key);
}

bool keys_changed(const keys *k)
{
    uint64_t looks;
    return look(&looks, k->folder) || looks != k->list.looks;
}

// A folder that cannot be read leaves nobody with a key: that is what taking it away means.
sight_err keys_reload(keys *k, keys_tell *tell, void *arg)
{
    entry_list l = {0};
    sight_err err = read_folder(&l, k->folder, tell, arg);
    if (err == SIGHT_E_MEMORY) return err;
    list_done(&k->list);
    k->list = l;
    return err;
}
