// daemon/media/address.h - which addresses of the internet are public: anybody's to reach, and nobody's own network.
//
// After IANA's registries of special-purpose addresses (RFC 6890 and what followed) and the addresses at which clouds tell their
// machines secrets. What is not known to be public is not. Threads: any.
#ifndef SIGHT_DAEMON_ADDRESS_H
#define SIGHT_DAEMON_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>

// NULL: public. Else what the address is, in words: "loopback", "private", "link-local", "multicast".
const char *address_not_public(const struct sockaddr *a, size_t size);

#endif
