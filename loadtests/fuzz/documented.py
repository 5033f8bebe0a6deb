"""Calls that `schemathesis` makes of the OpenAPI document: what it promises, and what it rules out.

Its own generators and mutations of JSON schemas are used, and nothing of its client or its checks:
each of its calls is sent and judged as the others are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any, Final

import hypothesis
from hypothesis import HealthCheck, Phase

from loadtests.fuzz.calls import Fields, FuzzCall

_DROPPED: Final = frozenset((b"content-length", b"transfer-encoding", b"host"))
"""Headers that this side writes itself."""


def documented_calls(
    document: dict[str, Any], seed: int, count: int, send: Callable[[FuzzCall], object]
) -> Iterator[str]:
    """Send so many calls in all, as many of each operation; yields the name of each that is done.

    Args:
        document: OpenAPI's.
        send: is given each call.
    """
    # takes a second, and is wanted by this command alone
    schemathesis: Any = import_module("schemathesis")
    schema = schemathesis.openapi.from_dict(document)
    operations = [found.ok() for found in schema.get_all_operations()]
    each = max(2, count // len(operations))
    for number, operation in enumerate(operations):
        for mode in schemathesis.GenerationMode:
            try:
                _draw(operation.as_strategy(generation_mode=mode), seed + number, each // 2, send)
            except hypothesis.errors.Unsatisfiable:
                continue  # an operation without parameters can have no wrong ones
        yield operation.label


def _draw(strategy: Any, seed: int, count: int, send: Callable[[FuzzCall], object]) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=strategy)
    def each(case: Any) -> None:
        send(to_call(case))

    each()


def to_call(case: Any) -> FuzzCall:
    """A case of schemathesis, as the bytes that `requests` would send."""
    import requests

    arguments = case.as_transport_kwargs(base_url="http://fuzz")
    allowed = ("method", "url", "headers", "files", "data", "json", "params", "auth", "cookies")
    request = requests.Request(**{key: arguments[key] for key in allowed if key in arguments})
    prepared = request.prepare()
    body: Any = prepared.body
    if body is not None and not isinstance(body, bytes):
        body = body.encode() if isinstance(body, str) else b"".join(body)
    headers: Fields = tuple(
        (name, value)
        for name, value in ((_bytes(one), _bytes(two)) for one, two in prepared.headers.items())
        if name.lower() not in _DROPPED
    )
    return FuzzCall(
        f"documented {case.operation.label}",
        _bytes(prepared.method or "GET"),
        _bytes(prepared.path_url),
        headers,
        body,
    )


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")
