"""Sample requests of the shipped functions, each with the check of its answer: it equals the first
one to the same row, whatever it was batched with. What the first one is, tests/apps proves.

(Not called `requests`: Locust puts this folder first on the import path, and imports the library of
that name.)
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from deployments.loadtest.calls.answers import SAME_WITHIN, check_alike, require
from loadtests import declare

Check = Callable[[Any], object]
"""Is given a decoded answer of status 200; raises ``WrongAnswer`` about it."""

JSON = {"content-type": "application/json", "accept": "application/json"}
TEXTS = (
    "A man is eating food.",
    "The stock market fell sharply on Monday.",
    "ok",
    "Le café est fermé aujourd'hui.",
    "When will I get my money back for something I returned?",
    "Delivery of forty crates of apples, twelve of pears and six of plums is expected between "
    "seven and eight in the morning at the northern warehouse; the driver needs the gate code, a "
    "signature, and a fork lift, since three of the pallets are heavier than usual.",
)
"""Short and long ones, one of a single token."""

FILES = (
    b"from __future__ import annotations\n\nimport sys\n\n\ndef main() -> int:\n    return 0\n",
    b'{"name": "wakeful", "versions": ["1", "2"], "inputs": [{"name": "text", "shape": [-1]}]}\n',
    b"",
)
SILENCE = bytes(32000)
SALES = {"daily_sales": [0.0] * 35, "stock_on_hand": 0, "lead_time_days": 1, "service_level": 0.5}


def encoded(content: bytes) -> str:
    """Bytes in JSON."""
    return base64.b64encode(content).decode()


MORE: Mapping[str, Sequence[dict[str, Any]]] = {
    "embed": [{"text": text} for text in TEXTS],
    "moderate": [{"text": text} for text in TEXTS],
    "search": [{"text": text} for text in TEXTS],
    "filetype": [{"content": encoded(content)} for content in FILES],
    "forecast": [SALES, {**SALES, "daily_sales": [2500.0, 4000.0, 9.5] * 30, "lead_time_days": 14}],
    "listen": [{"sound": encoded(SILENCE)}],
}
"""Rows beside the declared example, by function; unlike ones, since they would hide a mix-up."""

RAW = {
    "ocr": "image/png",
    "highlight": "image/png",
    "classify": "image/png",
    "filetype": "application/octet-stream",
    "listen": "audio/x-raw",
}
"""The type of a body, of functions whose only field can be the body itself."""

EXACT = ("embed",)
"""Functions whose numbers are not rounded."""

ROUNDED_WITHIN = 0.011
"""How far a number may move that is rounded to hundredths."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What to post, and what the right answer is.

    Attributes:
        name: of requests of this kind.
    """

    name: str
    path: str
    body: bytes
    check: Check = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: JSON)


def each(checks: Sequence[Check]) -> Check:
    """The check of an array of answers, one check each."""

    def check(found: Any) -> None:
        for answer, of_row in zip(found, checks, strict=True):
            of_row(answer)

    return check


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


def samples(name: str) -> list[Sample]:
    """Of a shipped function: rows one by one, as bodies, and all in a call with a bad one in their
    middle, which fails alone.
    """
    path, first = (
        f"/v2/models/{name}",
        FirstAnswers(SAME_WITHIN if name in EXACT else ROUNDED_WITHIN),
    )
    rows = [declare.example(name), *MORE.get(name, ())]
    checks = [partial(first.check, json.dumps(row)) for row in rows]
    found = []
    for row, check in zip(rows, checks, strict=True):
        found.append(Sample(f"{name} json", path, json.dumps(row).encode(), check))
        if name in RAW:
            content, headers = next(iter(row.values())), {**JSON, "content-type": RAW[name]}
            body = base64.b64decode(content)
            found.append(Sample(f"{name} raw", path, body, check, headers))
    if not is_stream(name):
        several = json.dumps([rows[0], {"unknown": 7}, *rows[1:]]).encode()
        of_all = each([checks[0], check_refused, *checks[1:]])
        found.append(Sample(f"{name} json, rows and a bad one", path, several, of_all))
    return found


def is_stream(name: str) -> bool:
    """Whether a shipped function's calls are parts of sequences, a row each."""
    return "sequences" in declare.shipped()[name]
