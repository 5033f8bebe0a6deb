"""Stages of types that JSON writes otherwise than Python, or that a schema has no word for."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from wakeful import Header, RequestError, Shape, State


class Colour(enum.Enum):
    """Of a box."""

    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    """Where something is."""

    x: float
    y: float = 0.0


class Box(TypedDict):
    """A box, which may have a name."""

    corner: tuple[int, int]
    name: NotRequired[str]


class Tree(TypedDict):
    """A tree of boxes."""

    box: Box
    below: list[Tree]


LEVEL = np.uint8(3)
Matrix = Annotated[NDArray[np.float32], Shape(2, -1)]


class Seen(TypedDict):
    """What was seen, under names that schemas have as well."""

    title: str
    day: dt.date
    pair: tuple[str, int]
    boxes: dict[str, Box]
    tree: Tree
    colour: Colour
    doubled: Matrix
    flags: NDArray[np.bool_]
    level: np.uint8
    kind: Literal["a", "b"]
    image: bytes
    note: str | None
    more: Any
    items: NotRequired[list[float | None]]


def look(
    day: dt.date,
    pair: tuple[str, int],
    boxes: list[Box],
    tree: Tree,
    matrix: Matrix,
    title: Annotated[str, Field(min_length=1, description="A title.")] = "none",
    colour: Colour = Colour.RED,
    only: Literal[Colour.BLUE] = Colour.BLUE,
    level: np.uint8 = LEVEL,
    tags: set[str] = frozenset(),  # type: ignore[assignment]
    point: Point | None = None,
    image: bytes = b"\xff",
    kind: Literal["a", "b"] = "a",
    note: str | None = None,
) -> Seen:
    """Gives all of it back."""
    assert only is Colour.BLUE
    assert all(isinstance(tag, str) for tag in tags)
    return {
        "title": title,
        "day": day,
        "pair": pair,
        "boxes": {str(n): box for n, box in enumerate(boxes)},
        "tree": tree,
        "colour": colour,
        "doubled": matrix * 2,
        "flags": matrix[0] > 0,
        "level": level,
        "kind": kind,
        "image": image,
        "note": note,
        "more": {"x": point.x, "y": point.y} if point else None,
    }


EXAMPLE = {
    "day": "2026-02-28",
    "pair": ["a", 1],
    "boxes": [{"corner": [1, 2]}, {"corner": [3, 4], "name": "second"}],
    "tree": {"box": {"corner": [0, 0]}, "below": [{"box": {"corner": [1, 1]}, "below": []}]},
    "matrix": [[1.5, 0], [2, 3]],
}


def whole(request: dict[str, float], tenant: Annotated[str, Header("x-tenant")]) -> dict[str, Any]:
    """A mapping is the answer by itself."""
    return {tenant: sum(request.values())}


def size_of(body: bytes, scale: float = 1.0) -> float:
    """Of a body as it is."""
    if not body:
        raise RequestError("the body is empty.", where="body", status=422)
    return len(body) * scale


def count(to: int) -> Iterator[Box]:
    """Yields boxes."""
    for n in range(to):
        yield {"corner": (n, n)}


class Total(TypedDict):
    """A sum that goes on, which is kept, and so is no part of the answer."""

    total: int
    so_far: int


def add(n: int, total: State[int]) -> Total:
    """Adds up."""
    total = (total or 0) + n
    return {"total": total, "so_far": total}


class Strange:
    """Whose schema has a fault of its own."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """As text."""
        return handler(str)

    @classmethod
    def __get_pydantic_json_schema__(cls, core: Any, handler: Any) -> Any:
        """None."""
        raise RuntimeError("there is no schema of it")


def trust(strange: Strange, near: Annotated[float, Field(ge=0)] = 0.0) -> dict[str, Strange]:
    """A stage whose types are described by nothing."""
    return {"given": strange}


class Vector(TypedDict):
    """What a task promises."""

    embedding: Annotated[NDArray[np.float32], Shape(3)]
    tokens: int


def embed(text: str) -> Vector:
    """Three numbers of a text."""
    return {"embedding": np.array([len(text), 0.5, 1], np.float32), "tokens": len(text.split())}


FILE = """\
applications:
  - {name: catalogue, route_prefix: /, import_path: "deployments:catalogue"}
  - {name: host, route_prefix: /v2/models, import_path: "deployments:host"}
  - name: look
    route_prefix: /v2/models/look
    import_path: deployments:function
    args: {graph: [{stage: look, python: "tests.odd_types:look"}], description: Looks at everything., example: %s}
  - name: l.ook                    # whose generated classes would have the names of the first
    route_prefix: /v2/models/l.ook
    import_path: deployments:function
    args: {graph: [{stage: look, python: "tests.odd_types:look"}]}
  - name: whole
    route_prefix: /v2/models/whole
    import_path: deployments:function
    args: {graph: [{stage: whole, python: "tests.odd_types:whole"}], limits: {max_rows: 7}}
  - name: size
    route_prefix: /v2/models/size
    import_path: deployments:function
    args: {graph: [{stage: size, python: "tests.odd_types:size_of"}], accepts: ["image/png", "*/*"]}
  - name: count
    route_prefix: /v2/models/count
    import_path: deployments:function
    args: {graph: [{stage: count, python: "tests.odd_types:count"}], example: {to: 2}}
  - name: add
    route_prefix: /v2/models/add
    import_path: deployments:function
    args: {graph: [{stage: add, python: "tests.odd_types:add"}], sequences: {}}
  - name: trust
    args: {graph: [{stage: trust, python: "tests.odd_types:trust"}]}
  - name: vector
    args: {graph: [{stage: embed, python: "tests.odd_types:embed"}], task: embedding}
"""


def write(folder: Path) -> Path:
    """The file."""
    import json

    file = folder / "serve_config.yaml"
    file.write_text(FILE % json.dumps(EXAMPLE))
    return file
