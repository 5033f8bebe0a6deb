"""What is refused before anything starts, each with its line."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.check import check
from runtime.settings import Settings
from runtime.specfile import read
from tests import onnx_models

HERE = __name__
APPLICATION = """\
applications:
  - name: f
    route_prefix: /v2/models/f
    import_path: deployments:function
    args:
"""


class Wrong(TypedDict):
    """Another datatype than the model takes."""

    x: NDArray[np.int64]


def wrong(text: str) -> Wrong: ...
def other(text: str) -> NDArray[np.float32]: ...
def unlike(y: NDArray[np.int64]) -> int: ...
def misspelt(yy: NDArray[np.float32]) -> int: ...
def bare(x) -> int: ...


class Opens:
    """A stage with a file."""

    def __init__(self, table: Path, size: int = 1) -> None: ...

    def __call__(self, text: str) -> str:
        """The text."""
        return text


def problems(root: Path, args: str) -> list[str]:
    """What `wakeful check` prints for a function of these args."""
    onnx_models.double(root / "m.onnx")
    (root / "text.onnx").write_text("no model")
    file = root / "serve_config.yaml"
    file.write_text(APPLICATION + "".join(f"      {line}\n" for line in args.splitlines()))
    found = check(read(file), Settings.read({"WAKEFUL_ROOT": str(root)}))
    return [str(problem).removeprefix(f"{file}:") for problem in found]


def graph(*stages: str) -> str:
    """A graph, a stage a line; the first stands on line 7 of the file."""
    return "graph:\n" + "\n".join(f"  - {{{stage}}}" for stage in stages)


MODEL = "stage: model, onnx: m.onnx"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("onnx: m.onnx", None),
        ("onnx: missing.onnx", "6: applications[0].args.onnx: "),
        (f"onnx: m.onnx\nsha256: {'a' * 64}", "6: applications[0].args.onnx: m.onnx: its sha256 is "),
        ("onnx: text.onnx", "6: applications[0].args.onnx: "),
        (graph('stage: s, python: "tests.nowhere:f"'), "7: applications[0].args.graph[0].python: module 'tests.nowhere' does not import"),
        (graph(f'stage: s, python: "{HERE}:wrnog"'), "7: applications[0].args.graph[0].python: module '" + HERE + "' has no 'wrnog'"),
        (graph(f'stage: s, python: "{HERE}:HERE"'), "7: applications[0].args.graph[0].python: " + HERE + ":HERE is no function"),
        (graph(f'stage: s, python: "{HERE}:bare"'), "7: applications[0].args.graph[0].python: parameter 'x' has no annotation"),
        (graph(f'stage: s, python: "{HERE}:Opens"'), "7: applications[0].args.graph[0].with: Opens.__init__ does not take these values"),
        (
            graph(f'stage: s, python: "{HERE}:Opens", with: {{tabel: a}}'),
            "7: applications[0].args.graph[0].with: Opens.__init__ has no 'tabel'",
        ),
        (
            graph(f'stage: s, python: "{HERE}:Opens", with: {{table: a}}'),
            "7: applications[0].args.graph[0].with: 'table': there is no file a",
        ),
        (graph(MODEL, f'stage: s, python: "{HERE}:unlike"'), "8: applications[0].args.graph[1].python: parameter 'y' of stage 's' takes"),
        (
            graph(MODEL, f'stage: s, python: "{HERE}:misspelt"'),
            "8: applications[0].args.graph[1].python: parameter 'yy' of stage 's' is no value",
        ),
        (
            graph(f'stage: s, python: "{HERE}:wrong"', MODEL),
            "8: applications[0].args.graph[1].onnx: model input 'x' takes the value 'x', but",
        ),
        (graph(f'stage: s, python: "{HERE}:other"', MODEL), "8: applications[0].args.graph[1].onnx: model input 'x' is filled by no"),
        (graph(f"{MODEL}, inputs: {{z: x}}"), "7: applications[0].args.graph[0].inputs.z: stage 'model' takes no 'z'"),
    ],
)
def test_a_wrong_function_is_refused(tmp_path, args, expected):
    """The line, the key, and what is wrong there; a right one is not refused."""
    found = problems(tmp_path, args)
    assert (found == []) if expected is None else (len(found) == 1 and found[0].startswith(expected)), found
