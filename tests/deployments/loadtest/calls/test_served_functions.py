"""What a server says of its functions is enough to call each of them and to check its answers."""

from __future__ import annotations

import pytest

from deployments.loadtest.calls.answers import AnswerChecks, WrongAnswer
from deployments.loadtest.calls.making import make_call
from deployments.loadtest.calls.served_functions import read_functions
from wakeful.testing import serve

FILE = """
applications:
  - name: double
    route_prefix: /v2/models/double
    import_path: deployments:function
    args:
      graph: [{stage: s, python: "kinds:double"}]
      example: {x: 1.5}
  - name: letters
    route_prefix: /elsewhere/letters
    import_path: deployments:function
    args:
      graph: [{stage: s, python: "kinds:letters"}]
      example: {word: abc}
  - name: size
    route_prefix: /v2/models/size
    import_path: deployments:function
    args:
      graph: [{stage: s, python: "kinds:size"}]
      accepts: ["image/*"]
      example: {image: !file picture.png}
  - name: count
    route_prefix: /v2/models/count
    import_path: deployments:function
    args:
      graph: [{stage: s, python: "kinds:count"}]
      sequences: {}
  - name: tenant
    route_prefix: /v2/models/tenant
    import_path: deployments:function
    args:
      graph: [{stage: s, python: "kinds:tenant"}]
  - name: draw
    route_prefix: /v2/models/draw
    import_path: deployments:function
    args:
      graph: [{stage: s, python: "kinds:draw"}]
      example: {x: 1.5}
"""

STAGES = """
from collections.abc import Iterator
from typing import Annotated, TypedDict

from wakeful import Header, MediaType, State

def double(x: float) -> float:
    return 2 * x

def letters(word: str) -> Iterator[str]:
    yield from word

def size(image: bytes) -> int:
    return len(image)

class Count(TypedDict):
    calls: int
    seen: int

def count(seen: State[int]) -> Count:
    return {"calls": 1, "seen": 1}

def tenant(name: str, tenant: Annotated[str, Header("x-tenant")]) -> str:
    return f"{name} of {tenant}"

def draw(x: float) -> Annotated[bytes, MediaType("image/png")]:
    return b"\\x89PNG\\r\\n\\x1a\\n"
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    """Functions of every kind."""
    folder = tmp_path_factory.mktemp("kinds")
    (folder / "serve_config.yaml").write_text(FILE)
    (folder / "kinds.py").write_text(STAGES)
    (folder / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n0000")
    with serve(folder / "serve_config.yaml") as served:
        yield served


@pytest.fixture(scope="module")
def functions(app):
    """As its document has them."""
    return read_functions(app.http.get("/openapi.json").json())


def send(app, call, checks):
    """One call, checked; its sequence is its own."""
    headers = dict(call.headers)
    if call.sequence_calls:
        headers |= {"x-sequence-id": "a", "x-sequence-start": "1", "x-sequence-end": "1"}
    answer = app.http.post(call.path, content=call.body, headers=headers)
    assert answer.status_code == 200, answer.text
    checks.check(call, answer.content, answer.headers)


def test_all_of_them_are_found(functions):
    """With what is to be known of each."""
    assert list(functions) == ["double", "letters", "size", "count", "tenant", "draw"]
    assert functions["letters"].is_streamed
    assert functions["letters"].path == "/elsewhere/letters"
    assert functions["size"].raw_types == ("image/*",)
    assert functions["count"].has_sequences
    assert not functions["count"].headers
    assert list(functions["tenant"].headers) == ["x-tenant"]
    assert functions["draw"].form.media_type == "image/png"
    assert functions["double"].example == {"x": 1.5}


@pytest.mark.parametrize(
    ("name", "wire"),
    [
        ("double", "json"),
        ("double", "v2"),
        ("letters", "stream"),
        ("letters", "json"),
        ("size", "json"),
        ("size", "raw"),
        ("count", "json"),
        ("draw", "json"),
    ],
)
def test_each_is_called_with_its_example_and_its_answer_is_right(app, functions, name, wire):
    """In every form that it takes."""
    function = functions[name]
    checks = AnswerChecks({name: function.form})
    send(app, make_call(function, function.example or {}, wire=wire), checks)


@pytest.mark.parametrize(
    ("name", "body"), [("double", b'"a"'), ("double", b'{"x": 1}'), ("size", b'"many"')]
)
def test_another_answer_is_wrong(functions, name, body):
    """It is not of the signature."""
    function = functions[name]
    call = make_call(function, {})
    with pytest.raises(WrongAnswer):
        AnswerChecks({name: function.form}).check(call, body, {"content-type": "application/json"})


def test_a_name_that_no_function_has(app):
    """Such as one that tells a terminal something: the document is not of a Wakeful."""
    document = app.http.get("/openapi.json").json()
    document["paths"]["/v2/models/double"]["post"]["tags"] = ["double\x1b[2J"]
    with pytest.raises(ValueError, match="names no function"):
        read_functions(document)


@pytest.mark.parametrize("document", [{}, {"paths": {"/f": {"post": {}}, "/f/ready": {}}}, []])
def test_a_document_of_another_program(document):
    """Is none, or fails as documents of others do."""
    with pytest.raises((KeyError, TypeError)):
        read_functions(document)
