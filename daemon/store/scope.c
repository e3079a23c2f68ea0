#include "daemon/store/scope.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "checkpoint/prepare.h"
#include "kernels/device.h"

// Raised when what is computed, or how it is laid out, changes in a way that the rest does not show.
#define NUMBERS_VERSION 1

static void add_file(buf *b, const char *folder, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path || stat(path, &st)) return;
    buf_printf(b, "%s %lld %lld.%09ld\n", name, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
               st.st_mtim.tv_nsec);
}

static sight_err add_weights(buf *b, engine *e, const engine_options *o)
{
    static const char *const settings[] = {"config.json", "preprocessor_config.json", "video_preprocessor_config.json"};
    if (o->shape) {
        buf_printf(b, "shape %s %llu\n", o->shape, (unsigned long long)o->seed);
        return SIGHT_OK;
    }
    char *files = checkpoint_identity(engine_checkpoint(e));
    if (!files) return sight_fail(SIGHT_E_IO, "%s: the files of its weights cannot be told", engine_model_name(e));
    buf_printf(b, "%s", files);
    free(files);
    for (size_t i = 0; i < o->n_lora; i++) buf_printf(b, "lora %s\n", o->lora[i]);
    for (size_t i = 0; i < 3; i++) add_file(b, engine_model_dir(e), settings[i]);
    return SIGHT_OK;
}

static void add_machine(buf *b, engine *e)
{
    kernels *k = engine_kernels(e);
    const device_id id = kernels_device(k);
    device_info info;
    buf_printf(b, "simd %s devices %d\n", simd_level_name(kernels_simd(k)), (int)engine_get_memory(e).devices);
    if (id.kind != DEVICE_CPU && !device_describe(&info, id)) {
        buf_printf(b, "gpu %s %d.%d\n", info.name, info.major, info.minor);
    }
}

sight_err scope_of(uint8_t out[SIPHASH_BYTES], engine *e, const engine_options *o,
                   const uint8_t key[SIPHASH_KEY_BYTES])
{
    const text_config *t = &engine_config(e)->text;
    buf b;
    buf_init(&b);
    buf_printf(&b, "numbers %d, %s, %s\n", NUMBERS_VERSION, SIGHT_VERSION, engine_weights(e));
    sight_err err = add_weights(&b, e, o);
    buf_printf(&b, "kv %d exact %d f8 %d rows %lld rope %d %.17g %lld\n", (int)o->kv_type, o->exact, !o->no_f8,
               (long long)text_model_max_rows(engine_text(e)), t->rope.yarn, t->rope.factor, (long long)t->max_positions);
    add_machine(&b, e);
    if (!err && buf_failed(&b)) err = sight_fail(SIGHT_E_MEMORY, "no memory for the name of a model");
    if (!err) {
        siphash h;
        siphash_init(&h, key);
        siphash_add(&h, buf_text(&b), b.size);
        siphash_finish(&h, out);
    }
    buf_done(&b);
    return err;
}
