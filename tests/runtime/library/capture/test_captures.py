"""What of a process's functions is recorded, and the thread behind it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from runtime.declaration.sections import CaptureSpec
from runtime.library.capture import captures as module
from runtime.library.capture.captures import CapturedFunction, Captures, FileStore, Order
from runtime.library.capture.lines import header_line
from runtime.library.capture.recorder import (
    JSON,
    MAX_HOT_BYTES,
    PIECE_BYTES,
    Recording,
    digest_of,
    takes_sequence,
)
from runtime.library.capture.reordering import TimedLine
from runtime.system.secrets import Secrets
from runtime.system.telemetry.counters import ProcessCounters

FAR = 4e9
"""Seconds since the epoch that no test sees."""


class Store:
    """Takes lines, once it is free to."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.ticks: list[float] = []
        self.may_take = threading.Event()
        self.may_take.set()
        self.has_begun = threading.Event()
        self.fault: Exception | None = None

    def declare(self, functions: Mapping[str, CapturedFunction]) -> bool:
        return False

    def add(self, function: str, lines: Sequence[TimedLine]) -> None:
        self.has_begun.set()
        assert self.may_take.wait(30)
        self.lines += [json.loads(one.line) for one in lines]

    def tick(self, now: float) -> None:
        self.ticks.append(now)


class Request:
    """A call that is over."""

    method, path, status, code, sent_bytes, wake_s = "POST", "/f", 200, "", 2, 0.0
    reason, call, trace = "", None, None

    def __init__(self, number: int = 0, body: bytes | None = b"{}") -> None:
        self.id_bytes = b"%d" % number
        self.fields: dict[bytes, bytes] = {}
        self.body = body
        self.began = 0.0


def function(name: str = "f", *, has_sequences: bool = False, **spec: Any) -> CapturedFunction:
    """One that may be captured."""
    return CapturedFunction(name, f"/{name}", CaptureSpec(**spec), "v1", has_sequences)


class Served:
    """A process's captures.

    Args:
        dice: given in turn, then 0.
    """

    def __init__(self, *functions: CapturedFunction, dice: Sequence[float] = ()) -> None:
        self.store, self.counters = Store(), ProcessCounters()
        numbers = iter(dice)
        self.secrets = Secrets({"KEY": "canary", "N": "7777777"})
        self.captures = Captures(
            self.counters, self.store, self.secrets, lambda: next(numbers, 0.0)
        )
        self.captures.declare(functions)

    def call(self, name: str = "f", request: Request | None = None, sequence: str = "") -> bool:
        """A call; whether it was to be recorded."""
        recorder = self.counters.of(name).recorder
        recording = None if recorder is None else recorder.begin()
        if recording is None:
            return False
        recording.sequence = sequence
        made: Any = request or Request()
        recording.end(made, made.fields, made.body)
        return True

    def close(self) -> list[str]:
        """End it; the ids of what was recorded."""
        self.captures.close()
        return [line["id"] for line in self.store.lines]


def test_nothing_is_there_where_nothing_is_captured():
    """No recorder, which a call would ask, and no thread."""
    threads = threading.active_count()
    served = Served(function(omit=["x"]))
    assert served.counters.of("f").recorder is None
    assert threading.active_count() == threads
    assert served.close() == []


def test_a_share_is_decided_before_anything_is_kept():
    """By chance: below the rate."""
    served = Served(function(rate=0.5), dice=[0.49, 0.5, 0.9, 0.1])
    assert [served.call() for _ in range(4)] == [True, False, False, True]
    assert len(served.close()) == 2


