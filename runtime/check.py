"""Everything that can be known wrong of a file before anything starts, each with its line."""

from __future__ import annotations

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
    for spec in file.functions:
        for fault in assemble(spec, settings, lambda path: ModelPart(path, inspect(path))).faults:
            problems.append(file.problem(f"{file.stage_key(spec.name, fault.stage)}.{fault.key}", fault.message))
    return problems
