#include "daemon/identity.h"

#include <stddef.h>

struct identity {
    char name[64];
};

const char *identity_name(const identity *who)
{
    return who ? who->name : "";
}
