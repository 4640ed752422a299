"""The model on a GPU (or, where there is none, on the CPU), by PyTorch."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Sequence

import torch
from model_file import Matrix, ModelFile
from torch.nn import functional


class Cache:
    """Keys and values of the tokens so far, with room for a whole context."""

    def __init__(self, file: ModelFile, device: torch.device) -> None:
        shape = file.shape
        size = (shape.layers, 2, shape.heads, shape.context, shape.head_width)
        self.length = 0
        self.kept = torch.empty(size, device=device)


class TorchModel:
    """The decoder; on a GPU every thread that calls it has a stream of its own."""

    def __init__(self, file: ModelFile, device: str, threads: int) -> None:
        self.file, self.device = file, torch.device(device)
        self.name = f"torch-{torch.__version__}"
        self.local = threading.local()
        torch.set_num_threads(threads)
        self.weights = {name: self.load(matrix) for name, matrix in file.matrices.items()}
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def load(self, matrix: Matrix) -> torch.Tensor:
        """A matrix of the file as float32 on the device; to a GPU it goes through pinned memory."""
        kind = torch.float32 if matrix.scale is None else torch.int8
        with warnings.catch_warnings():
            # Whoever makes a model hands in bytes, which PyTorch would rather write to; nothing here does.
            warnings.simplefilter("ignore")
            raw = torch.frombuffer(matrix.data, dtype=kind)
        raw = raw.reshape(matrix.rows, matrix.columns)
        if self.device.type == "cuda":
            raw = raw.pin_memory().to(self.device, non_blocking=True)
        return raw.to(torch.float32) * (matrix.scale or 1.0)

    def begin(self) -> Cache:
        return Cache(self.file, self.device)

    def features(self, tokens: Sequence[int]) -> list[list[float]]:
        """What the readout sees at every token."""
        with torch.inference_mode():
            return self.run(tokens, self.begin()).tolist()

    def step(self, tokens: Sequence[int], cache: Cache) -> tuple[list[float], str]:
        """Takes tokens in; the scores of the next one, and the kind of device that computed them."""
        with torch.inference_mode():
            if self.device.type != "cuda":
                scores = self.scores(tokens, cache)
            else:
                if not hasattr(self.local, "stream"):
                    self.local.stream = torch.cuda.Stream(self.device)
                with torch.cuda.stream(self.local.stream):
                    scores = self.scores(tokens, cache)
            return scores.tolist(), scores.device.type

    def scores(self, tokens: Sequence[int], cache: Cache) -> torch.Tensor:
        return self.run(tokens, cache)[-1] @ self.weights["readout"]

    def run(self, tokens: Sequence[int], cache: Cache) -> torch.Tensor:
        """The last layer's output for new tokens: the first ones of a sequence, or one more."""
        shape, weights = self.file.shape, self.weights
        start, end = cache.length, cache.length + len(tokens)
        if start and len(tokens) != 1:
            raise ValueError("after the first tokens only one may follow at a time")
        x = weights["embedding"][torch.tensor(tokens, device=self.device)] + weights["position"][start:end]
        for layer in range(shape.layers):
            seen = norm(x)
            query, key, value = (
                (seen @ weights[f"{layer}.{name}"]).view(-1, shape.heads, shape.head_width).transpose(0, 1)
                for name in ("query", "key", "value")
            )
            cache.kept[layer, 0, :, start:end], cache.kept[layer, 1, :, start:end] = key, value
            mixed = functional.scaled_dot_product_attention(
                query[None], cache.kept[layer, None, 0, :, :end], cache.kept[layer, None, 1, :, :end],
                is_causal=start == 0,
            )
            x = x + mixed[0].transpose(0, 1).reshape(-1, shape.width) @ weights[f"{layer}.out"]
            x = x + functional.relu(norm(x) @ weights[f"{layer}.up"]) @ weights[f"{layer}.down"]
        cache.length = end
        return norm(x)


def norm(x: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)
