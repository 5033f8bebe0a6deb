"""What a right answer of the shipped functions is, beside what any load test checks. Each
``check_*`` raises ``WrongAnswer``.
"""

from __future__ import annotations

from typing import Any

from deployments.loadtest.calls.answers import SAME_WITHIN, WrongAnswer, check_alike, require

__all__ = ["SAME_WITHIN", "FirstAnswers", "WrongAnswer", "check_alike", "check_refused", "require"]


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
