"""What the handler of a function does of what the quarantine decided of rows."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.execution.function import Function
from runtime.http.asgi import AsgiApp
from runtime.http.function_handler import FunctionHandler
from runtime.settings import Settings
from runtime.system.crash.quarantine import FREE, RowDecision, RowQuarantine
from wakeful import Rows

HERE = __name__
PREFIX = "/v2/models/twice"
BATCHES: list[list[int]] = []


def twice(n: Rows[int]) -> Rows[int]:
    """Twice that."""
    BATCHES.append([int(one) for one in n])
    return [2 * one for one in BATCHES[-1]]


class Decided(RowQuarantine):
    """Has decided already."""

    def __init__(self, root: Path, decision: RowDecision) -> None:
        super().__init__(root)
        self._decision = decision

    def decide(self, call_id: int, age_s: float = 0.0) -> RowDecision:
        """The same of each call."""
        return self._decision


@pytest.mark.parametrize(
    ("decision", "ran", "is_alone", "statuses"),
    [
        (FREE, [0, 1, 2, 3], False, [200] * 4),
        (RowDecision(alone=frozenset({1})), [0, 1, 2, 3], True, [200] * 4),
        (RowDecision(refused=frozenset({2})), [0, 1, 3], False, [200, 200, 500, 200]),
    ],
    ids=["no row", "a row alone", "a row refused"],
)
def test_what_is_decided_of_a_row_is_done(
    tmp_path: Path, decision: RowDecision, ran: list[int], is_alone: bool, statuses: list[int]
) -> None:
    """A row that was at work in a crash shares no batch, one that has crashed does not run."""
    BATCHES.clear()

    async def main() -> list[int]:
        graph = [{"stage": "twice", "python": f"{HERE}:twice"}]
        spec = FunctionSpec.from_args("twice", PREFIX, {"graph": graph})
        settings = Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
        function = await Function.load(spec, settings, warm_up=False)
        handler = FunctionHandler(function, Decided(tmp_path, decision))
        handler.prefix = PREFIX

        async def app(scope: dict[str, object], receive: object, send: object) -> None:
            await AsgiApp(handler)({**scope, "root_path": PREFIX}, receive, send)  # type: ignore[arg-type]

        transport = httpx.ASGITransport(app)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
            answer = await client.post(PREFIX, json=[{"n": n} for n in range(4)])
        await function.close(5)
        return [one.get("status", 200) for one in answer.json()]

    assert asyncio.run(main()) == statuses
    assert sorted(n for batch in BATCHES for n in batch) == ran
    assert ([1] in BATCHES) is is_alone
