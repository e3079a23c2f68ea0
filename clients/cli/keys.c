// The folder of keys that sightd's setting `keys` names: the server's own pair, and one public key for each who may ask.
#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "clients/cli/cli.h"
#include "daemon/access/keys.h"
#include "ipc/key.h"

#define MAX_META 64

typedef struct keys_args {
    const char *folder, *secret, *public_key;
    bool rights[RIGHT_COUNT], none;
    const char *max_jobs, *max_running, *max_tokens, *max_media_bytes, *per_minute, *priority, *roots;
    bool force, json;
    char own_folder[PATH_MAX];
} keys_args;

// ---- names of files ----

static sight_err choose_folder(keys_args *a)
{
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (a->folder) return SIGHT_OK;
    int n = -1;
    if (geteuid() == 0) n = snprintf(a->own_folder, sizeof a->own_folder, "/etc/sightd/keys");
    else if (config && *config == '/') n = snprintf(a->own_folder, sizeof a->own_folder, "%s/sightd/keys", config);
    else if (home && *home == '/') n = snprintf(a->own_folder, sizeof a->own_folder, "%s/.config/sightd/keys", home);
    if (n < 0 || n >= (int)sizeof a->own_folder) {
        return sight_fail(SIGHT_E_ARGUMENT, "which folder of keys? Give --folder");
    }
    a->folder = a->own_folder;
    return SIGHT_OK;
}

static sight_err file_in(char out[PATH_MAX], const char *folder, const char *name, const char *suffix)
{
    const int n = snprintf(out, PATH_MAX, "%s/%s%s", folder, name, suffix);
    return n > 0 && n < PATH_MAX ? SIGHT_OK : sight_fail(SIGHT_E_ARGUMENT, "the path '%.100s' is too long", folder);
}

// The folder and those above it. Public keys are no secret; the secret ones keep themselves by their modes.
static sight_err make_folder(const char *folder)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", folder);
    for (char *at = path + 1; *at; at++) {
        if (*at != '/') continue;
        *at = 0;
        mkdir(path, 0755); // what is wrong with it shows below
        *at = '/';
    }
    return mkdir(path, 0755) && errno != EEXIST ? file_fail("make", folder, errno) : SIGHT_OK;
}

// ---- rights and ceilings ----

// What the options say, on top of t.
static sight_err put_options(identity_terms *t, const keys_args *a)
{
    const struct {
        const char *name, *value, *option;
    } texts[] = {
        {"max-jobs", a->max_jobs, "--max-jobs"},
        {"max-running", a->max_running, "--max-running"},
        {"max-tokens", a->max_tokens, "--max-tokens"},
        {"max-media-bytes", a->max_media_bytes, "--max-media-bytes"},
        {"requests-per-minute", a->per_minute, "--requests-per-minute"},
        {"priority", a->priority, "--priority"},
        {"roots", a->roots, "--roots"},
    };
    unsigned rights = 0;
    for (int i = 0; i < RIGHT_COUNT; i++) rights |= a->rights[i] ? 1u << i : 0;
    if (rights && a->none) return sight_fail(SIGHT_E_ARGUMENT, "--none and a right are given");
    if (rights || a->none) t->rights = rights;
    sight_err err = SIGHT_OK;
    for (size_t i = 0; i < sizeof texts / sizeof *texts && !err; i++) {
        if (texts[i].value) err = identity_terms_put(t, texts[i].name, texts[i].value, texts[i].option);
    }
    return err;
}

static bool is_term(const char *name)
{
    for (size_t i = 0; identity_term_names[i]; i++) {
        if (!strcmp(identity_term_names[i], name)) return true;
    }
    return false;
}

// The metadata of a client's public file.
typedef struct metadata {
    key_meta items[MAX_META];
    size_t n;
    char texts[8][4096]; // of the terms
} metadata;

static void add_meta(metadata *m, const char *name, const char *value)
{
    if (m->n < MAX_META) m->items[m->n++] = (key_meta){name, value};
}

