"""Requests of the shipped functions with their checks: real models under faults, not only stages made for it."""

from __future__ import annotations

import json
from typing import Any

from loadtests import answers, samples
from loadtests.answers import FirstAnswers
from loadtests.ledger.callers import Make
from loadtests.ledger.outcome import Request


def embed(tag: str, path: str = samples.EMBED) -> Make:
    """Texts; every answer equals the first one to the same text, whatever it was batched with and whoever gave it."""
    first = FirstAnswers()

    def make(number: int) -> Request:
        body = samples.embed_json(number)

        def check(answer: Any) -> None:
            first.check(body["text"], answers.check_embedding(answer["embedding"]))

        return Request(f"{tag}-{number}", path, json.dumps(body).encode(), check)

    return make


def forecast(tag: str, path: str = samples.FORECAST) -> Make:
    """Items; every answer adds up."""

    def make(number: int) -> Request:
        def check(answer: Any) -> None:
            answers.check_forecast(answer, samples.ITEMS[number % len(samples.ITEMS)])

        return Request(f"{tag}-{number}", path, json.dumps(samples.forecast_json(number)).encode(), check)

    return make
