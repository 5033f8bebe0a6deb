"""When a call arrived at the HAProxy of another machine, by this machine's clock.

HAProxy writes down when it had a call, so that its deadline counts from then (``x-wakeful-call``).
On a cluster of several machines it says whose clock that was: two may differ by anything, and by
half a minute every call of one would be late at the other, or have time that is over.

No call takes less than no time from one machine to another. So of all that came from a machine
lately, the one that seems to have taken least shows how far apart the clocks are, to within the
fastest way between the two, and others are as old as they seem beyond that. NTP does the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from runtime.http.request_headers import ARRIVAL, OF_CLOCK, as_sent

WINDOW_S: Final = 60.0
"""Clocks drift, and are set: what came within one or two of these counts."""

MOST_MACHINES: Final = 256


@dataclass(slots=True)
class _Seen:
    """The least age that calls of a machine seemed to have: in the window that began at ``since``,
    and in the one before it.
    """

    since: float
    least_s: float
    before_s: float


class MachineClocks:
    """Used on one event loop.

    Args:
        own: this machine, as HAProxy has its name.

    Mutable state: ``_seen``, by machine.
    """

    def __init__(self, own: str) -> None:
        self._own = own.encode()
        self._seen: dict[bytes, _Seen] = {}

    @property
    def own(self) -> bytes:
        """This machine's name."""
        return self._own

    def localize(self, arrival: bytes, clock: float) -> bytes:
        """Return the arrival by this machine's clock, without a name. The first call of a machine
        has just arrived: nothing is known of its clock.

        Args:
            arrival: the value of HAProxy's header.
            clock: seconds since the epoch.
        """
        machine, mark, rest = arrival.rpartition(OF_CLOCK)
        if not mark or machine == self._own:
            return rest
        arrived, _, number = rest.partition(b"-")
        if not (arrived.isdigit() and len(arrived) <= 17):
            return rest
        seems_s = clock - int(arrived) / 1e6
        age_s = seems_s - self._least_s(machine, seems_s, clock)
        return b"%d-%b" % (round((clock - age_s) * 1e6), as_sent(number, arrival))

    def _least_s(self, machine: bytes, seems_s: float, clock: float) -> float:
        seen = self._seen.get(machine)
        if seen is None:
            if len(self._seen) >= MOST_MACHINES:
                del self._seen[next(iter(self._seen))]
            seen = self._seen[machine] = _Seen(clock, seems_s, seems_s)
        elif not 0 <= clock - seen.since < WINDOW_S:
            is_long_ago = clock - seen.since >= 2 * WINDOW_S
            seen.before_s = seems_s if is_long_ago else seen.least_s
            seen.since, seen.least_s = clock, seems_s
        seen.least_s = min(seen.least_s, seems_s)
        return min(seen.least_s, seen.before_s)

    def localize_headers(
        self, headers: Mapping[bytes, bytes], clock: float
    ) -> Mapping[bytes, bytes]:
        """Return headers, by name in lower case, with the arrival by this machine's clock."""
        arrival = headers.get(ARRIVAL, b"")
        if OF_CLOCK not in arrival:
            return headers
        return {**headers, ARRIVAL: self.localize(arrival, clock)}
