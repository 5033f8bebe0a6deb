"""Which applications of the cluster are ours, and what is known of the orders to Ray about each.

Ours are the applications that are persisted as ordered by the placement controller, or as declared
with a deployment of their own; no other application of the cluster is ever touched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from deployments.ingress.haproxy.rules import FUNCTION, ONCE
from deployments.ray_support.serve_status import AppState

AGAIN_S: Final = 10.0
"""From an order until it is given again, if it failed or has no visible effect: a controller of
Serve that died is back in a few seconds."""

LANDED_S: Final = 120.0
"""After so long an order that failed, or that was given before a restart, has been carried out or
never will be."""


@dataclass(frozen=True, slots=True)
class RayOrder:
    """One order to Ray.

    Attributes:
        kind: deploy the function's application (again), or delete it.
        routed: deployed with its prefix, or without.
        why: the decision, for the replica's reports.
    """

    kind: Literal["deploy", "delete"]
    name: str
    routed: bool = False
    why: str = ""


@dataclass(slots=True)
class _Application:
    """An application of ours. Times are seconds of the controller's clock.

    Attributes:
        is_promoted: an order of the placement controller deployed it; else `up` did.
        is_ordered: an order about it is under way.
        done_at: when the last one ended; before all times, if there was none.
        undeclared_at: when it was last ordered to be deleted since nothing declares it.
        absent_since: since when Ray does not have it, though it is not to have it; None else.
    """

    is_promoted: bool = False
    is_ordered: bool = False
    done_at: float = -math.inf
    undeclared_at: float = -math.inf
    absent_since: float | None = None

    def is_older_than_order(self, asked_at: float) -> bool:
        """Whether what Ray said of it then may be changed by an order."""
        return self.is_ordered or self.done_at > asked_at


class OrderLedger:
    """The applications that are ours.

    Args:
        persisted: what ``persisted`` was before a restart; empty at the first start.

    Attributes:
        changes: counts changes of ``persisted``.

    Mutable state: ``_applications``, by name.
    """

    def __init__(self, persisted: Mapping[str, Any]) -> None:
        self.changes = 0
        promoted = frozenset(persisted.get("promoted", ()))
        self._applications = {
            name: _Application(is_promoted=name in promoted) for name in persisted.get("ours", ())
        }

    @property
    def persisted(self) -> dict[str, list[str]]:
        """What must be known after a restart: plain JSON data."""
        promoted = [name for name, one in self._applications.items() if one.is_promoted]
        return {"ours": sorted(self._applications), "promoted": sorted(promoted)}

    @property
    def is_under_way(self) -> bool:
        """Whether any order is."""
        return any(one.is_ordered for one in self._applications.values())

    def is_ordered(self, name: str) -> bool:
        """Whether an order about it is under way."""
        found = self._applications.get(name)
        return found is not None and found.is_ordered

    def is_promoted(self, name: str) -> bool:
        """Whether an order of the placement controller deployed it, as far as is known."""
        found = self._applications.get(name)
        return found is not None and found.is_promoted

    def is_older_than_order(self, name: str, asked_at: float) -> bool:
        """Whether what Ray said then says nothing of it: an order is under way, or ended since."""
        found = self._applications.get(name)
        return found is not None and found.is_older_than_order(asked_at)

    def add(self, name: str) -> None:
        """It is declared with a deployment of its own, which `up` makes."""
        if name not in self._applications:
            self._applications[name] = _Application()
            self.changes += 1

    def begin(self, order: RayOrder, *, is_promoted: bool) -> None:
        """An order is given now.

        Args:
            is_promoted: of what it deploys; see ``is_promoted``.
        """
        found = self._applications.get(order.name)
        if found is None:
            found = self._applications[order.name] = _Application(is_promoted=is_promoted)
            self.changes += 1
        elif order.kind == "deploy" and found.is_promoted != is_promoted:
            found.is_promoted = is_promoted
            self.changes += 1
        found.is_ordered = True

    def end(self, name: str, now: float) -> None:
        """The order about it has been carried out, or failed."""
        if (found := self._applications.get(name)) is not None:
            found.is_ordered, found.done_at = False, now

    def select_ours(self, apps: Mapping[str, AppState]) -> dict[str, AppState]:
        """Of Ray's applications, those that Wakeful deployed: known by name, and made of a
        function's deployment alone.
        """
        return {
            name: apps[name]
            for name in self._applications.keys() & apps.keys()
            if set(apps[name].deployments) <= {FUNCTION, ONCE}
        }

    def delete_undeclared(
        self, ours: Mapping[str, AppState], is_declared: Callable[[str], bool], now: float
    ) -> list[RayOrder]:
        """Orders to delete what nothing declares, whatever it was about to become.

        Args:
            ours: the applications of ours that Ray has.
            is_declared: whether it is declared, or `up` deploys it itself now, by name.
        """
        orders = []
        for name, one in self._applications.items():
            app = ours.get(name)
            if app is None or app.state == "draining" or is_declared(name):
                continue
            if not one.is_ordered and now - one.undeclared_at >= AGAIN_S:
                one.undeclared_at = now
                orders.append(RayOrder("delete", name))
        return orders

    def forget_gone(
        self,
        ours: Mapping[str, AppState],
        is_wanted: Callable[[str], bool],
        now: float,
        asked_at: float,
    ) -> None:
        """Forgets applications that are gone for good.

        Args:
            ours: the applications of ours that Ray has.
            is_wanted: whether Ray is to have it, by name.
            asked_at: when Ray was asked for ``ours``.
        """
        for name, one in list(self._applications.items()):
            if name in ours or is_wanted(name) or one.is_older_than_order(asked_at):
                one.absent_since = None
            elif one.absent_since is None:
                one.absent_since = now
            elif now - one.absent_since > LANDED_S:
                del self._applications[name]
                self.changes += 1
