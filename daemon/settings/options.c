#include "daemon/settings/options.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "daemon/media/confining.h"
#include "base/log.h"
#include "daemon/models/model_set.h"
#include "daemon/watch/scrape.h"
#include "daemon/settings/settings.h"

#define MAX_CONFIG_BYTES (1 << 20)

#define AT(field) offsetof(options, field)

// In the order of --help and --print-config.
static const setting settings[] = {
    {"model", TEXT, AT(model), 0, 0, "FOLDER|FILE|NAME",
     "checkpoint to serve; NAME=WHERE: one more"},
    {"mmproj", TEXT, AT(mmproj), 0, 0, "FILE",
     "a GGUF model's vision file, or none (default: beside it)"},
    {"lora", LIST, AT(lora), 0, 0, "FOLDER[:SCALE]",
     "a LoRA adapter (PEFT); may be given again"},
    {"default-model", TEXT, AT(default_model), 0, 0, "NAME",
     "model or router of requests that name none (default: the first)"},
    {"endpoint", LIST, AT(endpoints), 0, 0, "URL",
     "ipc:///path or tcp://host:port; may be given again"},
    {"socket-mode", TEXT, AT(gate.socket_mode), 0, 0, "OCTAL", "of an ipc socket (default 0600)"},
    {"socket-group", TEXT, AT(gate.socket_group), 0, 0, "GROUP", "that an ipc socket is given to"},
    {"allow-uid", LIST, AT(gate.allow_uid), 0, 0, "USER",
     "and only this one uses it; may be given again"},
    {"uid-rights", TEXT, AT(gate.uid_rights), 0, 0, "RIGHTS",
     "of other local users (default ask plan paths urls)"},
    {"keys", TEXT, AT(gate.keys), 0, 0, "FOLDER", "of keys for tcp; see sight keys"},
    {"server-key", TEXT, AT(gate.server_key), 0, 0, "FILE",
     "the server's secret key (default: in that folder)"},
    {"tcp-rights", TEXT, AT(gate.tcp_rights), 0, 0, "RIGHTS",
     "over tcp without keys (default ask plan)"},
    {"device", TEXT, AT(device), 0, 0, "WORD",
     "where the model runs: auto, cpu, cuda, cuda:N; cuda:N,M: over several; replicas: A/B, cuda:each"},
    {"device-memory", TEXT, AT(device_memory), 0, 0, "BYTES|N%",
     "of a GPU's memory; 0: nearly all that is free"},
    {"threads", INT32, AT(engine.threads), 0, 256, "N", "0: all processors"},
    {"decoder-threads", INT32, AT(limits.decoder_threads), 0, 16, "N",
     "for a clip's frames; 0: half the processors"},
    {"simd", TEXT, AT(simd), 0, 0, "LEVEL", "auto, plain, avx2, avx512, avx512bf16, neon"},
    {"kv", TEXT, AT(kv), 0, 0, "FORM", "keys and values in bf16, int8 or f32"},
    {"weights", TEXT, AT(weights), 0, 0, "FORM", "auto, stored, bf16, int8, int4, fp8"},
    {"cache", TEXT, AT(cache), 0, 0, "FOLDER", "for prepared weights; none: keep none"},
    {"exact", FLAG, AT(engine.exact), 0, 0, NULL, "products in float32 always"},
    {"fp8", TEXT, AT(fp8), 0, 0, "WORD", "activations in FP8 on a GPU, where the model was published so: auto, off"},
    {"context", INT64, AT(engine.context_tokens), 0, NO_LIMIT, "TOKENS",
     "0: the model's; past it positions are stretched"},
    {"rope-factor", REAL, AT(engine.rope_factor), 0, 16, "F",
     "how far (YaRN); 0: as the context needs"},
    {"memory", BYTES, AT(engine.memory_bytes), 0, NO_LIMIT, "BYTES",
     "for everything; 0: what is free"},
    {"step-rows", INT64, AT(engine.step_rows), 0, 65536, "N",
     "prompt tokens read at once; 0: by the model"},
    {"reuse", FLAG, AT(engine.reuse), 0, 0, NULL,
     "keep what prompts begin with for later ones (default yes)"},
    {"reuse-memory", BYTES, AT(engine.reuse_bytes), 0, NO_LIMIT, "BYTES",
     "for that; 0: a quarter of the caches'"},
    {"feature-memory", BYTES, AT(engine.feature_bytes), 0, NO_LIMIT, "BYTES",
     "for pictures and frames as encoded; 0: by what is free"},
    {"store", TEXT, AT(store), 0, 0, "FOLDER", "where both are kept over restarts (default: nowhere)"},
    {"store-bytes", BYTES, AT(store_bytes), 1 << 20, NO_LIMIT, "BYTES", "of that folder (default 16G)"},
    {"max-jobs", INT32, AT(queue.max_jobs), 1, 100000, "N", "requests waiting and running"},
    {"max-running", INT32, AT(queue.max_running), 1, 64, "N",
     "requests worked on at once (on each replica), memory allowing"},
    {"max-jobs-per-client", INT32, AT(queue.max_jobs_per_client), 1, 100000, "N",
     "of one connection"},
    {"max-queue-bytes", BYTES, AT(queue.max_bytes), 1024, NO_LIMIT, "BYTES",
     "of all waiting messages"},
    {"max-message-bytes", BYTES, AT(max_message_bytes), 1024, NO_LIMIT, "BYTES",
     "of one message with its media"},
    {"max-json-bytes", BYTES, AT(limits.max_json_bytes), 1024, NO_LIMIT, "BYTES",
     "of a request's JSON"},
    {"max-media", INT64, AT(limits.max_media), 0, 1000, "N", "pictures and clips in a request"},
    {"max-media-bytes", BYTES, AT(limits.max_media_bytes), 1, NO_LIMIT, "BYTES",
     "of a picture file or sent medium"},
    {"max-source-pixels", BYTES, AT(limits.max_source_pixels), 1, NO_LIMIT, "PIXELS",
     "of a picture or source frame"},
    {"max-pixels", BYTES, AT(limits.max_pixels), 4096, NO_LIMIT, "PIXELS",
     "of a medium after resizing, all frames"},
    {"max-frames", INT32, AT(limits.max_frames), 1, 100000, "N", "taken from a clip"},
    {"max-seconds", SECONDS, AT(limits.max_seconds), 1, NO_LIMIT, "S", "a clip may last"},
    {"max-prompt-tokens", INT64, AT(limits.max_prompt_tokens), 0, NO_LIMIT, "N", "0: the context"},
    {"max-tokens", INT32, AT(limits.max_tokens), 1, 10000000, "N", "of an answer"},
    {"drafts", TEXT, AT(drafts), 0, 0, "N", "tokens guessed ahead: auto, off, 1 to 4"},
    {"max-request-seconds", SECONDS, AT(max_request_s), 1, NO_LIMIT, "S", "from arrival to end"},
    {"allow-paths", FLAG, AT(limits.allow_paths), 0, 0, NULL,
     "media may be named by path (default yes)"},
    {"media-root", LIST, AT(media_roots), 0, 0, "FOLDER",
     "and only below this one; may be given again"},
    {"urls", FLAG, AT(urls), 0, 0, NULL, "fetch media named by http:// and https:// (default no)"},
    {"url-hosts", LIST, AT(url_hosts), 0, 0, "HOSTS", "from a name, *.suffix or *, [:port]; may be given again"},
    {"url-private", FLAG, AT(url.not_public), 0, 0, NULL, "also from addresses that are not public (default no)"},
    {"url-ca", TEXT, AT(url_ca), 0, 0, "FILE", "trust these certificates (PEM) in place of the system's"},
    {"url-max-bytes", BYTES, AT(url.max_bytes), 0, NO_LIMIT, "BYTES", "of one medium; 0: max-media-bytes"},
    {"url-timeout", SECONDS, AT(url.timeout_s), 1, 3600, "S", "for one medium with its redirects"},
    {"url-redirects", INT32, AT(url.redirects), 0, 20, "N", "followed, of one medium"},
    {"url-fetches", INT32, AT(url_fetches), 1, 64, "N", "at once; half of them for one user or key"},
    {"confine", TEXT, AT(confine), 0, 0, "WORD",
     "media are opened by confined children: auto, require, off"},
    {"decoder-memory", BYTES, AT(decoder_memory), 64 << 20, NO_LIMIT, "BYTES", "of such a child"},
    {"decoder-seconds", SECONDS, AT(decoder_s), 1, NO_LIMIT, "S", "of the processor, for a medium"},
    {"decoder-timeout", SECONDS, AT(decoder_silence_s), 1, 3600, "S", "without a word from such a child"},
    {"gpu-decode", FLAG, AT(limits.gpu_decode), 0, 0, NULL,
     "read clips unconfined where a GPU decodes (default no)"},
    {"send-queue", INT32, AT(send_queue), 10, 1000000, "N", "events kept for a slow reader"},
    {"grace", SECONDS, AT(grace_s), 0, 3600, "S", "for the running request after SIGTERM"},
    {"private", INT32, AT(private_s), 0, 1000000, "S",
     "end so long after the last client has gone"},
    {"log", TEXT, AT(log), 0, 0, "LEVEL", "error, warning, info, debug"},
    {"log-format", TEXT, AT(log_format), 0, 0, "FORM", "text or json"},
    {"metrics", TEXT, AT(metrics), 0, 0, "ADDRESS:PORT", "serve metrics over HTTP there"},
    {"stuck", SECONDS, AT(stuck_s), 1, NO_LIMIT, "S", "after so long in one turn the engine counts as stuck"},
};

