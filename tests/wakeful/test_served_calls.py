"""A function whose stages call another is called in every form, as any function is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wakeful.testing import CallError, ServedFunctions, serve

STAGES = """
from collections.abc import AsyncIterator, Iterator
from typing import TypedDict
from wakeful import Call, RequestError, State

def length(text: str) -> int:
    if text == "refused":
        raise RequestError("it is refused.", where="text", status=422)
    return len(text)

def plain(text: str, length: Call["length"]) -> int:
    return length(text=text)["length"]

async def awaited(text: str, length: Call["length"]) -> int:
    return (await length(text=text))["length"]

async def letters(text: str, length: Call["length"]) -> AsyncIterator[int]:
    for end in range(len(text)):
        yield (await length(text=text[:end + 1]))["length"]

def slowly(text: str, length: Call["length"]) -> Iterator[int]:
    for end in range(len(text)):
        yield length(text=text[:end + 1])["length"]

class Sum(TypedDict):
    total: int
    kept: int

def total(text: str, kept: State[int], length: Call["length"]) -> Sum:
    now = (kept or 0) + length(text=text)["length"]
    return {"total": now, "kept": now}

def words(text: str) -> list[str]:
    return text.split()

def word(words: str, length: Call["length"]) -> int:
    return length(text=words)["length"]
"""

NAMES = ("length", "plain", "awaited", "letters", "slowly")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFunctions]:
    """All of them."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "served_calls.py").write_text(STAGES)
    lines = [
        f'  - {{name: {name}, args: {{graph: [{{stage: {name}, python: "served_calls:{name}"}}]}}}}'
        for name in NAMES
    ]
    lines += [
        '  - {name: total, args: {graph: [{stage: t, python: "served_calls:total"}], sequences: {}}}',
        "  - name: each",
        "    args:",
        "      graph:",
        '        - {stage: words, python: "served_calls:words"}',
        '        - {stage: lengths, python: "served_calls:word", each: words}',
    ]
    file = folder / "serve_config.yaml"
    file.write_text("\n".join(["applications:", *lines]))
    with serve(file) as served:
        yield served


@pytest.mark.parametrize("name", ["plain", "awaited"])
def test_every_form_of_a_call(app: ServedFunctions, name: str) -> None:
    """JSON, an array, lines, a form, and tensors in binary; a row that is refused fails alone."""
    assert app[name](text="abc") == {name: 3}
    one, refused, two = app[name].rows([{"text": "a"}, {"text": "refused"}, {"text": "bb"}])
    assert (one, two) == ({name: 1}, {name: 2})
    assert isinstance(refused, CallError)
    assert (refused.status, refused.where) == (422, "text")
    lines = app.http.post(
        app[name].path,
        content=b'{"text": "a"}\n{"text": "bb"}\n',
        headers={"content-type": "application/x-ndjson", "accept": "application/x-ndjson"},
    )
    assert list(map(json.loads, lines.text.splitlines())) == [{name: 1}, {name: 2}]
    form = app.http.post(app[name].path, files={"text": (None, b"abcd")})
    assert form.json() == {name: 4}
    tensors = app[name].infer(text=np.array(["a", "bb"], object))
    assert tensors[name].tolist() == [1, 2]


@pytest.mark.parametrize("name", ["letters", "slowly"])
def test_a_stream(app: ServedFunctions, name: str) -> None:
    """Item by item, each of which is called for; an error ends it."""
    assert [item[name] for item in app[name].stream(text="abc")] == [1, 2, 3]


def test_a_sequence(app: ServedFunctions) -> None:
    """What it keeps is the caller's, and not the called function's."""
    with app.total.sequence("a") as call:
        assert call(text="ab")["total"] == 2
        assert call.last(text="cde")["total"] == 5


def test_the_elements_of_a_list(app: ServedFunctions) -> None:
    """Each calls by itself."""
    assert app["each"](text="a bb ccc") == {"lengths": [1, 2, 3]}


def test_fields_and_metadata_know_nothing_of_it(app: ServedFunctions, tmp_path: Path) -> None:
    """A function that is given is no field."""
    assert [one["name"] for one in app.http.get(app.plain.path).json()["inputs"]] == ["text"]
    with pytest.raises(CallError) as refused:
        app.plain(text="a", length="length")
    assert refused.value.code == "unknown_input"
