"""Sequences of calls: which sequence a call belongs to and what happens to it, decided from values
and ``now``.

Open Inference Protocol, as Triton's sequence extension has it: calls that name the same
``sequence_id`` are answered one after another, and what a stage keeps (``State[T]``) goes from each
to the next. ``sequence_start`` begins it (again), ``sequence_end`` frees it. A state that is not
there is never made up: a call that goes on with a sequence that is gone is refused.

``runtime.execution.sequence_store`` holds the states and asks here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from runtime.declaration.sections import SequencesSpec
from runtime.errors import MissingInput, Overloaded, RequestError, SequenceUnknown, TooManySequences

MAX_ID_CHARS: Final = 128

MOST_WAITING: Final = 16
"""Most calls of one sequence that wait: they are answered one by one, and a client that sends
further ahead would wait too long.
"""

BEGIN: Final = "send sequence_start with the next call (header x-sequence-start: 1)"


@dataclass(frozen=True, slots=True)
class SequenceRef:
    """What a call says of its sequence.

    Attributes:
        id: printable, 1 to 128 characters; the number 7 is the text ``7``, and 0 is none.
        starts: nothing is kept from before.
        ends: nothing is kept afterwards.
        route: what HAProxy says of the way that its calls take
            (``deployments.ingress.sequence_routing``): another word for each start, and none or
            another where it does not know the way. What is kept belongs to one; another process
            may have kept something of the same id.
        call: HAProxy's name of the call (``runtime.http.request_headers.ARRIVAL``), the same where
            it sends the call again; empty: it did not come that way.
        owner: the name of the key that the call came with, where calls need one: of one id each key
            has a sequence of its own.
    """

    id: str
    starts: bool = False
    ends: bool = False
    route: str = ""
    call: str = ""
    owner: str = ""

    @property
    def kept_as(self) -> tuple[str, str]:
        """By which what is kept of it is found."""
        return self.owner, self.id


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """A sequence that is kept, or that calls wait for.

    Attributes:
        calls: at work or waiting.
        last_used: when a call of it last ended, seconds, ``time.monotonic``.
    """

    calls: int
    last_used: float


def read_sequence(
    identity: object,
    starts: bool,
    ends: bool,
    where: str = "sequence_id",
    route: str = "",
    call: str = "",
    owner: str = "",
) -> SequenceRef | None:
    """What a call says; None when it names none, as it does with an empty text or 0 (Triton's way
    to say so), number or text.

    Raises:
        RequestError: no id that can be one, or a start or an end of nothing.
    """
    if isinstance(identity, bool) or not isinstance(identity, str | int | None):
        raise RequestError(f"{where} is neither a whole number nor a text.", where=where)
    if isinstance(identity, int) and not 0 <= identity < 1 << 64:
        raise RequestError(f"{where} is no unsigned number of 64 bits. Send a text.", where=where)
    text = str(identity or "")
    if text == "0":
        text = ""
    if len(text) > MAX_ID_CHARS or not text.isprintable():
        raise RequestError(
            f"{where} is a text of at most {MAX_ID_CHARS} printable characters.", where=where
        )
    if text:
        return SequenceRef(text, starts, ends, route, call, owner)
    if starts or ends:
        raise RequestError(
            f"a sequence starts or ends here and {where} does not name it.", where=where
        )
    return None


def state_issue(declared: SequencesSpec | None, kept: Sequence[str]) -> str:
    """Why ``sequences`` does not go with what the stages keep; empty when it does."""
    if kept and declared is None:
        return (
            f"a stage takes the state {kept[0]!r}, which belongs to sequences of calls. Add"
            " 'sequences: {}' beside the graph."
        )
    if declared is not None and not kept:
        return (
            "no stage takes a State, so there is nothing to keep between calls. Delete 'sequences',"
            " or annotate a parameter State[T]."
        )
    return ""


def unnamed_error(name: str) -> MissingInput:
    """The error of a call that names no sequence."""
    return MissingInput(
        f"{name!r} answers calls of a sequence, and this one names none. Send the header"
        " x-sequence-id, or parameters.sequence_id of v2; with the first call x-sequence-start: 1"
        " too, with the last x-sequence-end: 1.",
        where="sequence_id",
    )


def sequence_refusal(
    asked: SequenceRef,
    live: SequenceInfo | None,
    count: int,
    frees_at: float,
    limits: SequencesSpec,
    now: float,
) -> RequestError | Overloaded | None:
    """Why a call does not even wait for its turn; None when it does.

    Args:
        live: its sequence.
        count: sequences that live.
        frees_at: when the first of them may expire, seconds on the clock of ``now``; infinite when
            none may.
    """
    if live is None and not asked.starts:
        return unknown_error(limits)
    if live is None and count >= limits.max_sequences:
        wait_s = max(1.0, min(limits.idle_timeout_s, frees_at - now))
        return TooManySequences(
            f"{count} sequences live, as many as are kept. End one, call again in"
            f" {math.ceil(wait_s)} s, or raise sequences.max_sequences.",
            retry_after_s=wait_s,
        )
    if live is not None and live.calls > MOST_WAITING:
        return Overloaded(
            f"{MOST_WAITING} calls of this sequence wait for their turn already. Wait for an answer"
            " before the next call.",
            retry_after_s=1,
        )
    return None


def unknown_error(limits: SequencesSpec) -> SequenceUnknown:
    """The error of a call that goes on with what is not kept."""
    return SequenceUnknown(
        "nothing is kept of this sequence: its process ended, it was idle for"
        f" {limits.idle_timeout_s:g} s, it has ended, or it never began. Begin it again: {BEGIN}.",
        where="sequence_id",
    )


def lost_answer_error() -> SequenceUnknown:
    """The error of a call that came again after it was answered, where the answer is not kept."""
    return SequenceUnknown(
        "the answer of this call was lost on its way, and what is kept has gone on with it. Begin"
        f" the sequence again: {BEGIN}.",
        where="sequence_id",
    )


def is_expired(live: SequenceInfo, limits: SequencesSpec, now: float) -> bool:
    """Whether it has had no call for too long."""
    return not live.calls and now - live.last_used >= limits.idle_timeout_s


def expires_at(live: SequenceInfo, limits: SequencesSpec) -> float:
    """When it will be, on the clock of ``last_used``; infinite while calls are at work."""
    return math.inf if live.calls else live.last_used + limits.idle_timeout_s
