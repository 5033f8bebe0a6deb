"""What a right answer is: a load test that looks only at the status would call a fast wrong server
good. Each check raises ``WrongAnswer``.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, Protocol

import orjson

from deployments.loadtest.calls.load_call import AnswerForm, LoadCall, RecordedAnswer
from deployments.loadtest.calls.schemas import Validate, compile_schema
from runtime.types.annotations import covers

SAME_WITHIN: Final = 1e-4
"""How far batch-mates and padding may move any number of an answer that is not rounded."""

FAILED_KEYS: Final = frozenset({"error", "code", "where", "request_id", "status"})
"""Of an error in Wakeful's form where the answer's own status says nothing of it."""

WRONG: Final = "wrong_answer"
"""The code of a call whose answer is not right."""

HEADER_LENGTH: Final = "inference-header-content-length"


class WrongAnswer(Exception):
    """An answer of status 200 that is not right; the message says what is wrong with it."""


class FailedAnswer(Exception):
    """An answer of status 200 with an error in it: that of a row, or at the end of a stream; the
    message is its code.
    """


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


class Checks(Protocol):
    """Says what a right answer is."""

    def check(self, call: LoadCall, body: bytes, headers: Mapping[str, str]) -> None:
        """Look whether an answer of status 200 is right.

        Args:
            headers: of the answer, by name in lower case.

        Raises:
            WrongAnswer: it is not.
            FailedAnswer: an error is in it.
        """


class AnswerChecks:
    """Implements ``Checks`` by signatures and recorded answers; a schema is compiled when its first
    answer comes.

    Mutable state: ``_validators``, one for each schema.
    """

    def __init__(self, forms: Mapping[str, AnswerForm]) -> None:
        import jsonschema_rs  # noqa: F401 - of the extra [load]; here, so that no call waits for it

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
            _require_whole(value)
            if form is not None:
                self._require_valid(call.function, "answer", form.answer, value)
            _check_recorded(call.recorded, value)
        elif form is not None and not (form.media_type and covers(form.media_type, media_type)):
            wanted = form.media_type or "JSON"
            raise WrongAnswer(f"a body of {media_type or 'no content type'}, not {wanted}")
        # batch-mates may move a number a little, and with it the digest
        if call.recorded is not None and call.recorded.sha256 and not _has_floats(value):
            _check_digest(call.recorded.sha256, body)

    def _check_tensors(
        self, call: LoadCall, form: AnswerForm | None, body: bytes, headers: Mapping[str, str]
    ) -> None:
        """An answer by the Open Inference Protocol. It is compared with a recorded one whose
        tensors are JSON; of binary ones no numbers are recorded.
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
        before = None if call.recorded is None else call.recorded.value
        if isinstance(before, dict) and "outputs" in before:  # the rest names a call and a version
            check_alike(value["outputs"], before["outputs"], part=SAME_WITHIN)

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
            self._validators[key] = compile_schema(schema)
        if why := self._validators[key](value):
            raise WrongAnswer(f"not of the signature: {why}")


def _decode(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WrongAnswer(f"it is no JSON: {error}") from None


def timing_at_end(body: bytes) -> str:
    """``Server-Timing`` of a whole stream of events, which its last one has; that of its head ends
    with the first item. Empty: it has none.
    """
    _, _, end = body.rpartition(b"event: done\ndata: ")
    try:
        return str(orjson.loads(end)["server_timing"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def _items_of(body: bytes) -> Iterator[bytes]:
    """The items of a stream of events (HTML Living Standard, section 9.2), as JSON.

    Raises:
        FailedAnswer: it ends with an error.
        WrongAnswer: it was cut before ``event: done``.
    """
    event, is_done = "", False
    for line in body.split(b"\n"):
        kind, _, text = line.rstrip(b"\r").partition(b": ")
        if kind == b"event":
            event = text.decode(errors="replace")
        elif kind == b"data" and event == "error":
            error = _decode(text)
            raise FailedAnswer(str(error.get("code", "")) if isinstance(error, dict) else "")
        elif kind == b"data" and event == "done":
            is_done = True
        elif kind == b"data":
            yield text
        elif not line.strip():
            event = ""
    require(is_done, "the stream ended without `event: done`")


def _check_other(recorded: RecordedAnswer | None, media_type: str, body: bytes) -> None:
    """An answer in a form that the signature says nothing of. A stream of events may end with one
    that is no JSON (``[DONE]``).
    """
    if media_type == "application/json":
        value = _decode(body)
    elif media_type == "application/x-ndjson":
        value = [_decode(line) for line in body.splitlines() if line.strip()]
    elif media_type == "text/event-stream":
        value = list(map(_decode, _json_data_of(body)))
    else:  # what of it was recorded is not known
        return
    _require_whole(value)
    if recorded is not None and not recorded.sha256:
        _check_recorded(RecordedAnswer(_without_id(recorded.value)), _without_id(value))


def _json_data_of(body: bytes) -> Iterator[bytes]:
    for line in body.splitlines():
        kind, _, text = line.partition(b":")
        if kind == b"data" and text.strip() != b"[DONE]":
            yield text


def _require_whole(value: Any) -> None:
    """No row and no item of an answer is an error.

    Raises:
        FailedAnswer: one is.
    """
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict) and item.keys() == FAILED_KEYS:
            raise FailedAnswer(str(item["code"]))


def _check_recorded(recorded: RecordedAnswer | None, value: Any) -> None:
    if recorded is not None and not recorded.sha256:
        check_alike(value, recorded.value, part=SAME_WITHIN)


def _without_id(value: Any) -> Any:
    """An answer of a route by task without the id of its call, which is another each time."""
    if isinstance(value, dict):
        return {key: inner for key, inner in value.items() if key != "id"}
    return value


def _has_floats(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_floats, value.values()))
    if isinstance(value, list):
        return any(map(_has_floats, value))
    return isinstance(value, float)


def _check_digest(wanted: str, body: bytes) -> None:
    if hashlib.sha256(body).hexdigest() != wanted.lower():
        raise WrongAnswer("another answer than the recorded one: their SHA-256 differ")
