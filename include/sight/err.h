// sight/err.h - the one list of error codes, shared by the library, the wire and the daemon.
//
// 0 is success. Codes are stable: they travel over the wire by name (see docs/PROTOCOL.md).
#ifndef SIGHT_ERR_H
#define SIGHT_ERR_H

typedef enum sight_err {
    SIGHT_OK = 0,
    SIGHT_E_ARGUMENT,    // the request or call is wrong: a field, its type, its range
    SIGHT_E_MEDIA,       // a picture or video cannot be read, or is not one
    SIGHT_E_MODEL,       // a checkpoint is incomplete, inconsistent or damaged
    SIGHT_E_UNSUPPORTED, // understood, but not something this build does
    SIGHT_E_LIMIT,       // over a ceiling the server sets
    SIGHT_E_MEMORY,      // an allocation failed, or would not fit
    SIGHT_E_IO,          // reading or writing a file or socket failed
    SIGHT_E_NOT_FOUND,   // no such file, model or request
    SIGHT_E_PERMISSION,  // not allowed to read or connect
    SIGHT_E_BUSY,        // the queue is full, or the socket has another owner
    SIGHT_E_CANCELLED,   // stopped by its owner
    SIGHT_E_TIMEOUT,     // took longer than allowed
    SIGHT_E_PROTOCOL,    // bytes on the wire are not of the protocol
    SIGHT_E_INTERNAL,    // a defect of this program
    SIGHT_E_COUNT
} sight_err;

// The code's stable name in lower case ("media"); "unknown" for a value outside the list.
const char *sight_err_name(sight_err code);

#endif
