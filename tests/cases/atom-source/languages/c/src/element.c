#include "element.h"

#include <stdio.h>
#include <string.h>

bool element_write(redisContext *context, const char *element, const char *stream, const char *key, const char *value,
                   char ret_id[STREAM_ID_BUFFLEN])
{
    char name[256];
    struct redis_xadd_info field = {key, strlen(key), (const uint8_t *)value, strlen(value)};
    int size = snprintf(name, sizeof name, "stream:%s:%s", element, stream);
    return size > 0 && (size_t)size < sizeof name && redis_xadd(context, name, &field, 1, 1024, true, ret_id);
}
