#!/usr/bin/env python3
"""Makes the demo's model: a small character-level language model that has learned corpus.txt.

The last CONTEXT characters are embedded, sent through one wide random layer, and read out by a
layer whose weights are the ridge-regression solution for "which character comes next". Solving
beats training here: it takes a second, is repeatable, and the model can recite the corpus, so a
client can check every answer.
"""

import argparse
import json
import os
import pathlib
import tempfile

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = pathlib.Path(__file__).resolve().parent
CONTEXT = 16
EMBEDDING = 32
FEATURES = 2048
SEED = 20240229
RIDGE = 1e-3


def windows(corpus, alphabet):
    """Every (context, next character) of the corpus, from each line's start onward."""
    index = {character: number for number, character in enumerate(alphabet)}
    blank = index[" "]
    contexts, following = [], []
    starts = [0] + [place + 1 for place, character in enumerate(corpus) if character == "\n"]
    for start in starts:
        # From a line's start the context begins empty, as it does for a client's prompt; the text
        # runs on into the next line so that a completion can be longer than the line.
        text = corpus[start : start + 160]
        for place in range(1, len(text)):
            seen = [index[character] for character in text[max(0, place - CONTEXT) : place]]
            contexts.append([blank] * (CONTEXT - len(seen)) + seen)
            following.append(index[text[place]])
    pairs = sorted(set(zip(map(tuple, contexts), following)))
    return numpy.array([pair[0] for pair in pairs]), numpy.array([pair[1] for pair in pairs])


def solve(corpus, alphabet):
    """The model's four weights."""
    random = numpy.random.default_rng(SEED)
    embedding = random.standard_normal((len(alphabet), EMBEDDING))
    hidden = random.standard_normal((CONTEXT * EMBEDDING, FEATURES)) / (CONTEXT * EMBEDDING) ** 0.5
    bias = random.standard_normal(FEATURES)
    contexts, following = windows(corpus, alphabet)
    features = numpy.maximum(embedding[contexts].reshape(len(contexts), -1) @ hidden + bias, 0)
    target = numpy.eye(len(alphabet))[following]
    gram = features @ features.T + RIDGE * numpy.eye(len(contexts))
    readout = features.T @ numpy.linalg.solve(gram, target)
    return {"embedding": embedding, "hidden": hidden, "bias": bias, "readout": readout}


def build(corpus):
    """The ONNX model for a corpus, with its alphabet and context length as metadata."""
    alphabet = "".join(sorted(set(corpus) | {" "}))
    weights = [
        numpy_helper.from_array(value.astype(numpy.float32), name)
        for name, value in solve(corpus, alphabet).items()
    ]
    nodes = [
        helper.make_node("Gather", ["embedding", "tokens"], ["embedded"]),
        helper.make_node("Flatten", ["embedded"], ["flat"], axis=1),
        helper.make_node("MatMul", ["flat", "hidden"], ["projected"]),
        helper.make_node("Add", ["projected", "bias"], ["shifted"]),
        helper.make_node("Relu", ["shifted"], ["features"]),
        helper.make_node("MatMul", ["features", "readout"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "next-character",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", CONTEXT])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", len(alphabet)])],
        weights,
    )
    # An old opset and format version: every onnxruntime of the last years reads them.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"alphabet": json.dumps(alphabet), "context": str(CONTEXT)})
    onnx.checker.check_model(model)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path, help="where the model goes")
    parser.add_argument("--corpus", type=pathlib.Path, default=HERE / "corpus.txt")
    arguments = parser.parse_args()
    model = build(arguments.corpus.read_text(encoding="utf-8"))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=arguments.output.parent, delete=False) as file:
        file.write(model.SerializeToString())
    os.chmod(file.name, 0o644)
    os.replace(file.name, arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
