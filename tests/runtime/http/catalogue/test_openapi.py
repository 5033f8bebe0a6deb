"""The OpenAPI document says what is served: a validator of the standard takes it, answers are as it
says, and writing it loads nothing.
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import httpx
import jsonschema
import numpy as np
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.applications import Starlette

from runtime.declaration.config_file import read
from runtime.graph.description.interface_schemas import describe_interface
from runtime.graph.resolve import resolve
from runtime.http.catalogue.openapi import DescribedFunction, OpenApiText, make_document
from runtime.http.catalogue.openapi_parts import (
    REPOSITORY,
    fixed_parts,
    kinds_by_status,
    task_paths,
)
from runtime.http.catalogue.openapi_routes import openapi_routes
from runtime.http.catalogue.task_routes import embeddings, moderations, reranking
from runtime.http.catalogue.task_routes.forms import MAX_INPUTS
from runtime.http.catalogue.task_routes.handler import ROUTES
from runtime.settings import Settings
from runtime.types.json_schemas import JSON_INTEGERS
from tests import odd_types
from wakeful.testing import serve

PATHS = ["/", "/v2/health/ready", "/metrics", "/functions/{name}", REPOSITORY]


def document_of(file, root) -> dict[str, Any]:
    """The document of a file that nothing serves, as JSON."""
    config = resolve(read(file), Settings.read({"WAKEFUL_ROOT": str(root)}))
    functions = [
        DescribedFunction(spec, describe_interface(config.assemblies[spec.name]))
        for spec in config.functions
        if not spec.deployed.part_of
    ]
    document: dict[str, Any] = json.loads(json.dumps(make_document(functions, PATHS)))
    return document


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> dict[str, Any]:
    """The document of the odd types."""
    folder = tmp_path_factory.mktemp("odd")
    return document_of(odd_types.write(folder), folder)


def schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    """A schema of a document, with what it refers to."""
    return {
        "$ref": f"#/components/schemas/{name}",
        "components": document["components"],
    }


def call_of(document: dict[str, Any], name: str) -> dict[str, Any]:
    """The operation that calls a function."""
    operation: dict[str, Any] = document["paths"][f"/v2/models/{name}"]["post"]
    return operation


@pytest.mark.models
def test_the_shipped_file_has_a_valid_document(models, root):
    """Each function has its own schemas, and its example is one of its requests."""
    document = document_of(root / "serve_config.yaml", root)
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []
    embedding = document["components"]["schemas"]["embed.Answer"]["properties"]["embedding"]
    assert embedding["maxItems"] == 384
    for name in ("embed", "forecast", "ocr", "classify", "moderate", "filetype", "search"):
        example = call_of(document, name)["requestBody"]["content"]["application/json"]["examples"]
        jsonschema.validate(example["one"]["value"], schema(document, f"{name}.Request"))
    assert "image/*" in call_of(document, "ocr")["requestBody"]["content"]


def test_odd_types_have_a_valid_document(odd):
    """Tuples, enums, optionals, nested and recursive types, arrays, and names that differ in
    punctuation alone.
    """
    assert [error.message for error in OpenAPIV31SpecValidator(odd).iter_errors()] == []
    fields = odd["components"]["schemas"]["look.Request"]["properties"]
    limit = float(np.finfo(np.float32).max)
    element = {"type": "number", "minimum": -limit, "maximum": limit}
    assert fields["matrix"] == {
        "type": "array",
        "items": {"type": "array", "items": element},
        "minItems": 2,
        "maxItems": 2,
    }
    assert fields["title"]["description"] == "A title."
    assert fields["level"]["maximum"] == 255
    assert fields["only"]["enum"] == ["blue"]
    assert fields["colour"]["default"] == "red"
    assert fields["image"]["default"] == "/w=="
    assert len(fields["pair"]["prefixItems"]) == 2
    schemas = odd["components"]["schemas"]
    assert (schemas["trust.Request"], schemas["trust.Answer"]) == ({"type": "object"}, {})
    identifiers = [
        operation["operationId"] for path in odd["paths"].values() for operation in path.values()
    ]
    assert len(identifiers) == len(set(identifiers))
    assert {"look", "l.ook2"} <= set(identifiers)


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"pair": ["a"]}, "pair"),
        ({"pair": ["a", "b"]}, "pair"),
        ({"matrix": [[1.0], [2.0], [3.0]]}, "matrix"),
        ({"boxes": [{}]}, "boxes"),
        ({"colour": "green"}, "colour"),
        ({"only": "red"}, "only"),
        ({"level": 256}, "level"),
        ({"tree": {"box": {"corner": [0, 0]}, "below": [{}]}}, "tree"),
        ({"other": 1}, None),
    ],
)
def test_a_request_that_is_refused_is_none_by_the_schema(odd, wrong, where):
    """And the example is one."""
    jsonschema.validate(odd_types.EXAMPLE, schema(odd, "look.Request"))
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate({**odd_types.EXAMPLE, **wrong}, schema(odd, "look.Request"))
    assert where is None or refused.value.absolute_path[0] == where


def test_what_a_call_takes_and_answers(odd):
    """By the kind of function: bodies, arrays of rows, streams, sequences, headers."""
    size = call_of(odd, "size")["requestBody"]["content"]
    assert list(size) == ["application/json", "image/png", "application/octet-stream"]
    whole = call_of(odd, "whole")["requestBody"]["content"]["application/json"]
    assert whole["schema"]["oneOf"][1]["maxItems"] == 7
    answered = call_of(odd, "whole")["responses"]["200"]["content"]
    assert list(answered) == ["application/json", "application/x-ndjson"]
    count = call_of(odd, "count")
    assert list(count["responses"]["200"]["content"]) == [
        "text/event-stream",
        "application/x-ndjson",
        "application/json",
    ]
    assert "/v2/models/count/generate_stream" in odd["paths"]
    assert "/v2/models/count/infer" not in odd["paths"]
    add = call_of(odd, "add")
    assert "$ref" in add["requestBody"]["content"]["application/json"]["schema"]  # one row a call
    assert {"$ref": "#/components/parameters/SequenceId"} in add["parameters"]
    (tenant,) = (one for one in call_of(odd, "whole")["parameters"] if "name" in one)
    assert (tenant["name"], tenant["required"]) == ("x-tenant", True)


def test_the_text_is_written_anew_when_the_declaration_changes(tmp_path):
    """And not before."""
    config = resolve(
        read(odd_types.write(tmp_path)), Settings.read({"WAKEFUL_ROOT": str(tmp_path)})
    )
    marks, written = iter(["one", "one", "two"]), list[int]()

    def functions() -> list[DescribedFunction]:
        written.append(len(written))
        return [DescribedFunction(config.functions[len(written)], None)]

    text = OpenApiText(lambda: (next(marks), functions), PATHS)
    first, again, other = text.read(), text.read(), text.read()
    assert first == again
    assert first[1] != other[1]
    assert written == [0, 1]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_text_is_written_by_one_request_at_a_time(anyio_backend):
    """A document of a thousand functions takes a second, and all threads of the process."""
    loop = asyncio.get_running_loop()
    began, may_end, writing = asyncio.Event(), threading.Event(), list[str]()

    def functions() -> list[DescribedFunction]:
        writing.append("one")
        loop.call_soon_threadsafe(began.set)
        assert may_end.wait(5)
        return []

    app = Starlette(routes=openapi_routes(lambda: ("mark", functions), PATHS))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        tasks = [asyncio.create_task(client.get("/openapi.json")) for _ in range(3)]
        await began.wait()
        await asyncio.sleep(0.02)
        may_end.set()
        answers = await asyncio.gather(*tasks)
    assert len({answer.content for answer in answers}) == 1
    assert writing == ["one"]


def test_every_code_stands_at_its_status(odd):
    """An error that a caller can get is found in the document."""
    responses = odd["components"]["responses"]
    for status, kinds in kinds_by_status().items():
        for kind in kinds:
            assert f"- `{kind.code}`: " in responses[f"Error{status}"]["description"]
    for status in ("400", "413", "429", "503", "504"):
        assert call_of(odd, "look")["responses"][status]["$ref"].endswith(f"Error{status}")


def test_the_fixed_parts_have_the_bounds_of_the_code():
    """Values that stand in the data and in what reads a request; a document changes none of it."""
    before = orjson.dumps(fixed_parts())
    tasks = {task: {task: task} for task in ("embedding", "rerank", "text-classification")}
    bodies = {
        task: path["post"]["requestBody"]["content"]["application/json"]["schema"]
        for task, functions in tasks.items()
        for path in task_paths(functions)[0].values()
        if "post" in path
    }
    assert orjson.dumps(fixed_parts()) == before
    embedding, rerank = (bodies[task]["properties"] for task in ("embedding", "rerank"))
    moderation = bodies["text-classification"]["properties"]
    for text in (
        embedding["input"]["anyOf"][1],
        rerank["documents"],
        moderation["input"]["anyOf"][1],
    ):
        assert text["maxItems"] == MAX_INPUTS
    assert embedding["encoding_format"]["enum"] == [*embeddings.FORMATS, None]
    assert embedding["dimensions"]["maximum"] == JSON_INTEGERS[1] == rerank["top_n"]["maximum"]
    assert [body["required"] for body in bodies.values()] == [
        ["input"],
        ["query", "documents"],
        ["input"],
    ]


@pytest.mark.slow
def test_the_routes_of_tasks(tmp_path, odd):
    """Those that functions have, with the keys that are read; answers and errors fit."""
    routes = [path for path in odd["paths"] if path.startswith("/v1/")]
    assert routes == ["/v1/models", "/v1/models/{model}", "/v1/embeddings"]
    keys = {"embedding": embeddings.KEYS, "rerank": reranking.KEYS}
    keys["text-classification"] = moderations.KEYS
    assert {route.task: path for path, route in ROUTES.items()}.keys() == keys.keys()
    described, schemas = task_paths({task: task for task in keys})
    for path, route in ROUTES.items():
        body = described[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert set(body["properties"]) == set(keys[route.task])
    assert {"Embeddings", "Ranking", "Moderations"} <= schemas.keys()
    with serve(odd_types.write(tmp_path)) as app:
        for form in ("float", "base64"):
            answer = app.http.post(
                "/v1/embeddings", json={"input": ["a", "b c"], "encoding_format": form}
            )
            assert answer.status_code == 200, answer.text
            jsonschema.validate(answer.json(), schema(odd, "Embeddings"))
        refused = app.http.post("/v1/embeddings", json={"input": 1})
        assert refused.status_code == 400
        jsonschema.validate(refused.json(), schema(odd, "TaskError"))
        models = app.http.get("/v1/models").json()
        jsonschema.validate(models, schema(odd, "Models"))
        assert set(models["data"][0]) == set(
            schema(odd, "Model")["components"]["schemas"]["Model"]["required"]
        )
        model = app.http.get(f"/v1/models/{models['data'][0]['id']}").json()
        jsonschema.validate(model, schema(odd, "Model"))


@pytest.mark.slow
def test_answers_are_as_the_document_says(tmp_path):
    """Of a live server: each answer fits its schema, errors fit theirs, and reading the document
    wakes nothing.
    """
    with serve(odd_types.write(tmp_path)) as app:
        first = app.http.get("/openapi.json")
        document = first.json()
        assert {function["state"] for function in app.http.get("/").json()["functions"]} == {
            "asleep"
        }
        again = app.http.get("/openapi.json", headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

        def fits(name: str, found: Any) -> None:
            jsonschema.validate(found, schema(document, name))

        fits("look.Answer", app.look(**odd_types.EXAMPLE))
        more = {"colour": "blue", "note": "x", "tags": ["a"], "point": {"x": 1.5}, "image": "AAEC"}
        fits("look.Answer", app.look(**odd_types.EXAMPLE, **more))
        url = "/v2/models/look"
        rows = app.http.post(url, json=[odd_types.EXAMPLE, {}]).json()
        fits("look.Answer", rows[0])
        fits("RowError", rows[1])
        answered = app.http.post(
            "/v2/models/whole", json={"request": {"a": 1.5}}, headers={"x-tenant": "t"}
        )
        assert answered.json() == {"t": 1.5}
        fits("whole.Answer", answered.json())
        refused = app.http.post("/v2/models/size", content=b"", headers={"content-type": "a/b"})
        assert refused.status_code == 422
        fits("Error", refused.json())
        items = app.http.post(
            "/v2/models/count", json={"to": 2}, headers={"accept": "application/json"}
        ).json()
        assert len(items) == 2
        for item in items:
            fits("count.Answer", item)
        # the example of /infer is a request of it
        infer = document["paths"][f"{url}/infer"]["post"]
        content = infer["requestBody"]["content"]["application/json"]
        jsonschema.validate(
            content["example"], {**content["schema"], "components": document["components"]}
        )
        asked = {"outputs": [{"name": name} for name in ("title", "tree", "doubled", "level")]}
        outputs = app.http.post(f"{url}/infer", json={**content["example"], **asked})
        assert outputs.status_code == 200, outputs.text
        of_infer = infer["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(outputs.json(), {**of_infer, "components": document["components"]})
        metadata = app.http.get(url).json()
        fits("Metadata", metadata)
        fits("Readiness", app.http.get(f"{url}/ready").json())
        for path, name in {
            "/": "Index",
            "/v2": "ServerMetadata",
            "/v2/health/live": "Live",
            "/v2/health/ready": "ServerReadiness",
        }.items():
            fits(name, app.http.get(path).json())
        fits("RepositoryIndex", app.http.post("/v2/repository/index").json())


EXAMPLES = """\
applications:
  - name: shown
    args:
      graph: [{stage: s, python: "examples_of_a_test:page"}]
      example: {image: !file sample.bin}
  - name: large
    args:
      graph: [{stage: s, python: "examples_of_a_test:page"}]
      example: {image: !file large.bin}
  - name: made
    args:
      graph: [{stage: s, python: "examples_of_a_test:made"}]
