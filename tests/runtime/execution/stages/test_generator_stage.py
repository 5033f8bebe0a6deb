"""Where a stage may yield, found before anything runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runtime.declaration.config_file import read
from runtime.errors import Problem
from runtime.graph.resolve import examine
from runtime.settings import Settings
from tests.problems import expect_values, place
from wakeful import Rows

FILE = """\
applications:
  - name: f
    route_prefix: /v2/models/f
    import_path: deployments:function
    args:
      graph:
        - {stage: first, python: "%s:%s"%s}
"""
NEXT = """\
        - {stage: last, python: "tests.runtime.execution.stages.test_generator_stage:last"}
"""


def letters(text: str) -> Iterator[str]:
    """One that yields."""
    yield from text


async def soon(text: str) -> AsyncIterator[str]:
    """One that yields on the event loop."""
    yield text


def last(first: str) -> str:
    """A stage behind it."""
    return first


def of_all(text: Rows[str]) -> Iterator[str]:
    """Called with all rows, it would have to yield for each."""
    yield from text


def problems(folder: Path, text: str) -> tuple[Problem, ...]:
    """What `wakeful check` says."""
    path = folder / "serve_config.yaml"
    path.write_text(text)
    return examine(read(path), Settings.read({"WAKEFUL_ROOT": str(folder)})).problems


@pytest.mark.parametrize("stage", ["letters", "soon"])
def test_the_last_stage_may_yield(stage, tmp_path):
    """A generator, or an asynchronous one."""
    assert not problems(tmp_path, FILE % (__name__, stage, ""))


def test_no_other_may(tmp_path):
    """With the line, and the stage that comes after it."""
    (problem,) = problems(tmp_path, FILE % (__name__, "letters", "") + NEXT)
    assert place(problem) == "7: applications[0].args.graph[0].python"
    expect_values(problem.message, "stage 'first'", "yields", "'last'")


@pytest.mark.parametrize("key", ["each: text", "when: text"])
def test_it_yields_for_every_row(key, tmp_path):
    """And for a whole one."""
    found = problems(tmp_path, FILE % (__name__, "letters", f", {key}"))
    where = f"applications[0].args.graph[0].{key.split(':')[0]}"
    *_, message = (problem.message for problem in found if problem.key == where)
    expect_values(message, "stage 'first'", "yields", "whole row", f"Delete '{key[:4]}'")


def test_it_takes_one_row(tmp_path):
    """A generator of all rows has no place for the items of each."""
    (problem,) = problems(tmp_path, FILE % (__name__, "of_all", ""))
    assert place(problem) == "7: applications[0].args.graph[0].python"
    expect_values(problem.message, "yields", "once a row", "without Rows")
