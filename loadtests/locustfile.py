"""Locust users of the shipped functions; an answer that is wrong is a failure, whatever its status, and Locust then exits with 1.

    locust -f loadtests/locustfile.py                                             # its page, at 127.0.0.1:8089
    locust -f loadtests/locustfile.py --headless -u 8 -r 8 -t 15s                 # a table
    locust -f loadtests/locustfile.py --headless -u 8 -r 8 -t 15s EmbedUser       # one function

A user sends its next request when the last is answered: so many users are so many requests in flight.
"""

from __future__ import annotations

import base64
import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from locust import FastHttpUser, constant, task
from locust.contrib.fasthttp import FastResponse

from loadtests import binary, pictures, samples
from loadtests.answers import (
    FirstAnswers,
    WrongAnswer,
    check_classes,
    check_embedding,
    check_filetype,
    check_forecast,
    check_found,
    check_meaning,
    check_read,
    check_refused,
    check_score,
    check_silence,
)

JSON = {"Content-Type": "application/json"}
PNG = {"Content-Type": "image/png"}


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


class ModerateUser(CheckedUser):
    """Scores of texts."""

    @task
    def rows(self) -> None:
        """All of them, in order."""

        def check(answers: Any) -> None:
            for answer, score in zip(answers, samples.SCORES.values(), strict=True):
                check_score(answer, score)

        self.call(samples.MODERATE, [{"text": text} for text in samples.SCORES], "moderate json", check)


class FiletypeUser(CheckedUser):
    """Files as they are."""

    @task
    def file(self) -> None:
        """One body after another, some of which the model does not run for."""
        label, content = list(samples.FILES.items())[next(self.turns) % len(samples.FILES)]
        headers = {"Content-Type": "application/octet-stream"}
        self.post(samples.FILETYPE, content, headers, "filetype raw", lambda answer: check_filetype(orjson.loads(answer.content), label))


class SearchUser(CheckedUser):
    """Questions, by way of another function."""

    @task
    def question(self) -> None:
        """The nearest passage is the known one."""
        text, first_word = list(samples.QUESTIONS.items())[next(self.turns) % len(samples.QUESTIONS)]
        self.call(samples.SEARCH, {"text": text}, "search json", lambda answer: check_found(answer, first_word))


class OcrUser(CheckedUser):
    """Pages of text, as they are and as base64."""

    @task(2)
    def page(self) -> None:
        """One page as the body, of one line or several."""
        lines = pictures.PAGES[next(self.turns) % len(pictures.PAGES)]
        self.post(samples.OCR, pictures.page(lines), PNG, "ocr raw", lambda answer: check_read(orjson.loads(answer.content), lines))

    @task(1)
    def pages(self) -> None:
        """All of them in one call, in order."""

        def check(answers: Any) -> None:
            for answer, lines in zip(answers, pictures.PAGES, strict=True):
                check_read(answer, lines)

        rows = [{"image": base64.b64encode(pictures.page(lines)).decode()} for lines in pictures.PAGES]
        self.call(samples.OCR, rows, "ocr json, 3 rows", check)


class ClassifyUser(CheckedUser):
    """Pictures of a known thing."""

    @task
    def photo(self) -> None:
        """One picture as the body."""
        check = functools.partial(check_classes, label="traffic light")
        self.post(samples.CLASSIFY, pictures.traffic_light(), PNG, "classify raw", lambda answer: check(orjson.loads(answer.content)))


class ListenUser(CheckedUser):
    """A stream of a single piece, told all at once."""

    @task
    def silence(self) -> None:
        """A second in which nobody speaks."""

        def check(answer: FastResponse) -> None:
            check_silence(orjson.loads(answer.content))

        sequence = {"x-sequence-id": str(next(self.turns)), "x-sequence-start": "1", "x-sequence-end": "1"}
        headers = {"Content-Type": "audio/x-raw", "Accept": "application/json", **sequence}
        self.post(samples.LISTEN, bytes(32000), headers, "listen raw", check)
