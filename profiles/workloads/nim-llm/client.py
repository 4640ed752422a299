#!/usr/bin/env python3
"""A client of the nim-llm service that checks what it gets; standard library only.

    client.py URL ready                      exit code 0 when the service says that it is ready
    client.py URL health [--device cuda]     real answers, whole and streamed, and where they were computed
    client.py URL exercise                   many clients at once: whole, streamed, sampled, wrong and abandoned
    client.py URL load --seconds 10          as many tokens as it can give; figures as JSON on standard output

Any wrong answer is printed and makes the exit code 1. A service that can fall back from the GPU to the CPU answers
just as well there: `--device` makes that a failure.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import http.client
import json
import pathlib
import socket
import sys
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

QUESTIONS = pathlib.Path(__file__).resolve().parent / "questions.txt"
TIMEOUT = 60
# Tokens of one answer under load.
LOAD_TOKENS = 128


class Wrong(Exception):
    """The service did not answer as it must."""


class Client:
    """One connection, kept open over several requests."""

    def __init__(self, url: str, device: str | None) -> None:
        parts = urllib.parse.urlsplit(url)
        self.connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TIMEOUT)
        self.device = device

    def request(self, method: str, path: str, value: Any = None, raw: bytes | None = None) -> http.client.HTTPResponse:
        data = json.dumps(value).encode() if value is not None else raw
        self.connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
        return self.connection.getresponse()

    def text(self, method: str, path: str, status: int, value: Any = None, raw: bytes | None = None) -> str:
        """An answer that must have this status."""
        response = self.request(method, path, value, raw)
        data = response.read()
        if response.status != status:
            raise Wrong(f"{method} {path}: {response.status} instead of {status}: {data[:200]!r}")
        return data.decode()

    def json(self, method: str, path: str, status: int, value: Any = None, raw: bytes | None = None) -> Any:
        return json.loads(self.text(method, path, status, value, raw))

    def chat(self, question: str, **fields: Any) -> Any:
        """A chat completion, computed where it must be."""
        answer = self.json("POST", "/v1/chat/completions", 200, asking(question, **fields))
        self.check_device(answer)
        return answer

    def stream(self, question: str, **fields: Any) -> Iterator[Any]:
        """The chunks of a streamed chat completion, as they come; the last one must be followed by [DONE]."""
        response = self.request("POST", "/v1/chat/completions", asking(question, stream=True, **fields))
        kind = response.getheader("Content-Type", "")
        if response.status != 200 or not kind.startswith("text/event-stream"):
            raise Wrong(f"stream: {response.status} {kind}")
        while line := response.readline():
            if not line.startswith(b"data: "):
                continue
            if (data := line[len(b"data: ") :].strip()) == b"[DONE]":
                response.read()
                return
            yield json.loads(data)
        raise Wrong(f"the stream for {question!r} ended early")

    def check_device(self, answer: Any) -> None:
        computed, _, library = answer["system_fingerprint"].partition(":")
        if self.device and computed != self.device:
            raise Wrong(f"the answer was computed on {computed} ({library}), not on {self.device}")


def asking(question: str, **fields: Any) -> dict[str, Any]:
    system = {"role": "system", "content": "Answer in one sentence."}
    return {"messages": [system, {"role": "user", "content": question}], **fields}


def cases() -> list[tuple[str, str]]:
    """Questions, and what the model must answer."""
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    return [(question, answer) for question, _, answer in (line.partition("\t") for line in lines)]


def whole(client: Client, question: str, expected: str) -> None:
    answer = client.chat(question)
    choice, usage = answer["choices"][0], answer["usage"]
    if choice["message"] != {"role": "assistant", "content": expected} or choice["finish_reason"] != "stop":
        raise Wrong(f"{question!r} was answered with {choice!r}")
    if usage["completion_tokens"] != len(expected) or usage["prompt_tokens"] != len(question) + 1:
        raise Wrong(f"wrong usage: {usage!r}")


def streamed(client: Client, question: str, expected: str) -> None:
    chunks = list(client.stream(question, stream_options={"include_usage": True}))
    *parts, end, usage = chunks
    text = "".join(part["choices"][0]["delta"]["content"] for part in parts)
    if text != expected or end["choices"][0]["finish_reason"] != "stop" or not usage["usage"]["completion_tokens"]:
        raise Wrong(f"{question!r} was streamed as {text!r}")
    client.check_device(end)


def sampled(client: Client, question: str) -> None:
    """Sampling depends on the seed alone, and stops at the limit."""
    fields = {"temperature": 2, "top_p": 0.9, "max_tokens": 12, "ignore_eos": True}
    first, again = (client.chat(question, seed=7, **fields)["choices"][0] for _ in range(2))
    if first["message"] != again["message"] or first["finish_reason"] != "length":
        raise Wrong(f"the same seed gave {first!r} and {again!r}")
    if len(first["message"]["content"]) != fields["max_tokens"]:
        raise Wrong(f"{first!r} is not {fields['max_tokens']} tokens long")


def status(client: Client) -> None:
    for name in ("live", "ready"):
        if client.json("GET", f"/v1/health/{name}", 200)["message"] != name:
            raise Wrong(f"/v1/health/{name} does not say so")
    models = client.json("GET", "/v1/models", 200)["data"]
    if len(models) != 1 or not models[0]["id"]:
        raise Wrong(f"/v1/models lists {models!r}")
    if "generation_tokens_total" not in client.text("GET", "/v1/metrics", 200):
        raise Wrong("/v1/metrics does not count tokens")


def refused(client: Client) -> None:
    """Requests that must be answered with an error, and must not break the connection."""
    path = "/v1/chat/completions"
    client.json("POST", path, 400, raw=b"{not json")
    client.json("POST", path, 400, {"messages": [{"role": "user", "content": 7}]})
    client.json("POST", path, 400, {"messages": []})
    client.json("POST", path, 400, asking("x", temperature=9))
    client.json("POST", path, 400, asking("long " * 2000))
    client.json("POST", path, 404, asking("x", model="another"))
    client.json("GET", path, 405)
    client.json("GET", "/v1/nothing", 404)


def abandoned(url: str, question: str) -> None:
    """A client that leaves in the middle of a stream."""
    client = Client(url, None)
    next(client.stream(question, max_tokens=200, ignore_eos=True))
    client.connection.sock.shutdown(socket.SHUT_RDWR)
    client.connection.close()


def visitor(url: str, device: str | None, number: int, rounds: int) -> int:
    """What one of the clients does; the number of its requests."""
    client, every = Client(url, device), cases()
    for turn in range(rounds):
        question, expected = every[(number + turn) % len(every)]
        whole(client, question, expected)
        streamed(client, question, expected)
        sampled(client, question)
        status(client)
    refused(client)
    abandoned(url, every[number % len(every)][0])
    client.connection.close()
    return rounds * 8 + 9


def exercise(options: argparse.Namespace) -> None:
    with concurrent.futures.ThreadPoolExecutor(options.clients) as pool:
        jobs = [pool.submit(visitor, options.url, options.device, number, options.rounds)
                for number in range(options.clients)]
        requests = sum(job.result() for job in jobs)
    # The service must have survived the clients that left.
    health(options)
    print(f"{requests} requests by {options.clients} clients: every answer was right", file=sys.stderr)


def health(options: argparse.Namespace) -> None:
    client = Client(options.url, options.device)
    status(client)
    for case in cases()[:2]:
        whole(client, *case)
        streamed(client, *case)


def ready(options: argparse.Namespace) -> None:
    Client(options.url, None).json("GET", "/v1/health/ready", 200)


def load(options: argparse.Namespace) -> None:
    """Whole answers of a fixed length, by several clients, for a while."""
    end = time.monotonic() + options.seconds

    def client(number: int) -> list[float]:
        one, times = Client(options.url, options.device), []
        question = cases()[number % len(cases())][0]
        while (begun := time.monotonic()) < end:
            answer = one.chat(question, max_tokens=LOAD_TOKENS, ignore_eos=True)
            if answer["usage"]["completion_tokens"] != LOAD_TOKENS:
                raise Wrong(f"an answer of {answer['usage']!r} under load")
            times.append(time.monotonic() - begun)
        return times

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(options.clients) as pool:
        times = sorted(sum(pool.map(client, range(options.clients)), []))
    seconds = time.monotonic() - begun
    figures = {"requests": len(times), "seconds": round(seconds, 3),
               "tokens_per_second": round(len(times) * LOAD_TOKENS / seconds, 2),
               "median_seconds": round(times[len(times) // 2], 4)}
    if options.output:
        options.output.write_text(json.dumps(figures), encoding="utf-8")
    else:
        print(json.dumps(figures))


def main() -> int:
    actions = {"ready": ready, "health": health, "exercise": exercise, "load": load}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="for example http://127.0.0.1:8000")
    parser.add_argument("action", choices=tuple(actions))
    parser.add_argument("--device", help="where every answer must have been computed: cuda or cpu")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long `load` lasts")
    parser.add_argument("--output", type=pathlib.Path, help="where `load` writes its figures")
    options = parser.parse_args()
    try:
        actions[options.action](options)
    except (Wrong, OSError, http.client.HTTPException, ValueError, KeyError, StopIteration) as error:
        print(f"{options.action}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