"""

STAGES = """\
from dataclasses import dataclass
from typing import Annotated

from wakeful import Header


@dataclass
class Box:
    x: int
    kind: str


def page(image: bytes) -> int: return len(image)
def made(
    box: Box,
    tenant: Annotated[str, Header("x-tenant")],
    team: Annotated[str, Header("x-team", example="acme")],
    note: Annotated[str | None, Header("x-note")],
) -> int: return box.x
"""


def test_examples_are_calls_as_they_stand(tmp_path, monkeypatch):
    """A file in base64, a row made up where none is declared, headers that a call needs; what is
    too large to be shown is said.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "examples_of_a_test.py").write_text(STAGES)
    (tmp_path / "serve_config.yaml").write_text(EXAMPLES)
    (tmp_path / "sample.bin").write_bytes(b"\0\1\2")
    (tmp_path / "large.bin").write_bytes(bytes(100_000))
    document = document_of(tmp_path / "serve_config.yaml", tmp_path)
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []

    def example_of(name: str) -> Any:
        body = call_of(document, name)["requestBody"]["content"]["application/json"]
        return body.get("examples", {}).get("one", {}).get("value")

    assert example_of("shown") == {"image": "AAEC"}
    assert example_of("large") is None
    assert "too large to be shown" in call_of(document, "large")["description"]
    assert example_of("made") == {"box": {"x": 1, "kind": "text"}}
    headers = {
        parameter["name"]: parameter.get("example")
        for parameter in call_of(document, "made")["parameters"]
        if "name" in parameter
    }
    assert headers == {"x-tenant": "VALUE", "x-team": "acme", "x-note": None}
