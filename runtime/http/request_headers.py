"""What the headers of a request say: its id, its deadline, and the sequence that it belongs to.

Pure: headers and clocks in, values out.

Deadline. A request has its function's ``request_timeout_s``, lowered by what its client allows,
less what the call has taken already. The client sets ``x-request-timeout-seconds``; where requests
take Ray Serve's own way, whose meaning of it can switch a deadline off, it travels as
``x-wakeful-timeout-seconds``. HAProxy sets ``x-wakeful-call`` on every request, ``ARRIVED-PID-N``
with the microseconds since the epoch at which it had the request's head: time that was spent in a
queue, on another host or in a replica that died counts. ``MACHINE/`` before it names another
machine, by whose clock that is; ``deployments.control.machine_clocks`` makes it this machine's
time, and without that it is ignored. A client that sets it can only lower its own time.

Sequence. A request names it by its headers, or by the parameters of the Open Inference Protocol's
sequence extension:

    x-sequence-id: SESSION    x-sequence-start: 1    x-sequence-end: 1
    {"parameters": {"sequence_id": "SESSION", "sequence_start": true, "sequence_end": true}, ...}

HAProxy writes the header where it finds the parameter in a body
(``deployments.ingress.haproxy_config``), so a request may have both; the body's count.

Key. Where calls need one, the edge (HAProxy) compares it, and says what it found in headers that it
takes away from clients: ``x-wakeful-key``, the name of the key, and ``x-wakeful-functions``, what
it may call (names with commas, or ``*``). Without the second header nothing is hidden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, get_args

from runtime.declaration.http_section import Scope
from runtime.errors import DeadlineExceeded, MalformedBody, RequestError
from runtime.protocol.sequences import MAX_ID_CHARS, SequenceRef, read_sequence
from runtime.system.messages import quote_names

Header = tuple[bytes, bytes]
"""The name, in lower case, and the value."""

MAX_ID_LENGTH: Final = 128
"""Characters of a request's id; the rest is cut off."""

ARRIVAL: Final = b"x-wakeful-call"
OF_CLOCK: Final = b"/"
"""Between a machine and what its clock said."""

AS_SENT: Final = b"@"
"""Before what HAProxy wrote, where another process has written another time before it."""

TIMEOUTS: Final = (b"x-request-timeout-seconds", b"x-wakeful-timeout-seconds")

KEY: Final = b"x-wakeful-key"
KEY_FUNCTIONS: Final = b"x-wakeful-functions"
KEY_SCOPES: Final = b"x-wakeful-scopes"

MAX_KEY_CHARS: Final = 64
"""Of a key's name; one has no more."""

EVERY_FUNCTION: Final = b"*"

MAX_AGE_S: Final = 3600.0
"""An arrival longer ago is ignored: a clock may have been set meanwhile."""


def printable_id(value: bytes) -> str:
    """Return a request's id as it is shown, bounded; empty where it cannot be."""
    text = value[:MAX_ID_LENGTH].decode("latin-1")
    return text if text.isprintable() else ""


class RequestDeadline(NamedTuple):
    """Until when an answer is of use.

    Attributes:
        arrived: when HAProxy or the first process had the request, seconds of this process's
            ``time.monotonic``.
        allowed_s: seconds from then that the call may take.
    """

    arrived: float
    allowed_s: float

    @property
    def at(self) -> float:
        """Until when, seconds of ``time.monotonic``."""
        return self.arrived + self.allowed_s

    def age_s(self, now: float) -> float:
        """Return the seconds since the request arrived."""
        return now - self.arrived

    def remaining_s(self, now: float) -> float:
        """Return the seconds until the deadline; not above 0 when it has passed."""
        return self.arrived + self.allowed_s - now

    def shortened(self, timeout_s: float) -> RequestDeadline:
        """Return the deadline with the timeout in the body; never a later one."""
        return self if timeout_s >= self.allowed_s else RequestDeadline(self.arrived, timeout_s)

    def expired_error(self) -> DeadlineExceeded:
        """Return the error of a call whose time is over."""
        return DeadlineExceeded(
            f"the {self.allowed_s:.3g} s that the caller and request_timeout_s allow were over "
            "before the call was computed."
        )


def read_deadline(
    headers: Mapping[bytes, bytes], limit_s: float, now: float, clock: float
) -> RequestDeadline:
    """Return the deadline that the headers give a request.

    Args:
        headers: by name in lower case.
        limit_s: the function's ``request_timeout_s``.
        now: seconds of ``time.monotonic``.
        clock: seconds since the epoch, at the same moment.
    """
    for name in TIMEOUTS:
        if name in headers:
            limit_s = min(limit_s, declared_timeout_s(headers[name]))
    age_s = arrival_age_s(headers, clock) if ARRIVAL in headers else 0.0
    return RequestDeadline(now - age_s, limit_s)


def with_arrival_header(
    headers: Sequence[Header], deadline: RequestDeadline, now: float, clock: float
) -> list[Header]:
    """Return the headers of a request that is forwarded, so that the next process counts its time
    from the same moment.
    """
    arrived = b"%d" % ((clock - deadline.age_s(now)) * 1e6)
    value = next((value for key, value in headers if key == ARRIVAL), b"")
    number = value.partition(b"-")[2]
    end = as_sent(number, value) if number else b"0-0"
    others = (header for header in headers if header[0] != ARRIVAL)
    return [*others, (ARRIVAL, arrived + b"-" + end)]