// before: the file that is replaced, whose other metadata stays; NULL: a new one.
static metadata *describe(const char *name, const char *created, const identity_terms *t, const key_file *before)
{
    metadata *m = calloc(1, sizeof *m);
    if (!m) return NULL;
    if (!before) {
        add_meta(m, "name", name);
        add_meta(m, "created", created);
    }
    for (size_t i = 0; before && i < before->text.n; i++) {
        const zpl_item *item = &before->text.items[i];
        if (!strcmp(item->section, "metadata") && !is_term(item->name)) add_meta(m, item->name, item->value);
    }
    for (size_t i = 0; identity_term_names[i]; i++) {
        identity_terms_print(m->texts[i], sizeof m->texts[i], t, identity_term_names[i]);
        if (*m->texts[i]) add_meta(m, identity_term_names[i], m->texts[i]);
    }
    return m;
}

static sight_err write_public(const char *path, const char *name, const char *key, const identity_terms *t,
                              const key_file *before, bool replace)
{
    char created[32];
    const time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    metadata *m = describe(name, created, t, before);
    if (!m) return sight_fail(SIGHT_E_MEMORY, "no memory for a key");
    sight_err err = key_write(path, key, NULL, m->items, m->n, replace);
    free(m);
    return err;
}

// ---- new, server ----

static sight_err refuse_existing(const char *path, bool force)
{
    if (force || access(path, F_OK)) return SIGHT_OK;
    return sight_fail(SIGHT_E_BUSY, "'%s' is there already; --force replaces it, and whoever uses it must get the new one", path);
}

// A pair into two files; a public half without its secret one would let nobody in, so the secret one is first.
static sight_err write_pair(const char *public_path, const char *secret_path, const char *name, const identity_terms *t, bool force)
{
    char public_key[KEY_SIZE], secret_key[KEY_SIZE];
    const key_meta meta = {"name", name};
    sight_err err = refuse_existing(public_path, force);
    if (!err) err = refuse_existing(secret_path, force);
    if (!err) err = key_generate(public_key, secret_key);
    if (!err) err = key_write(secret_path, public_key, secret_key, &meta, 1, force);
    explicit_bzero(secret_key, sizeof secret_key);
    if (err) return err;
    err = t ? write_public(public_path, name, public_key, t, NULL, force) : key_write(public_path, public_key, NULL, &meta, 1, force);
    if (err) unlink(secret_path);
    return err;
}

static sight_err run_server(keys_args *a, const char *name)
{
    char public_path[PATH_MAX], secret_path[PATH_MAX];
    sight_err err = make_folder(a->folder);
    if (!err) err = file_in(public_path, a->folder, KEYS_SERVER, KEY_SUFFIX);
    if (!err) err = file_in(secret_path, a->folder, KEYS_SERVER, KEY_SECRET);
    if (!err) err = write_pair(public_path, secret_path, KEYS_SERVER, NULL, a->force);
    if (err) return err;
    printf("The server's key is '%s'; hand out '%s'.\n"
           "Next: a key for each who may ask (sight keys new NAME%s%s), and in sightd.conf:\n"
           "    keys = %s\n    endpoint = tcp://*:5570\n",
           secret_path, public_path, a->folder == a->own_folder ? "" : " --folder ", a->folder == a->own_folder ? "" : a->folder,
           a->folder);
    return SIGHT_OK;
}

static void tell_next(const keys_args *a, const char *name, const char *secret_path)
{
    char server[PATH_MAX];
    if (file_in(server, a->folder, KEYS_SERVER, KEY_SUFFIX)) return;
    if (access(server, F_OK)) printf("The server has no key there yet: sight keys server --folder '%s'\n", a->folder);
    printf("Next: give '%s' to %s, by a way that you trust, with '%s'. They ask with\n"
           "    sight ask --endpoint tcp://HOST:5570 --key %s%s --server-key server%s QUESTION\n",
           secret_path, name, server, name, KEY_SECRET, KEY_SUFFIX);
}

static sight_err run_new(keys_args *a, const char *name)
{
    char public_path[PATH_MAX], secret_path[PATH_MAX], key[KEY_SIZE];
    identity_terms t = {.rights = KEYS_DEFAULT_RIGHTS};
    sight_err err = keys_check_name(name);
    if (!err) err = put_options(&t, a);
    if (!err) err = make_folder(a->folder);
    if (!err) err = file_in(public_path, a->folder, name, KEY_SUFFIX);
    if (!err) err = file_in(secret_path, a->secret ? a->secret : ".", name, KEY_SECRET);
    if (!err && a->public_key) {
        err = key_read_public(key, a->public_key);
        if (!err) err = refuse_existing(public_path, a->force);
        if (!err) err = write_public(public_path, name, key, &t, NULL, a->force);
        if (!err) printf("'%s' may ask now.\n", name);
    } else if (!err) {
        err = write_pair(public_path, secret_path, name, &t, a->force);
        if (!err) printf("'%s' may ask now: '%s' is its public key.\n", name, public_path);
        if (!err) tell_next(a, name, secret_path);
    }
    identity_terms_done(&t);
    return err;
}

