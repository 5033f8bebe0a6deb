"""How tests say where a declaration is wrong; the messages are in tests/messages.txt."""

from __future__ import annotations

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


def problems_in(error: DeclarationError) -> tuple[Problem, ...]:
    """Every problem of an error, whose code and text are those of all of its kind."""
    assert error.code == "declaration"
    assert str(error) == "\n".join(map(str, error.problems))
    return error.problems
