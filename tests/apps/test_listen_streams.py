"""`listen` as declared, over HTTP: streams of several callers at once, cut in several ways, answered as
events.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from runtime.declaration.config_file import read
from runtime.declaration.function_spec import FunctionSpec
from tests.sleepers import Served, run, serving

ROOT = Path(__file__).parent.parent.parent
PATH = "/v2/models/listen"
HEADER_BYTES = 44
SENTENCES = 6

pytestmark = [pytest.mark.models, pytest.mark.slow]


@pytest.fixture(scope="module")
def sound(models) -> bytes:
    """Ten seconds of speech, without the header of their file."""
    return (models / "listen" / "sample.wav").read_bytes()[HEADER_BYTES:]


def answers(work) -> Any:
    """What comes of some work with the shipped function."""
    spec = next(
        spec for spec in read(ROOT / "serve_config.yaml").functions if spec.name == "listen"
    )
    return run(serving(ROOT, FunctionSpec.of(spec)), work)


async def send(served: Served, name: str, piece: bytes, **headers: str) -> httpx.Response:
    """One piece of a stream, as JSON all at once."""
    sent_headers = {
        "content-type": "audio/x-raw",
        "accept": "application/json",
        "x-sequence-id": name,
        **headers,
    }
    return await served.client.post(PATH, content=piece, headers=sent_headers)


async def stream(served: Served, name: str, sound: bytes, size: int) -> list[tuple[str, float]]:
    """All pieces of a stream, one after the other; what began and ended, and when."""
    events = []
    for start in range(0, len(sound), size):
        begins = {"x-sequence-start": "1"} if start == 0 else {}
        answer = await send(served, name, sound[start : start + size], **begins)
        assert answer.status_code == 200, answer.text
        events += [
            (event["event"], event["at_s"]) for event in answer.json() if event["event"] != "heard"
        ]
    return events


def test_a_file_is_answered_while_it_is_read(models):
    """Server-sent events: six times speech, how far was read, and the end."""

    async def work(served: Served) -> httpx.Response:
        headers = {
            "content-type": "audio/wav",
            "x-sequence-id": "file",
            "x-sequence-start": "1",
            "x-sequence-end": "1",
        }
        return await served.client.post(
            PATH, content=(models / "listen" / "sample.wav").read_bytes(), headers=headers
        )

    answer = answers(work)
    assert answer.headers["content-type"] == "text/event-stream"
    *events, done = answer.text.strip().split("\n\n")
    items = [orjson.loads(event.removeprefix("data: ")) for event in events]
    assert [item["event"] for item in items] == ["speech_start", "speech_end"] * SENTENCES + [
        "heard"
    ]
    assert done.startswith("event: done")


def test_streams_do_not_hear_each_other(sound):
    """Eight at once in pieces of unlike length, some silent: each is answered as it is alone,
    whatever shares its runs.
    """

    async def work(
        served: Served,
    ) -> tuple[
        list[tuple[str, float]], list[list[tuple[str, float]]], list[list[tuple[str, float]]]
    ]:
        alone = await stream(served, "alone", sound, len(sound))
        sizes = [1000, 3200, 6400, 16000, 31998, 100_000]
        speaking = [stream(served, f"speaks {size}", sound, size) for size in sizes]
        silent = [
            stream(served, f"is silent {size}", bytes(len(sound)), size) for size in (3200, 16000)
        ]
        *spoken, one, other = await asyncio.gather(*speaking, *silent)
        return alone, spoken, [one, other]

    alone, spoken, silent = answers(work)
    assert [what for what, _ in alone] == ["speech_start", "speech_end"] * SENTENCES
    assert all(events == alone for events in spoken)
    assert silent == [[], []]


def test_a_stream_goes_on_only_from_where_it_was(sound):
    """One that never began is 409; a start begins again; a piece that is refused leaves the stream
    as it was.
    """

    async def work(served: Served) -> list[httpx.Response]:
        never = await send(served, "never", sound[:3200])
        begun = await send(served, "s", sound[:32000], **{"x-sequence-start": "1"})
        odd = await send(served, "s", sound[32000:32101])
        on = await send(served, "s", sound[32000:64000])
        again = await send(
            served, "s", sound[:32000], **{"x-sequence-start": "1", "x-sequence-end": "1"}
        )
        ended = await send(served, "s", sound[:32000])
        return [never, begun, odd, on, again, ended]

    never, begun, odd, on, again, ended = answers(work)
    assert (never.status_code, never.json()["code"]) == (409, "sequence_unknown")
    assert (odd.status_code, odd.json()["where"]) == (400, "sound")
    assert [each.json()[-1]["at_s"] for each in (begun, on, again)] == [0.992, 1.984, 0.992]
    assert [event["event"] for event in on.json()] == ["speech_end", "speech_start", "heard"]
    assert ended.status_code == 409
