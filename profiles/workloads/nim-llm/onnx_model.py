"""The model on the CPU, by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence

import numpy
import onnxruntime
from model_file import Matrix, ModelFile
from onnx_file import FLOAT, INT64, Graph

MASKED = -1e9


def values(matrix: Matrix) -> numpy.ndarray:
    """A matrix of the file as float32."""
    kind = numpy.dtype("<f4") if matrix.scale is None else numpy.dtype(numpy.int8)
    data = numpy.frombuffer(matrix.data, kind).astype(numpy.float32)
    return data.reshape(matrix.rows, matrix.columns) * numpy.float32(matrix.scale or 1)


def norm(graph: Graph, x: str) -> str:
    square = graph.node("ReduceMean", graph.node("Mul", x, x), axes=[-1], keepdims=1)
    return graph.node("Div", x, graph.node("Sqrt", graph.node("Add", square, graph.constant(1e-5))))


def build(file: ModelFile) -> bytes:
    """The ONNX graph: new tokens and what the earlier ones left in, scores and what these leave out."""
    shape, graph = file.shape, Graph()
    for name, matrix in file.matrices.items():
        graph.tensor(name, FLOAT, (matrix.rows, matrix.columns), values(matrix).astype("<f4").tobytes())
    tokens, places = graph.input("tokens", INT64, ["new"]), graph.input("places", INT64, ["new"])
    mask = graph.input("mask", FLOAT, ["new", "all"])
    heads = graph.constant([-1, shape.heads, shape.head_width])
    flat, scale = graph.constant([-1, shape.width]), graph.constant(shape.head_width**-0.5)

    def split(x: str, weights: str) -> str:
        parts = graph.node("Reshape", graph.node("MatMul", x, weights), heads)
        return graph.node("Transpose", parts, perm=[1, 0, 2])

    x = graph.node("Add", graph.node("Gather", "embedding", tokens), graph.node("Gather", "position", places))
    for layer in range(shape.layers):
        seen = norm(graph, x)
        kept = {}
        for name in ("key", "value"):
            past = graph.input(f"{layer}.past.{name}", FLOAT, [shape.heads, "past", shape.head_width])
            kept[name] = graph.node("Concat", past, split(seen, f"{layer}.{name}"),
                                    output=f"{layer}.kept.{name}", axis=1)
            graph.output(kept[name], FLOAT, [shape.heads, "all", shape.head_width])
        keys = graph.node("Transpose", kept["key"], perm=[0, 2, 1])
        match = graph.node("Mul", graph.node("MatMul", split(seen, f"{layer}.query"), keys), scale)
        weight = graph.node("Softmax", graph.node("Add", match, mask), axis=-1)
        mixed = graph.node("Transpose", graph.node("MatMul", weight, kept["value"]), perm=[1, 0, 2])
        joined = graph.node("MatMul", graph.node("Reshape", mixed, flat), f"{layer}.out")
        x = graph.node("Add", x, joined)
        inner = graph.node("Relu", graph.node("MatMul", norm(graph, x), f"{layer}.up"))
        x = graph.node("Add", x, graph.node("MatMul", inner, f"{layer}.down"))
    last = norm(graph, x)
    graph.node("Identity", last, output="features")
    graph.node("MatMul", last, "readout", output="scores")
    graph.output("features", FLOAT, ["new", shape.width])
    graph.output("scores", FLOAT, ["new", len(file.alphabet)])
    return graph.model("decoder")


class Cache:
    """Keys and values of the tokens so far."""

    def __init__(self, file: ModelFile) -> None:
        empty = numpy.zeros((file.shape.heads, 0, file.shape.head_width), numpy.float32)
        self.length = 0
        self.kept = {
            f"{layer}.past.{name}": empty for layer in range(file.shape.layers) for name in ("key", "value")
        }


class OnnxModel:
    """The decoder in an onnxruntime session, which has threads of its own."""

    def __init__(self, file: ModelFile, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Several requests share few cores: waiting threads sleep instead of spinning.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.file = file
        self.session = onnxruntime.InferenceSession(build(file), options, providers=["CPUExecutionProvider"])
        self.name = f"onnxruntime-{onnxruntime.__version__}"

    def begin(self) -> Cache:
        return Cache(self.file)

    def features(self, tokens: Sequence[int]) -> list[list[float]]:
        """What the readout sees at every token."""
        return self.run("features", tokens, self.begin()).tolist()

    def step(self, tokens: Sequence[int], cache: Cache) -> tuple[list[float], str]:
        """Takes tokens in; the scores of the next one, and the kind of device that computed them."""
        scores = self.run("scores", tokens, cache)[-1]
        return scores.tolist(), "cpu"

    def run(self, wanted: str, tokens: Sequence[int], cache: Cache) -> numpy.ndarray:
        new, past = len(tokens), cache.length
        mask = numpy.triu(numpy.full((new, past + new), MASKED, numpy.float32), past + 1)
        inputs = {
            "tokens": numpy.array(tokens, numpy.int64),
            "places": numpy.arange(past, past + new, dtype=numpy.int64),
            "mask": mask,
            **cache.kept,
        }
        kept = [name.replace("past", "kept") for name in cache.kept]
        result, *states = self.session.run([wanted, *kept], inputs)
        cache.kept = dict(zip(cache.kept, states))
        cache.length += new
        return result
