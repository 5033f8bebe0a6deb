"""A stage that does not return, on each path that a stage may be on: its caller is told, the next
call is answered, and what was kept is kept.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import httpx
import pytest

from runtime.batching.health import hangs
from runtime.batching.health.hangs import MOST_ABANDONED
from tests.deployments.projects import wait_until
from tests.problems import expect_values
from wakeful import Call, Rows, State
from wakeful.testing import ServedFunctions, serve

HERE = __name__
GO = threading.Event()
"""Lets go of all that hangs."""
MADE: Counter[str] = Counter()
"""Objects of classes, by their names; generators that were closed."""


def wait(how: str) -> str:
    """Hangs if it is to."""
    if how == "hang":
        GO.wait(30)
    return how


def waits(how: str) -> str:
    """The stage that hangs."""
    return wait(how)


def is_asked(how: str) -> bool:
    """Whether ``waits`` is for the row."""
    return how != "skip"


def said(how: str, waits: str = "skipped") -> dict[str, str]:
    """The answer."""
    return {"said": waits, "how": how}


def parts(how: str) -> list[str]:
    """Elements: one that is fine, and what was sent."""
    return ["fine", how]


def waits_each(parts: str) -> str:
    """Of one element."""
    return wait(parts)


def together(how: Rows[str]) -> Rows[str]:
    """All rows that wait."""
    return [wait(one) for one in how]


class Counted(TypedDict):
    """Calls of a sequence so far."""

    count: int
    seen: int


def count(how: str, seen: State[int]) -> Counted:
    """One more."""
    wait(how)
    return {"count": (seen or 0) + 1, "seen": (seen or 0) + 1}


class Costly:
    """Is constructed once, whatever hangs beside it."""

    def __init__(self) -> None:
        MADE["Costly"] += 1

    def __call__(self, how: str) -> str:
        return how


class Locked:
    """Hangs with its lock held."""

    def __init__(self) -> None:
        MADE["Locked"] += 1
        self.lock = threading.Lock()

    def __call__(self, costly: str) -> str:
        with self.lock:
            return wait(costly)


class Asks:
    """Is given functions when it is constructed, and when it is called."""

    def __init__(self, first: Annotated[Call, "leaf"]) -> None:
        MADE["Asks"] += 1
        self.built = first(how="built")

    def __call__(self, how: str, second: Annotated[Call, "leaf"]) -> str:
        return f"{self.built} {second(how=wait(how))}"


class Stubborn:
    """Hangs, and so does the next one's ``__init__``."""

    def __init__(self) -> None:
        MADE["Stubborn"] += 1
        if MADE["Stubborn"] > 1:
            GO.wait(30)

    def __call__(self, how: str) -> str:
        return wait(how)


def items(how: str) -> Iterator[str]:
    """Hangs between two."""
    yield "first"
    yield wait(how)


async def items_on_loop(how: str) -> AsyncIterator[str]:
    """The same on the event loop."""
    try:
        yield "first"
        if how == "hang":
            await asyncio.get_running_loop().create_future()
        yield how
    finally:
        MADE["closed"] += 1


class Declared(NamedTuple):
    """A function.

    Attributes:
        graph: its stages: name, callable, and other keys.
        stage: that hangs.
        streams: it is answered item by item.
    """

    graph: list[dict[str, Any]]
    stage: str
    streams: bool = False
    more: dict[str, Any] = {}  # noqa: RUF012


def python(name: str, call: str = "", **more: Any) -> dict[str, Any]:
    """A Python stage."""
    return {"stage": name, "python": f"{HERE}:{call or name}", **more}


SEQUENCES = {"sequences": {"max_sequences": 4, "idle_timeout_s": 600}}

