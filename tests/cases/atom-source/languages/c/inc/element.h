// Elements and their streams.
#ifndef ATOM_ELEMENT_H
#define ATOM_ELEMENT_H

#include "redis.h"

#ifdef __cplusplus
extern "C" {
#endif

// Writes an entry of one field to a stream of an element.
bool element_write(redisContext *context, const char *element, const char *stream, const char *key, const char *value,
                   char ret_id[STREAM_ID_BUFFLEN]);

#ifdef __cplusplus
}
#endif
#endif
