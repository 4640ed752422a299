#!/usr/bin/env python3
"""Makes the model: a small decoder-only transformer that has learned questions.txt.

    make_model.py DIR        writes DIR/model.safetensors

All layers are random numbers drawn from a seed; only the readout is learned, by solving the ridge regression
"which character comes next" over what the last layer makes of every answer. Solving beats training here: it takes
seconds, is repeatable, and the model can recite its answers, so a client can check every one of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import pathlib
from operator import mul

import engine
import model_file

HERE = pathlib.Path(__file__).resolve().parent
SEED = 20240229
RIDGE = 1e-2


def pairs(text: str) -> list[tuple[str, str]]:
    """Questions with their answers."""
    return [(question, answer) for question, _, answer in (line.partition("\t") for line in text.splitlines())]


def solve(matrix: list[list[float]], right: list[list[float]]) -> list[list[float]]:
    """Solves a symmetric positive definite system, by elimination."""
    rows = [left + others for left, others in zip(matrix, right)]
    size = len(rows)
    for place in range(size):
        pivot = rows[place]
        for row in rows[place + 1 :]:
            if factor := row[place] / pivot[place]:
                row[place:] = [value - factor * other for value, other in zip(row[place:], pivot[place:])]
    for place in reversed(range(size)):
        pivot = rows[place]
        pivot[size:] = [value / pivot[place] for value in pivot[size:]]
        for row in rows[:place]:
            factor = row[place]
            row[size:] = [value - factor * other for value, other in zip(row[size:], pivot[size:])]
    return [row[size:] for row in rows]


def readout(model: engine.Model, examples: list[tuple[str, str]]) -> list[list[float]]:
    """The readout that continues every question with its answer."""
    features: list[list[float]] = []
    following: list[int] = []
    for question, answer in examples:
        tokens = model.file.tokens(question + engine.END + answer + engine.END)
        features += model.features(tokens[:-1])[len(question) :]
        following += tokens[len(question) + 1 :]
    gram = [[sum(map(mul, row, other)) for other in features] for row in features]
    for place, row in enumerate(gram):
        row[place] += RIDGE
    size = len(model.file.alphabet)
    duals = solve(gram, [[float(token == one) for one in range(size)] for token in following])
    columns = list(zip(*duals))
    return [[sum(map(mul, feature, column)) for column in columns] for feature in zip(*features)]


def make(examples: list[tuple[str, str]]) -> model_file.ModelFile:
    """The finished model."""
    letters = {letter for pair in examples for text in pair for letter in text} | {engine.END, " "}
    drawn = model_file.drawn("".join(sorted(letters)), model_file.Shape(), SEED)
    learned = model_file.floats(readout(engine.load(drawn, "auto"), examples))
    return dataclasses.replace(drawn, matrices=drawn.matrices | {"readout": learned})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="where the model goes")
    parser.add_argument("--questions", type=pathlib.Path, default=HERE / "questions.txt")
    arguments = parser.parse_args()
    examples = pairs(arguments.questions.read_text(encoding="utf-8"))
    model_file.write(arguments.folder / model_file.NAME, make(examples))
    model = engine.open_model(arguments.folder, "auto")
    for question, answer in examples:
        said = "".join(token.text for token in engine.generate(model, question, engine.Sampling()))
        if said != answer:
            raise SystemExit(f"make_model.py: the model answers {question!r} with {said!r}, not with {answer!r}")
    print(f"{arguments.folder / model_file.NAME}: {len(examples)} answers, made with {model.name}")


if __name__ == "__main__":
    main()