def test_of_sequences_all_calls_or_none_are_recorded():
    """By the id, which is known when a call is over, in every process alike."""
    served = Served(function(rate=0.5, has_sequences=True), dice=[0.9] * 99)
    for number in range(60):
        served.call(request=Request(number), sequence=str(number // 2))
    ids = {int(one) // 2 for one in served.close()}
    assert len(served.store.lines) == 2 * len(ids)
    assert ids == {number for number in range(30) if takes_sequence(str(number), 0.5)}
    assert 5 < len(ids) < 25


def test_a_line_says_which_share_of_the_calls_was_recorded():
    """When its call came, though another is when it is over; of a sequence that which decided."""
    served = Served(function(rate=0.25))
    before = begun(served)
    served.captures.declare([function(rate=1)])
    end(before)
    served.call()
    served.close()
    assert [line["rate"] for line in served.store.lines] == [0.25, 1.0]
    served = Served(function(rate=0.25, has_sequences=True))
    recording = begun(served)
    recording.sequence = "s"
    served.captures.declare([function(rate=1, has_sequences=True)])
    end(recording)
    served.close()
    assert [line["rate"] for line in served.store.lines] == [1.0]


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.5, 1.0])
def test_the_share_of_sequences_is_the_rate(rate):
    """Of many, nearly; of 0 none, of 1 all."""
    share = sum(takes_sequence(f"s{number}", rate) for number in range(20_000)) / 20_000
    assert abs(share - rate) < 0.01 * bool(0 < rate < 1) + 1e-9


def test_a_store_that_hangs_loses_calls_and_bounds_memory(monkeypatch):
    """Calls go on, and are counted; what was taken is written when it goes on."""
    monkeypatch.setattr(module, "MAX_QUEUED", 5)
    served = Served(function(rate=1))
    served.store.may_take.clear()
    served.call()
    assert served.store.has_begun.wait(30)
    for number in range(1, 21):
        served.call(request=Request(number))
    counters = served.counters.of("f")
    assert counters.capture_lost == 15
    served.store.may_take.set()
    assert served.close() == [str(number) for number in range(6)]


def test_what_is_queued_is_bounded_in_bytes(monkeypatch):
    """Whatever the number of calls."""
    monkeypatch.setattr(module, "MAX_QUEUED_BYTES", 1000)
    served = Served(function(rate=1))
    served.store.may_take.clear()
    for number in range(10):
        served.call(request=Request(number, b'"%s"' % (b"x" * 298)))
    assert served.counters.of("f").capture_lost == 7
    served.store.may_take.set()
    assert served.close() == ["0", "1", "2"]


def test_headers_are_queued_too():
    """They are a client's, and may be longer than all the rest."""
    served = Served(function(rate=1))
    served.store.may_take.clear()
    request = Request()
    request.fields = {b"x": b"x" * (module.MAX_QUEUED_BYTES // 2)}
    for _ in range(3):
        served.call(request=request)
    assert served.counters.of("f").capture_lost == 2
    served.store.may_take.set()
    served.close()


def test_what_is_held_is_bounded_over_all_functions(tmp_path, monkeypatch):
    """Beyond it all leave before their time, in order; nothing is lost."""
    monkeypatch.setattr(module, "MAX_HELD_BYTES", 1000)
    counters = ProcessCounters()
    store = FileStore(tmp_path / "captures", counters, window_s=1e6)
    store.declare({name: function(name, rate=1) for name in "fg"})
    for number in range(20):
        line = b'{"n":%d,"x":"%s"}\n' % (number, b"x" * 100)
        store.add("fg"[number % 2], [TimedLine(1000.0 - number, line)])
    store.tick(1000.0)
    written = [one for name in "fg" for one in numbers(tmp_path / "captures" / f"{name}.jsonl")]
    assert 10 <= len(written) < 20
    store.tick(float("inf"))
    written = [one for name in "fg" for one in numbers(tmp_path / "captures" / f"{name}.jsonl")]
    assert sorted(written) == list(range(20))


def test_what_is_too_old_is_deleted_though_the_clock_was_set_back(tmp_path):
    """Every minute, of whichever clock."""
    store = FileStore(tmp_path, ProcessCounters())
    store.tick(4e9)
    path = tmp_path / "f.jsonl"
    path.write_bytes(header_line("f", "v1", 900.0, 60.0))
    store.tick(4e9 + 59)
    assert path.exists()
    store.tick(1000.0)
    assert not path.exists()


def numbers(path: Path) -> list[int]:
    """Of the calls in a file."""
    return [json.loads(line)["n"] for line in path.read_text().splitlines()[1:]]


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, MAX_HOT_BYTES])
def test_a_digest_is_that_of_all_pieces(size):
    """Wherever they are cut, and however they lie in memory."""
    text = bytes(range(256)) * (size // 256 + 1)
    whole = text[:size]
    assert digest_of([whole]) == hashlib.sha256(whole).hexdigest()
    parts = [whole[: size // 3], memoryview(text)[size // 3 : size]]
    assert digest_of(parts) == hashlib.sha256(whole).hexdigest()


def begun(served: Served) -> Recording:
    """A call that is recorded."""
    recorder = served.counters.of("f").recorder
    assert recorder is not None
    recording = recorder.begin()
    assert isinstance(recording, Recording)
    return recording


def end(recording: Recording) -> None:
    """It is over."""
    made: Any = Request()
    recording.end(made, made.fields, made.body)


@pytest.mark.parametrize(
    ("spec", "size", "is_kept"),
    [
        ({}, 0, False),
        ({}, MAX_HOT_BYTES, False),
        ({}, MAX_HOT_BYTES + 1, True),
        ({"answer": "full"}, 9, True),
        ({"omit": ["x"]}, 9, True),
    ],
)
def test_a_small_answer_of_which_the_digest_is_recorded_is_not_kept(spec, size, is_kept):
    """The digest is there all the same, but where fields are omitted."""
    served = Served(function(rate=1, **spec))
    recording = begun(served)
    answer = b'"%b"' % (b"a" * (size - 2)) if size else b""
    recording.keep_answer([answer], JSON)
    assert bool(recording.answer) is is_kept
    end(recording)
    served.close()
    (line,) = served.store.lines
    has_digest = line.get("answer_sha256") == hashlib.sha256(answer).hexdigest()
    assert has_digest is ("omit" not in spec)
    assert ("answer" in line) is (spec.get("answer") == "full")


def test_a_field_that_is_omitted_from_now_on_is_not_told_by_a_digest_of_before():
    """The answer was digested under the declaration before; the line is made under the next one."""
    served = Served(function(rate=1))
    recording = begun(served)
    recording.keep_answer([b'{"x": "canary"}'], JSON)
    served.captures.declare([function(rate=1, omit=["x"])])
    end(recording)
    served.close()
    (line,) = served.store.lines
    assert not {"answer", "answer_sha256"} & line.keys()


def test_a_call_that_cannot_be_a_line_is_counted():
    """And the others are written."""
    served = Served(function(rate=1))
    odd = Request(1)
    odd.method = b"POST"  # type: ignore[assignment]
    for request in (Request(0), odd, Request(2)):
        served.call(request=request)
    assert served.close() == ["0", "2"]
    assert served.counters.of("f").capture_lost == 1


def test_secrets_are_hidden():
    """Wherever they stand, once a stage has them; a line that is none any more is lost."""
    served = Served(function(rate=1))
    for name in ("KEY", "N"):
        served.secrets.find(name)
    served.call(request=Request(0, b'{"a": "canary"}'))
    served.call(request=Request(1, b'{"a": 7777777}'))
    assert served.close() == ["0"]
    assert served.store.lines[0]["body"] == {"a": "${KEY}"}
    assert served.counters.of("f").capture_lost == 1


def test_what_another_process_has_made_is_kept():
    """Beside calls of this one."""
    served = Served(function(rate=1))
    served.captures.put_lines("f", [TimedLine(1.0, b'{"id": "theirs"}\n')])
    served.call(request=Request(7))
    assert sorted(served.close()) == ["7", "theirs"]


def test_orders_hold_for_their_time_beside_what_is_declared():
    """One by one; of functions that are there; those that are over are none."""

    async def work() -> None:
        served = Served(function("f", rate=0.5), function("g"))
        captures = served.captures
        captures.order({"f": Order(1.0, FAR), "g": Order(1.0, 5.0), "h": Order(1.0, FAR)})
        assert dict(captures.orders) == {"f": Order(1.0, FAR)}
        assert captures.rate_of("f") == 1.0
        assert served.counters.of("g").recorder is None
        captures.order({"f": Order(0.0, FAR)})
        assert served.counters.of("f").recorder is None
        captures.declare([function("f", rate=0.25)])
        assert captures.rate_of("f") == 0.0
        captures.order({})
        assert captures.rate_of("f") == 0.25
        captures.declare([function("g", rate=1)])
        assert served.counters.of("f").recorder is None
        assert served.call("g")
        assert served.close() == ["0"]

    asyncio.run(work())


def test_another_declaration_holds_at_once():
    """Also for calls that are under way: what is omitted now is in none of them."""
    served = Served(function(rate=1))
    recorder = served.counters.of("f").recorder
    assert recorder is not None
    recording = recorder.begin()
    assert recording is not None
    recording.keep_route("/f", "", ("a", "b"))
    served.captures.declare([function(rate=1, omit=["b"])])
    made: Any = Request(0, b'{"a": 1, "b": 2}')
    recording.end(made, made.fields, made.body)
    served.close()
    assert served.store.lines[0]["body"] == {"a": 1}


def test_the_end_touches_no_timer_and_counts_what_comes_later():
    """It comes in a thread, and a timer belongs to its event loop."""

    async def work() -> None:
        served = Served(function("f"))
        served.captures.order({"f": Order(1.0, time.time() + 600)})
        (timer,) = served.captures._timers.values()
        served.call()
        assert await asyncio.to_thread(served.close) == ["0"]
        assert not timer.cancelled()
        assert served.call()
        assert served.counters.of("f").capture_lost == 1

    asyncio.run(work())


def test_the_end_writes_what_is_left():
    """The store is told that the process ends."""
    served = Served(function(rate=1))
    served.call()
    served.close()
    assert served.store.ticks[-1] == float("inf")
    served.close()
