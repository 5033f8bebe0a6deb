"""``wakeful bench edit``: how long an edit takes to be answered by ``wakeful run --reload``.

Each try writes a file as an editor does, and asks by new connections until an answer shows it. The
projects are those of ``wakeful new``, and the shipped file.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from deployments.ray_support.environment import inherited_variables
from loadtests.bench.install import ROOT, SHIPPED, run
from loadtests.bench.numbers import HEAD, Number
from loadtests.command import Bench, Table, absent
from loadtests.server import Child, ChildFailed, poll, script

ANSWER_S: Final = 30.0
"""Longest wait for an edit."""

POLL_S: Final = 0.005

AT_MOST_S: Final = 1.0

NAME: Final = "hello"

DESCRIPTION: Final = "Sentence embeddings"
"""How the description of `embed` begins in the shipped file."""


def text(bench: Bench) -> Iterator[Number]:
    """The code of a stage without a model."""
    yield edited(bench, "text", "text", "longest.upper()", "longest.upper() + '{number}'")


def model(bench: Bench) -> Iterator[Number]:
    """The code of a stage behind a model."""
    yield edited(bench, "model", "onnx", '"setosa"', '"setosa{number}"')


def edited(bench: Bench, section: str, template: str, before: str, after: str) -> Number:
    """The seconds from an edit of a new project's module to its answer.

    Args:
        before, after: a place of the module, and what it becomes, with the ``{number}`` of the try.
    """
    project = bench.folder / NAME
    shutil.rmtree(project, ignore_errors=True)
    run([script("wakeful"), "new", NAME, "--template", template], bench.folder)
    module = project / f"{NAME}.py"
    source = module.read_text()
    if before not in source:
        raise ValueError(f"{module} has no {before}.")
    row = json.loads((project / "request.json").read_text())
    what = f"edit of code to its answer, `wakeful new --template {template}`"

    def answer(url: str) -> str:
        response = httpx.post(f"{url}/v2/models/{NAME}", json=row)
        if response.status_code != 200:
            raise ChildFailed(f"a call was refused meanwhile: {response.text}")
        return response.text

    with watching(bench, section, project / "serve_config.yaml", project) as url:
        took = [
            seconds(
                module,
                source.replace(before, after.format(number=1000 + number)),
                lambda number=number: str(1000 + number) in answer(url),  # type: ignore[misc]
            )
            for number in bench.rounds(what, 15)
        ]
    return Number(what, took, "s", f"{len(took)} edits", at_most=AT_MOST_S)


def shipped(bench: Bench) -> Iterator[Number]:
    """The shipped file, eight functions: `embed` is loaded anew, with its model."""
    file = bench.folder / SHIPPED.name
    source = SHIPPED.read_text()
    if DESCRIPTION not in source:
        raise ValueError(f"{SHIPPED} has no {DESCRIPTION!r}.")
    file.write_text(source)
    what = "edit of the shipped file at `embed` to the catalogue's answer"

    def description(url: str) -> str:
        functions: list[dict[str, Any]] = httpx.get(url).json()["functions"]
        return next(str(one["description"]) for one in functions if one["name"] == "embed")

    with watching(bench, "shipped", file, ROOT) as url:
        took = [
            seconds(
                file,
                source.replace(DESCRIPTION, f"Edit {number}"),
                lambda number=number: description(url).startswith(f"Edit {number}"),  # type: ignore[misc]
            )
            for number in bench.rounds(what, 9)
        ]
    yield Number(what, took, "s", f"{len(took)} edits", at_most=AT_MOST_S)


def seconds(file: Path, content: str, is_answered: Callable[[], bool]) -> float:
    """From the moment before a file is written until it is answered.

    Raises:
        ChildFailed: that took too long.
    """
    began = time.perf_counter()
    file.write_text(content)
    while not is_answered():
        if time.perf_counter() > began + ANSWER_S:
            raise ChildFailed(f"no answer shows the edit of {file} after {ANSWER_S:g} s.")
        time.sleep(POLL_S)
    return time.perf_counter() - began


@contextmanager
def watching(bench: Bench, section: str, file: Path, root: Path) -> Iterator[str]:
    """`wakeful run --reload` on the benchmark's port; gives its URL once it serves."""
    url = f"http://127.0.0.1:{bench.port}"
    command = [script("wakeful"), "run", str(file), "--reload", "--port", str(bench.port)]
    environ = inherited_variables({"WAKEFUL_ROOT": str(root)})
    with Child(command, bench.log(section), environ) as child:
        for _ in poll(ANSWER_S):
            try:
                httpx.get(url).raise_for_status()
                break
            except httpx.TransportError:
                if not child.is_running:
                    raise child.failure("ended before its first answer") from None
        yield url


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
    TABLE.as_command()(prog_name=f"{Path(sys.executable).name} -m loadtests.bench.edit")