def as_sent(number: bytes, value: bytes) -> bytes:
    """Return the end of an arrival that is written anew, from which its call has the same name.

    Args:
        number: its end as it is.
        value: the whole of it.
    """
    return number if AS_SENT in number else number + AS_SENT + value


def call_name(fields: Mapping[bytes, bytes]) -> str:
    """Return HAProxy's name of a call, the same where it sends the call again; empty where it came
    another way.
    """
    value = fields.get(ARRIVAL, b"").rpartition(AS_SENT)[2].rpartition(OF_CLOCK)[2]
    return value[:MAX_ID_CHARS].decode("latin-1")


def declared_timeout_s(value: bytes) -> float:
    """Return the seconds that a client says it waits; infinity unless it is a finite number above
    0.
    """
    try:
        seconds = float(value)
    except ValueError:
        return math.inf
    return seconds if 0 < seconds < math.inf else math.inf


def arrival_age_s(headers: Mapping[bytes, bytes], clock: float) -> float:
    """Return the seconds since HAProxy had a request; 0 where no header says so.

    Args:
        clock: as of ``read_deadline``.
    """
    arrived = headers.get(ARRIVAL, b"").partition(b"-")[0]
    if not (arrived.isdigit() and len(arrived) <= 17):
        return 0.0
    age_s = clock - int(arrived) / 1e6
    return age_s if 0 < age_s <= MAX_AGE_S else 0.0


def key_name(fields: Mapping[bytes, bytes]) -> str:
    """Return the name of the key that a request came with; empty where it came with none."""
    return fields.get(KEY, b"")[:MAX_KEY_CHARS].decode("latin-1")


def callable_functions(fields: Mapping[bytes, bytes]) -> frozenset[str] | None:
    """Return the names of the functions that a request may call; for it no other exists. None: all
    of them.

    Args:
        fields: the headers, by name in lower case.
    """
    names = fields.get(KEY_FUNCTIONS, EVERY_FUNCTION)
    if names == EVERY_FUNCTION:
        return None
    listed = names.decode("utf-8", "replace").split(",")
    return frozenset(name for one in listed if (name := one.strip()))


def key_scopes(fields: Mapping[bytes, bytes]) -> tuple[Scope, ...] | None:
    """Return the scopes of the key that a request came with, where the edge says them; None: it
    says nothing of them.

    Args:
        fields: the headers, by name in lower case.
    """
    letters = fields.get(KEY_SCOPES)
    if letters is None:
        return None
    return tuple(scope for scope in get_args(Scope) if scope[0].encode() in letters)


SEQUENCE_ID: Final = b"x-sequence-id"
SEQUENCE_START: Final = b"x-sequence-start"
SEQUENCE_END: Final = b"x-sequence-end"
ROUTING_EPOCH: Final = b"x-wakeful-sequence"
"""Set by HAProxy: see ``SequenceRef.route``."""

_FLAGS: Final = {b"": False, b"0": False, b"false": False, b"1": True, b"true": True}


def sequence_from_headers(fields: Mapping[bytes, bytes]) -> SequenceRef | None:
    """Return the sequence that the headers name, if they name one.

    Args:
        fields: the headers, by name in lower case.

    Raises:
        RequestError: the id cannot be one, or a start or an end is neither 1 nor 0.
    """
    return read_sequence(
        fields.get(SEQUENCE_ID, b"").decode("utf-8", "replace"),
        _read_flag(fields, SEQUENCE_START),
        _read_flag(fields, SEQUENCE_END),
        SEQUENCE_ID.decode(),
        _read_name(fields, ROUTING_EPOCH),
        call_name(fields),
        key_name(fields),
    )


def sequence_from_parameters(
    parameters: Mapping[str, Any], fields: Mapping[bytes, bytes]
) -> SequenceRef | None:
    """Return the sequence that the parameters of a v2 request name, or its headers where the
    parameters name none.

    Raises:
        RequestError: as ``sequence_from_headers``.
    """
    for key in ("sequence_start", "sequence_end"):
        if type(parameters.get(key, False)) is not bool:
            raise MalformedBody(f"{key} takes true or false.", where=f"parameters.{key}")
    starts = parameters.get("sequence_start", False) or _read_flag(fields, SEQUENCE_START)
    ends = parameters.get("sequence_end", False) or _read_flag(fields, SEQUENCE_END)
    sequence_id = parameters.get("sequence_id") or fields.get(SEQUENCE_ID, b"").decode(
        "utf-8", "replace"
    )
    return read_sequence(
        sequence_id,
        starts,
        ends,
        "parameters.sequence_id",
        _read_name(fields, ROUTING_EPOCH),
        call_name(fields),
        key_name(fields),
    )


def _read_name(fields: Mapping[bytes, bytes], header: bytes) -> str:
    return fields.get(header, b"")[:MAX_ID_CHARS].decode("latin-1")


def _read_flag(fields: Mapping[bytes, bytes], name: bytes) -> bool:
    value = fields.get(name, b"").strip().lower()
    if value not in _FLAGS:
        raise RequestError(
            f"{name.decode()} is {quote_names(value.decode('latin-1'))}; 1 or 0 is wanted.",
            where=name.decode(),
        )
    return _FLAGS[value]