#define N_SETTINGS (sizeof settings / sizeof *settings)

void options_set_defaults(options *o)
{
    *o = (options){
        .engine = engine_options_default(),
        .limits = request_limits_default(),
        .queue = {.max_jobs = 64, .max_jobs_per_client = 16, .max_bytes = (int64_t)1 << 30,
                  .max_running = 16},
        .max_message_bytes = (int64_t)256 << 20,
        .url = {.timeout_s = 30, .redirects = 5, .slow_bytes_per_s = 1000, .slow_s = 10},
        .url_fetches = 8,
        .send_queue = 20000,
        .store_bytes = (int64_t)16 << 30,
        .max_request_s = 3600,
        .decoder_memory = (int64_t)4 << 30,
        .decoder_s = 900,
        .decoder_silence_s = 30,
        .grace_s = 10,
        .stuck_s = 60,
    };
    o->engine.reuse = true;
}

void options_done(options *o)
{
    settings_done(o, settings, N_SETTINGS);
    model_sections_done(&o->sections);
    *o = (options){0};
}

// A setting of the daemon itself; `model` may also name one more (NAME=WHERE).
static sight_err set_own(options *o, const setting *s, const char *value, const char *where)
{
    bool taken = false;
    sight_err err = SIGHT_OK;
    if (s->offset == AT(model)) err = model_sections_take(&o->sections, &taken, value, where);
    return err || taken ? err : settings_set(o, s, value, where);
}

