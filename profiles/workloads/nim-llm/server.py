#!/usr/bin/env python3
"""An LLM service with NVIDIA NIM's interface, in the size of a laptop: OpenAI's chat completions over a small
transformer, computed on the GPU by PyTorch where there is one, else on the CPU by onnxruntime.

NIM's environment variables are the defaults of the options. The service is alive as soon as its port is open, ready
when the model is loaded, and on SIGTERM it answers what it has begun and ends with exit code 0. Standard library
only, apart from the engine.
"""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import json
import logging
import os
import pathlib
import signal
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import engine
from web import Connection, Refused, Request, Server

MODEL = "seccomp-learn/recital"
ROLES = ("system", "developer", "user", "assistant")
LOG = logging.getLogger("nim-llm")
# What OpenAI's API calls the reasons for the end of an answer.
STOP, LENGTH = "stop", "length"


@dataclass
class Counters:
    """What /v1/metrics tells, under the names that NIM's engines use."""

    num_requests_running: int = 0
    request_success_total: int = 0
    request_failure_total: int = 0
    prompt_tokens_total: int = 0
    generation_tokens_total: int = 0

    def text(self) -> str:
        lines = []
        for name, value in vars(self).items():
            kind = "counter" if name.endswith("_total") else "gauge"
            lines += [f"# TYPE {name} {kind}", f"{name} {value}"]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Chat:
    """A checked request for a chat completion."""

    question: str
    limit: int | None
    sampling: engine.Sampling
    stream: bool
    usage: bool
    ignore_end: bool


def field(body: dict[str, Any], name: str, kind: type | tuple[type, ...], default: Any) -> Any:
    """A field of a request, of this type; null counts as left out."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or isinstance(value, bool) and kind is not bool:
        raise Refused(400, f"`{name}` has the wrong type")
    return value


def between(name: str, value: float, low: float, high: float) -> float:
    if not low <= value <= high:
        raise Refused(400, f"`{name}` must be from {low} to {high}")
    return value


def content(message: Any) -> tuple[str, str]:
    """Role and text of a message; the text is one string or a list of parts."""
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise Refused(400, f"every message needs a `role`: {', '.join(ROLES)}")
    text = message.get("content")
    if isinstance(text, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in text]
        text = None if None in parts else "".join(map(str, parts))
    if not isinstance(text, str):
        raise Refused(400, "the `content` of a message must be text")
    return message["role"], text


def parse(raw: bytes, model: str) -> Chat:
    """The request's fields, checked. The model answers the last question of the user."""
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object")
    if (asked := field(body, "model", str, model)) != model:
        raise Refused(404, f"the model `{asked}` does not exist")
    messages = [content(message) for message in field(body, "messages", list, [])]
    questions = [text for role, text in messages if role == "user"]
    if not questions:
        raise Refused(400, "`messages` holds nothing of a user")
    if field(body, "n", int, 1) != 1:
        raise Refused(400, "`n` must be 1")
    limit = field(body, "max_completion_tokens", int, field(body, "max_tokens", int, None))
    if limit is not None:
        between("max_tokens", limit, 1, 1 << 20)
    sampling = engine.Sampling(
        between("temperature", field(body, "temperature", (int, float), 0.0), 0, 2),
        between("top_p", field(body, "top_p", (int, float), 1.0), 0, 1),
        field(body, "seed", int, None),
    )
    options = field(body, "stream_options", dict, {})
    return Chat(questions[-1], limit, sampling, field(body, "stream", bool, False),
                field(options, "include_usage", bool, False), field(body, "ignore_eos", bool, False))


class Answer:
    """An answer as it is made; pulled token by token in a worker thread."""

    def __init__(self, model: engine.Model, chat: Chat) -> None:
        room = model.file.shape.context - len(chat.question) - 1
        if room < 1:
            raise Refused(400, f"the context holds {model.file.shape.context} tokens; shorten the question")
        self.model, self.limit = model, min(chat.limit or room, room)
        self.tokens: Iterator[engine.Token] = engine.generate(model, chat.question, chat.sampling, chat.ignore_end)
        self.asked, self.said, self.device = len(chat.question) + 1, 0, ""
        self.reason = LENGTH

    def next(self) -> str | None:
        """The next token's text; none at the end."""
        if self.said == self.limit:
            return None
        token = next(self.tokens, None)
        if token is None:
            self.reason = STOP
            return None
        self.said += 1
        self.device = token.device
        return token.text

    def all(self) -> str:
        return "".join(iter(self.next, None))

    def fingerprint(self) -> str:
        """Where the answer was computed: the device that the last token's scores came from, and the library."""
        return f"{self.device or 'none'}:{self.model.name}"

    def usage(self) -> dict[str, int]:
        return {"prompt_tokens": self.asked, "completion_tokens": self.said, "total_tokens": self.asked + self.said}


