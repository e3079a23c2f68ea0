// text/tokenizer_nfc.h - Unicode's NFC, as the reference's normaliser knows it.
//
// The reference carries the character data of an older Unicode: combining marks that came later are
// plain characters to it, which nothing composes with and nothing is reordered across.
// Threads: any.
#ifndef SIGHT_TEXT_TOKENIZER_NFC_H
#define SIGHT_TEXT_TOKENIZER_NFC_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

// Whether text (valid UTF-8) is surely in NFC already, by a quick look at its ranges.
bool tokenizer_nfc_surely(const char *text, size_t n);
// Appends text in NFC. Linear in n, whatever the marks. out fails when memory runs out.
void tokenizer_nfc(buf *out, const char *text, size_t n);

#endif
