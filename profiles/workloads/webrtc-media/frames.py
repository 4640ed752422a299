"""Video frames that say which one they are, so that whoever receives them can tell whether they are right.

The upper part is a bar code of the frame's number that survives lossy coding, the lower part a slope that moves with
the number; the colour planes turn with it too.
"""

from __future__ import annotations

import av
from aiortc import VideoStreamTrack

WIDTH, HEIGHT = 320, 240
BITS = 16
BAR = WIDTH // BITS
CODE_ROWS = HEIGHT // 2
DARK, LIGHT = 32, 220
# How far a pixel may be off on average after coding, of 255.
TOLERANCE = 12.0


def luma(number: int) -> tuple[bytes, bytes]:
    """A row of the bar code and a row of the slope."""
    code = b"".join(bytes([LIGHT if number >> bit & 1 else DARK]) * BAR for bit in range(BITS))
    slope = bytes(DARK + (LIGHT - DARK) * abs((x + 4 * number) % WIDTH * 2 - WIDTH) // WIDTH for x in range(WIDTH))
    return code, slope


def colours(number: int) -> tuple[int, int]:
    return 64 + number % 128, 192 - number % 128


def fill(plane: av.video.plane.VideoPlane, rows: list[bytes]) -> None:
    pad = bytes(plane.line_size - len(rows[0]))
    plane.update(b"".join(row + pad for row in rows))


def paint(number: int) -> av.VideoFrame:
    """The frame with this number (modulo 2 to the power of BITS)."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    code, slope = luma(number)
    fill(frame.planes[0], [code] * CODE_ROWS + [slope] * (HEIGHT - CODE_ROWS))
    for plane, colour in zip(frame.planes[1:], colours(number)):
        fill(plane, [bytes([colour]) * (WIDTH // 2)] * (HEIGHT // 2))
    return frame


def examine(frame: av.VideoFrame) -> tuple[int, float]:
    """The number that a received frame carries, and how far its pixels are off on average."""
    if (frame.width, frame.height) != (WIDTH, HEIGHT):
        raise ValueError(f"a frame of {frame.width}x{frame.height} instead of {WIDTH}x{HEIGHT}")
    frame = frame.reformat(format="yuv420p")
    data, stride = bytes(frame.planes[0]), frame.planes[0].line_size
    middle = CODE_ROWS // 2 * stride
    number = sum((data[middle + bit * BAR + BAR // 2] > (DARK + LIGHT) // 2) << bit for bit in range(BITS))
    code, slope = luma(number)
    off = [abs(data[middle + x] - code[x]) for x in range(BAR // 2, WIDTH, BAR)]
    for y in range(CODE_ROWS + 8, HEIGHT - 8, 8):
        off += [abs(data[y * stride + x] - slope[x]) for x in range(0, WIDTH, 4)]
    for plane, colour in zip(frame.planes[1:], colours(number)):
        off.append(abs(bytes(plane)[HEIGHT // 4 * plane.line_size + WIDTH // 4] - colour))
    return number, sum(off) / len(off)


class Painted(VideoStreamTrack):
    """A track of painted frames, 30 a second."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = paint(self.number)
        frame.pts, frame.time_base = pts, time_base
        self.number += 1
        return frame