// ---- file ----

static char *trim(char *s)
{
    while (*s == ' ' || *s == '\t') s++;
    size_t n = strlen(s);
    while (n && strchr(" \t\r", s[n - 1])) s[--n] = 0;
    return s;
}

// *in: the section that the line stands in, NULL before the first.
static sight_err read_line(options *o, model_section **in, char *line, const char *what, int number)
{
    char where[PATH_MAX + 64];
    line = trim(line);
    if (!*line || *line == '#') return SIGHT_OK;
    snprintf(where, sizeof where, "%s:%d", what, number);
    if (*line == '[') return model_sections_begin(&o->sections, in, line, where);
    char *equals = strchr(line, '=');
    if (!equals) return sight_fail(SIGHT_E_ARGUMENT, "%s: '%.80s' is not 'name = value'", where, line);
    *equals = 0;
    char *name = trim(line), *value = trim(equals + 1);
    const setting *s = *in ? NULL : settings_find(settings, N_SETTINGS, name, strlen(name));
    if (!*in && !s) return sight_fail(SIGHT_E_ARGUMENT, "%s: there is no setting '%.80s'", where, name);
    snprintf(where, sizeof where, "%s:%d: %.40s", what, number, name);
    return *in ? model_sections_set(*in, name, value, where) : set_own(o, s, value, where);
}

sight_err options_read_text(options *o, const char *text, const char *what)
{
    char *copy = strdup(text);
    if (!copy) return sight_fail(SIGHT_E_MEMORY, "no memory for settings");
    sight_err err = SIGHT_OK;
    model_section *in = NULL;
    int number = 1;
    for (char *line = copy; line && !err; number++) {
        char *next = strchr(line, '\n');
        if (next) *next++ = 0;
        err = read_line(o, &in, line, what, number);
        line = next;
    }
    free(copy);
    return err;
}

static sight_err read_file(options *o, const char *path)
{
    char *text;
    size_t size;
    sight_err err = file_read(&text, &size, path, MAX_CONFIG_BYTES);
    if (err) return err;
    err = options_read_text(o, text, path);
    free(text);
    return err;
}

// The user's file, else the system's; neither need be there.
static sight_err read_default_file(options *o)
{
    char path[PATH_MAX] = "";
    const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    static const char rest[] = "sightd/sightd.conf";
    if (config && *config == '/') snprintf(path, sizeof path, "%s/%s", config, rest);
    else if (home && *home == '/') snprintf(path, sizeof path, "%s/.config/%s", home, rest);
    if (*path && !access(path, F_OK)) return read_file(o, path);
    if (!access("/etc/sightd/sightd.conf", F_OK)) return read_file(o, "/etc/sightd/sightd.conf");
    return SIGHT_OK;
}

