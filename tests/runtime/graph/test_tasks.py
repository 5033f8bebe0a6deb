"""A function that declares a task takes and gives what the task says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, NotRequired, TypedDict, get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import Field

from runtime.declaration.constrained_types import TaskName
from runtime.graph.tasks import TASKS
from tests.problems import places
from tests.runtime.graph.test_resolve import graph, problems
from wakeful import Header, Shape

HERE = __name__

Text = Annotated[str, Field(max_length=9)]


class Embedded(TypedDict):
    embedding: Annotated[NDArray[np.float32], Shape(3)]
    tokens: int


class Listed(TypedDict):
    embedding: list[float]


class Perhaps(TypedDict):
    score: NotRequired[float]


class Scored(TypedDict):
    score: np.float32


class Judged(TypedDict):
    scores: dict[str, float]
    more: Any


class Kinds(TypedDict):
    spam: float
    ham: NotRequired[float]


class ByKind(TypedDict):
    scores: Kinds


class Counted(TypedDict):
    scores: dict[str, str]


class Unsaid(TypedDict):
    scores: Any


class Found(TypedDict):
    label: str
    score: float
    start: int
    end: int
    text: str
    rank: int


class Entities(TypedDict):
    entities: list[Found]


class Half(TypedDict):
    label: str
    score: NotRequired[float]


class Labels(TypedDict):
    labels: list[Half]


class Tokens(TypedDict):
    embedding: NDArray[np.float32]
    tokens: str


def embed(text: Text, dimensions: int | None = None) -> Embedded: ...
def embed_to(text: str, dimensions: int) -> Embedded: ...
def embed_list(text: str) -> Listed: ...
def embed_tokens(text: str) -> Tokens: ...
def embed_words(words: list[str]) -> Embedded: ...
def embed_bytes(text: bytes) -> Embedded: ...
def embed_with(text: str, model: str) -> Embedded: ...
def yields(text: str) -> Iterator[Embedded]: ...
def rerank(query: str, document: str, tenant: Annotated[str, Header("x-tenant")]) -> float: ...
def rerank_perhaps(query: str, document: str) -> Perhaps: ...
def rerank_scored(query: str, document: str) -> Scored: ...
def judge(text: str, threshold: float = 0.5) -> Judged: ...
def judge_kinds(text: str) -> ByKind: ...
def judge_counted(text: str) -> Counted: ...
def judge_unsaid(text: str) -> Unsaid: ...
def judge_any(text: str) -> dict[str, Any]: ...
def find(text: str) -> Entities: ...
def look(image: bytes) -> Labels: ...
def look_at(picture: bytes) -> Entities: ...


def task(name: str, stage: str, more: str = "") -> str:
    """A function of one stage that declares a task, on line 6 of the file."""
    return f"task: {name}\n" + graph(f'stage: score, python: "{HERE}:{stage}"{more}')


HERE_IT_STANDS = "6: applications[0].args.task"


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (task("embedding", "embed"), None),
        (task("embedding", "embed_words", ", inputs: {words: text}"), HERE_IT_STANDS),
        (task("embedding", "embed_to"), HERE_IT_STANDS),
        (task("embedding", "embed_list"), HERE_IT_STANDS),
        (task("embedding", "embed_tokens"), HERE_IT_STANDS),
        (task("embedding", "embed_words"), HERE_IT_STANDS),
        (task("embedding", "embed_bytes"), HERE_IT_STANDS),
        (task("embedding", "embed_with"), HERE_IT_STANDS),
        (task("embedding", "yields"), HERE_IT_STANDS),
        (task("embedding", "rerank"), HERE_IT_STANDS),
        (task("rerank", "rerank"), None),
        (task("rerank", "rerank_perhaps"), HERE_IT_STANDS),
        (task("rerank", "rerank_scored"), None),
        (task("text-classification", "judge"), None),
        (task("text-classification", "judge_kinds"), None),
        (task("text-classification", "judge_counted"), HERE_IT_STANDS),
        (task("text-classification", "judge_unsaid"), HERE_IT_STANDS),
        (task("text-classification", "judge_any"), HERE_IT_STANDS),
        (task("token-classification", "find"), None),
        (task("image-classification", "look"), HERE_IT_STANDS),
        (task("image-classification", "look_at", ", inputs: {picture: image}"), HERE_IT_STANDS),
    ],
)
def test_a_task_is_a_promise(tmp_path, args, where):
    """Kept by the names and the types of the fields and of the answer; more of both is allowed."""
    found = problems(tmp_path, args)
    assert {*places(found)} == ({where} if where else set()), found


def test_every_task_says_what_it_is():
    """A name that a file may have has its inputs and outputs."""
    assert set(TASKS) == set(get_args(TaskName))
