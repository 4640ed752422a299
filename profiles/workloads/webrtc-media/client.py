#!/usr/bin/env python3
"""The other WebRTC peer: checks that the frames it gets, and those the service gets from it, are right.

    client.py URL ready                            exit code 0 when the service answers
    client.py URL health [--encoder h264_nvenc]    one session, and what encoded its frames
    client.py URL exercise                         sessions at once in H.264 and VP8, wrong offers, one that vanishes

Anything wrong is printed and makes the exit code 1. A service that can fall back from NVENC to software sends the
same pictures then: `--encoder` makes that a failure.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

import aiohttp
import av
import frames
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

FRAMES, PINGS = 40, 5
TIMEOUT = 60.0


class Wrong(Exception):
    """The service did not do what it must."""


class Visit:
    """One session, seen from the client."""

    def __init__(self, codec: str) -> None:
        self.peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.received: list[tuple[int, float]] = []
        self.reported: list[tuple[int, float]] = []
        self.pongs: list[str] = []
        self.enough = asyncio.Event()
        self.failure: str | None = None
        transceiver = self.peer.addTransceiver(frames.Painted(), direction="sendrecv")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        transceiver.setCodecPreferences([one for one in codecs if one.mimeType.lower() == f"video/{codec}"])
        self.channel = self.peer.createDataChannel("control")
        self.channel.on("open", self.ping)
        self.channel.on("message", self.message)
        self.peer.on("track", self.track)
        self.peer.on("connectionstatechange", self.changed)

    def ping(self) -> None:
        for number in range(PINGS):
            self.channel.send(f"ping {number}")

    def message(self, message: str) -> None:
        kind, _, rest = message.partition(" ")
        if kind == "pong":
            self.pongs.append(rest)
        elif kind == "seen":
            number, off = rest.split(" ")
            self.reported.append((int(number), float(off)))
        self.look()

    def track(self, track: MediaStreamTrack) -> None:
        self.watching = asyncio.create_task(self.watch(track))

    async def watch(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.VideoFrame)
                self.received.append(frames.examine(frame))
                self.look()
        except MediaStreamError:
            pass
        except ValueError as error:
            self.failure = str(error)
            self.enough.set()

    def changed(self) -> None:
        if self.peer.connectionState == "failed":
            self.failure = "the connection failed; is there a network interface besides the loopback?"
            self.enough.set()

    def look(self) -> None:
        if min(len(self.received), len(self.reported)) >= FRAMES and len(self.pongs) == PINGS:
            self.enough.set()

    async def call(self, http: aiohttp.ClientSession, url: str) -> None:
        """Offers a session and accepts the answer."""
        await self.peer.setLocalDescription(await self.peer.createOffer())
        offer = {"type": self.peer.localDescription.type, "sdp": self.peer.localDescription.sdp}
        async with http.post(f"{url}/offer", json=offer) as response:
            if response.status != 200:
                raise Wrong(f"the offer was answered with {response.status}: {await response.text()}")
            answer = await response.json()
        await self.peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))

    async def talk(self) -> None:
        """Waits until enough came both ways, and checks it."""
        try:
            await asyncio.wait_for(self.enough.wait(), TIMEOUT)
        except asyncio.TimeoutError:
            pass
        if self.failure:
            raise Wrong(self.failure)
        if self.pongs != [str(number) for number in range(PINGS)]:
            raise Wrong(f"the data channel echoed {self.pongs!r}")
        check("received", self.received)
        check("the service received", self.reported)


def check(what: str, seen: list[tuple[int, float]]) -> None:
    """Enough frames, in order, each with its own picture."""
    if len(seen) < FRAMES:
        raise Wrong(f"{what} {len(seen)} frames instead of {FRAMES} within {TIMEOUT:.0f} s")
    numbers = [number for number, _ in seen]
    if any(later <= earlier for earlier, later in zip(numbers, numbers[1:])):
        raise Wrong(f"{what} frames out of order: {numbers}")
    if numbers[-1] > 100 * len(numbers):
        raise Wrong(f"{what} frames that were never sent: {numbers}")
    worst = max(off for _, off in seen)
    if worst > frames.TOLERANCE:
        raise Wrong(f"{what} a frame that is off by {worst:.1f} on average")


async def visit(http: aiohttp.ClientSession, url: str, codec: str) -> int:
    """A whole session; how many frames came."""
    one = Visit(codec)
    try:
        await one.call(http, url)
        await one.talk()
    finally:
        await one.peer.close()
    return len(one.received) + len(one.reported)


async def vanish(http: aiohttp.ClientSession, url: str) -> RTCPeerConnection:
    """A session whose client says nothing more after the answer: the service has to close it when it stops."""
    one = Visit("h264")
    await one.peer.setLocalDescription(await one.peer.createOffer())
    async with http.post(f"{url}/offer", json={"type": "offer", "sdp": one.peer.localDescription.sdp}) as response:
        if response.status != 200:
            raise Wrong(f"the offer was answered with {response.status}")
    return one.peer


async def status(http: aiohttp.ClientSession, url: str) -> Any:
    async with http.get(f"{url}/status") as response:
        if response.status != 200:
            raise Wrong(f"/status answers {response.status}")
        return await response.json()


async def refused(http: aiohttp.ClientSession, url: str) -> None:
    for body in (b"{not json", b"{}", b'{"type": "hello", "sdp": ""}', b'{"type": "offer", "sdp": 7}'):
        async with http.post(f"{url}/offer", data=body, headers={"Content-Type": "application/json"}) as response:
            if response.status != 400:
                raise Wrong(f"{body!r} was answered with {response.status} instead of 400")


async def ready(http: aiohttp.ClientSession, options: argparse.Namespace) -> None:
    await status(http, options.url)


async def health(http: aiohttp.ClientSession, options: argparse.Namespace) -> None:
    before = (await status(http, options.url))["encoded"]
    await visit(http, options.url, "h264")
    after = (await status(http, options.url))["encoded"]
    used = sorted(name for name in after if after[name] > before.get(name, 0))
    print(f"encoded by {', '.join(used)}", file=sys.stderr)
    if options.encoder and used != [options.encoder]:
        raise Wrong(f"the frames were encoded by {', '.join(used)}, not by {options.encoder}")


async def exercise(http: aiohttp.ClientSession, options: argparse.Namespace) -> None:
    codecs = ["h264" if number % 3 else "vp8" for number in range(options.sessions)]
    frames_seen = sum(await asyncio.gather(*(visit(http, options.url, codec) for codec in codecs)))
    await refused(http, options.url)
    peer = await vanish(http, options.url)
    await health(http, options)
    await peer.close()
    print(f"{frames_seen} frames in {options.sessions} sessions: every one was right", file=sys.stderr)


async def act(options: argparse.Namespace) -> None:
    action = {"ready": ready, "health": health, "exercise": exercise}[options.action]
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as http:
        await action(http, options)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="for example http://127.0.0.1:8080")
    parser.add_argument("action", choices=("ready", "health", "exercise"))
    parser.add_argument("--encoder", help="what must have encoded the frames: h264_nvenc or libx264")
    parser.add_argument("--sessions", type=int, default=4)
    options = parser.parse_args()
    try:
        asyncio.run(act(options))
    except (Wrong, OSError, aiohttp.ClientError, asyncio.TimeoutError, ValueError, KeyError) as error:
        print(f"{options.action}: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
