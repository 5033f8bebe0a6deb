"""How long the caller of an exchange waits: his function's deadline, lowered by what he says, less what his call has taken already.

Pure: headers and clocks in, a moment out. Three headers speak of time. A caller sets ``x-request-timeout-seconds`` (where calls take
Ray Serve's own way, whose meaning of it can switch a deadline off, it travels as ``x-wakeful-timeout-seconds``). The edge sets
``x-wakeful-call`` on every call, ``ARRIVED-PID-N`` with the microseconds since the epoch at which it had the call's head: what was
spent in a queue, on another host or in a replica that died counts. A caller who sets that himself can only lower his own time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from runtime.errors import DeadlineExceeded

CALL: Final = b"x-wakeful-call"
SAID: Final = (b"x-request-timeout-seconds", b"x-wakeful-timeout-seconds")

OLDEST_S: Final = 3600.0
"""A call that says it is older says nothing: clocks of two machines may differ by anything."""


class Patience(NamedTuple):
    """Until when an answer is of use.

    Attributes:
        arrived: when the first edge had the call, seconds of this process's ``time.monotonic``.
        allowed_s: seconds from then that the call may take.
    """

    arrived: float
    allowed_s: float

    def age_s(self, now: float) -> float:
        """Seconds since the call arrived."""
        return now - self.arrived

    def left_s(self, now: float) -> float:
        """Seconds until the deadline; not above 0 when it has passed."""
        return self.arrived + self.allowed_s - now

    def lowered(self, timeout_s: float) -> Patience:
        """With what the body says; never longer than before."""
        return self if timeout_s >= self.allowed_s else Patience(self.arrived, timeout_s)

    def over(self) -> DeadlineExceeded:
        """The error of a call whose time is over."""
        return DeadlineExceeded(
            f"the {self.allowed_s:.3g} s that the caller and request_timeout_s allow were over before the call was computed."
        )


def patience_of(headers: Mapping[bytes, bytes], limit_s: float, now: float, clock: float) -> Patience:
    """A call's patience by its headers.

    Args:
        headers: by name in lower case.
        limit_s: the function's ``request_timeout_s``.
        now: seconds of ``time.monotonic``.
        clock: seconds since the epoch, at the same moment.
    """
    for name in SAID:
        if name in headers:
            limit_s = min(limit_s, said_s(headers[name]))
    return Patience(now - _age_s(headers[CALL], clock) if CALL in headers else now, limit_s)


def stamped(headers: Sequence[tuple[bytes, bytes]], one: Patience, now: float, clock: float) -> list[tuple[bytes, bytes]]:
    """The headers of a call that is passed on, so that the next process counts its time from the same moment."""
    arrived = b"%d" % ((clock - one.age_s(now)) * 1e6)
    rest = next((value.partition(b"-")[2] for key, value in headers if key == CALL), b"") or b"0-0"
    return [*((key, value) for key, value in headers if key != CALL), (CALL, arrived + b"-" + rest)]


def said_s(value: bytes) -> float:
    """Seconds that a caller says he waits; infinity unless it is a finite number above 0."""
    try:
        seconds = float(value)
    except ValueError:
        return math.inf
    return seconds if 0 < seconds < math.inf else math.inf


def _age_s(value: bytes, clock: float) -> float:
    arrived = value.partition(b"-")[0]
    if not (arrived.isdigit() and len(arrived) <= 17):
        return 0.0
    age_s = clock - int(arrived) / 1e6
    return age_s if 0 < age_s <= OLDEST_S else 0.0