// ---- command line ----

static bool take_word(options *o, const char *arg)
{
    const struct {
        const char *name;
        bool *flag;
    } words[] = {{"--help", &o->help}, {"-h", &o->help}, {"--version", &o->version},
                 {"--check", &o->check}, {"--check-config", &o->check_config},
                 {"--print-config", &o->print_config}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (!strcmp(arg, words[i].name)) {
            *words[i].flag = true;
            return true;
        }
    }
    return false;
}

// One option at argv[*i], with its value behind '=' or in the next argument; *i is left at the last
// argument taken. *config gets the value of --config.
static sight_err read_argument(options *o, const char **config, int argc, char **argv, int *i)
{
    const char *arg = argv[*i];
    if (take_word(o, arg)) return SIGHT_OK;
    if (strncmp(arg, "--", 2)) {
        return sight_fail(SIGHT_E_ARGUMENT, "'%.80s' is not an option; see sightd --help", arg);
    }
    const char *name = arg + 2, *equals = strchr(name, '=');
    const size_t n = equals ? (size_t)(equals - name) : strlen(name);
    const bool is_config = n == 6 && !memcmp(name, "config", 6);
    const setting *s = settings_find(settings, N_SETTINGS, name, n);
    if (!s && !is_config) {
        return sight_fail(SIGHT_E_ARGUMENT, "there is no option '%.80s'; see sightd --help", arg);
    }
    const char *value = equals ? equals + 1 : NULL;
    if (!value && s && s->kind == FLAG) value = "yes";
    if (!value) {
        if (*i + 1 >= argc) return sight_fail(SIGHT_E_ARGUMENT, "%s needs a value", arg);
        value = argv[++*i];
    }
    if (is_config) {
        *config = value;
        return SIGHT_OK;
    }
    char where[64];
    snprintf(where, sizeof where, "--%s", s->name);
    return set_own(o, s, value, where);
}

static sight_err read_arguments(options *o, const char **config, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        sight_err err = read_argument(o, config, argc, argv, &i);
        if (err) return err;
    }
    return SIGHT_OK;
}

// ---- the whole ----

static sight_err check_device(options *o)
{
    sight_err err = o->device ? device_check_sets(o->device, "device") : SIGHT_OK;
    if (err || !o->device_memory) return err;
    return settings_share(&o->engine.device_bytes, &o->engine.device_percent, o->device_memory, "device-memory");
}

static sight_err check_telling(const options *o)
{
    log_level level;
    if (o->log && !log_level_parse(&level, o->log)) {
        return sight_fail(SIGHT_E_ARGUMENT,
                          "log is '%.40s', must be error, warning, info or debug", o->log);
    }
    if (o->log_format && strcmp(o->log_format, "text") && strcmp(o->log_format, "json")) {
        return sight_fail(SIGHT_E_ARGUMENT, "log-format is '%.40s', must be text or json", o->log_format);
    }
    return o->metrics ? scrape_check(o->metrics) : SIGHT_OK;
}

void options_apply_log(const options *o)
{
    log_level level = LOG_INFO;
    if (o->log) log_level_parse(&level, o->log);
    log_set_level(level);
    log_set_format(o->log_format && !strcmp(o->log_format, "json") ? LOG_AS_JSON : LOG_AS_TEXT);
}

// Hosts are read here, so that a wrong one ends the start, and where nothing could be fetched that is no setting.
static sight_err check_urls(const options *o)
{
    url_hosts *hosts = NULL;
    if (o->urls && !o->url_hosts.n) {
        return sight_fail(SIGHT_E_ARGUMENT, "urls is on and url-hosts names none; name those to fetch from, or * for any");
    }
    sight_err err = url_hosts_create(&hosts, (const char *const *)o->url_hosts.items, o->url_hosts.n, "url-hosts");
    url_hosts_destroy(&hosts);
    if (!err && o->urls && o->url_ca && access(o->url_ca, R_OK)) {
        err = sight_fail(SIGHT_E_ARGUMENT, "url-ca '%.500s' cannot be read: %s", o->url_ca, strerror(errno));
    }
    return err;
}

