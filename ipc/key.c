#include "ipc/key.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zmq.h>

#include "base/file.h"

#define MAX_FILE_BYTES (64 << 10)

bool key_text_is_good(const char *text)
{
    uint8_t bytes[32];
    return strlen(text) == KEY_SIZE - 1 && zmq_z85_decode(bytes, text) != NULL;
}

bool key_name_is_good(const char *name)
{
    static const char good[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.";
    const size_t n = strlen(name);
    return n > 0 && n < KEY_NAME_SIZE && name[0] != '.' && strspn(name, good) == n;
}

void key_done(key_file *k)
{
    explicit_bzero(k->secret_key, sizeof k->secret_key);
    if (k->text.text) {
        const char *secret = zpl_get(&k->text, "curve", "secret-key");
        if (secret) explicit_bzero((char *)secret, strlen(secret));
    }
    zpl_done(&k->text);
    *k = (key_file){0};
}

static sight_err take_key(char out[KEY_SIZE], const zpl *z, const char *name, const char *what)
{
    const char *text = zpl_get(z, "curve", name);
    if (!text) return sight_fail(SIGHT_E_ARGUMENT, "%s is no key file: it has no '%s' under 'curve'", what, name);
    if (!key_text_is_good(text)) {
        return sight_fail(SIGHT_E_ARGUMENT, "%s: the '%s' is damaged: it must be 40 characters of Z85", what, name);
    }
    memcpy(out, text, KEY_SIZE);
    return SIGHT_OK;
}

sight_err key_parse(key_file *out, const char *text, size_t size, const char *what)
{
    key_file k = {0};
    sight_err err = zpl_read(&k.text, text, size, what);
    if (!err) err = take_key(k.public_key, &k.text, "public-key", what);
    if (!err && zpl_get(&k.text, "curve", "secret-key")) err = take_key(k.secret_key, &k.text, "secret-key", what);
    if (err) key_done(&k);
    else *out = k;
    return err;
}

// Of a secret key only its owner's rights may be left; those of the group are let pass, as they stand for an access list in
// credentials that systemd hands over.
static sight_err check_mode(const char *path)
{
    struct stat st;
    if (stat(path, &st)) return file_fail("look at", path, errno);
    if (!(st.st_mode & S_IRWXO)) return SIGHT_OK;
    return sight_fail(SIGHT_E_PERMISSION, "'%s' holds a secret key and every user may read it; chmod 600 it, or make a new one",
                      path);
}

sight_err key_read(key_file *out, const char *path)
{
    char *text;
    size_t size;
    key_file k;
    sight_err err = file_read(&text, &size, path, MAX_FILE_BYTES);
    if (err) return err;
    err = key_parse(&k, text, size, path);
    explicit_bzero(text, size);
    free(text);
    if (err) return err;
    if (k.secret_key[0]) err = check_mode(path);
    if (err) key_done(&k);
    else *out = k;
    return err;
}

sight_err key_read_secret(key_file *out, const char *path)
{
    key_file k;
    sight_err err = key_read(&k, path);
    if (err) return err;
    if (!k.secret_key[0]) {
        key_done(&k);
        return sight_fail(SIGHT_E_ARGUMENT, "'%s' holds a public key only; the secret one is in the file that ends in '_secret'",
                          path);
    }
    *out = k;
    return SIGHT_OK;
}

sight_err key_read_public(char out[KEY_SIZE], const char *file_or_key)
{
    key_file k;
    if (key_text_is_good(file_or_key) && access(file_or_key, F_OK)) {
        memcpy(out, file_or_key, KEY_SIZE);
        return SIGHT_OK;
    }
    sight_err err = key_read(&k, file_or_key);
    if (err) return err;
    memcpy(out, k.public_key, KEY_SIZE);
    key_done(&k);
    return SIGHT_OK;
}

sight_err key_generate(char public_key[KEY_SIZE], char secret_key[KEY_SIZE])
{
    if (!zmq_curve_keypair(public_key, secret_key)) return SIGHT_OK;
    return sight_fail(SIGHT_E_UNSUPPORTED, "keys cannot be made: this libzmq is built without CURVE");
}

// ---- writing ----

static sight_err write_text(FILE *f, const char *public_key, const char *secret_key, const key_meta *meta, size_t n_meta)
{
    fprintf(f, secret_key ? "# A ZeroMQ CURVE key, secret: whoever has this file is its owner. Keep it to yourself.\n"
                          : "# A ZeroMQ CURVE key, public: hand it out, or check it, by a way that you trust.\n");
    fprintf(f, "metadata\n");
    for (size_t i = 0; i < n_meta; i++) {
        if (!zpl_can_write(meta[i].value)) {
            return sight_fail(SIGHT_E_ARGUMENT, "%s is '%.60s': quotation marks and control characters cannot be written",
                              meta[i].name, meta[i].value);
        }
        fprintf(f, "    %s = \"%s\"\n", meta[i].name, meta[i].value);
    }
    fprintf(f, "curve\n    public-key = \"%s\"\n", public_key);
    if (secret_key) fprintf(f, "    secret-key = \"%s\"\n", secret_key);
    return SIGHT_OK;
}

static sight_err fill(int fd, const char *path, const char *public_key, const char *secret_key, const key_meta *meta,
                      size_t n_meta)
{
    FILE *f = fdopen(fd, "w");
    if (!f) {
        const int e = errno;
        close(fd);
        return file_fail("write", path, e);
    }
    sight_err err = write_text(f, public_key, secret_key, meta, n_meta);
    const bool failed = fflush(f) || ferror(f) || fchmod(fd, secret_key ? 0600 : 0644) || fsync(fd);
    const int e = errno;
    fclose(f);
    if (!err && failed) err = file_fail("write", path, e);
    return err;
}

// Into a new file beside it first: a reader finds the old one or the whole new one. link() does not replace.
sight_err key_write(const char *path, const char *public_key, const char *secret_key, const key_meta *meta, size_t n_meta,
                    bool replace)
{
    char beside[PATH_MAX];
    const int n = snprintf(beside, sizeof beside, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof beside) return sight_fail(SIGHT_E_ARGUMENT, "the path '%.200s' is too long", path);
    const int fd = mkstemp(beside);
    if (fd < 0) return file_fail("write", path, errno);
    sight_err err = fill(fd, path, public_key, secret_key, meta, n_meta);
    if (!err && replace && rename(beside, path)) err = file_fail("write", path, errno);
    if (!err && !replace && link(beside, path)) {
        err = errno == EEXIST ? sight_fail(SIGHT_E_BUSY, "'%s' is there already", path) : file_fail("write", path, errno);
    }
    if (err || !replace) unlink(beside);
    return err;
}