PATHS = {
    "when": Declared(
        [python("is_asked"), python("waits", when="is_asked"), python("said")], "waits"
    ),
    "each": Declared([python("parts"), python("waits_each", each="parts")], "waits_each"),
    "rows": Declared([python("together")], "together"),
    "threads": Declared([python("waits", threads=1)], "waits"),
    "sequence": Declared([python("count")], "count", more=SEQUENCES),
    "split": Declared([python("waits", deployment={"num_cpus": 1}), python("said")], "waits"),
    "callee": Declared([{"stage": "asks", "function": "leaf"}], "waits"),
    "locked": Declared([python("costly", "Costly"), python("locked", "Locked")], "locked"),
    "asks": Declared([python("asks", "Asks", threads=1)], "asks"),
    "items": Declared([python("items")], "items", streams=True),
    "items-on-loop": Declared([python("items_on_loop")], "items_on_loop", streams=True),
    "elements": Declared(
        [python("parts"), python("waits_each", each="parts", stream=True)],
        "waits_each",
        streams=True,
    ),
}

OTHERS = {
    "leaf": Declared([python("waits")], "waits"),
    "always": Declared([python("waits")], "waits"),
    "stubborn": Declared([python("stubborn", "Stubborn")], "stubborn"),
}


def declared(name: str, path: Declared) -> dict[str, Any]:
    """An item of a stream has the time that a call has otherwise."""
    limits: dict[str, float] = {"request_timeout_s": 0.7}
    if path.streams:
        limits = {"request_timeout_s": 60, "item_timeout_s": 0.7}
    if name == "leaf":
        limits = {"request_timeout_s": 0.5}
    return {"name": name, "args": {"graph": path.graph, "limits": limits, **path.more}}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFunctions]:
    """All of them in one process, in which half a minute is half a second."""
    file = tmp_path_factory.mktemp("paths") / "serve_config.yaml"
    applications = [declared(name, path) for name, path in (PATHS | OTHERS).items()]
    file.write_text(json.dumps({"applications": applications}))
    patch = pytest.MonkeyPatch()
    patch.setattr(hangs, "HUNG_S", 0.5)
    with serve(file) as app:
        yield app
        GO.set()
    patch.undo()


@pytest.fixture(autouse=True)
def _held() -> Iterator[None]:
    """What hangs is let go of after each test."""
    GO.clear()
    yield
    GO.set()


def post(app: ServedFunctions, name: str, how: str, **headers: str) -> httpx.Response:
    """A call."""
    return app.http.post(f"/v2/models/{name}", json={"how": how}, headers=headers)


def answered(app: ServedFunctions, name: str, how: str, **headers: str) -> httpx.Response:
    """The answer to a call; one that a busy machine has late is made again."""
    found: list[httpx.Response] = []

    def is_answered() -> bool:
        found[:] = [post(app, name, how, **headers)]
        return found[0].status_code == 200 and "deadline_exceeded" not in found[0].text

    wait_until(is_answered)
    return found[0]


def names_stage(app: ServedFunctions, name: str, **headers: str) -> bool:
    """Whether another call that hangs is told where."""
    return f"'{PATHS[name].stage}'" in post(app, name, "hang", **headers).text


def entry(app: ServedFunctions, name: str) -> dict[str, Any]:
    """What the index says of a function."""
    functions = app.http.get("/", headers={"accept": "application/json"}).json()["functions"]
    return next(one for one in functions if one["name"] == name)


def until_come_back(app: ServedFunctions, name: str) -> None:
    """What hangs is let go of, and its threads have ended."""
    GO.set()
    wait_until(lambda: not entry(app, name)["reason"])


OFTEN = ("when", "sequence", "locked", "asks", "items", "items-on-loop", "elements")


@pytest.mark.parametrize(
    "name",
    [name if name in OFTEN else pytest.param(name, marks=pytest.mark.full) for name in PATHS],
)
def test_the_next_call_is_answered(app: ServedFunctions, name: str) -> None:
    """By another thread, with a new object of the class that hangs; the late call names the
    stage.
    """
    path = PATHS[name]
    lines = {"accept": "application/x-ndjson"} if path.streams else {}
    sequence = {"x-sequence-id": "s"} if name == "sequence" else {}
    begun = answered(app, name, "fine", **lines, **sequence, **{"x-sequence-start": "1"})
    made = MADE.copy()
    hung = post(app, name, "hang", **lines, **sequence)
    if path.streams:
        first, error = map(json.loads, hung.text.splitlines())
        assert (first.popitem()[1], error["code"]) == (
            "first" if "items" in name else "fine",
            "deadline_exceeded",
        )
    else:
        assert (hung.status_code, hung.json()["code"]) == (504, "deadline_exceeded")
        # on a busy machine a call may be late before a stage has it for long
        wait_until(lambda: f"'{path.stage}'" in hung.text or names_stage(app, name, **sequence))
    again = answered(app, name, "fine", **lines, **sequence)
    if name == "sequence":
        assert (begun.json()["count"], again.json()["count"]) == (1, 2)
    else:
        assert again.text == begun.text
    if name == "items-on-loop":
        wait_until(lambda: MADE["closed"] >= made["closed"] + 2)
    else:
        renewed = {"locked": {"Locked"}, "asks": {"Asks"}}.get(name, set())
        assert set(MADE - made) == renewed
    until_come_back(app, "leaf" if name == "callee" else name)


