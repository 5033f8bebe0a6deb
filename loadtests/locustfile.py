"""Locust users of the shipped functions; an answer that is wrong is a failure, whatever its status, and Locust then exits with 1.

    locust -f loadtests/locustfile.py                                             # its page, at 127.0.0.1:8089
    locust -f loadtests/locustfile.py --headless -u 8 -r 8 -t 15s                 # a table
    locust -f loadtests/locustfile.py --headless -u 8 -r 8 -t 15s EmbedUser       # one function

A user sends its next request when the last is answered: so many users are so many requests in flight.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from locust import FastHttpUser, constant, task
from locust.contrib.fasthttp import FastResponse

from loadtests import binary, samples
from loadtests.answers import FirstAnswers, WrongAnswer, check_embedding, check_forecast, check_meaning, check_refused

JSON = {"Content-Type": "application/json"}


class CheckedUser(FastHttpUser):
    """Posts sample requests in turn and checks what comes back."""

    abstract = True
    host = "http://127.0.0.1:8000"
    wait_time = constant(0)
    network_timeout = 30.0
    connection_timeout = 5.0
    turns = itertools.count()

    def call(self, path: str, row: Any, name: str, check: Callable[[Any], None]) -> None:
        """Posts JSON; ``check`` raises WrongAnswer on what it does not like in the parsed answer."""
        self.post(path, orjson.dumps(row), JSON, name, lambda answer: check(orjson.loads(answer.content)))

    def infer(self, request: binary.BinaryRequest, name: str, check: Callable[[dict[str, binary.Array]], None]) -> None:
        """Posts a binary v2 request; ``check`` gets the answer's tensors by name."""

        def checked(answer: FastResponse) -> None:
            headers: Any = answer.headers
            length = int(headers.get("inference-header-content-length") or 0)
            check(binary.decode(answer.content, length, request.outputs))

        self.post(request.path, request.body, request.headers, name, checked)

    def post(self, path: str, body: bytes, headers: Mapping[str, str], name: str, check: Callable[[FastResponse], None]) -> None:
        """One request; its failure carries the reason."""
        payload: Any = body  # declared as text; bytes pass through as they are
        with self.client.post(path, data=payload, headers=dict(headers), name=name, catch_response=True) as answer:
            if answer.status_code != 200:
                answer.failure(f"status {answer.status_code}: {(answer.text or str(answer.error))[:200]}")
                return
            try:
                check(answer)
            except WrongAnswer as wrong:
                answer.failure(f"wrong answer: {wrong}")
            except Exception as error:  # an answer nobody foresaw is a wrong one
                answer.failure(f"unreadable answer: {type(error).__name__}: {error}")
            else:
                answer.success()


class EmbedUser(CheckedUser):
    """Sentence embeddings: one text, several rows, several rows of which one is bad, binary tensors."""

    first = FirstAnswers()

    @task(8)
    def one_text(self) -> None:
        """A JSON object in, a JSON object out."""
        index = next(self.turns) % len(samples.TEXTS)
        self.call(samples.EMBED, samples.embed_json(index), "embed json", lambda answer: self.check(answer, index))

    @task(2)
    def rows(self) -> None:
        """An array in, an array out, in order."""

        def check(answers: Any) -> None:
            check_meaning([self.check(answer, index) for index, answer in enumerate(answers)], samples.ALIKE, samples.UNLIKE)

        self.call(samples.EMBED, [samples.embed_json(index) for index in range(3)], "embed json, 3 rows", check)

    @task(1)
    def one_bad_row(self) -> None:
        """A bad row fails alone."""

        def check(answers: Any) -> None:
            self.check(answers[0], 0)
            check_refused(answers[1])
            self.check(answers[2], 2)

        self.call(samples.EMBED, [samples.embed_json(0), {"text": 7}, samples.embed_json(2)], "embed json, 1 bad row", check)

    @task(4)
    def binary(self) -> None:
        """A BYTES tensor in, an FP32 tensor out."""
        start = next(self.turns) % len(samples.TEXTS)
        indices = [start, start + 1]

        def check(tensors: dict[str, binary.Array]) -> None:
            for index, vector in zip(indices, tensors["embedding"], strict=True):
                self.check({"embedding": vector}, index)

        self.infer(binary.embed(indices), "embed v2 binary", check)

    def check(self, answer: Any, index: int) -> Any:
        """A right embedding, equal to the first one of the same text."""
        vector = check_embedding(answer["embedding"])
        self.first.check(samples.TEXTS[index % len(samples.TEXTS)], vector)
        return vector


class ForecastUser(CheckedUser):
    """Reorder quantities: the arithmetic is done again."""

    @task(4)
    def one_item(self) -> None:
        """A JSON object in, a JSON object out."""
        index = next(self.turns)
        item = samples.ITEMS[index % len(samples.ITEMS)]
        self.call(samples.FORECAST, samples.forecast_json(index), "forecast json", lambda answer: check_forecast(answer, item))

    @task(1)
    def rows(self) -> None:
        """All items in one array, with histories of unlike length."""

        def check(answers: Any) -> None:
            for item, answer in zip(samples.ITEMS, answers, strict=True):
                check_forecast(answer, item)

        rows = [samples.forecast_json(index) for index in range(len(samples.ITEMS))]
        self.call(samples.FORECAST, rows, f"forecast json, {len(rows)} rows", check)

    @task(2)
    def binary(self) -> None:
        """Tensors in, tensors of numbers and text out."""
        index = next(self.turns)
        item = samples.ITEMS[index % len(samples.ITEMS)]

        def check(tensors: dict[str, binary.Array]) -> None:
            row = {name: tensor[0] for name, tensor in tensors.items()}
            check_forecast({**row, "reasoning": row["reasoning"].decode()}, item)

        self.infer(binary.forecast(index), "forecast v2 binary", check)
