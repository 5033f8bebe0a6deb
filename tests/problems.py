"""How tests say what is wrong and where; the messages are in tests/messages.txt."""

from __future__ import annotations

import re
from collections.abc import Iterable

from runtime.errors import DeclarationError, Problem


def place(problem: Problem) -> str:
    """Line and key, ``3: applications[0].name``; one of them where the other is not known."""
    if not problem.line or not problem.key:
        return problem.key or str(problem.line)
    return f"{problem.line}: {problem.key}"


def places(problems: Iterable[Problem]) -> list[str]:
    """Of each problem, in the order of the file."""
    return [place(problem) for problem in problems]


def expect_values(text: object, *values: str) -> None:
    """Fails where a message lacks a decisive value: a name, a number, a place. The words between
    them may change.
    """
    missing = [value for value in values if not re.search(_whole(value), str(text))]
    assert not missing, f"{missing} not in: {text}"


def _whole(value: str) -> str:
    """The pattern of a value that is no part of a longer word: ``str`` is not in ``string``."""
    start = r"\b" if value[0].isalnum() else ""
    end = r"\b" if value[-1].isalnum() else ""
    return f"{start}{re.escape(value)}{end}"


def problems_in(error: DeclarationError) -> tuple[Problem, ...]:
    """Every problem of an error, whose code and text are those of all of its kind."""
    assert error.code == "declaration"
    assert str(error) == "\n".join(map(str, error.problems))
    return error.problems
