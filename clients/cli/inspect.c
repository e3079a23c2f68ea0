#include "clients/cli/inspect.h"

#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "clients/cli/cli.h"
#include "clients/cli/terminal.h"

void inspect_warnings(const engine *e)
{
    for (int i = 0; engine_warning(e, i); i++) terminal_warning(engine_warning(e, i));
}

sight_err inspect_open(engine **out, const char *model, const char *mmproj)
{
    if (!model) return sight_fail(SIGHT_E_ARGUMENT, "--model is missing");
    engine_options options = engine_options_default();
    options.model = model;
    options.mmproj = mmproj;
    options.text_side_only = true;
    return engine_open(out, &options);
}

sight_err inspect_read_request(request_file *f, const char *path)
{
    if (!path) return sight_fail(SIGHT_E_ARGUMENT, "--request is missing");
    char real[PATH_MAX];
    sight_err err = file_read(&f->text, &f->size, path, INSPECT_MAX_FILE);
    if (err) return err;
    if (!realpath(path, real)) snprintf(real, sizeof real, "./x");
    snprintf(f->folder, sizeof f->folder, "%s", dirname(real));
    return SIGHT_OK;
}
