"""What a declaration names outside of itself: the modules of its stages, and the files that these are given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from runtime.spec import FunctionSpec


def stage_modules(spec: FunctionSpec) -> list[str]:
    """The modules that its ``python:`` stages name."""
    return list(dict.fromkeys(stage.python.partition(":")[0] for stage in spec.graph if stage.python is not None))


def given_files(spec: FunctionSpec, root: Path) -> Iterator[tuple[str, Path]]:
    """The values of ``with`` that are files, as they are written and where they lie."""
    for value in (value for stage in spec.graph for value in stage.with_.values()):
        with contextlib.suppress(OSError):  # too long for a path
            if isinstance(value, str) and (root / value).is_file():
                yield value, root / value
