"""The server is as strict as its OpenAPI document: what a schema allows is not refused for its form,
and what it does not allow is refused. What no schema can say is named here, and in docs/openapi.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

import jsonschema
import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

from tests import odd_types
from tests.json_values import Drawer
from wakeful import Shape
from wakeful.testing import ServedFunctions, serve

HERE = __name__
ROUNDS = 60
"""Bodies of each route and test."""


HALF = np.float16(0.5)


class Deep(TypedDict):
    """Numbers further within."""

    half: np.float16
    count: int
    wide: np.int64
    ratio: float


def numbers(
    single: np.float32,
    double: np.float64,
    small: np.int8,
    wide: np.int64,
    wider: np.uint64,
    count: int,
    few: Annotated[int, Field(gt=0, le=9)],
    ratio: float,
    row: Annotated[NDArray[np.float32], Shape(-1)],
    pairs: Annotated[NDArray[np.int64], Shape(-1, 2)],
    flags: Annotated[NDArray[np.bool_], Shape(3)],
    words: Annotated[NDArray[np.str_], Shape(-1)],
    kind: Literal["a", "b"] = "a",
    half: np.float16 = HALF,
    deep: Deep | None = None,
    some: dict[str, float] | None = None,
) -> float:
    """All that has bounds."""
    return ratio


def anything(
    of_any: np.ndarray | None = None,
    of_floats: NDArray[np.float32] | None = None,
    of_texts: NDArray[np.str_] | None = None,
    of_flags: NDArray[np.bool_] | None = None,
) -> int:
    """Arrays of any rank."""
    return 1


class Lost(TypedDict):
    """Where numbers are none."""

    one: float
    many: Annotated[NDArray[np.float32], Shape(-1)]
    any_rank: NDArray[np.float64]
    scalar: np.float16
    deep: list[dict[str, float | None]]


def lost(wanted: float = 1.0) -> Lost:
    """NaN, and infinities."""
    nan, inf = math.nan, math.inf
    return {
        "one": nan,
        "many": np.array([1, nan, -inf], np.float32),
        "any_rank": np.array([[nan]]),
        "scalar": np.float16(nan),
        "deep": [{"a": inf, "b": 1.0}],
    }


FILE = """\
applications:
  - {{name: numbers, args: {{graph: [{{stage: s, python: "{here}:numbers"}}]}}}}
  - {{name: anything, args: {{graph: [{{stage: s, python: "{here}:anything"}}]}}}}
  - {{name: lost, args: {{graph: [{{stage: s, python: "{here}:lost"}}]}}}}
  - {{name: look, args: {{graph: [{{stage: s, python: "tests.odd_types:look"}}]}}}}
  - {{name: vowels, args: {{graph: [{{stage: s, python: "tests.task_stages:embed"}}], task: embedding}}}}
  - {{name: short, args: {{graph: [{{stage: s, python: "tests.task_stages:shorten"}}], task: embedding}}}}
  - {{name: rank, args: {{graph: [{{stage: s, python: "tests.task_stages:rank"}}], task: rerank}}}}
  - {{name: judge, args: {{graph: [{{stage: s, python: "tests.task_stages:judge"}}], task: text-classification}}}}
"""
"""For each function `import_path` and the catalogue are as ever."""


@pytest.fixture(scope="module")
def app(tmp_path_factory) -> Iterator[ServedFunctions]:
    """A server of these functions."""
    folder: Path = tmp_path_factory.mktemp("strict")
    lines = FILE.format(here=HERE).replace(", args:", ", import_path: deployments:function, args:")
    (folder / "serve_config.yaml").write_text(lines)
    with serve(folder / "serve_config.yaml") as app:
        yield app


@pytest.fixture(scope="module")
def document(app) -> Any:
    """What it says of itself."""
    return app.http.get("/openapi.json").json()


def body_schema(document: Any, path: str) -> Any:
    """The schema of JSON that is posted to a path."""
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]


def allows(document: Any, schema: Any, value: Any) -> bool:
    """Whether the schema does."""
    whole = {**schema, "components": document["components"]}
    return jsonschema.Draft202012Validator(whole).is_valid(value)


AUTHORS: dict[str, list[Any]] = {"few": [5], "kind": ["a"]}
"""Of tensors the document has the bounds of the datatype, not those of the author."""


def as_tensors(drawer: Drawer, message: dict[str, Any], schema: Any) -> dict[str, Any]:
    """A message whose shapes are of one row, and whose data fills them: no schema says that two
    lists belong together, or that names differ.
    """
    message["inputs"] = []
    for entry in schema["properties"]["inputs"]["items"]["oneOf"]:
        if "not" in entry["properties"]["data"]:
            continue  # it cannot be sent in JSON
        if entry["properties"]["name"]["const"] in ("deep", "some"):
            continue  # texts that are JSON themselves
        drawn = drawer.draw(entry)
        sizes = entry["properties"]["shape"]["description"].split("]")[0].strip("[").split(", ")
        shape = [1] + [2 if size == "-1" else int(size) for size in sizes[1:]]
        element = entry["properties"]["data"]["items"]["anyOf"][0]
        data = [drawer.draw(element) for _ in range(math.prod(shape))]
        data = AUTHORS.get(drawn["name"], data)
        message["inputs"].append({**drawn, "shape": shape, "data": data, "parameters": {}})
    message["outputs"] = [{"name": "s"}]
    message["parameters"] = {}
    return message


ROUTES = {
    "/v2/models/numbers": "numbers",
    "/v2/models/look": "look",
    "/v2/models/numbers/infer": "numbers",
    "/v2/models/lost": "lost",
    "/v1/embeddings": "vowels",
    "/v1/rerank": "rank",
    "/v1/moderations": "judge",
}


def drawn(document: Any, path: str, seed: int) -> Iterator[tuple[Drawer, Any, Any]]:
    """Bodies that a path's schema allows; with what draws them, and the schema."""
    schema, drawer = body_schema(document, path), Drawer(document, seed)
    for _ in range(ROUNDS):
        value = drawer.draw(schema)
        if path.endswith("/infer"):
            value = as_tensors(drawer, value, schema)
        for row in value if isinstance(value, list) else [value]:
            if "matrix" in row:  # no schema says that lists are as long as each other
                row["matrix"] = [row["matrix"][0]] * 2
        yield drawer, value, schema


