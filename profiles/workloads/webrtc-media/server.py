#!/usr/bin/env python3
"""A WebRTC peer: takes offers over HTTP, sends generated video, and tells what it makes of the video it gets.

    POST /offer     {"type": "offer", "sdp": …}, answered with {"type": "answer", "sdp": …}
    GET  /status    open sessions, and how many frames each encoder has encoded

A session carries video both ways (H.264 or VP8, as the offer prefers) over ICE, DTLS and SRTP, and a data channel on
which the peer echoes `ping …` as `pong …` and reports every frame as `seen NUMBER OFF`. SIGTERM closes the sessions
and ends the process with exit code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

import av
import encoder
import frames
from aiohttp import web
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

# A server of the network beyond this host is asked nothing: host candidates are enough here.
LOCAL = RTCConfiguration(iceServers=[])


class Session:
    """One peer connection."""

    def __init__(self) -> None:
        self.peer = RTCPeerConnection(LOCAL)
        self.channel: RTCDataChannel | None = None
        self.peer.on("track", self.track)
        self.peer.on("datachannel", self.open)

    def open(self, channel: RTCDataChannel) -> None:
        self.channel = channel
        channel.on("message", self.message)

    def message(self, message: str | bytes) -> None:
        if self.channel and isinstance(message, str) and message.startswith("ping "):
            self.channel.send("pong " + message[len("ping ") :])

    def track(self, track: MediaStreamTrack) -> None:
        self.peer.addTrack(frames.Painted())
        self.watching = asyncio.create_task(self.watch(track))

    async def watch(self, track: MediaStreamTrack) -> None:
        """Decodes what the other side sends, and reports it."""
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.VideoFrame)
            number, off = frames.examine(frame)
            if self.channel and self.channel.readyState == "open":
                self.channel.send(f"seen {number} {off:.2f}")

    async def answer(self, offer: RTCSessionDescription) -> RTCSessionDescription:
        await self.peer.setRemoteDescription(offer)
        await self.peer.setLocalDescription(await self.peer.createAnswer())
        return self.peer.localDescription


class Service:
    """The HTTP side."""

    def __init__(self, name: str) -> None:
        self.encoder = name
        self.sessions: set[Session] = set()

    async def offer(self, request: web.Request) -> web.Response:
        session = Session()
        try:
            body = await request.json()
            answer = await session.answer(RTCSessionDescription(body["sdp"], body["type"]))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            await session.peer.close()
            raise web.HTTPBadRequest(text=f"not an offer: {type(error).__name__}") from error
        self.sessions.add(session)

        async def changed() -> None:
            if session.peer.connectionState in ("failed", "closed"):
                await session.peer.close()
                self.sessions.discard(session)

        session.peer.on("connectionstatechange", changed)
        return web.json_response({"type": answer.type, "sdp": answer.sdp})

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"encoder": self.encoder, "encoded": dict(encoder.ENCODED), "sessions": len(self.sessions)}
        )

    async def close(self) -> None:
        await asyncio.gather(*(session.peer.close() for session in self.sessions))


async def serve(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    service = Service(encoder.install(options.encoder))
    application = web.Application()
    application.add_routes([web.post("/offer", service.offer), web.get("/status", service.status)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, options.host, options.port).start()
    await stop.wait()
    await service.close()
    await runner.cleanup()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1", help="where HTTP listens; media uses every interface")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--encoder", choices=("auto", encoder.HARDWARE, encoder.SOFTWARE), default="auto",
                        help="what encodes H.264; `auto` tries NVENC and falls back without an error")
    options = parser.parse_args()
    try:
        asyncio.run(serve(options))
    except RuntimeError as error:
        print(f"server.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
