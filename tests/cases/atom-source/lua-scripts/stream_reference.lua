-- The newest entry of a stream, as a script in redis: what a reference to it is made from.
return redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