def is_refused_for_its_form(answer: Any) -> bool:
    """Whether a schema should have said so: not what a function says of its own, such as a length
    of embeddings that it has not, nor that a vector is not as long as asked.
    """
    if answer.status_code < 400 or answer.status_code >= 500:
        return False
    return "dimensions" not in answer.text


@pytest.mark.slow
@pytest.mark.parametrize("path", ROUTES)
def test_what_the_document_allows_is_not_refused(app, document, path):
    """To the bounds of each number, of every route."""
    for _, body, schema in drawn(document, path, 1):
        assert allows(document, schema, body), body
        answer = app.http.post(path, json=body)
        assert not is_refused_for_its_form(answer), (body, answer.text)
        code = answer.json()["code"] if answer.status_code >= 500 else ""
        assert code in ("", "function_failed"), body  # of itself: it computes with the numbers


@pytest.mark.slow
@pytest.mark.parametrize("path", ROUTES)
def test_what_the_document_does_not_allow_is_refused(app, document, path):
    """A key too many or missing, another type, a number out of its bounds."""
    spoilt = 0
    for drawer, body, schema in drawn(document, path, 2):
        bad = drawer.spoil(body)
        if allows(document, schema, bad):
            continue
        spoilt += 1
        answer = app.http.post(path, content=json.dumps(bad).encode(), headers=JSON)
        found = answer.json()
        if isinstance(bad, list) and isinstance(found, list):  # rows have errors of their own
            assert any("status" in row for row in found), bad
            continue
        assert 400 <= answer.status_code < 500, (bad, answer.text)
    assert spoilt > ROUNDS // 3


JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("field", "value", "is_allowed"),
    [
        ("of_floats", 1.5, True),
        ("of_floats", [[1], [2]], True),
        ("of_floats", "a", False),
        ("of_floats", ["a"], False),
        ("of_floats", [[True]], None),
        ("of_floats", 1e39, False),
        ("of_texts", "a", True),
        ("of_texts", [1], False),
        ("of_flags", True, True),
        ("of_flags", 1, False),
        ("of_any", 1, True),
        ("of_any", ["a"], True),
        ("of_any", {}, False),
        ("of_any", [None], False),
        ("of_any", [1, "a"], None),
        ("of_any", [[1], [1, 2]], None),
    ],
)
def test_arrays_of_any_rank(app, document, field, value, is_allowed):
    """May be scalars. None: the schema allows it, and the server does not: lists whose elements are
    not all alike, two levels deep or ragged.
    """
    schema = {"$ref": "#/components/schemas/anything.Request"}
    assert allows(document, schema, {field: value}) is (is_allowed is not False)
    answer = app.http.post("/v2/models/anything", json={field: value})
    assert (answer.status_code == 200) is bool(is_allowed), answer.text


def test_as_many_tensors_as_a_function_must_have(app, document):
    """None, and all but one, are too few."""
    path = "/v2/models/numbers/infer"
    _, body, schema = next(drawn(document, path, 3))
    required = schema["properties"]["inputs"]["minItems"]
    assert required == 12
    for few in ([], body["inputs"][: required - 1]):
        message = {**body, "inputs": few}
        assert not allows(document, schema, message)
        assert app.http.post(path, json=message).status_code == 400


def test_the_bounds_of_tasks(document):
    """As many texts as are read, and no more."""
    for path, name in (("/v1/embeddings", "input"), ("/v1/rerank", "documents")):
        schema = body_schema(document, path)
        body = {"model": ROUTES[path], **({"query": "q"} if name == "documents" else {})}
        for count, is_allowed in ((0, False), (1, True), (2048, True), (2049, False)):
            assert allows(document, schema, {**body, name: ["a"] * count}) is is_allowed


def test_numbers_that_are_lost_are_null_in_answers(app, document):
    """And in the document."""
    for path in ("/v2/models/lost", "/v2/models/lost/infer"):
        body = {"inputs": []} if path.endswith("infer") else {}
        answer = app.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        content = document["paths"][path]["post"]["responses"]["200"]["content"]
        schema = content["application/json"]["schema"]
        assert allows(document, schema, answer.json()), answer.text
    assert app.lost()["one"] is None
    refused = {"$ref": "#/components/schemas/lost.Request"}
    assert not allows(document, refused, {"wanted": None})


def test_the_example_of_odd_types_is_a_request(app, document):
    """And its answer fits."""
    answer = app.http.post("/v2/models/look", json=odd_types.EXAMPLE)
    assert allows(document, {"$ref": "#/components/schemas/look.Answer"}, answer.json())


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"ready": 1}'])
def test_a_wrong_request_for_the_index_is_documented(app, document, body):
    """400 in the error form."""
    answer = app.http.post("/v2/repository/index", content=body)
    assert answer.status_code == 400
    responses = document["paths"]["/v2/repository/index"]["post"]["responses"]
    assert responses["400"] == {"$ref": "#/components/responses/Error400"}
    assert allows(document, {"$ref": "#/components/schemas/Error"}, answer.json())
