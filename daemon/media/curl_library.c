#include "daemon/media/curl_library.h"

#include <dlfcn.h>
#include <string.h>

// The name has stood for this interface since 2006, whichever TLS library it was built with.
static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4"};

static const char *find_functions(curl_library *c)
{
    const struct {
        const char *name;
        void *to; // of a pointer to a function
    } wanted[] = {
        {"curl_global_init", &c->global_init}, {"curl_global_cleanup", &c->global_cleanup},
        {"curl_easy_init", &c->init},          {"curl_easy_setopt", &c->setopt},
        {"curl_easy_perform", &c->perform},    {"curl_easy_getinfo", &c->getinfo},
        {"curl_easy_cleanup", &c->cleanup},    {"curl_easy_strerror", &c->strerror},
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        void *found = dlsym(c->handle, wanted[i].name);
        if (!found) return wanted[i].name;
        memcpy(wanted[i].to, &found, sizeof found); // POSIX has them alike
    }
    return NULL;
}

sight_err curl_library_open(curl_library *out)
{
    curl_library c = {0};
    // It stays: the libraries under it do not bear to be unloaded.
    for (size_t i = 0; i < sizeof names / sizeof *names && !c.handle; i++) {
        c.handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    }
    if (!c.handle) {
        return sight_fail(SIGHT_E_UNSUPPORTED, "urls = on needs %s, which is not installed (Debian: libcurl4)", names[0]);
    }
    const char *lacks = find_functions(&c);
    if (lacks) {
        dlclose(c.handle);
        return sight_fail(SIGHT_E_UNSUPPORTED, "the installed libcurl lacks %s", lacks);
    }
    if (c.global_init(CURL_GLOBAL_DEFAULT)) {
        dlclose(c.handle);
        return sight_fail(SIGHT_E_UNSUPPORTED, "the installed libcurl cannot be initialised");
    }
    *out = c;
    return SIGHT_OK;
}

void curl_library_close(curl_library *c)
{
    if (!c->handle) return;
    c->global_cleanup();
    dlclose(c->handle);
    *c = (curl_library){0};
}
