"""The model on disk: a decoder-only transformer in the safetensors format, weights quantised to 8 bits.

The format (https://huggingface.co/docs/safetensors) is a length, a JSON header and raw bytes, so reading and
writing it needs the standard library only. Weight matrices are int8 with one scale for each; the readout is
float32.
"""

from __future__ import annotations

import array
import json
import math
import mmap
import os
import pathlib
import random
import struct
import sys
import tempfile
from dataclasses import dataclass

NAME = "model.safetensors"
# Root mean square of a byte that is drawn evenly from -128 to 127.
BYTE_DEVIATION = 73.9


@dataclass(frozen=True)
class Shape:
    """The size of the transformer."""

    width: int = 512
    layers: int = 4
    heads: int = 8
    inner: int = 1024
    context: int = 256

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def matrices(self, alphabet: int) -> dict[str, tuple[int, int, float]]:
        """Every random matrix: rows, columns and the deviation that keeps activations near one."""
        sizes = {"embedding": (alphabet, self.width, 1.0), "position": (self.context, self.width, 1.0)}
        for layer in range(self.layers):
            for name in ("query", "key", "value", "out"):
                sizes[f"{layer}.{name}"] = (self.width, self.width, self.width**-0.5)
            sizes[f"{layer}.up"] = (self.width, self.inner, self.width**-0.5)
            sizes[f"{layer}.down"] = (self.inner, self.width, self.inner**-0.5)
        return sizes


@dataclass(frozen=True)
class Matrix:
    """One matrix, row by row: int8 values times `scale`, or float32 values where `scale` is none."""

    rows: int
    columns: int
    data: bytes | memoryview
    scale: float | None = None


@dataclass(frozen=True)
class ModelFile:
    """Alphabet, size and weights."""

    alphabet: str
    shape: Shape
    matrices: dict[str, Matrix]

    def tokens(self, text: str) -> list[int]:
        """A text as numbers; characters the model never saw read as blanks."""
        blank = self.alphabet.index(" ")
        return [place if (place := self.alphabet.find(character)) >= 0 else blank for character in text]


def drawn(alphabet: str, shape: Shape, seed: int) -> ModelFile:
    """A model of random weights, the same on every machine, whose readout is still zero."""
    source = random.Random(seed)
    matrices = {
        name: Matrix(rows, columns, source.randbytes(rows * columns), deviation / BYTE_DEVIATION)
        for name, (rows, columns, deviation) in shape.matrices(len(alphabet)).items()
    }
    matrices["readout"] = Matrix(shape.width, len(alphabet), bytes(4 * shape.width * len(alphabet)))
    return ModelFile(alphabet, shape, matrices)


def floats(rows: list[list[float]]) -> Matrix:
    """A float32 matrix."""
    data = array.array("f", (value for row in rows for value in row))
    if sys.byteorder == "big":
        data.byteswap()
    return Matrix(len(rows), len(rows[0]), data.tobytes())


def write(path: pathlib.Path, model: ModelFile) -> None:
    """Writes the file so that it is there whole or not at all."""
    header: dict[str, object] = {}
    scales = {name: matrix.scale for name, matrix in model.matrices.items() if matrix.scale is not None}
    header["__metadata__"] = {
        "alphabet": model.alphabet,
        "shape": json.dumps(vars(model.shape)),
        "scales": json.dumps(scales),
    }
    end = 0
    for name, matrix in model.matrices.items():
        start, end = end, end + len(matrix.data)
        kind = "F32" if matrix.scale is None else "I8"
        header[name] = {"dtype": kind, "shape": [matrix.rows, matrix.columns], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for matrix in model.matrices.values():
            file.write(matrix.data)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def read(path: pathlib.Path) -> ModelFile:
    """Maps the file; the matrices are views of it."""
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
    (length,) = struct.unpack("<Q", view[:8])
    header = json.loads(bytes(view[8 : 8 + length]))
    metadata = header.pop("__metadata__")
    scales, data = json.loads(metadata["scales"]), view[8 + length :]
    matrices = {}
    for name, entry in header.items():
        (rows, columns), (start, end) = entry["shape"], entry["data_offsets"]
        size = 4 if entry["dtype"] == "F32" else 1
        if end - start != size * math.prod((rows, columns)):
            raise ValueError(f"{path}: `{name}` has {end - start} bytes for {rows}x{columns} values")
        matrices[name] = Matrix(rows, columns, data[start:end], scales.get(name))
    return ModelFile(metadata["alphabet"], Shape(**json.loads(metadata["shape"])), matrices)
