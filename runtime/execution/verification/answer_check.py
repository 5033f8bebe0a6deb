"""Writes the answer to the declared example, or for a function of models alone, to made-up values,
before the function is ready: the first client does not find out that it cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from runtime.batching.calls import Row
from runtime.batching.streams.elements import INDEX
from runtime.batching.streams.stream import BUFFER, Item
from runtime.declaration.function_spec import FunctionSpec
from runtime.errors import FunctionError, LoadError, RequestError
from runtime.execution.segments import Segment
from runtime.graph.request_fields import answer_mismatch
from runtime.protocol import InferRequest, InferResponse, dumps, encode_response, loads
from runtime.types.value_types import ValueType, is_mapping

WHOLE: Final = InferRequest("", {}, (), False, {})
"""Asks for every output, as JSON."""


def check_answer(
    spec: FunctionSpec,
    types: Mapping[str, ValueType],
    answer: Mapping[str, Any],
    response: Callable[[], InferResponse] | None = None,
) -> None:
    """Writes an answer in every form that a client can ask for, and compares it with what the last
    stage declares.

    Args:
        types: of the answer's values, by name.
        answer: to the declared example, or to made-up values.
        response: makes the same as tensors; None: the function has no such answer.

    Raises:
        LoadError: naming the stage and the value.
    """
    what = (
        "the declared example fails"
        if spec.example is not None
        else "its first answer cannot be given"
    )
    stage = f"{what}: stage {spec.graph[-1].stage!r}"
    try:
        text = dumps(answer)
    except FunctionError as error:
        name = next((name for name, value in answer.items() if not _is_written(value)), "")
        raise LoadError(f"{stage}: {name!r}: {error.message}") from error
    read = loads(text)
    only = next(iter(types.values()))
    if len(types) == 1 and only.container == "object" and is_mapping(only.annotation):
        types, read = {"answer": only}, {"answer": read}
    annotations = {
        name: bytes if value.media_type else value.annotation
        for name, value in types.items()
        if value.container != "array" and not value.is_any
    }
    if why := answer_mismatch(
        {name: annotation for name, annotation in annotations.items() if name in read}, read
    ):
        raise LoadError(f"{stage} does not give what it declares: {why}.")
    if response is None:
        return
    for is_binary in (False, True):
        try:
            encode_response(response(), replace(WHOLE, binary_default=is_binary))
        except RequestError:  # the client can ask for another form
            continue
        except FunctionError as error:
            raise LoadError(f"{stage}: {error.message}") from error


def sample_items(row: Row, last: Segment, names: Collection[str]) -> Iterator[Item]:
    """Some of the items that a run before the function is ready would have streamed: the last one
    of a generator, the first elements of ``each``, which such a run gathers.

    Args:
        last: the segment that they come out of.
        names: of the answer's values.
    """
    if last.element_order is None:
        if set(names) <= row.values.keys():  # else it yielded nothing
            yield row.values
        return
    columns = {name: row.values[name] for name in last.gives}
    for number in range(min([BUFFER, *map(len, columns.values())])):
        item = {
            name: column[number]
            for name, column in columns.items()
            if number not in row.gaps.get(name, ())
        }
        yield item if last.element_order == "in order" else {INDEX: number, **item}


def _is_written(value: Any) -> bool:
    try:
        dumps(value)
    except FunctionError:
        return False
    return True
