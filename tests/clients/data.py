#!/usr/bin/env python3
"""A client of redis that speaks the protocol itself: pipelines, types and commands that its benchmark does not use;
standard library only.

    data.py PORT
"""

import socket
import sys
import time

PORT = int(sys.argv[1])


class Client:
    def __init__(self):
        self.socket = socket.create_connection(("127.0.0.1", PORT), timeout=20)
        self.file = self.socket.makefile("rb")

    def send(self, *commands):
        packed = b""
        for words in commands:
            words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
            packed += b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
        self.socket.sendall(packed)

    def answer(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return None if rest == b"-1" else [self.answer() for _ in range(int(rest))]
        if kind == b"-":
            return RuntimeError(rest.decode())
        return int(rest) if kind == b":" else rest

    def __call__(self, *words):
        self.send(words)
        answer = self.answer()
        if isinstance(answer, RuntimeError):
            sys.exit(f"{words[:2]}: {answer}")
        return answer


redis, other = Client(), Client()
redis("FLUSHALL")
redis.send(*[("SET", f"key:{number}", number) for number in range(2000)])
assert all(redis.answer() == b"OK" for _ in range(2000))
redis("HSET", "hash", *[word for number in range(600) for word in (f"field{number}", number)])
redis("ZADD", "ranks", *[word for number in range(600) for word in (number, f"member{number}")])
assert len(redis("ZRANGEBYSCORE", "ranks", 10, 19)) == 10
redis("SADD", "set", *range(600))
redis("PFADD", "log", *range(600))
redis("SETBIT", "bits", 1_000_000, 1)
redis("GEOADD", "places", 13.4, 52.5, "berlin", 2.35, 48.85, "paris")
for number in range(50):
    redis("XADD", "stream", "*", "number", number)
redis("XGROUP", "CREATE", "stream", "group", "0")
assert redis("XREADGROUP", "GROUP", "group", "me", "COUNT", 5, "STREAMS", "stream", ">")
assert redis("EVAL", "return redis.call('GET', KEYS[1])", 1, "key:7") == b"7"
redis("SET", "large", b"x" * 8_000_000)
assert len(redis("GET", "large")) == 8_000_000
redis("SET", "short", "lived", "PX", 20)
redis("MULTI"), redis("INCR", "counter"), redis("INCR", "counter")
assert redis("EXEC") == [1, 2]
other("SUBSCRIBE", "channel")
assert redis("PUBLISH", "channel", "message") == 1
assert other.answer()[2] == b"message"
waiter = Client()
waiter.send(("BLPOP", "queue", 5))
time.sleep(0.05)
redis("RPUSH", "queue", "item")
assert waiter.answer() == [b"queue", b"item"]
assert redis("SORT", "set", "LIMIT", 0, 3) == [b"0", b"1", b"2"]
redis("DUMP", "hash"), redis("OBJECT", "ENCODING", "hash"), redis("MEMORY", "USAGE", "hash")
redis("SCAN", 0, "COUNT", 100), redis("INFO"), redis("CLIENT", "LIST"), redis("CLIENT", "SETNAME", "held-out")
redis("CONFIG", "SET", "maxmemory", "512mb"), redis("SLOWLOG", "GET"), redis("LATENCY", "LATEST")
redis("UNLINK", "large")
before = redis("LASTSAVE")
redis("BGSAVE")
deadline = time.monotonic() + 10
while b"rdb_bgsave_in_progress:1" in redis("INFO", "persistence"):
    assert time.monotonic() < deadline
    time.sleep(0.02)
assert b"rdb_last_bgsave_status:ok" in redis("INFO", "persistence")
redis("SAVE")
inline = socket.create_connection(("127.0.0.1", PORT))
inline.sendall(b"PING\r\nNONSENSE\r\n\xff\r\nQUIT\r\n")
while inline.recv(4096):
    pass
