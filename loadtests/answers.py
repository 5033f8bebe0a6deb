"""What a right answer is: a load test that looks only at the status would call a fast wrong server
good. Each ``check_*`` raises ``WrongAnswer``.
"""

from __future__ import annotations

from typing import Any

SAME_WITHIN = 1e-4
"""How far batch-mates and padding may move any number of an answer that is not rounded."""


class WrongAnswer(Exception):
    """An answer of status 200 that is not right; the message says what is wrong with it."""


def require(holds: bool, why: str) -> None:
    """Raises ``WrongAnswer`` unless something holds."""
    if not holds:
        raise WrongAnswer(why)


def check_alike(answer: Any, first: Any, within: float = SAME_WITHIN) -> None:
    """Two answers to one row: numbers differ by so much at most, all else is equal."""
    if isinstance(first, dict) and isinstance(answer, dict):
        require(answer.keys() == first.keys(), f"has {sorted(answer)}, not {sorted(first)}")
        for key in first:
            check_alike(answer[key], first[key], within)
    elif isinstance(first, list) and isinstance(answer, list):
        require(len(answer) == len(first), f"{len(answer)} items, not {len(first)}")
        for pair in zip(answer, first, strict=True):
            check_alike(*pair, within)
    else:
        is_near = isinstance(first, float) and isinstance(answer, int | float)
        holds = abs(answer - first) <= within if is_near else answer == first
        require(holds, f"{str(answer)[:80]}, not {str(first)[:80]} as before")


class FirstAnswers:
    """The first answer to each row; every later one must equal it, whatever it was batched with.

    Args:
        within: how far a number may be from the first one.
    """

    # Mutable state: the first answers, at most one for each sample row.

    def __init__(self, within: float) -> None:
        self._within = within
        self._first: dict[str, Any] = {}

    def check(self, key: str, answer: Any) -> None:
        """Compares with the first answer under ``key``, or becomes it."""
        check_alike(answer, self._first.setdefault(key, answer), self._within)


def check_refused(answer: Any) -> None:
    """The error object in place of a bad row's answer."""
    is_error = isinstance(answer, dict) and bool(answer.get("error") and answer.get("code"))
    require(is_error, f"a bad row was not refused: {str(answer)[:80]}")
