#!/usr/bin/env python3
"""A small inference service in the shape of the OpenAI API and of NVIDIA NIM.

uvicorn speaks HTTP in the main thread; a pool of worker threads runs the model with onnxruntime,
which has threads of its own. Streamed completions are server-sent events, one for each token.
SIGTERM lets running requests finish and ends the process with exit code 0.
"""

import argparse
import asyncio
import concurrent.futures
import json
import pathlib
import signal
import time
import uuid

import numpy
import onnxruntime
import uvicorn

MODEL_NAME = "seccomp-learn/next-character"
MAX_BODY = 1 << 20
MAX_TOKENS = 512


class BadRequest(Exception):
    """A request the service refuses, with the HTTP status it answers."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


class Engine:
    """The model: characters in, the most likely next character out."""

    def __init__(self, path, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Several requests share few cores: waiting threads sleep instead of spinning.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=onnxruntime.get_available_providers()
        )
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.alphabet = json.loads(metadata["alphabet"])
        self.context = int(metadata["context"])
        self.index = {character: number for number, character in enumerate(self.alphabet)}

    def tokens(self, text):
        """The last characters of a text as model input, filled up with blanks on the left."""
        blank = self.index[" "]
        seen = [self.index.get(character, blank) for character in text[-self.context :]]
        return [blank] * (self.context - len(seen)) + seen

    def step(self, window):
        """One inference: the next token after a window of tokens."""
        scores = self.session.run(["scores"], {"tokens": numpy.array([window], numpy.int64)})[0]
        return int(scores[0].argmax())

    def complete(self, prompt, count):
        """The next `count` characters after a prompt, one by one."""
        window = self.tokens(prompt)
        for _ in range(count):
            token = self.step(window)
            window = window[1:] + [token]
            yield self.alphabet[token]


class Service:
    """The ASGI application."""

    def __init__(self, model, workers, session_threads):
        self.model = model
        self.session_threads = session_threads
        self.pool = concurrent.futures.ThreadPoolExecutor(workers, thread_name_prefix="inference")
        self.engine = None
        self.loading = None
        self.started = int(time.time())

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
        elif scope["type"] == "http":
            try:
                await self.route(scope, receive, send)
            except BadRequest as refusal:
                error = {"message": str(refusal), "type": "invalid_request_error", "code": refusal.status}
                await answer(send, refusal.status, {"error": error})

    async def lifespan(self, receive, send):
        """Loads the model behind the open port: alive at once, ready when it is loaded."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.loading = asyncio.create_task(self.load())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self.loading.cancel()
                self.pool.shutdown(wait=True)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def load(self):
        loop = asyncio.get_running_loop()
        engine = await loop.run_in_executor(self.pool, Engine, self.model, self.session_threads)
        await loop.run_in_executor(self.pool, engine.step, engine.tokens(""))
        self.engine = engine

    async def route(self, scope, receive, send):
        method, path = scope["method"], scope["path"]
        if path == "/v1/health/live":
            require(method, "GET")
            await answer(send, 200, {"object": "health.response", "message": "live"})
        elif path == "/v1/health/ready":
            require(method, "GET")
            ready = self.engine is not None
            await answer(send, 200 if ready else 503,
                         {"object": "health.response", "message": "ready" if ready else "loading"})
        elif path == "/v1/models":
            require(method, "GET")
            model = {"id": MODEL_NAME, "object": "model", "created": self.started, "owned_by": "demo"}
            await answer(send, 200, {"object": "list", "data": [model]})
        elif path == "/v1/completions":
            require(method, "POST")
            await self.completions(await body(receive), receive, send)
        else:
            raise BadRequest(404, f"no such path: {path}")

    async def completions(self, raw, receive, send):
        request = parse(raw)
        if self.engine is None:
            raise BadRequest(503, "the model is still loading")
        head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": MODEL_NAME,
        }
        if request["stream"]:
            await self.stream(request, head, receive, send)
            return
        loop = asyncio.get_running_loop()
        text = await loop.run_in_executor(self.pool, self.whole, request["prompt"], request["max_tokens"])
        usage = {
            "prompt_tokens": len(request["prompt"]),
            "completion_tokens": len(text),
            "total_tokens": len(request["prompt"]) + len(text),
        }
        await answer(send, 200, head | {"choices": [choice(text, "length")], "usage": usage})

    def whole(self, prompt, count):
        return "".join(self.engine.complete(prompt, count))

    async def stream(self, request, head, receive, send):
        """Server-sent events, a token each; a client that leaves ends the work."""
        headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        left = asyncio.create_task(receive())
        loop = asyncio.get_running_loop()
        tokens = self.engine.complete(request["prompt"], request["max_tokens"])
        try:
            while (token := await loop.run_in_executor(self.pool, next, tokens, None)) is not None:
                if left.done():
                    return
                await event(send, json.dumps(head | {"choices": [choice(token, None)]}))
            await event(send, json.dumps(head | {"choices": [choice("", "length")]}))
            await event(send, "[DONE]")
            await send({"type": "http.response.body", "body": b""})
        finally:
            left.cancel()


def choice(text, reason):
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def require(method, expected):
    if method != expected:
        raise BadRequest(405, f"use {expected}")


def parse(raw):
    """The fields of a completion request, checked."""
    try:
        request = json.loads(raw)
    except ValueError as error:
        raise BadRequest(400, f"the body is not JSON: {error}") from error
    if not isinstance(request, dict):
        raise BadRequest(400, "the body is not a JSON object")
    if request.get("model", MODEL_NAME) != MODEL_NAME:
        raise BadRequest(404, f"no such model: {request['model']}")
    prompt, count = request.get("prompt"), request.get("max_tokens", 16)
    stream = request.get("stream", False)
    if not isinstance(prompt, str):
        raise BadRequest(400, "`prompt` must be a string")
    if type(count) is not int or not 1 <= count <= MAX_TOKENS:
        raise BadRequest(400, f"`max_tokens` must be an integer from 1 to {MAX_TOKENS}")
    if not isinstance(stream, bool):
        raise BadRequest(400, "`stream` must be true or false")
    return {"prompt": prompt, "max_tokens": count, "stream": stream}


async def body(receive):
    """A request's whole body, bounded."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest(400, "the client left")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY:
            raise BadRequest(413, f"the body is larger than {MAX_BODY} bytes")
        more = message.get("more_body", False)
    return b"".join(parts)


async def answer(send, status, value):
    """One JSON response."""
    data = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def event(send, data):
    """One server-sent event."""
    await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="the file make_model.py wrote")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=4, help="inference threads")
    parser.add_argument("--session-threads", type=int, default=2, help="onnxruntime's own threads")
    parser.add_argument("--log-level", default="warning")
    arguments = parser.parse_args()
    # uvicorn stops on SIGTERM and then raises it once more for whoever was there before it.
    signal.signal(signal.SIGTERM, lambda *_: None)
    application = Service(arguments.model, arguments.workers, arguments.session_threads)
    uvicorn.run(application, host=arguments.host, port=arguments.port, log_level=arguments.log_level,
                access_log=False, timeout_graceful_shutdown=10)


if __name__ == "__main__":
    main()
