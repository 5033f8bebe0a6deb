"""What a right answer is: a load test that looks only at the status would call a fast wrong server
good. Each check raises ``WrongAnswer``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import orjson

from deployments.loadtest.calls.load_call import AnswerForm, LoadCall, RecordedAnswer

SAME_WITHIN: Final = 1e-4
"""How far batch-mates and padding may move any number of an answer that is not rounded."""

WRONG: Final = "wrong_answer"
"""The code of a call whose answer is not right."""

HEADER_LENGTH: Final = "inference-header-content-length"


class WrongAnswer(Exception):
    """An answer of status 200 that is not right; the message says what is wrong with it."""


class FailedStream(Exception):
    """A streamed answer that ended with an error; the message is its code."""


def require(holds: bool, why: str) -> None:
    """Raises ``WrongAnswer`` unless something holds."""
    if not holds:
        raise WrongAnswer(why)


def check_alike(answer: Any, first: Any, within: float = SAME_WITHIN, part: float = 0.0) -> None:
    """Two answers to one row: numbers differ by so much at most, or by this part of themselves; all
    else is equal.
    """
    if isinstance(first, dict) and isinstance(answer, dict):
        require(answer.keys() == first.keys(), f"has {sorted(answer)}, not {sorted(first)}")
        for key in first:
            check_alike(answer[key], first[key], within, part)
    elif isinstance(first, list) and isinstance(answer, list):
        require(len(answer) == len(first), f"{len(answer)} items, not {len(first)}")
        for pair in zip(answer, first, strict=True):
            check_alike(*pair, within, part)
    else:
        is_near = isinstance(first, float) and isinstance(answer, int | float)
        holds = (
            math.isclose(answer, first, rel_tol=part, abs_tol=within)
            if is_near
            else answer == first
        )
        require(holds, f"{str(answer)[:80]}, not {str(first)[:80]} as before")


Validate = Callable[[Any], str]
"""What is wrong with a value, empty: nothing."""


class Checks(Protocol):
    """Says what a right answer is."""

    def check(self, call: LoadCall, body: bytes, headers: Mapping[str, str]) -> None:
        """Look whether an answer of status 200 is right.

        Args:
            headers: of the answer, by name in lower case.

        Raises:
            WrongAnswer: it is not.
            FailedStream: it is an error that came in a stream.
        """


class AnswerChecks:
    """Implements ``Checks`` by signatures and recorded answers; a schema is compiled when its first
    answer comes.

    Mutable state: ``_validators``, one for each schema.
    """

    def __init__(self, forms: Mapping[str, AnswerForm]) -> None:
        self._forms = forms
        self._validators: dict[tuple[str, str], Validate] = {}

    def check(self, call: LoadCall, body: bytes, headers: Mapping[str, str]) -> None:
        """See ``Checks``."""
        form = self._forms.get(call.function)
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        value: Any = None
        if call.wire == "v2":
            self._check_tensors(call, form, body, headers)
            return
        if call.wire == "other":
            _check_other(call.recorded, media_type, body)
            return
        if media_type == "text/event-stream":
            items = list(_items_of(body))
            value = [_decode(item) for item in items]
            self._check_items(call, form, value)
            body = b"".join(item + b"\n" for item in items)  # whose digest is recorded
        elif media_type == "application/json":
            value = _decode(body)
            if form is not None:
                self._require_valid(call.function, "answer", form.answer, value)
            _check_recorded(call.recorded, value)
        elif form is not None and not form.media_type:
            raise WrongAnswer(f"a body of {media_type or 'no content type'}, not JSON")
        # batch-mates may move a number a little, and with it the digest
        if call.recorded is not None and call.recorded.sha256 and not _has_floats(value):
            _check_digest(call.recorded.sha256, body)

    def _check_tensors(
        self, call: LoadCall, form: AnswerForm | None, body: bytes, headers: Mapping[str, str]
    ) -> None:
        """An answer by the Open Inference Protocol. Of recorded ones nothing is compared but its
        form: its numbers are bytes.
        """
        length = int(headers.get(HEADER_LENGTH, len(body)))
        value = _decode(body[:length])
        if form is not None and form.tensors:
            self._require_valid(call.function, "tensors", form.tensors, value)
        require(isinstance(value, dict) and "outputs" in value, "no outputs")
        sizes = [
            output.get("parameters", {}).get("binary_data_size", 0) for output in value["outputs"]
        ]
        require(
            length + sum(sizes) == len(body),
            f"{len(body) - length} bytes of tensors, {sum(sizes)} are said",
        )

    def _check_items(self, call: LoadCall, form: AnswerForm | None, items: list[Any]) -> None:
        if form is not None:
            for item in items:
                self._require_valid(call.function, "item", form.item, item)
        _check_recorded(call.recorded, items)

    def _require_valid(
        self, function: str, part: str, schema: Mapping[str, Any], value: Any
    ) -> None:
        key = function, part
        if key not in self._validators:
            self._validators[key] = _compile(schema)
        if why := self._validators[key](value):
            raise WrongAnswer(why)


def _compile(schema: Mapping[str, Any]) -> Validate:
    import jsonschema_rs  # of the extra [load]

    validator = jsonschema_rs.validator_for(dict(schema))

    def find_fault(value: Any) -> str:
        if validator.is_valid(value):
            return ""
        first = next(iter(validator.iter_errors(value)))
        return f"not of the signature: {str(first.message)[:200]}"

    return find_fault


def _decode(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WrongAnswer(f"it is no JSON: {error}") from None


def _items_of(body: bytes) -> Iterator[bytes]:
    """The items of a stream of events (HTML Living Standard, section 9.2), as JSON.

    Raises:
        FailedStream: it ends with an error.
        WrongAnswer: it was cut before ``event: done``.
    """
    event, is_done = "", False
    for line in body.split(b"\n"):
        kind, _, text = line.rstrip(b"\r").partition(b": ")
        if kind == b"event":
            event = text.decode(errors="replace")
        elif kind == b"data" and event == "error":
            error = _decode(text)
            raise FailedStream(str(error.get("code", "")) if isinstance(error, dict) else "")
        elif kind == b"data" and event == "done":
            is_done = True
        elif kind == b"data":
            yield text
        elif not line.strip():
            event = ""
    require(is_done, "the stream ended without `event: done`")


def _check_other(recorded: RecordedAnswer | None, media_type: str, body: bytes) -> None:
    """An answer in a form that the signature says nothing of."""
    if media_type == "application/json":
        value = _decode(body)
    elif media_type == "application/x-ndjson":
        value = [_decode(line) for line in body.splitlines() if line.strip()]
    else:  # how it ends, and what of it was recorded, is not known
        return
    _check_recorded(recorded, value)


def _check_recorded(recorded: RecordedAnswer | None, value: Any) -> None:
    if recorded is not None and not recorded.sha256:
        check_alike(value, recorded.value, part=SAME_WITHIN)


def _has_floats(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_floats, value.values()))
    if isinstance(value, list):
        return any(map(_has_floats, value))
    return isinstance(value, float)


def _check_digest(wanted: str, body: bytes) -> None:
    if hashlib.sha256(body).hexdigest() != wanted.lower():
        raise WrongAnswer("another answer than the recorded one: their SHA-256 differ")
