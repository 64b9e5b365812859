// Entries of redis streams.
#ifndef ATOM_REDIS_H
#define ATOM_REDIS_H

#ifdef __cplusplus
extern "C" {
#endif

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STREAM_ID_BUFFLEN 32

// One field of an entry.
struct redis_xadd_info {
    const char *key;
    size_t key_len;
    const uint8_t *data;
    size_t data_len;
};

// A connection to the nucleus, as the environment has it (ATOM_NUCLEUS_*); NULL where there is none.
redisContext *redis_context_init(void);
void redis_context_cleanup(redisContext *context);

// Adds an entry to a stream, which keeps `maxlen` of them (all where it is negative). Its id is put into `ret_id`.
bool redis_xadd(redisContext *context, const char *stream, struct redis_xadd_info *fields, size_t count, int maxlen,
                bool approx_maxlen, char ret_id[STREAM_ID_BUFFLEN]);

#ifdef __cplusplus
}
#endif
#endif
