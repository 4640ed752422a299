"""Writes ONNX models with the standard library alone.

An ONNX model is a protocol buffer; the few messages that a decoder needs are written here, so that the machine
that runs it needs onnxruntime but neither `onnx` nor `protobuf` for Python.
Field numbers: https://github.com/onnx/onnx/blob/v1.19.1/onnx/onnx.proto
Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

FLOAT, INT64 = 1, 7
# Old versions that every onnxruntime of the last years reads.
IR_VERSION, OPSET = 8, 17


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(parts) + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def attribute(name: str, value: int | Sequence[int]) -> bytes:
    """An integer (type 2) or a list of integers (type 7)."""
    if isinstance(value, int):
        return block(1, name) + number(3, value) + number(20, 2)
    return block(1, name) + b"".join(number(8, part) for part in value) + number(20, 7)


class Graph:
    """A graph that grows node by node; every method returns the name of what it made."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.count = 0

    def node(self, kind: str, *inputs: str, output: str = "", **attributes: int | Sequence[int]) -> str:
        self.count += 1
        name = output or f"{kind}{self.count}"
        data = b"".join(block(1, one) for one in inputs) + block(2, name) + block(4, kind)
        self.parts.append(block(1, data + b"".join(block(5, attribute(*pair)) for pair in attributes.items())))
        return name

    def tensor(self, name: str, kind: int, sizes: Sequence[int], data: bytes) -> str:
        dimensions = b"".join(number(1, size) for size in sizes)
        self.parts.append(block(5, dimensions + number(2, kind) + block(8, name) + block(9, data)))
        return name

    def constant(self, value: float | Sequence[int]) -> str:
        self.count += 1
        name = f"constant{self.count}"
        if isinstance(value, float):
            return self.tensor(name, FLOAT, (), struct.pack("<f", value))
        return self.tensor(name, INT64, (len(value),), struct.pack(f"<{len(value)}q", *value))

    def input(self, name: str, kind: int, sizes: Sequence[int | str]) -> str:
        self.parts.append(block(11, information(name, kind, sizes)))
        return name

    def output(self, name: str, kind: int, sizes: Sequence[int | str]) -> None:
        self.parts.append(block(12, information(name, kind, sizes)))

    def model(self, name: str) -> bytes:
        graph = b"".join(self.parts) + block(2, name)
        return number(1, IR_VERSION) + block(7, graph) + block(8, number(2, OPSET))


def information(name: str, kind: int, sizes: Sequence[int | str]) -> bytes:
    """Name, type and shape of an input or output; a size that is a name is known at run time only."""
    shape = b"".join(block(1, number(1, one) if isinstance(one, int) else block(2, one)) for one in sizes)
    return block(1, name) + block(2, block(1, number(1, kind) + block(2, shape)))