// ---- set, show, list, remove ----

static sight_err read_client(key_file *file, identity_terms *t, char path[PATH_MAX], const keys_args *a, const char *name)
{
    char odd[512];
    sight_err err = keys_check_name(name);
    if (!err) err = file_in(path, a->folder, name, KEY_SUFFIX);
    if (!err) err = key_read(file, path);
    if (err) return err;
    err = keys_read_terms(t, odd, sizeof odd, file, path);
    if (err) key_done(file);
    else if (*odd) fprintf(stderr, "sight: %s\n", odd);
    return err;
}

static sight_err run_set(keys_args *a, const char *name)
{
    key_file file;
    identity_terms t;
    char path[PATH_MAX];
    sight_err err = read_client(&file, &t, path, a, name);
    if (err) return err;
    err = put_options(&t, a);
    if (!err) err = write_public(path, name, file.public_key, &t, &file, true);
    if (!err) printf("'%s' has these rights and ceilings within a second.\n", name);
    identity_terms_done(&t);
    key_done(&file);
    return err;
}

static json_t *to_json(const char *name, const char *key, const identity_terms *t)
{
    json_t *o = json_pack("{s:s, s:s}", "name", name, "public_key", key);
    for (size_t i = 0; o && identity_term_names[i]; i++) {
        char text[4096];
        identity_terms_print(text, sizeof text, t, identity_term_names[i]);
        if (*text) json_object_set_new(o, identity_term_names[i], json_string(text));
    }
    return o;
}

static void print_client(const keys_args *a, const char *name, const char *key, const identity_terms *t)
{
    if (a->json) {
        json_t *o = to_json(name, key, t);
        char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;
        if (text) puts(text);
        free(text);
        json_decref(o);
        return;
    }
    printf("%s\n    public-key: %s\n", name, key);
    for (size_t i = 0; identity_term_names[i]; i++) {
        char text[4096];
        identity_terms_print(text, sizeof text, t, identity_term_names[i]);
        if (*text) printf("    %s: %s\n", identity_term_names[i], text);
    }
}

static sight_err run_show(keys_args *a, const char *name)
{
    key_file file;
    identity_terms t;
    char path[PATH_MAX];
    sight_err err = read_client(&file, &t, path, a, name);
    if (err) return err;
    print_client(a, name, file.public_key, &t);
    identity_terms_done(&t);
    key_done(&file);
    return SIGHT_OK;
}

static int only_keys(const struct dirent *e)
{
    const size_t n = strlen(e->d_name), suffix = strlen(KEY_SUFFIX);
    return n > suffix && !strcmp(e->d_name + n - suffix, KEY_SUFFIX) && strcmp(e->d_name, KEYS_SERVER KEY_SUFFIX);
}

// By name; a file that is no key is told of, and the others are shown.
static sight_err run_list(keys_args *a, const char *name)
{
    struct dirent **files;
    const int n = scandir(a->folder, &files, only_keys, alphasort);
    if (n < 0) return file_fail("open the folder of keys", a->folder, errno);
    sight_err err = SIGHT_OK;
    for (int i = 0; i < n; i++) {
        files[i]->d_name[strlen(files[i]->d_name) - strlen(KEY_SUFFIX)] = 0;
        sight_err wrong = run_show(a, files[i]->d_name);
        if (wrong) cli_fail(wrong, sight_error());
        if (wrong) err = wrong;
        free(files[i]);
    }
    free(files);
    if (err) return sight_fail(err, "some files of '%s' are no keys that sightd takes", a->folder);
    if (n == 0 && !a->json) printf("'%s' has no client's key; see sight keys new\n", a->folder);
    return SIGHT_OK;
}

static sight_err run_remove(keys_args *a, const char *name)
{
    char path[PATH_MAX];
    sight_err err = keys_check_name(name);
    if (!err) err = file_in(path, a->folder, name, KEY_SUFFIX);
    if (!err && unlink(path)) err = file_fail("remove", path, errno);
    if (!err) printf("'%s' may ask no more; its connections end within a second.\n", name);
    return err;
}

