"""``wakeful bench edit``: how long an edit takes to be answered by ``wakeful run --reload``.

Each try writes a file as an editor does, and asks by new connections until an answer shows it. The
projects are those of ``wakeful new``, and the shipped file.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from loadtests.bench.install import ROOT, SHIPPED, run
from loadtests.bench.numbers import HEAD, Number
from loadtests.command import Bench, Table, absent
from loadtests.server import ChildFailed, local, path_of, script

ANSWER_S: Final = 30.0
"""Longest wait for an edit."""

POLL_S: Final = 0.005

NAME: Final = "hello"

Answer = Callable[[str], str]
"""What the server at a URL answers now."""


def text(bench: Bench) -> Iterator[Number]:
    """The code of a stage without a model."""
    yield of_project(bench, "text", "longest.upper()", "longest.upper() + '{number}'")


def model(bench: Bench) -> Iterator[Number]:
    """The code of a stage behind a model."""
    yield of_project(bench, "onnx", '"setosa"', '"setosa{number}"')


def of_project(bench: Bench, template: str, before: str, after: str) -> Number:
    """A new project's module, by the answer to its own request."""
    folder = bench.folder / template
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    run([script("wakeful"), "new", NAME, "--template", template], folder)
    project = folder / NAME
    row = json.loads((project / "request.json").read_text())

    def answer(url: str) -> str:
        response = httpx.post(url + path_of(NAME), json=row)
        if response.status_code != 200:
            raise ChildFailed(f"a call was refused meanwhile: {response.text}")
        return response.text

    what = f"edit of code to its answer, `wakeful new --template {template}`"
    served, module = project / SHIPPED.name, project / f"{NAME}.py"
    return edited(bench, what, 15, served, module, project, before, after, answer)


def shipped(bench: Bench) -> Iterator[Number]:
    """The shipped file, eight functions: `embed` is loaded anew, with its model."""
    file = bench.folder / SHIPPED.name
    file.write_text(SHIPPED.read_text())

    def description(url: str) -> str:
        functions: list[dict[str, Any]] = httpx.get(url).json()["functions"]
        return next(str(one["description"]) for one in functions if one["name"] == "embed")

    what = "edit of the shipped file at `embed` to the catalogue's answer"
    before = "Sentence embeddings"
    yield edited(bench, what, 9, file, file, ROOT, before, "Edit {number}", description)


def edited(
    bench: Bench, what: str, count: int, served: Path, file: Path, root: Path, before: str,
    after: str, answer: Answer,
) -> Number:  # fmt: skip
    """The seconds from the moment before a file is written to the first answer that shows it.

    Args:
        before, after: a place of the file, and what it becomes, with the ``{number}`` of the try.

    Raises:
        ChildFailed: an edit took longer than ``ANSWER_S``.
        ValueError: the file has no such place.
    """
    source, took = file.read_text(), list[float]()
    if before not in source:
        raise ValueError(f"{file} has no {before!r}.")
    settings, reload = {"WAKEFUL_ROOT": str(root)}, ("--reload",)
    with local(served, bench.port, bench.log(file.stem), settings, options=reload) as server:
        for number in bench.rounds(what, count):
            shown = str(1000 + number)
            began = time.perf_counter()
            file.write_text(source.replace(before, after.format(number=shown)))
            while shown not in answer(server.url):
                if time.perf_counter() > began + ANSWER_S:
                    raise ChildFailed(f"no answer shows the edit of {file} after {ANSWER_S:g} s.")
                time.sleep(POLL_S)
            took.append(time.perf_counter() - began)
    return Number(what, took, "s", f"{len(took)} edits", at_most=1.0)


def problem(names: frozenset[str]) -> str:
    """Why the chosen sections cannot be measured here; empty when they can."""
    return absent([ROOT / "models" / "minilm" / "model.int8.onnx"]) if "shipped" in names else ""


TABLE = Table(
    "wakeful bench edit",
    HEAD,
    {"text": text, "model": model, "shipped": shipped},
    problem,
    """Measure how long an edit takes to be answered by `wakeful run --reload`.

    Prints a table, and writes it into docs/benchmarks.md when all of it was measured. Exits 0 when
    every number is valid.
    """,
    "bench edit",
)

if __name__ == "__main__":
    TABLE.as_command()(prog_name="python -m loadtests.bench.edit")
