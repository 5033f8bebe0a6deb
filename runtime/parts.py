"""A file's functions, and those that its split-off stages become: what a process fuses, and what a cluster deploys."""

from __future__ import annotations

from dataclasses import replace

from runtime.errors import Problem
from runtime.specfile import ServeFile
from runtime.split import expanded, misfits, owners, parts

BUILDER = "deployments:function"


def problems(file: ServeFile) -> list[Problem]:
    """Stages that cannot be split off, as far as declarations tell."""
    return [file.problem(f"{file.stage_key(each.function, each.stage)}.{each.key}", each.message) for each in misfits(file.functions)]


def named(file: ServeFile) -> ServeFile:
    """For one process: functions as they are, and beside them the parts that stages of other functions call by name."""
    called = {stage.function for spec in file.functions for stage in spec.graph if stage.function is not None}
    every = {part.name: part for spec in file.functions for part in parts(spec)}
    is_known = called <= every.keys() | {spec.name for spec in file.functions}
    found = [part for name, part in every.items() if name in called or not is_known]  # who misspelt one is told of all
    return replace(file, functions=(*found, *file.functions), positions=_positions(file)) if found else file


def parted(file: ServeFile) -> ServeFile:
    """For a cluster: every part is a function beside the one that calls it, and an application as if it stood in the file.

    ``raw`` has them behind all others, with ``part_of``; what is said of one names the line of the function.
    """
    whose = owners(file.functions)
    if not whose:
        return file
    functions = expanded(file.functions)
    applications = [
        {
            "name": spec.name,
            "route_prefix": spec.route_prefix,
            "import_path": BUILDER,
            "args": spec.to_args(),
            "part_of": whose[spec.name][0],
        }
        for spec in functions
        if spec.name in whose
    ]
    raw = {**file.raw, "applications": [*file.raw["applications"], *applications]}
    return replace(file, functions=functions, raw=raw, positions=_positions(file))


def _positions(file: ServeFile) -> dict[str, int]:
    """Of every function and part: the application that it stands in."""
    return {**file.positions, **{part: file.positions[function] for part, (function, _) in owners(file.functions).items()}}
