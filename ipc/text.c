#include "ipc/text.h"

#include <stdlib.h>
#include <string.h>

// Bytes of the UTF-8 character at s (n left), 0 when it is none. As RFC 3629: no surrogates, no
// longer form than needed.
static size_t character(const unsigned char *s, size_t n)
{
    if (s[0] < 0x80) return 1;
    size_t need = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0xc2 || s[0] > 0xf4 || n < need) return 0;
    for (size_t i = 1; i < need; i++) {
        if ((s[i] & 0xc0) != 0x80) return 0;
    }
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f)) return 0;
    if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f)) return 0;
    return need;
}

json_t *text_json(const char *s)
{
    json_t *text = json_string(s);
    if (text) return text;
    char *copy = strdup(s);
    if (!copy) return NULL;
    size_t n = strlen(copy);
    for (size_t i = 0; i < n;) {
        size_t step = character((unsigned char *)copy + i, n - i);
        if (!step) copy[i] = '?';
        i += step ? step : 1;
    }
    text = json_string(copy);
    free(copy);
    return text;
}
