"""Requests whose answers can be told right from wrong, the functions that answer them, and the files that declare those."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loadtests.answers import WrongAnswer
from loadtests.bench.wake import declare
from loadtests.faults import mixed, poison, shipped, work
from loadtests.faults.stages import Work as Stage
from loadtests.ledger.outcome import REPLAYABLE_BYTES, Request
from runtime.specfile import read


def answer(request: Request) -> Any:
    """What the stage answers, by way of JSON."""
    return json.loads(json.dumps(Stage(version=3)(**json.loads(request.body))))


def test_the_stage_answers_what_the_check_wants() -> None:
    """And is remembered: who answered, and which version."""
    requests = work.Work("t", lambda _: 0.0)
    request = requests(7)
    request.check(answer(request))
    assert (request.id, len(request.body)) == ("t-7", pytest.approx(2000, abs=20))
    assert list(requests.pids) == [os.getpid()]
    assert list(requests.versions) == [3]


@pytest.mark.parametrize("number", [0, 8])
def test_an_answer_to_another_request_is_wrong(number: int) -> None:
    """Even to one that is nearly the same."""
    requests = work.Work("t", lambda _: 0.0)
    with pytest.raises(WrongAnswer, match="digest"):
        requests(7).check(answer(requests(number)))
    assert requests.pids == {}


def test_a_poisoned_row_fails_in_its_stage_and_is_meant_to() -> None:
    """Its right answer is the error."""
    request = work.Work("t", lambda _: work.POISON)(0)
    assert request.refusal == work.FAILED
    with pytest.raises(ValueError, match="a poisoned row"):
        answer(request)


def test_a_version_may_be_bad_everywhere() -> None:
    """It does not load."""
    with pytest.raises(ValueError, match="version 2 was made to fail"):
        Stage(2, "raises")


def test_mixed_requests_leave_and_fail_and_are_large_now_and_then() -> None:
    """Some of the large ones have to be replayed."""
    requests = [work.Work("t", mixed._ms, mixed._bytes, request=mixed._leaves)(number) for number in range(1000)]
    leaving = [request.id for request in requests if request.leaves_after_s < 1]
    failing = [request.id for request in requests if request.refusal]
    assert (len(leaving), len(failing)) == (50, 40)
    assert {round(len(request.body), -3) for request in requests} == {2000, 60_000, 200_000}
    assert REPLAYABLE_BYTES in range(60_000, 200_000)


SOLO = [np.eye(384)[index] for index in range(4)]
IDS = [[101, number, 102] for number in range(4)]


def rows(request: Request) -> list[Any]:
    """What a model that gives each text its own unit vector answers, and the poisoned row's error."""
    known = {tuple(ids): vector.tolist() for ids, vector in zip(IDS, SOLO, strict=True)}
    failed = {"error": "it failed", "code": work.FAILED}
    found = [known.get(tuple(row["input_ids"])) for row in json.loads(request.body)]
    return [failed if vector is None else {"sentence_embedding": vector} for vector in found]


def test_every_batch_has_one_poisoned_row_and_the_others_are_compared() -> None:
    """Its place wanders."""
    places = []
    for number in range(4):
        request = poison.batch(number, 4, IDS, SOLO)
        good = rows(request)
        request.check(good)
        places.append(next(index for index, row in enumerate(good) if "code" in row))
        neighbour = good[places[-1] - 1]["sentence_embedding"]
        neighbour[0] += 2e-4
        with pytest.raises(WrongAnswer):
            request.check(good)
    assert places == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "spoil", [lambda good: good[1:], lambda good: [good[1], *good[1:]], lambda good: [{"error": "e", "code": "c"}, *good[1:]]]
)
def test_a_poisoned_row_that_does_not_fail_alone_is_found(spoil: Any) -> None:
    """A row too few, an answer in its place, another error."""
    request = poison.batch(0, 4, IDS, SOLO)
    with pytest.raises((WrongAnswer, KeyError)):
        request.check(spoil(rows(request)))


def test_of_single_rows_one_in_a_batch_is_poisoned() -> None:
    """The others are compared with their solo answers."""
    requests = [poison.alone(number, 4, IDS, SOLO) for number in range(8)]
    assert [bool(request.refusal) for request in requests] == [True, False, False, False] * 2
    requests[1].check({"sentence_embedding": SOLO[1].tolist()})
    with pytest.raises(WrongAnswer):
        requests[1].check({"sentence_embedding": SOLO[2].tolist()})


def test_shipped_functions_are_checked_as_well() -> None:
    """An embedding equals the first one of its text."""
    make = shipped.embed("e")
    first, again = make(0), make(8)
    first.check({"embedding": SOLO[0].tolist()})
    with pytest.raises(WrongAnswer, match="moved"):
        again.check({"embedding": SOLO[1].tolist()})
    assert (first.id, json.loads(first.body)) == ("e-0", json.loads(again.body))
    with pytest.raises(KeyError):
        shipped.forecast("f")(0).check({})


def test_the_files_that_are_served_can_be_read(tmp_path: Path) -> None:
    """By the same reader as a user's."""
    functions = [
        work.declared(2),
        work.declared(0, 1, name="hosted", tier="auto", autoscaling=declare.sleepy(5)),
        mixed.declared_work(2, "dies on Ray") | {"name": "mixed", "route_prefix": "/v2/models/mixed"},
        *(poison._declared(size, Path("models/minilm")) for size in poison.SIZES),
    ]
    file = read(declare.write(tmp_path / "x.yaml", functions))
    assert [(spec.autoscaling.min_replicas, spec.batching.max_batch_size) for spec in file.functions] == [
        (2, 1),
        (0, 1),
        (2, 1),
        (0, 8),
        (0, 32),
    ]
