"""A small project that is right, and what a newcomer typed instead: one change makes each mistake."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from tests import onnx_models

CONFIG = "serve_config.yaml"

YAML = """\
applications:
  - name: iris
    args:
      graph:
        - {stage: measurements, python: "iris:measure"}
        - {stage: model, onnx: iris.onnx}
        - {stage: answer, python: "iris:Name", with: {labels: labels.txt, digits: 3}}
      example: {a: 5.1, b: 3.5, c: 1.4, d: 0.2}
"""

PYTHON = """\
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from numpy.typing import NDArray
from wakeful import RequestError, Rows, Shape

Four = Annotated[NDArray[np.float32], Shape(4)]


class Iris(TypedDict):
    species: str
    probability: float


def measure(a: float, b: float, c: float, d: float) -> Four:
    return np.array([a, b, c, d], np.float32)


class Name:
    def __init__(self, labels: Path, digits: int = 2) -> None:
        self.labels = labels.read_text().split()
        self.digits = digits

    def __call__(self, probabilities: Annotated[NDArray[np.float32], Shape(3)]) -> Iris:
        best = int(probabilities.argmax())
        return {
            "species": self.labels[best],
            "probability": round(float(probabilities[best]), self.digits),
        }
"""

ONE = """\
applications:
  - name: iris
    args:
      graph:
        - {stage: s, python: "iris:f"}
"""
"""A function of one stage, for mistakes in Python."""

HEAD = """\
import asyncio, os, sys, time
from collections.abc import AsyncIterator, Iterator
from typing import TypedDict
from wakeful import Rows, RequestError


"""
"""Before the stage of such a function."""


@dataclass(frozen=True)
class Project:
    """Files of a folder.

    Attributes:
        yaml, python: ``serve_config.yaml`` and ``iris.py``.
        swap: text of one of the two, to what stands there instead.
        files: others.
    """

    yaml: str = YAML
    python: str = PYTHON
    swap: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """The whole folder, with a model of four numbers and three classes."""
        yaml, python = self.yaml, self.python
        for old, new in self.swap.items():
            assert old in yaml or old in python, old
            yaml, python = yaml.replace(old, new), python.replace(old, new)
        (folder / CONFIG).write_text(yaml)
        (folder / "iris.py").write_text(python)
        (folder / "labels.txt").write_text("setosa versicolor virginica\n")
        if "iris.onnx" in yaml:
            classifier(folder / "iris.onnx")
        if "frozen.onnx" in yaml:
            classifier(folder / "frozen.onnx", rows=1)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())


def stage(body: str, *, more: str = "", args: str = "", **files: str) -> Project:
    """A function of the stage ``f``, whose code is given.

    Args:
        more: further stages, lines of the graph.
        args: further keys of ``args``.
    """
    return Project(ONE + more + args, HEAD + body, files=files)


def classifier(path: Path, rows: str | int = "rows") -> Path:
    """probabilities [rows, 3] of measurements [rows, 4]; frozen at so many rows, if that is a number."""
    return onnx_models.save(
        path,
        [
            helper.make_node("MatMul", ["measurements", "weights"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["probabilities"]),
        ],
        {"measurements": (TensorProto.FLOAT, [rows, 4])},
        {"probabilities": (TensorProto.FLOAT, [rows, 3])},
        {"weights": np.arange(12, dtype=np.float32).reshape(4, 3)},
    )


@contextlib.contextmanager
def working_in(project: Project) -> Iterator[Path]:
    """The project's folder, worked in; its modules are imported anew."""
    path, modules = list(sys.path), set(sys.modules)
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        project.write(Path(name))
        try:
            yield Path(name).resolve()
        finally:
            sys.path[:] = path
            for module in set(sys.modules) - modules:
                file = getattr(sys.modules[module], "__file__", None) or ""
                if file.startswith(name) or module == "iris":
                    sys.modules.pop(module)
