"""HTTP/1.1 over asyncio with the standard library alone: keep-alive, chunked streams, a stop that drains."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

MAX_BODY = 1 << 20
# How long a kept connection may be silent between two requests.
IDLE = 75.0


@dataclass(frozen=True)
class Request:
    """One request, its body whole."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Refused(Exception):
    """A request that is answered with an error in OpenAI's form."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gone(Exception):
    """The client left."""


class Connection:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.keep, self.busy, self.begun = True, False, False

    async def request(self) -> Request | None:
        """The next request; none when the client has said all it wanted to."""
        try:
            head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), IDLE)
        except (asyncio.IncompleteReadError, asyncio.TimeoutError, ConnectionError):
            return None
        except asyncio.LimitOverrunError as error:
            self.keep = False
            raise Refused(431, "the header is too long") from error
        self.busy, self.begun = True, False
        try:
            first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
            method, path, version = first.split(" ")
            headers = {name.strip().lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
            size = int(headers.get("content-length", "0"))
        except ValueError as error:
            self.keep = False
            raise Refused(400, "not an HTTP request") from error
        kept = headers.get("connection", "").lower()
        self.keep = kept != "close" and (version == "HTTP/1.1" or kept == "keep-alive")
        if "transfer-encoding" in headers or not 0 <= size <= MAX_BODY:
            self.keep = False
            raise Refused(413, f"a body needs a Content-Length of at most {MAX_BODY} bytes")
        try:
            body = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Gone from error
        return Request(method, path.partition("?")[0], headers, body)

    async def answer(self, status: int, data: bytes, kind: str) -> None:
        """A whole answer."""
        self.head(status, kind, f"Content-Length: {len(data)}")
        await self.send(data)

    async def json(self, status: int, value: object) -> None:
        await self.answer(status, json.dumps(value).encode(), "application/json")

    async def event(self, data: str) -> None:
        """One server-sent event; the first one opens the stream."""
        if not self.begun:
            self.head(200, "text/event-stream", "Transfer-Encoding: chunked")
        text = f"data: {data}\n\n".encode()
        await self.send(b"%x\r\n%s\r\n" % (len(text), text))

    async def end_events(self) -> None:
        await self.send(b"0\r\n\r\n")

    def head(self, status: int, kind: str, length: str) -> None:
        self.begun = True
        kept = "keep-alive" if self.keep else "close"
        lines = (f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {kind}", length,
                 "Cache-Control: no-cache", f"Connection: {kept}")
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def send(self, data: bytes) -> None:
        if self.reader.at_eof():
            raise Gone
        self.writer.write(data)
        try:
            await self.writer.drain()
        except ConnectionError as error:
            raise Gone from error


class Server:
    """Answers requests until it is told to stop; then those in flight are answered and no others."""

    def __init__(self, route: Callable[[Request, Connection], Awaitable[None]]) -> None:
        self.route = route
        self.stopping = asyncio.Event()
        self.open: dict[asyncio.Task[None], Connection] = {}

    async def run(self, host: str, ports: list[int], drain: float) -> None:
        """Listens, waits for the stop, and gives open requests `drain` seconds."""
        listeners = [await asyncio.start_server(self.accept, host, port) for port in ports]
        await self.stopping.wait()
        for listener in listeners:
            listener.close()
        for connection in self.open.values():
            if not connection.busy:
                connection.writer.close()
        if self.open:
            await asyncio.wait(self.open, timeout=drain)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task, connection = asyncio.current_task(), Connection(reader, writer)
        assert task is not None
        self.open[task] = connection
        try:
            while not self.stopping.is_set() and await self.once(connection):
                connection.busy = False
        except Gone:
            pass
        finally:
            writer.close()
            del self.open[task]

    async def once(self, connection: Connection) -> bool:
        """One request; whether another may follow."""
        try:
            request = await connection.request()
            if request is None:
                return False
            await self.route(request, connection)
        except Refused as refusal:
            if connection.begun:
                return False
            error = {"message": str(refusal), "type": "invalid_request_error", "code": refusal.status}
            await connection.json(refusal.status, {"error": error})
        return connection.keep
