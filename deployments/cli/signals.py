"""Signals that are counted: what runs meanwhile is not interrupted at any line, but asks."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

INTERRUPTED: Final = 130
"""Exit status of a command that was told not to wait."""


class Signals:
    """How often somebody has wished for the end.

    Mutable state: ``count``.
    """

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """One more."""
        self.count += 1


@contextmanager
def counted() -> Iterator[Signals]:
    """Within, Ctrl-C, SIGTERM and the end of the terminal are counted and do nothing else."""
    signals = Signals()
    before = {number: signal.signal(number, signals) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
