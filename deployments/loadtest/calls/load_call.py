"""One call that a load test sends, as plain data: it goes from process to process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Wire = Literal["json", "raw", "v2", "stream", "other"]
"""The form of a call: a JSON object; the body of a field of bytes as it is; the Open Inference
Protocol with binary tensors; a JSON object whose answer comes in events; another, of a recorded
call alone, of which the signature says nothing (lines of JSON, a route by task).
"""


@dataclass(frozen=True, slots=True)
class RecordedAnswer:
    """What was answered when a call was recorded; one of the two is known.

    Attributes:
        value: of JSON; numbers may differ a little.
        sha256: of the whole body, in hexadecimal digits; empty: ``value`` is known.
    """

    value: Any = None
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class LoadCall:
    """What is sent.

    Attributes:
        function: whose call it is.
        path: with a leading slash.
        headers: beside ``host`` and ``content-length``.
        wire: how its answer is read and checked.
        recorded: what it was answered before; None: the signature alone says what is right.
        sequence_calls: so many calls of one sequence, one after another, each with these fields;
            0: it is of no sequence.
        name: in Locust's tables; empty: its function's.
    """

    function: str
    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    wire: Wire = "json"
    recorded: RecordedAnswer | None = None
    sequence_calls: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """What the answers of a function look like.

    Attributes:
        answer: JSON Schema of the answer to a JSON call, with all that it refers to.
        item: of an item of a streamed answer.
        tensors: of the JSON part of an answer by the Open Inference Protocol.
        media_type: of an answer that is a file, or the range of it; empty: it is JSON.
    """

    answer: Mapping[str, Any]
    item: Mapping[str, Any]
    tensors: Mapping[str, Any]
    media_type: str = ""
