"""What a right answer is: a load test that looks only at the status would call a fast wrong server good."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.samples import Item

DIMENSIONS = 384
UNIT_NORM_WITHIN = 1e-3
SAME_WITHIN = 1e-4
"""How far batch-mates and padding may move any number of an answer."""
ALIKE_FROM, UNLIKE_BELOW = 0.5, 0.3
"""Cosine of texts that mean nearly the same (MiniLM: 0.69), and of texts that have nothing in common (0.00)."""
SCORE_WITHIN = 0.002
SURE_FROM = 0.9
ROUNDED_WITHIN = 0.006
"""How far a quantity rounded to hundredths may be from what it was."""

Vector = NDArray[np.float64]


class WrongAnswer(Exception):
    """An answer of status 200 that is not right; the message says what is wrong with it."""


def check_embedding(numbers: Any) -> Vector:
    """A unit vector of 384 numbers.

    Raises:
        WrongAnswer: it is anything else.
    """
    try:
        vector = np.asarray(numbers, np.float64)
    except (TypeError, ValueError):
        raise WrongAnswer(f"not a list of numbers: {str(numbers)[:80]}") from None
    if vector.shape != (DIMENSIONS,):
        raise WrongAnswer(f"shape {list(vector.shape)}, not [{DIMENSIONS}]")
    norm = float(np.linalg.norm(vector))
    if not abs(norm - 1) <= UNIT_NORM_WITHIN:
        raise WrongAnswer(f"norm {norm:.4f}, not 1")
    return vector


def check_same(vector: Vector, expected: Vector) -> None:
    """Two embeddings of one text, however they were batched.

    Raises:
        WrongAnswer: some number moved by more than ``SAME_WITHIN``.
    """
    moved = float(np.abs(vector - expected).max())
    if moved > SAME_WITHIN:
        raise WrongAnswer(f"moved by {moved:.2g} (cosine {float(vector @ expected):.5f}) from another answer to the same text")


class FirstAnswers:
    """Remembers the first answer to each request; every later one must equal it, whatever it was batched with."""

    # Mutable state: the first answers, at most one for each sample request.

    def __init__(self) -> None:
        self._first: dict[str, Vector] = {}

    def check(self, key: str, vector: Vector) -> None:
        """Compares with the first answer under ``key``, or becomes it.

        Raises:
            WrongAnswer: it moved.
        """
        check_same(vector, self._first.setdefault(key, vector))


def check_meaning(vectors: Sequence[Vector], alike: tuple[int, int], unlike: tuple[int, int]) -> None:
    """Rows stand where they were asked: two that mean the same are near, two that do not are far.

    Raises:
        WrongAnswer: they are not.
    """
    near, far = (float(vectors[a] @ vectors[b]) for a, b in (alike, unlike))
    if near < ALIKE_FROM or far > UNLIKE_BELOW:
        raise WrongAnswer(f"texts alike have cosine {near:.2f}, texts unlike {far:.2f}: rows are mixed up, or the model is another")


def check_refused(answer: Any) -> None:
    """The error object that stands in place of a bad row's answer.

    Raises:
        WrongAnswer: it is anything else.
    """
    if not isinstance(answer, dict) or not answer.get("error") or not answer.get("code"):
        raise WrongAnswer(f"a bad row was not refused: {str(answer)[:80]}")


def check_forecast(answer: Mapping[str, Any], item: Item) -> None:
    """Demand day by day adds up, the safety stock is the textbook's, the order is what is missing, and the reasoning names it.

    Raises:
        WrongAnswer: some of that does not hold.
    """
    daily = [float(units) for units in answer["daily_demand"]]
    expected, safety, order = float(answer["expected_demand"]), float(answer["safety_stock"]), int(answer["reorder_quantity"])
    if len(daily) != item.lead_time_days or min(daily) < 0:
        raise WrongAnswer(f"daily_demand {daily} over {item.lead_time_days} days")
    if abs(sum(daily) - expected) > ROUNDED_WITHIN * (len(daily) + 1):
        raise WrongAnswer(f"expected_demand {expected} is not the sum of daily_demand, {sum(daily):.2f}")
    wanted = safety_stock(item)
    if abs(safety - wanted) > ROUNDED_WITHIN:
        raise WrongAnswer(f"safety_stock {safety} is not {wanted:.2f}")
    low, high = (max(0, math.ceil(expected + safety - item.stock_on_hand + slack)) for slack in (-2 * ROUNDED_WITHIN, 2 * ROUNDED_WITHIN))
    if not low <= order <= high:
        raise WrongAnswer(f"reorder_quantity {order} is not what is missing, {expected} + {safety} - {item.stock_on_hand}")
    if (f"order {order}" if order else "order nothing") not in str(answer["reasoning"]):
        raise WrongAnswer(f"the reasoning does not name the order of {order}: {str(answer['reasoning'])[-60:]}")


def check_score(answer: Mapping[str, Any], expected: float) -> None:
    """A text's score is the known one, and the verdict follows from it.

    Raises:
        WrongAnswer: some of that does not hold.
    """
    score = float(answer["score"])
    if abs(score - expected) > SCORE_WITHIN or answer["is_profane"] is not (score >= 0.5):
        raise WrongAnswer(f"score {score}, {answer['is_profane']}: not {expected}")


def check_filetype(answer: Mapping[str, Any], label: str) -> None:
    """A file is what it is.

    Raises:
        WrongAnswer: it was taken for something else.
    """
    if answer["label"] != label:
        raise WrongAnswer(f"{answer['label']}, not {label}")


def check_silence(events: Sequence[Mapping[str, Any]]) -> None:
    """A second of silence was heard, but for what is no whole hop.

    Raises:
        WrongAnswer: somebody spoke, or it was more or less than a second.
    """
    if [dict(event) for event in events] != [{"event": "heard", "at_s": 0.992, "speech": 0.0}]:
        raise WrongAnswer(f"silence was told as {list(events)}")


def check_found(answer: Mapping[str, Any], first_word: str) -> None:
    """The nearest passage comes first, and the others are further away.

    Raises:
        WrongAnswer: some of that does not hold.
    """
    results = answer["results"]
    cosines = [float(found["cosine"]) for found in results]
    if not results[0]["passage"].startswith(first_word) or cosines != sorted(cosines, reverse=True):
        raise WrongAnswer(f"{results[0]['passage'][:40]!r} first, cosines {cosines}")


def check_read(answer: Mapping[str, Any], lines: Sequence[str]) -> None:
    """A page's lines are those that were written, surely, from the top.

    Raises:
        WrongAnswer: some of that does not hold.
    """
    found = answer["lines"]
    texts, tops = [line["text"] for line in found], [line["box"][1] for line in found]
    if texts != list(lines) or tops != sorted(tops) or min(line["confidence"] for line in found) < SURE_FROM:
        raise WrongAnswer(f"read as {texts}, {[line['confidence'] for line in found]} at {tops}")


def check_classes(answer: Mapping[str, Any], label: str) -> None:
    """Five classes, the likeliest first, which is the known one.

    Raises:
        WrongAnswer: some of that does not hold.
    """
    guesses = answer["labels"]
    shares = [float(guess["probability"]) for guess in guesses]
    if len(guesses) != 5 or guesses[0]["label"] != label or shares != sorted(shares, reverse=True) or not 0 < sum(shares) <= 1.001:
        raise WrongAnswer(f"{guesses}, not {label}")


def safety_stock(item: Item) -> float:
    """Units that keep the wanted chance of lasting, if the days stray as the last 28 did."""
    scatter = statistics.stdev(item.daily_sales[-28:])
    return statistics.NormalDist().inv_cdf(item.service_level) * scatter * math.sqrt(item.lead_time_days)