class Service:
    """The routes, and the model behind them."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.counters = Counters()
        self.pool = concurrent.futures.ThreadPoolExecutor(options.workers, thread_name_prefix="inference")
        self.model: engine.Model | None = None
        self.started = int(time.time())

    async def load(self) -> None:
        """Loads the model behind the open port."""
        loop = asyncio.get_running_loop()
        begun = time.monotonic()
        self.model = await loop.run_in_executor(
            self.pool, engine.open_model, self.options.cache, self.options.device
        )
        LOG.info("ready after %.1f s, on %s", time.monotonic() - begun, self.model.name)

    async def route(self, request: Request, connection: Connection) -> None:
        routes = {
            "/v1/health/live": ("GET", self.live),
            "/v1/health/ready": ("GET", self.ready),
            "/v1/models": ("GET", self.models),
            "/v1/metrics": ("GET", self.metrics),
            "/v1/chat/completions": ("POST", self.chat),
        }
        if request.path not in routes:
            raise Refused(404, f"no such path: {request.path}")
        method, answer = routes[request.path]
        if request.method != method:
            raise Refused(405, f"use {method}")
        await answer(request, connection)

    async def live(self, _: Request, connection: Connection) -> None:
        await connection.json(200, {"object": "health.response", "message": "live"})

    async def ready(self, _: Request, connection: Connection) -> None:
        status, message = (503, "loading") if self.model is None else (200, "ready")
        await connection.json(status, {"object": "health.response", "message": message})

    async def models(self, _: Request, connection: Connection) -> None:
        model = {"id": self.options.model, "object": "model", "created": self.started, "owned_by": "system"}
        await connection.json(200, {"object": "list", "data": [model]})

    async def metrics(self, _: Request, connection: Connection) -> None:
        await connection.answer(200, self.counters.text().encode(), "text/plain; version=0.0.4")

    async def chat(self, request: Request, connection: Connection) -> None:
        counters, done = self.counters, False
        counters.num_requests_running += 1
        try:
            chat = parse(request.body, self.options.model)
            if self.model is None:
                raise Refused(503, "the model is still loading")
            answer = Answer(self.model, chat)
            await (self.stream if chat.stream else self.whole)(chat, answer, connection)
            counters.prompt_tokens_total += answer.asked
            counters.generation_tokens_total += answer.said
            done = True
        finally:
            counters.num_requests_running -= 1
            counters.request_success_total += done
            counters.request_failure_total += not done

    def head(self, kind: str, answer: Answer) -> dict[str, Any]:
        return {"object": kind, "created": int(time.time()), "model": self.options.model,
                "system_fingerprint": answer.fingerprint()}

    async def whole(self, _: Chat, answer: Answer, connection: Connection) -> None:
        text = await asyncio.get_running_loop().run_in_executor(self.pool, answer.all)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": answer.reason}
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}"} | self.head("chat.completion", answer)
        await connection.json(200, head | {"choices": [choice], "usage": answer.usage()})

    async def stream(self, chat: Chat, answer: Answer, connection: Connection) -> None:
        """Server-sent events, a token each; a client that leaves ends the work."""
        loop, name = asyncio.get_running_loop(), f"chatcmpl-{uuid.uuid4().hex}"

        async def send(choices: list[Any], **more: Any) -> None:
            head = {"id": name} | self.head("chat.completion.chunk", answer)
            await connection.event(json.dumps(head | {"choices": choices} | more))

        def choice(delta: dict[str, str], reason: str | None = None) -> list[Any]:
            return [{"index": 0, "delta": delta, "finish_reason": reason}]

        await send(choice({"role": "assistant", "content": ""}))
        while (text := await loop.run_in_executor(self.pool, answer.next)) is not None:
            await send(choice({"content": text}))
        await send(choice({}, answer.reason))
        if chat.usage:
            await send([], usage=answer.usage())
        await connection.event("[DONE]")
        await connection.end_events()


async def serve(options: argparse.Namespace) -> int:
    """Runs until SIGTERM or SIGINT; the exit code."""
    service = Service(options)
    server = Server(service.route)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stopping.set)
    loading = asyncio.create_task(service.load())
    # A service that cannot load its model ends, so that whoever started it sees that.
    loading.add_done_callback(lambda task: server.stopping.set() if task.exception() else None)
    await server.run(options.host, sorted({options.port, options.health_port or options.port}), options.drain)
    service.pool.shutdown(wait=True, cancel_futures=True)
    if loading.done() and not loading.cancelled() and (error := loading.exception()):
        print(f"server.py: cannot load the model: {error}", file=sys.stderr)
        return 1
    loading.cancel()
    return 0


def main() -> int:
    environment = os.environ.get
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    port = environment("NIM_SERVER_PORT") or environment("NIM_HTTP_API_PORT") or "8000"
    parser.add_argument("--port", type=int, default=port, help="NIM_SERVER_PORT, else 8000")
    parser.add_argument("--health-port", type=int, default=environment("NIM_HEALTH_PORT"),
                        help="a second port for probes: NIM_HEALTH_PORT")
    parser.add_argument("--cache", type=pathlib.Path, default=environment("NIM_CACHE_PATH") or "/opt/nim/.cache",
                        help="where the model lies: NIM_CACHE_PATH, else /opt/nim/.cache")
    parser.add_argument("--model", default=environment("NIM_SERVED_MODEL_NAME") or MODEL,
                        help="the model's name: NIM_SERVED_MODEL_NAME")
    parser.add_argument("--log-level", default=environment("NIM_LOG_LEVEL") or "INFO", type=str.upper,
                        help="NIM_LOG_LEVEL")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto",
                        help="where the model runs; `auto` falls back to the CPU without an error")
    parser.add_argument("--workers", type=int, default=4, help="inference threads")
    parser.add_argument("--drain", type=float, default=20.0, help="seconds that open requests get after SIGTERM")
    options = parser.parse_args()
    logging.basicConfig(level=options.log_level, format="%(levelname)s %(name)s: %(message)s")
    return asyncio.run(serve(options))


if __name__ == "__main__":
    sys.exit(main())
