"""One declared function: what it is, and what keeps it where it is."""

from __future__ import annotations

import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.library import eviction
from runtime.library.entry import DeclaredFunction, LibraryEntry
from tests.sleepers import Served, obedient, run, serving

STEP = {"x-sequence-id": "s"}


def keeps_state(name: str) -> FunctionSpec:
    """A function that adds up what a sequence sends."""
    args = {
        "graph": [{"stage": "add", "python": "tests.accumulators:add"}],
        "sequences": {},
        "autoscaling": {"downscale_to_zero_delay_s": 0.05},
    }
    return FunctionSpec.from_args(name, f"/v2/models/{name}", args)


def test_a_live_sequence_keeps_its_function_loaded(tmp_path, monkeypatch, clock):
    """Neither for room nor for being idle is it unloaded: its state would be lost. When the
    sequence has ended it may go.
    """
    monkeypatch.setattr(eviction, "MEMORY_WAIT_S", 0.0)

    async def work(served: Served) -> None:
        async def step(**headers: str) -> int:
            path, body = "/v2/models/keeps", {"n": 1}
            answer = await served.client.post(path, json=body, headers=STEP | headers)
            return answer.status_code

        assert await step(**{"x-sequence-start": "1"}) == 200
        clock.advance(1)
        assert (await served.call("other")).json()["code"] == "no_room"
        assert served.library.entries.require("keeps").state.state == "ready"
        assert await step(**{"x-sequence-end": "1"}) == 200
        assert (await served.call("other")).status_code == 200
        assert served.library.entries.require("keeps").state.state == "asleep"

    declared = [
        DeclaredFunction(keeps_state("keeps"), 3 << 40),
        DeclaredFunction(obedient("other", "beside a sequence"), 3 << 40),
    ]
    run(serving(tmp_path, *declared, budget=5 << 40), work)


@pytest.mark.parametrize(
    ("args", "is_probed", "skips"),
    [
        ({}, False, True),
        ({"batching": {"max_batch_size": 64}}, False, False),
        ({"batching": {"max_batch_size": 64}}, True, True),
    ],
)
def test_other_settings_are_warmed_up(args, is_probed, skips):
    """A declaration that was loaded before needs no warm-up; one with another batch size does, but
    where the preflight has done it.
    """
    entry = LibraryEntry(DeclaredFunction(obedient("f", "entry"), 1000, is_probed=True))
    other = DeclaredFunction(obedient("f", "entry", **args), is_probed=is_probed)
    assert entry.apply_declaration(other)
    assert entry.can_skip_warm_up is skips
