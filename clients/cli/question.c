#include "clients/cli/question.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "clients/cli/cli.h"

#define MAX_STDIN    ((size_t)16 << 20)

void question_init(question *q)
{
    *q = (question){.max_tokens = -1, .top_k = -1, .seed = -1};
    q->temperature = q->top_p = q->min_p = NAN;
    q->presence_penalty = q->frequency_penalty = q->repetition_penalty = NAN;
}

void question_done(question *q)
{
    for (size_t i = 0; i < q->n_parts; i++) {
        file_map map = {q->parts[i].data, q->parts[i].size};
        file_map_close(&map);
    }
    q->n_parts = 0;
}

bool question_args(question *q, const char *command, const char *positional, const char *summary,
                   int argc, char **argv, int *n, int *status)
{
    const arg_option table[] = {
        {"model", 'm', ARG_TEXT, &q->connect.model, "DIR|NAME",
         "a checkpoint folder or GGUF file, or a name in another program's cache", 0, 0},
        {"mmproj", 0, ARG_TEXT, &q->connect.mmproj, "FILE", "a GGUF model's vision file, or none",
         0, 0},
        {"lora", 0, ARG_LIST, &q->connect.lora, "DIR[:SCALE]",
         "a LoRA adapter (PEFT); may be given again", 0, 0},
        CONNECT_ARGS(&q->connect),
        {"threads", 't', ARG_COUNT, &q->connect.threads, "N", "of a daemon started for this", 1, 256},
        {"weights", 'w', ARG_TEXT, &q->connect.weights, "FORM",
         "of a daemon started for this: auto, stored, bf16, int8, int4 or fp8", 0, 0},
        {"device", 'd', ARG_TEXT, &q->connect.device, "WORD",
         "of a daemon started for this: auto, cpu, cuda or cuda:N", 0, 0},
        {"use", 'u', ARG_TEXT, &q->use, "NAME", "the server's model or router of that name", 0, 0},
        {"confidence", 0, ARG_FLAG, &q->confidence, NULL, "say how sure the model was", 0, 0},
        {"system", 0, ARG_TEXT, &q->system, "TEXT", "a system message first", 0, 0},
        {"start", 0, ARG_TIME, &q->start_s, "TIME", "clips: from here (seconds, m:ss, h:mm:ss)", 0, 0},
        {"end", 0, ARG_TIME, &q->end_s, "TIME", "clips: to here", 0, 0},
        {"fps", 0, ARG_NUMBER, &q->fps, "N", "clips: frames a second to look at", 1e-6, 240},
        {"frames", 0, ARG_COUNT, &q->frames, "N", "clips: exactly so many frames", 1, 1e6},
        {"min-pixels", 0, ARG_COUNT, &q->min_pixels, "N", "scale each medium up to so many", 1, 1e12},
        {"max-pixels", 0, ARG_COUNT, &q->max_pixels, "N", "scale each medium down to so many", 1, 1e12},
        {"max-tokens", 'n', ARG_COUNT, &q->max_tokens, "N", "of the answer, at most", 1, 1e9},
        {"temperature", 0, ARG_NUMBER, &q->temperature, "T", "0 picks the likeliest token", 0, 100},
        {"top-k", 0, ARG_COUNT, &q->top_k, "K", "draw from the K likeliest; 0: all", 0, 1e9},
        {"top-p", 0, ARG_NUMBER, &q->top_p, "P", "draw from the likeliest that sum to P", 0, 1},
        {"min-p", 0, ARG_NUMBER, &q->min_p, "P", "draw from those over P times the likeliest", 0, 1},
        {"presence-penalty", 0, ARG_NUMBER, &q->presence_penalty, "X", "-2 to 2", -2, 2},
        {"frequency-penalty", 0, ARG_NUMBER, &q->frequency_penalty, "X", "-2 to 2", -2, 2},
        {"repetition-penalty", 0, ARG_NUMBER, &q->repetition_penalty, "X", "1: none", 1e-3, 100},
        {"drafts", 0, ARG_TEXT, &q->drafts, "N", "tokens guessed ahead: auto, off, 1 to 4", 0, 0},
        {"seed", 0, ARG_COUNT, &q->seed, "N", "the same seed gives the same answer", 0, 9e15},
        {"stop", 0, ARG_LIST, &q->stop, "TEXT", "end before this text; may be repeated", 0, 0},
        {"schema", 0, ARG_TEXT, &q->schema, "FILE", "answer in JSON of this schema", 0, 0},
        {"choice", 0, ARG_LIST, &q->choice, "TEXT", "answer with this or another --choice", 0, 0},
        {"regex", 0, ARG_TEXT, &q->regex, "PATTERN", "answer with a text that matches", 0, 0},
        {"think", 0, ARG_FLAG, &q->think, NULL, "let the model think first, and show it", 0, 0},
        {"no-think", 0, ARG_FLAG, &q->no_think, NULL, "do not let the model think first", 0, 0},
        {"attach", 0, ARG_FLAG, &q->attach, NULL, "send files instead of their paths", 0, 0},
        {"json", 'j', ARG_FLAG, &q->json, NULL, "print every event as a line of JSON", 0, 0},
        {"quiet", 'q', ARG_FLAG, &q->quiet, NULL, "the answer only: no progress, no notes", 0, 0},
        {"verbose", 'v', ARG_FLAG, &q->verbose, NULL, "tokens and times after the answer", 0, 0},
    };
    arg_spec spec = {command, positional, summary, table, sizeof table / sizeof *table};
    const bool over = cli_args(&spec, argc, argv, n, status);
    q->attach = q->attach || connect_is_remote(&q->connect);
    return over;
}

