"""Stages that call other functions, and the functions that they call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from runtime.declaration.function_spec import FunctionSpec
from wakeful import Call, CallError, RequestError, RequestId, Rows, Shape, UpstreamError

HERE = __name__

Vector = Annotated[NDArray[np.float32], Shape(2)]


class Embedded(TypedDict):
    """As of an embedding model."""

    vector: Vector
    together: int


def embed(text: Rows[str]) -> Rows[Embedded]:
    """A vector of a text, and how many rows shared the batch."""
    for one in text:
        if one == "refused":
            raise RequestError("it is refused.", where="text", status=422)
        if one == "upstream":
            raise UpstreamError("the price list does not answer.")
        if one == "broken":
            raise ValueError("a secret")
    return [{"vector": np.array([len(one), 1], np.float32), "together": len(text)} for one in text]


def answer_itself(text: str) -> dict[str, int]:
    """A mapping that is the answer by itself."""
    return {"length": len(text)}


def slow(text: str) -> str:
    """Takes as many seconds as the text says, unless a test lets it go before."""
    LET_GO.wait(float(text))
    COMPUTED.append(text)
    return text


LET_GO = threading.Event()

COMPUTED: list[str] = []


def ident(text: str, request: RequestId) -> str:
    """The id under which it is called."""
    return request


def plain(text: str, embed: Annotated[Call, "embed"]) -> list[float]:
    """Without await."""
    return embed(text=text)["vector"].tolist()


async def awaited(embed: Annotated[Call, "embed"], text: str) -> list[float]:
    """Before its value, and awaited."""
    return (await embed(text=text))["vector"].tolist()


def annotated(text: str, vectors: Annotated[Call, "embed"]) -> list[float]:
    """The other way to write it."""
    return vectors(text=text)["vector"].tolist()


async def fanned(text: str, embed: Annotated[Call, "embed"]) -> list[int]:
    """Two calls at once, which share a batch."""
    found = await asyncio.gather(embed(text=text), embed(text=text * 2))
    return [one["together"] for one in found]


class Index:
    """Built once, of texts that another function embeds; each question is embedded as well."""

    def __init__(self, texts: list[str], embed: Annotated[Call, "embed"]) -> None:
        self.embed = embed
        found = embed.rows([{"text": text} for text in texts])
        self.lengths = [float(one["vector"][0]) for one in found]

    def __call__(self, text: str) -> list[float]:
        return [self.embed(text=text)["vector"][0].item(), *self.lengths]


class AsyncIndex(Index):
    """The same, whose questions are awaited."""

    async def __call__(self, text: str) -> list[float]:  # type: ignore[override]
        return [(await self.embed(text=text))["vector"][0].item(), *self.lengths]


class RowsIndex(Index):
    """The same, for all rows: what it built serves, and a call does not."""

    def __call__(self, text: Rows[str]) -> Rows[list[float]]:  # type: ignore[override]
        if text[0] == "call":
            self.embed(text=text[0])
        return [self.lengths] * len(text)


async def streamed(text: str, embed: Annotated[Call, "embed"]) -> AsyncIterator[float]:
    """An item a letter."""
    for letter in text:
        yield (await embed(text=letter))["vector"][0].item()


def streamed_plainly(text: str, embed: Annotated[Call, "embed"]) -> Iterator[float]:
    """The same in a thread."""
    for letter in text:
        yield embed(text=letter)["vector"][0].item()


def itself(text: str, whole: Annotated[Call, "answer_itself"]) -> dict[str, Any]:
    """What the function answers, as it is."""
    return {"found": whole(text=text)}


def caught(text: str, embed: Annotated[Call, "embed"]) -> dict[str, Any]:
    """What is told of a call that was not answered."""
    try:
        embed(text=text)
    except CallError as error:
        return {
            "status": error.status,
            "code": error.code,
            "where": error.where,
            "function": error.function,
            "is_retryable": error.is_retryable,
        }
    return {}


def uncaught(text: str, embed: Annotated[Call, "embed"]) -> dict[str, Any]:
    """Lets it pass."""
    return {"vector": embed(text=text)["vector"].tolist()}


def misspelt(text: str, embed: Annotated[Call, "embed"]) -> dict[str, Any]:
    """A field that the function does not have."""
    fields = {"txt": text}
    return {"vector": embed(**fields)["vector"].tolist()}


def some_fail(text: str, embed: Annotated[Call, "embed"]) -> list[str]:
    """Rows of which one is refused."""
    rows = [{"text": "a"}, {"text": text}, {"txt": "a"}]
    found = embed.rows(rows, return_exceptions=True)
    return [one.code if isinstance(one, CallError) else "ok" for one in found]


def first_fails(text: str, embed: Annotated[Call, "embed"]) -> str:
    """The first row that is refused is raised."""
    try:
        embed.rows([{"text": "a"}, {"txt": text}])
    except CallError as error:
        return error.where
    return ""


def waits(text: str, slow: Annotated[Call, "slow"]) -> str:
    """As long as it has time."""
    return slow(text=text)["slow"]


async def gives_up(text: str, slow: Annotated[Call, "slow"]) -> str:
    """After a moment, and by itself."""
    try:
        async with asyncio.timeout(0.05):
            return (await slow(text=text))["slow"]
    except TimeoutError:
        return "gave up"


def retries(text: str, slow: Annotated[Call, "slow"]) -> str:
    """For as long as it is said to make sense."""
    while True:
        try:
            return slow(text=text)["slow"]
        except CallError as error:
            RETRIED.append(error.code)
            if not error.is_retryable:
                raise


RETRIED: list[str] = []


def under(text: str, ident: Annotated[Call, "ident"]) -> str:
    """The id of the call that it makes."""
    return ident(text=text)["ident"]


def in_a_thread(text: str, embed: Annotated[Call, "embed"]) -> float:
    """A thread of the stage's own calls as the stage does."""
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(embed(text=text)["vector"][0].item()))
    thread.start()
    thread.join()
    return found[0]


def in_a_loop(text: str, embed: Annotated[Call, "embed"]) -> float:
    """A loop of the stage's own awaits the call."""

    async def ask() -> float:
        return (await embed(text=text))["vector"][0].item()

    return asyncio.run(ask())


def spec(name: str, python: str = "", **args: Any) -> FunctionSpec:
    """A function of one of these stages, of its name if no other is given."""
    stage = {"stage": name, "python": f"{HERE}:{python or name}", **args.pop("stage", {})}
    return FunctionSpec.from_args(name, f"/v2/models/{name}", {"graph": [stage], **args})


CALLED = (
    spec("embed", batching={"max_batch_size": 8}),
    spec("answer_itself"),
    spec("slow"),
    spec("ident"),
)
