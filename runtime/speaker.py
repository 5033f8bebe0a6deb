"""Whose code runs: the function that a thread or a task is at work for, for whoever stamps what that code prints."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

SPEAKER: Final[ContextVar[str]] = ContextVar("speaker", default="")
"""A function's name; empty in code that is no function's. Set by worker threads, and by the tasks that load or run coroutines."""
