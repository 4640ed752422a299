#!/usr/bin/env python3
"""A client of a web server that has nothing in common with a load generator; standard library only.

    web.py PORT [ipv6]

Keep-alive over many requests, ranges, HEAD, POST with a large and with a chunked body, compression, conditional
requests, pipelining, a slow reader of a large file, a client that leaves, and broken requests.
"""

import gzip
import hashlib
import http.client
import socket
import sys
import time

PORT = int(sys.argv[1])
HOSTS = ["127.0.0.1"] + (["::1"] if "ipv6" in sys.argv[2:] else [])


def visit(host):
    connection = http.client.HTTPConnection(host, PORT, timeout=20)

    def ask(method, path, expected, body=None, headers={}, **more):
        connection.request(method, path, body, headers, **more)
        answer = connection.getresponse()
        data = answer.read()
        if answer.status not in expected:
            sys.exit(f"{method} {path}: {answer.status} instead of {expected}")
        return answer, data

    page, text = ask("GET", "/index.html", {200})
    for _ in range(20):
        ask("GET", "/index.html", {200})
    _, part = ask("GET", "/index.html", {206}, headers={"Range": "bytes=10-99"})
    assert part == text[10:100]
    ask("GET", "/index.html", {206}, headers={"Range": "bytes=0-9,20-29,100-"})
    ask("GET", "/index.html", {416}, headers={"Range": "bytes=900000000-"})
    ask("HEAD", "/index.html", {200})
    ask("GET", "/index.html", {304}, headers={"If-None-Match": page.getheader("ETag")})
    ask("GET", "/index.html", {304}, headers={"If-Modified-Since": page.getheader("Last-Modified")})
    packed, data = ask("GET", "/index.html", {200}, headers={"Accept-Encoding": "gzip"})
    if packed.getheader("Content-Encoding") == "gzip":
        assert gzip.decompress(data) == text
    ask("GET", "/missing/", {404})
    ask("OPTIONS", "/", {200, 405})
    _, large = ask("GET", "/large", {200})
    digest = hashlib.sha256(large).digest()
    ask("POST", "/index.html", {405}, body=b"x" * 300_000)
    connection.close()
    ask("POST", "/index.html", {405}, body=iter([b"chunk" * 1000] * 20), encode_chunked=True)
    connection.close()

    # Slowly, in small pieces, so that the server has to wait for the socket.
    slow = socket.create_connection((host, PORT))
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    slow.sendall(b"GET /large HTTP/1.0\r\n\r\n")
    received = bytearray()
    time.sleep(0.1)
    while piece := slow.recv(1 << 16):
        received += piece
    assert hashlib.sha256(received.split(b"\r\n\r\n", 1)[1]).digest() == digest
    slow.close()

    # Several requests at once, then one in two halves.
    pipe = socket.create_connection((host, PORT))
    request = b"GET /index.html HTTP/1.1\r\nHost: x\r\n\r\n"
    pipe.sendall(request * 3 + request[:10])
    time.sleep(0.05)
    pipe.sendall(request[10:-2] + b"Connection: close\r\n\r\n")
    everything = b""
    while piece := pipe.recv(1 << 16):
        everything += piece
    assert everything.count(b"200 OK") == 4, everything[:200]

    for broken in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"GET /index.html HTTP/1.1\r\n\r\n", b""):
        client = socket.create_connection((host, PORT))
        client.sendall(broken + b"\n")
        client.shutdown(socket.SHUT_WR)
        while client.recv(1 << 16):
            pass
    leaver = socket.create_connection((host, PORT))
    leaver.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
    leaver.recv(10)
    leaver.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    leaver.close()


for host in HOSTS:
    visit(host)