static bool starts_with(const unsigned char *head, size_t n, const char *magic, size_t size)
{
    return n >= size && !memcmp(head, magic, size);
}

// Still-picture formats by their first bytes; all else is for FFmpeg to say.
static bool is_picture(const unsigned char *head, size_t n)
{
    return starts_with(head, n, "\xff\xd8\xff", 3) || starts_with(head, n, "\x89PNG\r\n\x1a\n", 8) ||
           (starts_with(head, n, "RIFF", 4) && n >= 12 && !memcmp(head + 8, "WEBP", 4)) ||
           starts_with(head, n, "BM", 2) || starts_with(head, n, "II*\0", 4) ||
           starts_with(head, n, "MM\0*", 4);
}

// What the server fetches, if it does; whether it may is for it to say.
static bool is_web_address(const char *path)
{
    return !strncasecmp(path, "http://", 7) || !strncasecmp(path, "https://", 8);
}

// By the ending of its path; what is none of a clip counts as a picture.
static bool names_picture(const char *address)
{
    static const char *const clips[] = {".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".ogv",
                                        ".3gp"};
    const size_t n = strcspn(address, "?#");
    for (size_t i = 0; i < sizeof clips / sizeof *clips; i++) {
        const size_t m = strlen(clips[i]);
        if (n > m && !strncasecmp(address + n - m, clips[i], m)) return false;
    }
    return true;
}

// Whatever keeps a file from being read is SIGHT_E_MEDIA here: the code says which exit code.
static sight_err fail_to_open(const char *path, int error_number)
{
    if (strstr(path, "://")) {
        return sight_fail(SIGHT_E_UNSUPPORTED,
                          "'%s' is no http:// or https:// address and no path of a file", path);
    }
    return sight_fail(SIGHT_E_MEDIA, "cannot open '%s': %s", path, strerror(error_number));
}

