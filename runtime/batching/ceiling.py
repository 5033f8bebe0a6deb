"""How large a batch may be after memory had no room for a larger one: half of that, and twice as much each minute from then on.

What memory has room for depends on who else holds it at that moment, so a limit that was found is not kept for good. Nobody lifts it:
it is a function of when it was found and of ``now``. The rows of a batch that was too large have been run in halves meanwhile.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from runtime.batching.policy import BatchLimits, Waiting

HOLD_S = 60.0
"""How long a limit is kept before twice as much is tried. A failed try costs a run of each half, once a minute."""

_FORGOTTEN = 8
"""After so many doublings nothing is left of a limit."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A limit on the batches of one segment.

    Attributes:
        rows: rows a batch, for rows of fixed shape; None where cost tells more.
        cost: padded elements a batch, for ragged rows: 32 short ones fit where 16 long ones do not.
        since: when memory ran out, seconds, ``time.monotonic``.
    """

    rows: int | None
    cost: int | None
    since: float

    def cut(self, limits: BatchLimits, now: float) -> BatchLimits:
        """The limits that hold now; the same object once this one cuts nothing any more."""
        rows, cost = _least(self._grown(self.rows, now), limits.max_batch_size), _least(self._grown(self.cost, now), limits.max_batch_cost)
        if rows == limits.max_batch_size and cost == limits.max_batch_cost:
            return limits
        return replace(limits, max_batch_size=rows or 1, max_batch_cost=cost)

    def lowered(self, other: Ceiling | None, now: float) -> Ceiling:
        """This one, just found, and what is left of an earlier one: a second worker's batch may have left before the first one failed."""
        if other is None:
            return self
        rows, cost = _least(self.rows, other._grown(other.rows, now)), _least(self.cost, other._grown(other.cost, now))
        return Ceiling(rows, cost, now)

    def _grown(self, limit: int | None, now: float) -> int | None:
        doublings = int((now - self.since) / HOLD_S)
        return None if limit is None or doublings >= _FORGOTTEN else limit << doublings


def below(rows: Sequence[Waiting], now: float) -> Ceiling:
    """What to keep to after memory had no room for these rows in one batch: two or more."""
    widest = [max(axis) for axis in zip(*(row.length for row in rows), strict=False)]
    if not widest:
        return Ceiling(max(1, len(rows) // 2), None, now)
    return Ceiling(None, max(1, math.prod(widest) * len(rows) // 2), now)


def _least(one: int | None, other: int | None) -> int | None:
    return min((limit for limit in (one, other) if limit is not None), default=None)
