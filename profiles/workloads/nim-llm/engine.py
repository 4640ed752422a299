"""Chooses where the model runs, and generates text with it."""

from __future__ import annotations

import importlib.util
import itertools
import math
import pathlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import model_file

# The character that ends a question and an answer.
END = "\n"
THREADS = 2


class Model(Protocol):
    """What both implementations of the model can do."""

    file: model_file.ModelFile
    name: str

    def begin(self) -> Any: ...

    def features(self, tokens: Sequence[int]) -> list[list[float]]: ...

    def step(self, tokens: Sequence[int], cache: Any) -> tuple[list[float], str]: ...


def load(file: model_file.ModelFile, device: str) -> Model:
    """The model on `cuda`, on `cpu`, or with `auto` on the best there is.

    `auto` falls back without an error, as inference stacks do: whoever needs the GPU has to look at
    `system_fingerprint` in the answers.
    """
    has_torch = importlib.util.find_spec("torch") is not None
    if device != "cpu" and has_torch:
        import torch

        if device == "cuda" or torch.cuda.is_available():
            from torch_model import TorchModel

            return TorchModel(file, "cuda", THREADS)
    if device == "cuda":
        raise RuntimeError("`cuda` needs PyTorch, which is not installed; install it, or choose `cpu`")
    if importlib.util.find_spec("onnxruntime") is not None:
        from onnx_model import OnnxModel

        return OnnxModel(file, THREADS)
    if has_torch:
        from torch_model import TorchModel

        return TorchModel(file, "cpu", THREADS)
    raise RuntimeError("neither PyTorch nor onnxruntime is installed; install one of them")


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen: the likeliest one, or by chance where the temperature is above zero."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None


@dataclass(frozen=True)
class Token:
    """One character of an answer, and the kind of device that computed it."""

    text: str
    device: str


def pick(scores: Sequence[float], sampling: Sampling, source: random.Random) -> int:
    """The number of the next token."""
    order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)
    if sampling.temperature <= 0:
        return order[0]
    weights = [math.exp((scores[one] - scores[order[0]]) / sampling.temperature) for one in order]
    whole = sum(weights)
    inside = sum(1 for before in itertools.accumulate(weights, initial=0.0) if before < sampling.top_p * whole)
    count = max(1, min(inside, len(order)))
    return source.choices(order[:count], weights[:count])[0]


def generate(model: Model, prompt: str, sampling: Sampling, ignore_end: bool = False) -> Iterator[Token]:
    """The answer to a prompt, token by token, until it ends or the context is full."""
    tokens = model.file.tokens(prompt + END)
    cache, source = model.begin(), random.Random(sampling.seed)
    for _ in range(model.file.shape.context - len(tokens)):
        scores, device = model.step(tokens, cache)
        tokens = [pick(scores, sampling, source)]
        text = model.file.alphabet[tokens[0]]
        if text == END and not ignore_end:
            return
        yield Token(text, device)


def open_model(folder: pathlib.Path, device: str) -> Model:
    """Loads the model of a cache folder and runs it once."""
    model = load(model_file.read(folder / model_file.NAME), device)
    model.step(model.file.tokens(END), model.begin())
    return model
