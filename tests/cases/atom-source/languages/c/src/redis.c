#include "redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *setting(const char *name, const char *otherwise)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : otherwise;
}

redisContext *redis_context_init(void)
{
    const char *host = setting("ATOM_NUCLEUS_HOST", NULL);
    redisContext *context = host != NULL
        ? redisConnect(host, atoi(setting("ATOM_NUCLEUS_PORT", "6379")))
        : redisConnectUnix(setting("ATOM_NUCLEUS_SOCKET", "/shared/redis.sock"));
    if (context != NULL && context->err != 0) {
        fprintf(stderr, "atom: no nucleus: %s\n", context->errstr);
        redisFree(context);
        return NULL;
    }
    return context;
}

void redis_context_cleanup(redisContext *context)
{
    redisFree(context);
}

bool redis_xadd(redisContext *context, const char *stream, struct redis_xadd_info *fields, size_t count, int maxlen,
                bool approx_maxlen, char ret_id[STREAM_ID_BUFFLEN])
{
    char length[16];
    size_t words = 0;
    const char **argv = calloc(6 + 2 * count, sizeof *argv);
    size_t *sizes = calloc(6 + 2 * count, sizeof *sizes);
    bool done = false;

    if (argv != NULL && sizes != NULL) {
        argv[words++] = "XADD";
        argv[words++] = stream;
        if (maxlen >= 0) {
            snprintf(length, sizeof length, "%d", maxlen);
            argv[words++] = "MAXLEN";
            argv[words++] = approx_maxlen ? "~" : "=";
            argv[words++] = length;
        }
        argv[words++] = "*";
        for (size_t i = 0; i < words; i++)
            sizes[i] = strlen(argv[i]);
        for (size_t i = 0; i < count; i++) {
            argv[words] = fields[i].key;
            sizes[words++] = fields[i].key_len;
            argv[words] = (const char *)fields[i].data;
            sizes[words++] = fields[i].data_len;
        }
        redisReply *reply = redisCommandArgv(context, (int)words, argv, sizes);
        done = reply != NULL && reply->type == REDIS_REPLY_STRING;
        if (done && ret_id != NULL)
            snprintf(ret_id, STREAM_ID_BUFFLEN, "%s", reply->str);
        if (reply != NULL)
            freeReplyObject(reply);
    }
    free(argv);
    free(sizes);
    return done;
}