sight_err options_check(options *o)
{
    sight_err bad_url = check_urls(o);
    if (bad_url) return bad_url;
    sight_err wrong = check_device(o);
    if (!wrong) wrong = confining_check(o->confine);
    if (wrong) return wrong;
    if (o->simd) {
        sight_err err = !strcmp(o->simd, "auto") ? SIGHT_OK
                                                 : simd_level_parse(&o->engine.simd, o->simd);
        if (err) return err;
    }
    if (o->kv) {
        sight_err err = model_kv_parse(&o->engine.kv_type, o->kv, "kv");
        if (err) return err;
    }
    if (o->weights) {
        sight_err err = weights_form_parse(&o->engine.weights.form, o->weights);
        if (err) return err;
    }
    if (o->fp8) {
        sight_err err = engine_options_fp8(&o->engine, o->fp8, "fp8");
        if (err) return err;
    }
    o->engine.weights.cache = o->cache;
    o->engine.lora = (const char *const *)o->lora.items;
    o->engine.n_lora = o->lora.n;
    if (o->drafts) {
        sight_err err = draft_parse(&o->limits.drafts, o->drafts, "drafts");
        if (err) return err;
    }
    return check_telling(o);
}

sight_err options_read(options *o, int argc, char **argv)
{
    const char *config = NULL;
    options first; // the command line alone: where the file is, and whether it is well formed
    options_set_defaults(&first);
    sight_err err = read_arguments(&first, &config, argc, argv);
    options_set_defaults(o);
    o->argc = argc;
    o->argv = argv;
    if (!err) err = config ? read_file(o, config) : read_default_file(o);
    if (!err) settings_override(o, &first, settings, N_SETTINGS);
    options_done(&first);
    if (!err) err = read_arguments(o, &config, argc, argv);
    return err ? err : options_check(o);
}

const char *options_difference(const options *a, const options *b, size_t *at)
{
    while (*at < N_SETTINGS) {
        const setting *s = &settings[(*at)++];
        if (!settings_equal(a, b, s)) return s->name;
    }
    return NULL;
}

void options_swap(options *a, options *b, const char *name)
{
    const setting *s = settings_find(settings, N_SETTINGS, name, strlen(name));
    if (s) settings_swap(a, b, s);
}

void options_print_help(FILE *to)
{
    fputs("usage: sightd [OPTIONS]\n"
          "Answers questions about videos and pictures, asked over a local socket.\n\n"
          "  --config FILE             settings (default ~/.config/sightd/sightd.conf, else\n"
          "                            /etc/sightd/sightd.conf)\n"
          "  --check                   load everything, say what it takes, end\n"
          "  --check-config            look at all that the settings name, load nothing, end\n"
          "  --print-config            write all settings as a configuration file, end\n"
          "  --version, --help\n\n"
          "Settings, on the command line or in the file (\"max-frames = 100\"):\n", to);
    for (size_t i = 0; i < N_SETTINGS; i++) {
        char head[64];
        snprintf(head, sizeof head, "--%s %s", settings[i].name,
                 settings[i].value ? settings[i].value : "");
        fprintf(to, "  %-26s %s\n", head, settings[i].help);
    }
    model_set_print_help(to);
    fputs("\nExit codes: 0 ended as asked, 1 failed, 2 wrong settings, 4 the model cannot be\n"
          "loaded, 5 the socket has another owner, 6 not enough memory.\n", to);
}

void options_print_config(const options *o, FILE *to)
{
    for (size_t i = 0; i < N_SETTINGS; i++) {
        fprintf(to, "# %s\n", settings[i].help);
        settings_print(to, o, &settings[i]);
    }
    model_sections_print(&o->sections, to);
}

// ---- the bundled model ----

static sight_err try_folder(char **out, const char *folder)
{
    char config[PATH_MAX + 32];
    snprintf(config, sizeof config, "%s/config.json", folder);
    if (access(config, R_OK)) return SIGHT_E_NOT_FOUND;
    *out = strdup(folder);
    return *out ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for a name");
}

sight_err options_bundled_model(char **out)
{
    char self[PATH_MAX], folder[PATH_MAX + 32];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n > 0) {
        self[n] = 0;
        char *slash = strrchr(self, '/');
        if (slash) *slash = 0;
        snprintf(folder, sizeof folder, "%s/../models/mini", self);
        sight_err err = try_folder(out, folder);
        if (err != SIGHT_E_NOT_FOUND) return err;
    }
    sight_err err = try_folder(out, SIGHT_DATA_DIR "/models/mini");
    if (err != SIGHT_E_NOT_FOUND) return err;
    return sight_fail(SIGHT_E_NOT_FOUND,
                      "no model is configured and the bundled one is not at '%s'; give --model",
                      SIGHT_DATA_DIR "/models/mini");
}
