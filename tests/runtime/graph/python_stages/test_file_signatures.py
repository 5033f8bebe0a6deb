"""A stage that answers a file says of which type, where it can be answered."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest

from runtime.declaration.function_spec import FunctionSpec
from runtime.graph.assembly import Assembly, assemble
from runtime.graph.description.interface_schemas import describe_interface
from runtime.graph.interfaces import answer_to_json, format_values, type_from_json, type_to_json
from runtime.graph.python_stages.annotation_refusals import SignatureError
from runtime.graph.python_stages.signature import read_signature
from runtime.settings import Settings
from runtime.types.value_types import of_annotation
from tests.problems import expect_values
from wakeful import File, MediaType, Rows

HERE = __name__
Png = Annotated[bytes, MediaType("image/png")]


class Inner(TypedDict):
    """A file is not at home here."""

    png: Png


class Several(TypedDict):
    """Nor there."""

    pngs: list[Png]


def takes(png: Png) -> int: ...
def within_list() -> list[Png]: ...
def within_union() -> Png | None: ...
def within_key() -> Several: ...
def of_text() -> Annotated[str, MediaType("text/plain")]: ...
def of_union() -> Annotated[bytes | None, MediaType("image/png")]: ...
def of_range() -> Annotated[bytes, MediaType("image/*")]: ...
def of_range_path() -> Annotated[Path, MediaType("*/*")]: ...
def bare() -> Annotated[bytes, MediaType]: ...
def yields() -> Iterator[Png]: ...
async def yields_soon() -> AsyncIterator[File]:
    yield File(b"")


def yields_inner() -> Iterator[Inner]: ...


@pytest.mark.parametrize(
    ("function", "values"),
    [
        (takes, ("'png'", "png: bytes", "accepts")),
        (within_list, ("MediaType('image/png')", "within")),
        (within_union, ("MediaType('image/png')", "within")),
        (within_key, ("'pngs'", "within")),
        (of_text, ("str", "Annotated[bytes, MediaType('text/plain')]")),
        (of_union, ("bytes | None",)),
        (of_range, ("image/*", "File")),
        (of_range_path, ("Path", "File")),
        (bare, ("MediaType", "parentheses")),
        (yields, ("yields", "JSON")),
        (yields_soon, ("yields", "JSON")),
        (yields_inner, ("yields", "JSON")),
    ],
)
def test_what_is_no_file_is_refused(function: Any, values: tuple[str, ...]):
    """With what to write."""
    expect_values(refused(function), *values)


def refused(function: Any) -> SignatureError:
    """The error of such a stage."""
    with pytest.raises(SignatureError) as caught:
        read_signature(function)
    return caught.value


def png(x: int) -> Png:
    """A file."""
    return b""


def pngs(x: Rows[int]) -> Rows[Png]:
    """For all rows."""
    return [b"" for _ in x]


def listed() -> list[int]:
    """Elements."""
    return [1]


def temporary(x: int) -> File:
    """Of any type."""
    return File(b"", "image/png")


def both(x: int) -> Inner:
    """One named value."""
    return {"png": b""}


def plain(x: int) -> bytes:
    """No file."""
    return b""


def assembled(*graph: dict[str, Any]) -> Assembly:
    """A function of these stages."""
    stages = [{"stage": f"s{index}", **stage} for index, stage in enumerate(graph)]
    spec = FunctionSpec.from_args("f", "/f", {"graph": stages})
    return assemble(spec, Settings.read({}), lambda *_: None)  # type: ignore[arg-type, return-value]


def of(name: str, **more: Any) -> dict[str, Any]:
    """A stage of this module."""
    return {"python": f"{HERE}:{name}", **more}


@pytest.mark.parametrize(
    ("graph", "media_type"),
    [
        ([of("png")], "image/png"),
        ([of("pngs")], "image/png"),
        ([of("temporary")], "*/*"),
        ([of("both")], ""),
        ([of("plain")], ""),
        ([of("png", outputs={"s0": "picture"})], "image/png"),
    ],
)
def test_what_a_function_answers(graph: list[dict[str, Any]], media_type: str):
    """The one value of its last stage, unless a TypedDict names it."""
    assembly = assembled(*graph)
    assert not assembly.issues
    assert assembly.graph is not None
    assert assembly.graph.media_type == media_type
    described = describe_interface(assembly)
    assert described is not None
    assert described["media_type"] == media_type


@pytest.mark.parametrize(
    ("graph", "key", "values"),
    [
        ([of("listed"), of("png", each="s0", inputs={"x": "s0"})], "each", ("'s1'", "'s1'")),
        ([of("listed"), of("temporary", each="s0", inputs={"x": "s0"})], "each", ("'s1'",)),
        ([of("png", deployment={})], None, ()),
        ([of("temporary", deployment={})], "deployment", ("File",)),
        (
            [
                of("plain", outputs={"s0": "it"}),
                of("png", when={"x": 1}, outputs={"s1": "it"}),
            ],
            "when",
            ("image/png", "plain bytes"),
        ),
    ],
)
def test_a_file_that_cannot_be_answered_is_refused(
    graph: list[dict[str, Any]], key: str | None, values: tuple[str, ...]
):
    """At the key of the stage."""
    issues = assembled(*graph).issues
    assert [issue.key for issue in issues] == ([] if key is None else [key])
    expect_values("".join(issue.message for issue in issues), *values)


def test_a_caller_knows_the_type_of_what_it_is_given():
    """Where it is one; the bytes arrive wherever the file lies."""
    assembly = assembled(of("png"))
    assert assembly.graph is not None
    assert answer_to_json(assembly.graph) == {
        "s0": {
            "container": "scalar",
            "datatype": "bytes",
            "shape": [],
            "media_type": "image/png",
            "is_unnamed": True,
        }
    }
    for annotation, media_type in ((Png, "image/png"), (File, "")):
        data = type_to_json(of_annotation(annotation))
        back = type_from_json(data)
        assert (back.annotation, back.media_type) == (bytes, media_type)
    assert format_values(assembly.graph.answer) == "s0: bytes (image/png)"
