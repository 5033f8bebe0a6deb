"""How soon the first element of an ``each`` that streams is there, against one element alone."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

import httpx

from loadtests import declare
from loadtests.bench.numbers import Number
from loadtests.command import Bench
from loadtests.server import ChildFailed, Server, local, path_of

ELEMENTS: Final = 100

MS: Final = 20
"""That an element takes."""

TRIES: Final = 15

STAGES: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {"python": "loadtests.stages:element"},
    "threads": {"python": "loadtests.stages:element", "threads": 16},
    "coroutine": {"python": "loadtests.stages:element_soon"},
    "called": {"function": "element"},
    "model": {"function": "embed", "inputs": {"text": "texts"}},
}
"""What is run over the elements, by the name of the function that does."""

WORDS: Final = {
    "plain": f"a plain stage of {MS} ms",
    "threads": f"the same with `threads: 16`, {MS} ms",
    "coroutine": f"an `async def` of {MS} ms",
    "called": f"`function:` of {MS} ms",
    "model": "`function: embed`",
}


def each(bench: Bench) -> Iterator[Number]:
    """By `wakeful run`, in turns; the medians of the tries are compared."""
    alone = replace(bench, start=local, where="by `wakeful run`")
    element = declare.function("element", [{"stage": "element", **STAGES["plain"]}])
    with (
        alone.serve("each", element, declare.like("embed"), *map(_streaming, STAGES)) as server,
        httpx.Client(timeout=60) as client,
    ):
        for name, what in WORDS.items():
            one: list[float] = []
            many: list[float] = []
            for _ in bench.rounds(what, TRIES):
                for count, found in ((1, one), (ELEMENTS, many)):
                    found.append(first_ms(client, server, name, count))
            yield Number(f"one element, {what}", one, "ms", alone.where)
            yield Number(f"first of {ELEMENTS} elements, {what}", many, "ms", alone.where)
            share = statistics.median(many) / statistics.median(one)
            yield Number("the same, over one element alone", (share,), "", "medians", at_most=1.5)


def _streaming(name: str) -> declare.Application:
    """A function that streams what a stage gives for its elements."""
    value = "texts" if name == "model" else "elements"
    last = {"stage": "item", "each": value, "stream": True, **STAGES[name]}
    return declare.function(name, [{"stage": value, "python": f"loadtests.stages:{value}"}, last])


def first_ms(client: httpx.Client, server: Server, name: str, count: int) -> float:
    """Milliseconds from the request to the first item; all of them are read.

    Raises:
        ChildFailed: there are not as many items as elements.
    """
    began = time.perf_counter()
    first_s = 0.0
    items = 0
    with client.stream(
        "POST",
        server.url + path_of(name),
        json={"count": count},
        headers={"accept": "application/x-ndjson"},
    ) as response:
        for line in response.iter_lines():
            first_s = first_s or time.perf_counter() - began
            items += '"error"' not in line
    if items != count:
        raise ChildFailed(f"{items} of {count} elements came from {name}: {response.status_code}.")
    return 1000 * first_s
