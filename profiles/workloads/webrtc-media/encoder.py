"""H.264 by NVENC where there is one, else by libx264; which of them encoded is counted frame by frame."""

from __future__ import annotations

import collections
import fractions
from collections.abc import Iterator

import aiortc.codecs
import av
import frames
from aiortc.codecs.h264 import MAX_FRAME_RATE, H264Encoder
from av.video.codeccontext import VideoCodecContext

BITRATE = 1_500_000
HARDWARE, SOFTWARE = "h264_nvenc", "libx264"
# Frames that each encoder has encoded in this process.
ENCODED: collections.Counter[str] = collections.Counter()


def hardware(width: int, height: int) -> VideoCodecContext:
    """An NVENC encoder without delay, for a decoder that may join at any key frame."""
    context = av.CodecContext.create(HARDWARE, "w")
    assert isinstance(context, VideoCodecContext)
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.bit_rate = BITRATE
    context.framerate = fractions.Fraction(MAX_FRAME_RATE, 1)
    context.time_base = fractions.Fraction(1, MAX_FRAME_RATE)
    context.options = {"preset": "p1", "tune": "ull", "delay": "0", "bf": "0",
                       "forced-idr": "1", "profile": "baseline"}
    return context


def has_hardware() -> str | None:
    """Tries to encode a frame by NVENC; why it cannot, or none when it can."""
    try:
        context = hardware(frames.WIDTH, frames.HEIGHT)
        packets = [*context.encode(frames.paint(0)), *context.encode(None)]
    except (av.FFmpegError, ValueError) as error:
        return str(error)
    return None if packets else "it made no packet"


class Counted(H264Encoder):
    """aiortc's encoder, with libx264."""

    def _encode_frame(self, frame: av.VideoFrame, force_keyframe: bool) -> Iterator[bytes]:
        yield from super()._encode_frame(frame, force_keyframe)
        assert self.codec is not None
        ENCODED[self.codec.name] += 1


class Hardware(Counted):
    """aiortc's encoder, with NVENC."""

    @property
    def target_bitrate(self) -> int:
        # A constant: for another one aiortc would go back to the encoder that it knows.
        return BITRATE

    @target_bitrate.setter
    def target_bitrate(self, _: int) -> None:
        pass

    def _encode_frame(self, frame: av.VideoFrame, force_keyframe: bool) -> Iterator[bytes]:
        if self.codec is None or (frame.width, frame.height) != (self.codec.width, self.codec.height):
            self.codec = hardware(frame.width, frame.height)
        return super()._encode_frame(frame, force_keyframe)


def install(choice: str) -> str:
    """Makes aiortc encode with `auto`, `h264_nvenc` or `libx264`; the encoder's name.

    `auto` falls back without an error, as media stacks do.
    """
    why = None if choice == SOFTWARE else has_hardware()
    if choice == HARDWARE and why is not None:
        raise RuntimeError(f"`{HARDWARE}` does not work here: {why}; choose `auto` or `{SOFTWARE}`")
    name, encoder = (SOFTWARE, Counted) if choice == SOFTWARE or why is not None else (HARDWARE, Hardware)
    # The place where aiortc's own get_encoder() looks it up.
    vars(aiortc.codecs)["H264Encoder"] = encoder
    return name