sight_err question_look_at(const char *path, bool *picture)
{
    if (is_web_address(path)) {
        *picture = names_picture(path);
        return SIGHT_OK;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fail_to_open(path, errno);
    struct stat st = {0};
    unsigned char head[16];
    int failed = fstat(fd, &st) ? errno : 0;
    bool regular = !failed && S_ISREG(st.st_mode);
    ssize_t n = regular ? read(fd, head, sizeof head) : 0;
    if (n < 0) failed = errno;
    close(fd);
    if (failed) {
        return sight_fail(SIGHT_E_MEDIA, "cannot read '%s': %s", path, strerror(failed));
    }
    if (!regular) {
        return sight_fail(SIGHT_E_MEDIA, "'%s' is %s, not a picture or clip", path,
                          S_ISDIR(st.st_mode) ? "a folder" : "a device or pipe");
    }
    if (n == 0) return sight_fail(SIGHT_E_MEDIA, "'%s' is empty", path);
    *picture = is_picture(head, (size_t)n);
    return SIGHT_OK;
}

static sight_err attach(question *q, json_t *part, const char *path)
{
    if (q->n_parts == QUESTION_MAX_MEDIA) {
        return sight_fail(SIGHT_E_ARGUMENT, "%d files may be attached at most", QUESTION_MAX_MEDIA);
    }
    // Mapped, not read: what is over the server's limit is refused without a byte of it in memory.
    file_map map;
    sight_err err = file_map_open(&map, path);
    if (err) return err;
    q->parts[q->n_parts] = (sight_part){map.data, map.size};
    json_object_set_new(part, "attachment", json_integer((json_int_t)q->n_parts++));
    return SIGHT_OK;
}

static void set_number(json_t *object, const char *key, double v)
{
    if (v > 0) json_object_set_new(object, key, json_real(v));
}

static void set_count(json_t *object, const char *key, int64_t v)
{
    if (v > 0) json_object_set_new(object, key, json_integer(v));
}

static sight_err add_medium(question *q, json_t *content, const char *path)
{
    bool picture = false;
    sight_err err = question_look_at(path, &picture);
    if (err) return err;
    const char *type = picture ? "image" : "video";
    json_t *part = json_pack("{s:s}", "type", type);
    if (!part) return sight_fail(SIGHT_E_MEMORY, "no memory for '%s'", path);
    if (is_web_address(path)) {
        if (json_object_set_new(part, type, json_string(path))) err = sight_fail(SIGHT_E_ARGUMENT, "'%s' is not UTF-8", path);
    } else if (q->attach) {
        err = attach(q, part, path);
    } else {
        char real[PATH_MAX];
        if (!realpath(path, real)) err = file_fail("find", path, errno);
        else if (json_object_set_new(part, type, json_string(real))) {
            err = sight_fail(SIGHT_E_ARGUMENT, "the path '%s' is not UTF-8; use --attach", path);
        }
    }
    if (err) {
        json_decref(part);
        return err;
    }
    if (!picture) {
        set_number(part, "start", q->start_s);
        set_number(part, "end", q->end_s);
        set_number(part, "fps", q->fps);
        set_count(part, "frames", q->frames);
    }
    set_count(part, "min_pixels", q->min_pixels);
    set_count(part, "max_pixels", q->max_pixels);
    json_array_append_new(content, part);
    return SIGHT_OK;
}

sight_err question_message(question *q, json_t **out, char *const *media, int n_media,
                           const char *text)
{
    json_t *content = json_array();
    sight_err err = content ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for the question");
    for (int i = 0; i < n_media && !err; i++) err = add_medium(q, content, media[i]);
    if (!err && text) {
        json_t *string = json_string(text);
        if (!string) err = sight_fail(SIGHT_E_ARGUMENT, "the question is not valid UTF-8");
        else json_array_append_new(content, json_pack("{s:s, s:o}", "type", "text", "text", string));
    }
    if (err) {
        json_decref(content);
        return err;
    }
    *out = json_pack("{s:s, s:o}", "role", "user", "content", content);
    return *out ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for the question");
}

sight_err question_add_system(const question *q, json_t *messages)
{
    if (!q->system) return SIGHT_OK;
    json_t *text = json_string(q->system);
    if (!text) return sight_fail(SIGHT_E_ARGUMENT, "--system is not valid UTF-8");
    json_t *message = json_pack("{s:s, s:o}", "role", "system", "content", text);
    if (!message || json_array_append_new(messages, message)) {
        return sight_fail(SIGHT_E_MEMORY, "no memory for the question");
    }
    return SIGHT_OK;
}

static sight_err add_stops(const question *q, json_t *request)
{
    if (!q->stop.n) return SIGHT_OK;
    json_t *stop = json_array();
    json_object_set_new(request, "stop", stop);
    for (size_t i = 0; i < q->stop.n; i++) {
        json_t *text = json_string(q->stop.items[i]);
        if (!text) return sight_fail(SIGHT_E_ARGUMENT, "--stop is not valid UTF-8");
        json_array_append_new(stop, text);
    }
    return SIGHT_OK;
}

static sight_err check_range(const question *q)
{
    if (!(q->end_s > 0) || q->end_s > q->start_s) return SIGHT_OK;
    return sight_fail(SIGHT_E_ARGUMENT, "--end %g is not after --start %g (seconds)", q->end_s,
                      q->start_s);
}

static void set_given(json_t *object, const char *key, double v)
{
    if (!isnan(v)) json_object_set_new(object, key, json_real(v));
}

// A number as one, a word as it is: the daemon knows which there are.
static void set_drafts(json_t *object, const char *given)
{
    const bool digit = given[0] >= '0' && given[0] <= '9' && !given[1];
    json_object_set_new(object, "drafts", digit ? json_integer(given[0] - '0') : json_string(given));
}

sight_err question_request(const question *q, char **out, json_t *messages)
{
    json_t *r = json_pack("{s:O}", "messages", messages);
    if (!r) return sight_fail(SIGHT_E_MEMORY, "no memory for the request");
    if (q->max_tokens > 0) json_object_set_new(r, "max_tokens", json_integer(q->max_tokens));
    if (q->top_k >= 0) json_object_set_new(r, "top_k", json_integer(q->top_k));
    if (q->seed >= 0) json_object_set_new(r, "seed", json_integer(q->seed));
    if (q->drafts) set_drafts(r, q->drafts);
    if (q->use) json_object_set_new(r, "model", json_string(q->use));
    if (q->confidence) json_object_set_new(r, "confidence", json_true());
    set_given(r, "temperature", q->temperature);
    set_given(r, "top_p", q->top_p);
    set_given(r, "min_p", q->min_p);
    set_given(r, "presence_penalty", q->presence_penalty);
    set_given(r, "frequency_penalty", q->frequency_penalty);
    set_given(r, "repetition_penalty", q->repetition_penalty);
    if (q->think || q->no_think) json_object_set_new(r, "enable_thinking", json_boolean(q->think));
    sight_err err = add_stops(q, r);
    if (!err) err = question_add_form(q, r);
    if (!err) err = check_range(q);
    if (!err) *out = json_dumps(r, JSON_COMPACT);
    json_decref(r);
    if (err) return err;
    return *out ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for the request");
}

sight_err question_read_stdin(char **out)
{
    buf b;
    buf_init(&b);
    char piece[65536];
    for (;;) {
        ssize_t n = read(STDIN_FILENO, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            buf_done(&b);
            return file_fail("read", "standard input", errno);
        }
        if (n == 0) break;
        buf_add(&b, piece, (size_t)n);
        if (b.size > MAX_STDIN) {
            buf_done(&b);
            return sight_fail(SIGHT_E_LIMIT, "standard input has over %zu bytes", MAX_STDIN);
        }
    }
    if (b.size && memchr(b.data, 0, b.size)) {
        buf_done(&b);
        return sight_fail(SIGHT_E_ARGUMENT, "the question on standard input holds a NUL byte: not text");
    }
    while (b.size && b.data[b.size - 1] == '\n') b.data[--b.size] = 0;
    *out = buf_take(&b);
    return *out ? SIGHT_OK : sight_fail(SIGHT_E_MEMORY, "no memory for the question");
}
