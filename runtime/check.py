"""Everything that can be known wrong of a file before anything starts, each with its line."""

from __future__ import annotations

import functools
from pathlib import Path

from runtime.assemble import ModelPart, assemble
from runtime.errors import Problem
from runtime.onnx.inspect import inspect
from runtime.settings import Settings
from runtime.specfile import ServeFile


def check(file: ServeFile, settings: Settings) -> list[Problem]:
    """Assembles every function of a file that was read; problems in the order of the file.

    Stages are imported and model files read; no class is constructed and no model run.
    """
    problems = []

    @functools.cache
    def read_model(path: Path) -> ModelPart:
        """Once a file: a thousand functions often share twenty models."""
        return ModelPart(path, inspect(path))

    for spec in file.functions:
        for fault in assemble(spec, settings, read_model).faults:
            problems.append(file.problem(f"{file.stage_key(spec.name, fault.stage)}.{fault.key}", fault.message))
    return problems
