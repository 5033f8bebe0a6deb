"""Everything that can be known wrong of a file before anything starts, each with its line."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

from runtime import parts
from runtime.assemble import ModelPart, assemble
from runtime.errors import DeclarationError, Problem
from runtime.linking import link
from runtime.onnx.inspect import inspect
from runtime.settings import Settings
from runtime.specfile import ServeFile


def check(file: ServeFile, settings: Settings) -> list[Problem]:
    """Assembles every function of a file that was read; problems in the order of the file.

    Stages are imported and model files read; no class is constructed and no model run.
    """
    return _checked(file, settings)[1]


def linked(file: ServeFile, settings: Settings) -> ServeFile:
    """The file with functions that know those that they call, once nothing is wrong with it.

    Raises:
        DeclarationError: with every problem that ``check`` finds.
    """
    checked, problems = _checked(file, settings)
    if problems:
        raise DeclarationError(problems)
    return checked


def _checked(file: ServeFile, settings: Settings) -> tuple[ServeFile, list[Problem]]:
    @functools.cache
    def read_model(path: Path) -> ModelPart:
        """Once a file: a thousand functions often share twenty models."""
        return ModelPart(path, inspect(path))

    wrong = parts.problems(file)
    file = file if wrong else parts.named(file)
    specs, faults = link(file.functions, settings, read_model)
    unlinked = {(name, fault.stage) for name, fault in faults}
    for spec in specs:
        for fault in assemble(spec, settings, read_model).faults:
            if (spec.name, fault.stage) not in unlinked:
                faults.append((spec.name, fault))
    wrong += [file.problem(f"{file.stage_key(name, fault.stage)}.{fault.key}", fault.message) for name, fault in faults]
    return replace(file, functions=specs), sorted(wrong, key=lambda problem: problem.line)
