"""A function whose elements stream, in every form that a caller may ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import httpx
import pytest

from tests.problems import expect_values
from wakeful import RequestError
from wakeful.testing import CallError, ServedFunctions, serve

HERE = __name__
FILE = f"""\
applications:
  - {{name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}}
  - name: read
    args: {{graph: [{{stage: read, python: "{HERE}:read"}}]}}
  - name: lines
    args:
      graph:
        - {{stage: lines, python: "{HERE}:lines"}}
        - {{stage: read, python: "{HERE}:read", each: lines, stream: true, threads: 4}}
  - name: unordered
    args:
      graph:
        - {{stage: lines, python: "{HERE}:lines"}}
        - {{stage: read, function: read, each: lines, stream: true, ordered: false}}
"""
TEXT = {"document": "one\n two"}
ITEMS = [{"text": "one", "length": 3}, {"text": "two", "length": 4}]
FAILS = {"document": "one\n!\ntwo"}


class Line(TypedDict):
    """Of a document."""

    text: str
    length: int


def lines(document: str) -> list[str]:
    """Its lines."""
    return document.splitlines()


def read(lines: str) -> Line:
    """Of one."""
    if lines == "!":
        raise RequestError("no exclamations.", where="document", status=422)
    return {"text": lines.strip(), "length": len(lines)}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFunctions]:
    """In this process."""
    file: Path = tmp_path_factory.mktemp("elements") / "serve_config.yaml"
    file.write_text(FILE)
    with serve(file) as served:
        yield served


def post(
    app: ServedFunctions, path: str, body: object, accept: str = "application/json"
) -> httpx.Response:
    """A call."""
    url = f"{app.url}/v2/models/{path}"
    return httpx.post(url, json=body, headers={"accept": accept}, timeout=30)


def test_the_client_of_tests_has_items(app: ServedFunctions) -> None:
    """All of them, or one by one; an error behind them is raised."""
    assert app.lines(**TEXT) == ITEMS
    assert list(app.lines.stream(**TEXT)) == ITEMS
    items = app.lines.stream(**FAILS)
    assert next(items) == ITEMS[0]
    with pytest.raises(CallError) as raised:
        next(items)
    assert raised.value.status == 422


def test_items_come_in_each_form(app: ServedFunctions) -> None:
    """Events, lines, an array; of those that come as done, each has its index."""
    lines_ = post(app, "lines", TEXT, "application/x-ndjson").text.splitlines()
    assert [json.loads(line) for line in lines_] == ITEMS
    assert post(app, "lines", TEXT).json() == ITEMS
    events = post(app, "lines", TEXT, "text/event-stream").text
    assert events.startswith('data: {"text":"one","length":3}\n\n')
    assert 'event: done\ndata: {"items":2' in events
    unordered = post(app, "unordered", TEXT).json()
    assert sorted(unordered, key=lambda item: item["index"]) == [
        {"index": index, **item} for index, item in enumerate(ITEMS)
    ]


def test_an_error_has_a_status_before_the_first_item_and_a_line_behind_it(
    app: ServedFunctions,
) -> None:
    """As of every stream; so has a list of too many elements."""
    *_, last = post(app, "lines", FAILS, "application/x-ndjson").text.splitlines()
    assert (json.loads(last)["status"], json.loads(last)["where"]) == (422, "document")
    first = post(app, "lines", {"document": "!"}, "application/x-ndjson")
    assert first.status_code == 422
    many = post(app, "lines", {"document": "a\n" * 1025})
    assert many.status_code == 400
    expect_values(many.json()["error"], "1025", "limits.max_fan_out", "1024")


def test_the_protocol_has_what_streams_have(app: ServedFunctions) -> None:
    """``generate_stream``; ``infer`` is refused, and so is an array of rows."""
    generated = post(app, "lines/generate_stream", TEXT).text
    assert '"model_name":"lines"' in generated
    assert '"text":"two"' in generated
    assert post(app, "lines/infer", {"inputs": []}).status_code == 400
    assert post(app, "lines", [TEXT]).status_code == 400
    metadata = httpx.get(f"{app.url}/v2/models/unordered").json()
    assert metadata["parameters"]["streams"] is True
    assert [one["name"] for one in metadata["outputs"]] == ["index", "text", "length"]


def test_openapi_describes_an_item(app: ServedFunctions) -> None:
    """And the forms of a stream."""
    page = httpx.get(f"{app.url}/openapi.json").json()
    answers = page["paths"]["/v2/models/unordered"]["post"]["responses"]["200"]["content"]
    assert set(answers) == {"text/event-stream", "application/x-ndjson", "application/json"}
    item = page["components"]["schemas"]["unordered.Answer"]
    assert set(item["properties"]) == {"index", "text", "length"}
    assert item["properties"]["index"]["type"] == "integer"
