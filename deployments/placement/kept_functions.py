"""Which functions of a cluster are awake without calls, and which an operator has told to sleep."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from deployments.control.declarations import FunctionDeclaration
from runtime.declaration.awake_hours import is_awake


class KeptFunctions:
    """Which functions are awake without calls, and which an operator has told to sleep, by name.
    ``placement`` and ``transitions`` act on it for functions in a host or promoted, the scaling
    policy for those that always have deployments of their own.

    Hours are read from the declarations as they were sent: to parse all of a large file
    takes seconds, and most functions sleep.

    Args:
        pinned: as persisted before a restart.

    Attributes:
        pinned: names; ``pin`` and ``unpin`` change them.
        sleeping: by name of a function that is to sleep as soon as it is idle, how many requests
            wait for that; each adds itself, and takes itself away.
    """

    def __init__(self, pinned: Iterable[str] = ()) -> None:
        self.pinned: set[str] = set(pinned)
        self.sleeping: Counter[str] = Counter()
        self._hours: dict[str, str] = {}

    def declare(self, declarations: Iterable[FunctionDeclaration]) -> None:
        """Take other declared functions; the pin of one that is gone is gone with it."""
        declared = {one.name: one.args for one in declarations}
        self.pinned &= declared.keys()
        self._hours = {
            name: hours
            for name, args in declared.items()
            if (hours := (args.get("autoscaling") or {}).get("awake"))
        }

    def names(self, wall: float) -> frozenset[str]:
        """Return the functions that are to be awake.

        Args:
            wall: seconds since the epoch.
        """
        awake = (name for name, hours in self._hours.items() if is_awake(hours, wall))
        return frozenset(self.pinned).union(awake)
