"""The recorded calls of a function of a cluster."""

from __future__ import annotations

import contextlib

from deployments.loadtest.calls.captures import CapturedCall, read_capture
from runtime.errors import DeclarationError
from tests.deployments.projects import Standing


def calls_of(standing: Standing, name: str) -> list[CapturedCall]:
    """What is recorded until now; none, too, of a file that has just begun."""
    with contextlib.suppress(DeclarationError):
        return list(read_capture(standing.folder / "captures" / f"{name}.jsonl").calls)
    return []
