// decoder/confine_filter.h - the system calls of a decoder child, as a program for the kernel. Threads: any.
#ifndef SIGHT_DECODER_CONFINE_FILTER_H
#define SIGHT_DECODER_CONFINE_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CONFINE_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CONFINE_SANITIZED
#endif
#endif

struct sock_filter;

// *out is malloced. false: this kernel or library cannot; outputs untouched.
bool confine_filter_make(struct sock_filter **out, uint16_t *size);

#endif
