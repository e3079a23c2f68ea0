// Any bytes as a key file, and what is accepted as the rights and ceilings of whoever has the key.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/access/keys.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// What was read can be written and read again, and is the same.
static void check_terms(const identity_terms *t)
{
    identity_terms again = {0};
    static char text[IDENTITY_ROOTS_MAX * 66000];
    for (size_t i = 0; identity_term_names[i]; i++) {
        identity_terms_print(text, sizeof text, t, identity_term_names[i]);
        if (*text && identity_terms_put(&again, identity_term_names[i], text, "again")) abort();
    }
    if (!identity_terms_equal(t, &again)) abort();
    identity_terms_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    key_file k;
    identity_terms t;
    char odd[512];
    if (key_parse(&k, (const char *)data, size, "a.key")) return 0;
    if (!key_text_is_good(k.public_key) || (k.secret_key[0] && !key_text_is_good(k.secret_key))) abort();
    if (!keys_read_terms(&t, odd, sizeof odd, &k, "a.key")) {
        if (strlen(odd) >= sizeof odd || t.rights > IDENTITY_ALL_RIGHTS) abort();
        check_terms(&t);
        identity_terms_done(&t);
    }
    key_done(&k);
    return 0;
}
