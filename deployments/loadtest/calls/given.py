"""Rows of files made into calls, each looked at first: the server would refuse one that is not of
its function's signature, and a load of refusals says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from deployments.loadtest.calls.load_call import LoadCall, Wire
from deployments.loadtest.calls.making import make_call, require_wire
from deployments.loadtest.calls.rows import GivenCall, LineFaults
from deployments.loadtest.calls.schemas import Validate, compile_schema
from deployments.loadtest.calls.served_functions import ServedFunction
from deployments.loadtest.refusal import LoadTestRefused


def make_given_calls(
    function: ServedFunction,
    given: Sequence[GivenCall],
    *,
    wire: Wire | None = None,
    headers: Mapping[str, str] = MappingProxyType({}),
    sequence_calls: int = 1,
) -> tuple[LoadCall, ...]:
    """The calls of a function's rows. What is wrong with one is a fault of its line; ``finish`` of
    these says whether the rest may be sent.

    Args:
        headers: of each call; a row's own go before them.

    Raises:
        LoadTestRefused: the function cannot be called so, with any row.
    """
    require_wire(function, wire)
    # as tensors a row may be a batch of one: `making` looks at each by its datatype and shape
    validate = None if wire == "v2" else compile_schema(function.row)
    made = list[LoadCall]()
    for one in given:
        try:
            if validate is not None:
                _require_row(function, validate, one.body)
            made.append(
                make_call(
                    function,
                    one.body,
                    wire=wire,
                    headers={**headers, **one.headers},
                    recorded=one.recorded,
                    sequence_calls=sequence_calls,
                )
            )
        except LoadTestRefused as error:
            one.source.add(one.line, error.message)
    return tuple(made)


def _require_row(function: ServedFunction, validate: Validate, body: Any) -> None:
    is_many = isinstance(body, list) and function.takes_rows
    for index, row in enumerate(body if is_many else [body]):
        if why := validate(row):
            place = f"[{index}]: " * is_many
            raise LoadTestRefused(f"no row of {function.name}: {place}{why}")


def sources_of(given: Sequence[GivenCall]) -> list[LineFaults]:
    """The files that calls come from, each once."""
    return list({id(one.source): one.source for one in given}.values())
