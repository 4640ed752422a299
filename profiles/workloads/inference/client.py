#!/usr/bin/env python3
"""A client of the demo service that checks what it gets; standard library only.

    client.py URL ready      exit code 0 when the service says that it is ready
    client.py URL health     one real completion, compared with the corpus
    client.py URL exercise   many clients at once: plain, streamed, wrong and abandoned requests

Any wrong answer is printed and makes the exit code 1.
"""

import argparse
import concurrent.futures
import http.client
import json
import pathlib
import socket
import sys
import urllib.parse

CORPUS = pathlib.Path(__file__).resolve().parent / "corpus.txt"
PROMPT = 24
TIMEOUT = 30


class Wrong(Exception):
    """The service did not answer as it must."""


class Client:
    """One connection, kept open over several requests."""

    def __init__(self, url):
        parts = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT)

    def request(self, method, path, value=None, raw=None):
        data = json.dumps(value).encode() if value is not None else raw
        self.connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        return self.connection.getresponse()

    def json(self, method, path, status, value=None, raw=None):
        """A JSON answer that must have this status."""
        response = self.request(method, path, value, raw)
        text = response.read()
        if response.status != status:
            raise Wrong(f"{method} {path}: {response.status} instead of {status}: {text[:200]!r}")
        return json.loads(text)

    def events(self, value):
        """The events of a streamed completion, as they come."""
        response = self.request("POST", "/v1/completions", value | {"stream": True})
        kind = response.getheader("Content-Type", "")
        if response.status != 200 or not kind.startswith("text/event-stream"):
            raise Wrong(f"stream: {response.status} {kind}")
        while line := response.readline():
            if line.startswith(b"data: "):
                yield line[len(b"data: ") :].strip().decode()


def cases():
    """Prompts of the corpus and what must follow them."""
    corpus = CORPUS.read_text(encoding="utf-8")
    starts = [0] + [place + 1 for place, character in enumerate(corpus) if character == "\n"][:-1]
    return [(corpus[start : start + PROMPT], corpus[start + PROMPT : start + PROMPT + 32]) for start in starts]


def plain(client, prompt, expected):
    value = {"prompt": prompt, "max_tokens": len(expected)}
    answer = client.json("POST", "/v1/completions", 200, value)
    text = answer["choices"][0]["text"]
    if text != expected or answer["usage"]["completion_tokens"] != len(expected):
        raise Wrong(f"{prompt!r} was completed with {text!r} instead of {expected!r}")


def streamed(client, prompt, expected):
    events = list(client.events({"prompt": prompt, "max_tokens": len(expected)}))
    if not events or events[-1] != "[DONE]":
        raise Wrong(f"the stream for {prompt!r} ended early, after {len(events)} events")
    text = "".join(json.loads(event)["choices"][0]["text"] for event in events[:-1])
    if text != expected:
        raise Wrong(f"{prompt!r} was streamed as {text!r} instead of {expected!r}")


def status(client):
    for path, message in (("live", "live"), ("ready", "ready")):
        if client.json("GET", f"/v1/health/{path}", 200)["message"] != message:
            raise Wrong(f"/v1/health/{path} does not say {message!r}")
    models = client.json("GET", "/v1/models", 200)["data"]
    if len(models) != 1 or not models[0]["id"]:
        raise Wrong(f"/v1/models lists {models!r}")


def refused(client):
    """Requests that must be answered with an error, and must not break the connection."""
    client.json("POST", "/v1/completions", 400, raw=b"{not json")
    client.json("POST", "/v1/completions", 400, {"prompt": 7})
    client.json("POST", "/v1/completions", 400, {"prompt": "x", "max_tokens": 10**6})
    client.json("POST", "/v1/completions", 404, {"prompt": "x", "model": "another"})
    client.json("POST", "/v1/completions", 200, {"prompt": "long " * 20000, "max_tokens": 1})
    client.json("GET", "/v1/completions", 405)
    client.json("GET", "/v1/nothing", 404)


def abandoned(url, prompt):
    """A client that leaves in the middle of a stream."""
    client = Client(url)
    events = client.events({"prompt": prompt, "max_tokens": 400})
    next(events)
    client.connection.sock.shutdown(socket.SHUT_RDWR)
    client.connection.close()


def visitor(url, number, rounds):
    """What one of the clients does."""
    client = Client(url)
    every = cases()
    for turn in range(rounds):
        prompt, expected = every[(number + turn) % len(every)]
        plain(client, prompt, expected)
        streamed(client, prompt, expected)
        status(client)
    refused(client)
    abandoned(url, every[number % len(every)][0])
    client.connection.close()
    return rounds * 5 + 8


def exercise(url, clients, rounds):
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        jobs = [pool.submit(visitor, url, number, rounds) for number in range(clients)]
        requests = sum(job.result() for job in jobs)
    # The service must have survived the clients that left.
    health(url)
    print(f"{requests} requests by {clients} clients: every answer was right", file=sys.stderr)


def health(url):
    client = Client(url)
    prompt, expected = cases()[0]
    plain(client, prompt, expected)
    streamed(client, prompt, expected)


def ready(url):
    Client(url).json("GET", "/v1/health/ready", 200)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="for example http://127.0.0.1:8000")
    parser.add_argument("action", choices=("ready", "health", "exercise"))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    try:
        if arguments.action == "exercise":
            exercise(arguments.url, arguments.clients, arguments.rounds)
        else:
            {"ready": ready, "health": health}[arguments.action](arguments.url)
    except (Wrong, OSError, http.client.HTTPException, ValueError, KeyError, StopIteration) as error:
        print(f"{arguments.action}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
