"""One poisoned row in every batch of a real model: it fails alone, and its neighbours are answered as if it had not been there."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loadtests import answers
from loadtests.answers import Vector, WrongAnswer
from loadtests.bench.serving import HOST, FirstCall, local
from loadtests.bench.texts import Writer
from loadtests.bench.wake import declare
from loadtests.bench.wake.callers import undisturbed
from loadtests.faults.plan import Setting
from loadtests.faults.row import Row
from loadtests.faults.work import FAILED
from loadtests.ledger.book import Book, Verdict
from loadtests.ledger.callers import Client
from loadtests.ledger.outcome import Request

SIZES = (8, 32)
TEXTS, TOKENS = 64, 14
OUT_OF_VOCABULARY = 1_000_000
"""A token that the model has no row for: ONNX Runtime fails the whole batch."""

CALLERS = 2
"""One call is a batch: while it runs, the next one waits."""

SINGLES = 4
"""Callers of one row each, for each row of a batch: batches then mix callers, and the poisoned one is somebody else's."""


def poison(setting: Setting) -> Row:
    """Batches of each size, in `wakeful run`: no part of it is Ray's."""
    model = setting.models / "minilm"
    texts = [text.tokens for text in Writer(model / "tokenizer.json", 0).write_all([TOKENS] * TEXTS)]
    functions = [_declared(size, model) for size in SIZES]
    file = setting.file("poison", functions)
    began, verdict = time.perf_counter(), Verdict(0, 0, 0, 0, 0)
    first = FirstCall(_path(SIZES[0]), _row(texts[0]))
    with local(file, setting.port, first, setting.log("poison")) as server, undisturbed():
        for size in SIZES:
            solo = [_embedding(server.post(_path(size), _row(ids)).json()) for ids in texts]
            verdict += asyncio.run(_batches(setting, server.port, size, texts, solo))
    more = (f"neighbours within {answers.SAME_WITHIN:g} of their solo answers", f"{time.perf_counter() - began:.0f} s")
    return Row(f"one poisoned row in every batch of {' and of '.join(map(str, SIZES))}, {setting.plan.batches:,} batches", verdict, more)


async def _batches(setting: Setting, port: int, size: int, texts: Sequence[Sequence[int]], solo: Sequence[Vector]) -> Verdict:
    whole, single = Book(), Book()
    count = setting.plan.batches // len(SIZES)
    setting.say(f"{count:,} batches of {size}")
    async with Client(whole, HOST, port, lambda number: batch(number, size, texts, solo)) as client:
        await client.closed(CALLERS, lambda: whole.sent < count)
    async with Client(single, HOST, port, lambda number: alone(number, size, texts, solo)) as client:
        await client.closed(SINGLES * size, lambda: single.sent < count * size // 10)
    return whole.verdict() + single.verdict()


def batch(number: int, size: int, texts: Sequence[Sequence[int]], solo: Sequence[Vector]) -> Request:
    """A call of so many rows, one of them poisoned, each time at another place."""
    place = number % size
    chosen = [(number * 31 + index) % len(texts) for index in range(size)]
    rows = [_row(texts[which]) for which in chosen]
    rows[place] = _row([OUT_OF_VOCABULARY, *texts[0][1:]])

    def check(answer: Any) -> None:
        if len(answer) != size:
            raise WrongAnswer(f"{len(answer)} rows, not {size}")
        for index, which in enumerate(chosen):
            if index == place:
                check_poisoned(answer[index])
            else:
                answers.check_same(_embedding(answer[index]), solo[which])

    return Request(f"batch-{size}-{number}", _path(size), json.dumps(rows).encode(), check)


def alone(number: int, size: int, texts: Sequence[Sequence[int]], solo: Sequence[Vector]) -> Request:
    """A call of one row; of as many as are in a batch, one is poisoned."""
    which = number % len(texts)
    is_poisoned = number % size == 0
    row = _row([OUT_OF_VOCABULARY, *texts[0][1:]] if is_poisoned else texts[which])

    def check(answer: Any) -> None:
        answers.check_same(_embedding(answer), solo[which])

    refusal = FAILED if is_poisoned else ""
    return Request(f"single-{size}-{number}", _path(size), json.dumps(row).encode(), check, refusal=refusal)


def check_poisoned(answer: Any) -> None:
    """The poisoned row's own error.

    Raises:
        WrongAnswer: it is anything else.
    """
    answers.check_refused(answer)
    if answer["code"] != FAILED:
        raise WrongAnswer(f"the poisoned row got {answer['code']}, not {FAILED}")


def _declared(size: int, model: Path) -> declare.Application:
    """The model alone, so that the rows of a call are a batch; one worker, so that they are not shared out."""
    graph = [{"stage": "model", "onnx": str(model / "model.int8.onnx")}]
    batching = {"max_batch_size": size, "max_padding": 1.0}
    example = _row([101, 102])
    return declare.function(f"minilm-{size}", graph, batching=batching, resources={"num_cpus": 1}, example=example)


def _path(size: int) -> str:
    return f"/v2/models/minilm-{size}"


def _row(ids: Sequence[int]) -> dict[str, Any]:
    ones = [1] * len(ids)
    return {"input_ids": list(map(int, ids)), "attention_mask": ones, "token_type_ids": [0] * len(ones)}


def _embedding(answer: Any) -> Vector:
    return answers.check_embedding(np.asarray(answer["sentence_embedding"], np.float64))
