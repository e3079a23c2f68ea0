// sight-decoder - keeps children that open media in confinement. Started by sightd, not by people.
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "decoder/child.h"
#include "decoder/keeper.h"

int main(void)
{
    int kind = 0;
    socklen_t size = sizeof kind;
    if (getsockopt(KEEPER_SOCKET, SOL_SOCKET, SO_TYPE, &kind, &size) || kind != SOCK_SEQPACKET) {
        fputs("sight-decoder: a part of sightd, which starts it; there is nothing to run here\n", stderr);
        return 2;
    }
    _exit(keeper_run(child_serve)); // libraries' last words would want files
}