// ---- the command ----

typedef struct action {
    const char *name;
    sight_err (*run)(keys_args *a, const char *name);
    bool needs_name;
} action;

static const action actions[] = {
    {"server", run_server, false}, {"new", run_new, true},   {"set", run_set, true},
    {"list", run_list, false},     {"show", run_show, true}, {"remove", run_remove, true},
};

static sight_err run_action(keys_args *a, char **words, int n)
{
    if (n == 0) return sight_fail(SIGHT_E_ARGUMENT, "which action? See sight keys --help");
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        if (strcmp(words[0], actions[i].name)) continue;
        const int most = actions[i].needs_name ? 2 : 1;
        if (n < most) return sight_fail(SIGHT_E_ARGUMENT, "sight keys %s needs the key's name", words[0]);
        if (n > most) return sight_fail(SIGHT_E_ARGUMENT, "'%s' is one argument too many", words[most]);
        sight_err err = choose_folder(a);
        return err ? err : actions[i].run(a, n > 1 ? words[1] : NULL);
    }
    return sight_fail(SIGHT_E_ARGUMENT, "there is no action '%.40s' (see sight keys --help)", words[0]);
}

int cli_keys(int argc, char **argv)
{
    keys_args a = {0};
    const arg_option options[] = {
        {"folder", 0, ARG_TEXT, &a.folder, "DIR", "of the keys (/etc/sightd/keys, ~/.config/sightd/keys)", 0, 0},
        {"secret", 0, ARG_TEXT, &a.secret, "DIR", "new: where the secret half goes (the current folder)", 0, 0},
        {"public", 0, ARG_TEXT, &a.public_key, "FILE|KEY", "new: this public key, in place of a new pair", 0, 0},
        {"ask", 0, ARG_FLAG, &a.rights[RIGHT_ASK], NULL, "may ask (with --plan the default)", 0, 0},
        {"plan", 0, ARG_FLAG, &a.rights[RIGHT_PLAN], NULL, "may have requests priced", 0, 0},
        {"status", 0, ARG_FLAG, &a.rights[RIGHT_STATUS], NULL, "sees the requests of others", 0, 0},
        {"paths", 0, ARG_FLAG, &a.rights[RIGHT_PATHS], NULL, "names media by path on the server's machine", 0, 0},
        {"urls", 0, ARG_FLAG, &a.rights[RIGHT_URLS], NULL, "has media fetched", 0, 0},
        {"admin", 0, ARG_FLAG, &a.rights[RIGHT_ADMIN], NULL, "may do what concerns everybody", 0, 0},
        {"none", 0, ARG_FLAG, &a.none, NULL, "may nothing, for now", 0, 0},
        {"max-jobs", 0, ARG_TEXT, &a.max_jobs, "N", "unfinished requests; 0: the server's limit, as below", 0, 0},
        {"max-running", 0, ARG_TEXT, &a.max_running, "N", "requests worked on at once", 0, 0},
        {"max-tokens", 0, ARG_TEXT, &a.max_tokens, "N", "of an answer", 0, 0},
        {"max-media-bytes", 0, ARG_TEXT, &a.max_media_bytes, "BYTES", "of a medium (K, M, G may follow)", 0, 0},
        {"requests-per-minute", 0, ARG_TEXT, &a.per_minute, "N", "asks and plans", 0, 0},
        {"priority", 0, ARG_TEXT, &a.priority, "WORD", "the most urgent: interactive, camera or batch", 0, 0},
        {"roots", 0, ARG_TEXT, &a.roots, "DIR[:DIR...]", "folders it may name media in, with --paths", 0, 0},
        {"force", 0, ARG_FLAG, &a.force, NULL, "replace files", 0, 0},
        {"json", 'j', ARG_FLAG, &a.json, NULL, "list, show: a line of JSON for each", 0, 0},
    };
    arg_spec spec = {"keys", "server | new NAME | set NAME | list | show NAME | remove NAME",
                     "Makes, changes and shows the keys of those who ask over a network, and the server's own.",
                     options, sizeof options / sizeof *options};
    int n, status = EXIT_OK;
    if (cli_args(&spec, argc, argv, &n, &status)) return status;
    sight_err err = run_action(&a, argv, n);
    return err ? cli_fail(err, sight_error()) : EXIT_OK;
}
