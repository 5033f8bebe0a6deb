"""Bodies that are taken as they are, through the application that answers calls."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from pathlib import Path
from typing import Any, TypedDict

import httpx
import pytest

from runtime.declaration.config_file import read
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import LoadError
from runtime.execution.function import Function
from runtime.graph.resolve import examine
from runtime.settings import Settings
from tests.problems import expect_values
from tests.sleepers import Served, run, serving

PREFIX = "/v2/models/digest"


class Digest(TypedDict):
    """What came."""

    bytes: int
    sha256: str


def digest(image: bytes, first: int = 1 << 30) -> Digest:
    """Of the first so many bytes."""
    return {"bytes": len(image[:first]), "sha256": hashlib.sha256(image[:first]).hexdigest()}


def two(left: bytes, right: bytes) -> int:
    """Two bodies are none."""
    return len(left) + len(right)


def declared(**args: Any) -> FunctionSpec:
    return FunctionSpec.from_args(
        "digest", PREFIX, {"graph": [{"stage": "digest", "python": f"{__name__}:digest"}], **args}
    )


def posted(root: Path, spec: FunctionSpec, *requests: dict[str, Any]) -> list[httpx.Response]:
    """The answers to these, one after the other."""

    async def work(served: Served) -> list[httpx.Response]:
        return [await served.client.post(PREFIX, **request) for request in requests]

    answers: list[httpx.Response] = run(serving(root, spec), work)
    return answers


BODY = bytes(range(256)) * 2000
"""No text in any encoding, and larger than what is read next to the event loop."""


def test_a_body_and_its_base64_are_one_call(tmp_path):
    """The same answer; the other fields take their defaults, or what JSON says."""
    raw, typed, text, cut = posted(
        tmp_path,
        declared(accepts=["image/png"]),
        {"content": BODY, "headers": {"content-type": "image/png"}},
        {"content": BODY, "headers": {"content-type": "Image/PNG; x=y"}},
        {"json": {"image": base64.b64encode(BODY).decode()}},
        {"json": {"image": base64.b64encode(BODY).decode(), "first": 10}},
    )
    assert raw.status_code == 200
    assert (
        raw.json()
        == typed.json()
        == text.json()
        == {"bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}
    )
    assert cut.json()["bytes"] == 10


def test_an_empty_body_is_one(tmp_path):
    """Whether no bytes are an image is the stage's to say."""
    (answer,) = posted(
        tmp_path, declared(accepts=["*/*"]), {"content": b"", "headers": {"content-type": "x/y"}}
    )
    assert answer.json()["bytes"] == 0


def test_another_type_is_refused_before_it_is_read(tmp_path):
    """415 that names what is taken; 413 for too much of what is."""
    other, large, infer = posted(
        tmp_path,
        declared(accepts=["image/png"], limits={"max_body_bytes": 1000}),
        {"content": BODY, "headers": {"content-type": "image/gif"}},
        {"content": BODY, "headers": {"content-type": "image/png"}},
        {"json": {"image": "a-"}},
    )
    assert (other.status_code, other.json()["code"], other.json()["where"]) == (
        415,
        "unsupported_media_type",
        "content-type",
    )
    assert "application/json, image/png" in other.json()["error"]
    assert large.status_code == 413
    assert infer.json()["where"] == "image"


def test_nothing_is_taken_so_unasked(tmp_path):
    """Without `accepts`, as ever."""
    (answer,) = posted(
        tmp_path, declared(), {"content": BODY, "headers": {"content-type": "image/png"}}
    )
    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("media", "values"),
    [
        ("image", ["'image'", "small letters", "image/png, image/* or */*"]),
        ("Image/png", ["'Image/png'", "small letters"]),
        ("image/png; q=1", ["'image/png; q=1'", "small letters"]),
        ("*/png", ["'*/png'", "small letters"]),
        ("application/json", ["application/json", "one field's bytes"]),
        ("multipart/form-data", ["multipart/form-data", "one field's bytes"]),
    ],
)
def test_a_declared_type_is_checked(media: str, values: list[str]):
    """At its key."""
    with pytest.raises(ValueError, match=r"accepts") as refused:
        declared(accepts=[media])
    expect_values(refused.value, *values)


def test_a_function_without_such_a_field_does_not_load(tmp_path):
    """And `check` reports the line of `accepts`."""
    (tmp_path / "serve_config.yaml").write_text(
        "applications:\n  - name: two\n    route_prefix: /v2/models/two\n"
        "    import_path: deployments:function\n    args:\n"
        f"      graph: [{{stage: two, python: '{__name__}:two'}}]\n      accepts: ['image/*']\n"
    )
    file, settings = (
        read(tmp_path / "serve_config.yaml"),
        Settings.read({"WAKEFUL_ROOT": str(tmp_path)}),
    )
    (problem,) = examine(file, settings).problems
    assert (problem.line, problem.key) == (7, "applications[0].args.accepts")
    expect_values(problem.message, "'left' (scalar BYTES [])", "'right' (scalar BYTES [])")
    with pytest.raises(LoadError, match=r"^accepts: .*'left'.*'right'"):
        asyncio.run(Function.load(FunctionSpec.of(file.functions[0]), settings))