def test_a_row_that_the_stage_is_not_for_does_not_wait_for_it(app: ServedFunctions) -> None:
    """It is answered by the thread that has taken over, also before the hung one is known to
    hang.
    """
    assert post(app, "when", "hang").status_code == 504
    assert answered(app, "when", "skip").json() == {"said": "skipped", "how": "skip"}
    until_come_back(app, "when")


def test_a_v2_call_is_told_the_same(app: ServedFunctions) -> None:
    """And the next one is answered."""

    def infer(how: str) -> httpx.Response:
        tensor = {"name": "how", "datatype": "BYTES", "shape": [1], "data": [how]}
        return app.http.post("/v2/models/rows/infer", json={"inputs": [tensor]})

    assert infer("hang").status_code == 504
    wait_until(lambda: "'together'" in infer("hang").text)
    wait_until(lambda: infer("fine").status_code == 200)
    until_come_back(app, "rows")


def test_a_function_without_a_worker_says_so_wherever_it_is_asked(app: ServedFunctions) -> None:
    """Readiness of the model and of the server, the repository's index; what it takes and gives is
    what it was. When its threads come back it is ready.
    """
    answered(app, "always", "fine")
    for _ in range(MOST_ABANDONED + 1):
        assert post(app, "always", "hang").status_code == 504
        post(app, "always", "fine")
    url = "/v2/models/always"
    wait_until(lambda: app.http.get(f"{url}/ready").status_code == 503)
    ready = app.http.get(f"{url}/ready").json()
    assert (ready["name"], ready["ready"]) == ("always", False)
    expect_values(ready["reason"], "'waits'", "'always'")
    assert app.http.get(f"{url}/versions/1/ready").json() == ready
    server = app.http.get("/v2/health/ready")
    assert (server.status_code, server.json()["ready"]) == (503, False)
    assert server.json()["failed"] == ["always"]
    assert app.http.get("/v2/health/live").status_code == 200
    index = {one["name"]: one["state"] for one in app.http.get("/v2/repository/index").json()}
    assert index["always"] == "UNAVAILABLE"
    assert app.http.get(url).json()["inputs"][0]["name"] == "how"
    until_come_back(app, "always")
    assert app.http.get(f"{url}/ready").json() == {"name": "always", "ready": True}
    answered(app, "always", "fine")


@pytest.mark.slow
def test_a_stage_that_hangs_while_it_is_constructed_anew(app: ServedFunctions, caplog) -> None:
    """A caller is told that; the log names its `__init__`; after as many threads as may be left
    behind the function has none, and says so.
    """
    caplog.set_level(logging.ERROR)
    assert answered(app, "stubborn", "fine").json() == {"stubborn": "fine"}
    assert post(app, "stubborn", "hang").status_code == 504
    told: list[str] = []

    def is_told() -> bool:
        told[:] = [post(app, "stubborn", "fine").json()["error"]]
        return "constructed anew" in told[0]

    wait_until(is_told)
    expect_values(told[0], "'stubborn'", "__init__")
    url = "/v2/models/stubborn/ready"
    wait_until(lambda: app.http.get(url).status_code == 503)
    expect_values(app.http.get(url).json()["reason"], "__init__", "'stubborn'")
    log = "\n".join(record.getMessage() for record in caplog.records)
    expect_values(log, "`__init__` of stage 'stubborn' of 'stubborn'", f"{Path(__file__).name}:")
    until_come_back(app, "stubborn")
    assert answered(app, "stubborn", "fine").json() == {"stubborn": "fine"}
