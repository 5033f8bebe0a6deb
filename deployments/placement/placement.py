"""Which functions the shared host serves and which have a deployment of their own: reports and
``now`` in, orders to Ray and their reasons out.

Theory of operation. Nothing here talks to Ray: ``controller`` asks it, gives the orders, and asks
again. How one function moves is in ``transitions``. At each tick the applications that Ray has are
compared with the declared functions, whatever was ordered before: an application of ours
(``order_ledger``) that nothing declares is deleted, a host that does not know a function gets the
declarations again. What must be known again after a restart (``persisted``) is stored outside, and
written before an order is given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

from deployments.control.declarations import FunctionDeclaration, hash_declarations
from deployments.control.orders import HostOrders, QuarantineOrder, ReplicaOrders
from deployments.control.process_reports import HostReport, ReplicaReport
from deployments.placement.crash_history import CrashHistory, CrashRecord
from deployments.placement.function_state import FunctionState
from deployments.placement.kept_functions import KeptFunctions
from deployments.placement.order_ledger import AGAIN_S, LANDED_S, OrderLedger, RayOrder
from deployments.placement.transitions import (
    Observation,
    adopt_deployment,
    advance,
    record_failure,
    remove_route,
    update_deployment,
)
from deployments.ray_support.serve_status import AppState
from deployments.scaling.tier_policy import Thresholds
from deployments.serving.forwarding import owner_host
from runtime.system.crash.reports import CrashReport

SILENT_S: Final = 5.0
"""After five missed reports a process does not count any more."""

YIELD_S: Final = 2.0
"""Least idle time of a deployment that is removed to make room for another."""

SAMPLES_IN_DELAY: Final = 200
"""Samples are at least this part of ``downscale_delay_s`` apart, so that they cover the whole
delay.
"""

FIX: Final = "Change the function and run `wakeful up` again."
"""What ends a quarantine."""

STALE_HOST_S: Final = 60.0
"""A host may know other functions than the declared ones for so long before it gets the
declarations again: Ray sends them to the host and to the controller at slightly different times."""


class Placement:
    """The state of all functions.

    Args:
        thresholds: where a function changes its tier.
        persisted: what ``persisted`` was before a restart; None at the first start.

    Attributes:
        kept: which functions are awake without calls; ``pin`` and ``unpin`` change what of it is
            persisted.

    Mutable state: ``functions`` by name, ``hosts`` (last report of each), ``_ledger`` (applications
    and orders), ``_changes`` (of ``persisted``, those of the ledger apart). Of declarations:
    ``_declared`` (by name), ``_hosted_hash`` (of what the host is to know), ``_held``,
    ``_stale_since`` (since when a host knows other functions). Of crashes: ``_crash_keys`` (those
    received), ``_persisted_crashes`` (from before a restart, until the first declaration).
    ``_is_declared``: there was one. ``_has_adopted``: the first tick after it is over.
    """

    def __init__(self, thresholds: Thresholds, persisted: Mapping[str, Any] | None = None) -> None:
        self.functions: dict[str, FunctionState] = {}
        self.hosts: dict[str, tuple[float, HostReport]] = {}
        persisted = persisted or {}
        self.kept = KeptFunctions(persisted.get("pinned", ()))
        self._ledger = OrderLedger(persisted)
        self._changes = 0
        self._persisted_crashes: dict[str, Any] = dict(persisted.get("crashes", {}))
        self._thresholds = thresholds
        self._declared: dict[str, FunctionDeclaration] = {}
        self._hosted_hash = hash_declarations(())
        self._held: frozenset[str] = frozenset()
        self._stale_since: dict[str, float] = {}
        self._crash_keys: deque[tuple[str, float]] = deque(maxlen=100)
        self._is_declared = False
        self._has_adopted = False

    @property
    def changes(self) -> int:
        """Counts changes of ``persisted``."""
        return self._changes + self._ledger.changes

    @property
    def persisted(self) -> dict[str, Any]:
        """What must be known after a restart: plain JSON data."""
        crashes = {
            state.name: {
                "declaration": state.declaration.hash,
                "crashes": [asdict(crash) for crash in state.crashes],
            }
            for state in self.functions.values()
            if state.crashes
        }
        return {
            **self._ledger.persisted,
            "pinned": sorted(self.kept.pinned),
            "crashes": crashes,
        }

    @property
    def is_moving(self) -> bool:
        """Whether a transition is under way."""
        return any(state.transition != "steady" for state in self.functions.values())

    @property
    def has_order_for_held(self) -> bool:
        """Whether an order is still under way about a name that ``up`` deploys itself."""
        return any(self._ledger.is_ordered(name) for name in self._held)

    def declare(
        self, declarations: Iterable[FunctionDeclaration], now: float, held: Iterable[str] = ()
    ) -> list[RayOrder]:
        """Takes the functions that ``up`` declares: a new file, or the same after a restart.

        Args:
            held: names that ``up`` deploys itself before it declares them so: no order is given
                about them until the next declaration.

        Returns:
            what changed of promoted functions; the rest follows at the next tick.
        """
        self._is_declared = True
        self._declared = {declaration.name: declaration for declaration in declarations}
        self._held = frozenset(held)
        self._hosted_hash = hash_declarations(self._hosted)
        pinned = len(self.kept.pinned)
        self.kept.declare(self._declared.values())
        self._changes += len(self.kept.pinned) != pinned
        for name in [name for name in self.functions if name not in self._declared]:
            removed = self.functions.pop(name)
            self._changes += bool(removed.crashes)
        orders = [self._declare(declaration, now) for declaration in self._declared.values()]
        self._persisted_crashes = {}
        return self._track([order for order in orders if order is not None])

    def pin(self, name: str, *, is_pinned: bool) -> None:
        """Keep a declared function awake until it is unpinned."""
        (self.kept.pinned.add if is_pinned else self.kept.pinned.discard)(name)
        self._changes += 1

    @property
    def _hosted(self) -> tuple[FunctionDeclaration, ...]:
        """The functions that the hosts are to know."""
        return tuple(one for one in self._declared.values() if not one.is_always_own)

    def _declare(self, declaration: FunctionDeclaration, now: float) -> RayOrder | None:
        name = declaration.name
        state = self.functions.get(name)
        if declaration.is_always_own:
            self._ledger.add(name)
        if state is None or declaration.is_always_own != state.is_always_own:
            self._changes += bool(state and state.crashes)
            self.functions[name] = self._new_state(declaration, now)
            return None
        is_same = state.declaration == declaration or state.declaration.hash == declaration.hash
        state.declaration = declaration
        if is_same:
            return None
        self._changes += bool(state.crashes)
        state.crashes.clear()
        state.failures, state.update_error = 0, ""
        is_promoted = not state.is_always_own and state.tier == "own"
        if not is_promoted or self._ledger.is_ordered(name) or name in self._held:
            return None
        return update_deployment(state, now)

    def _new_state(self, declaration: FunctionDeclaration, now: float) -> FunctionState:
        state = FunctionState(declaration, tier_since=now)
        state.tier = "own" if declaration.is_always_own else "host"
        # an order from here, or from before a restart, may still be carried out
        if self._ledger.is_promoted(declaration.name):
            state.confirm_at = [now + LANDED_S]
        persisted = self._persisted_crashes.get(declaration.name, {})
        if persisted.get("declaration") == declaration.hash:
            state.crashes = CrashHistory(CrashRecord(**crash) for crash in persisted["crashes"])
        return state

    def receive_replica_report(
        self, report: ReplicaReport, now: float, wall: float
    ) -> ReplicaOrders:
        """Takes a replica's report; the answer is what it is to do."""
        self._receive_crashes(report.crashes, wall)
        state = self.functions.get(report.name)
        if state is None:
            return ReplicaOrders()
        state.usage.receive(report.id, report.function, now)
        # another version than the declared one is not quarantined for its crashes
        is_declared = report.function.version in ("", state.declaration.version)
        return ReplicaOrders(state.crashes.explain_quarantine(FIX) if is_declared else "")

    def receive_host_report(self, report: HostReport, now: float, wall: float) -> HostOrders:
        """Takes a host's report; the answer is what it is to do."""
        self._receive_crashes(report.crashes, wall)
        _, before = self.hosts.get(report.id, (0.0, HostReport(report.id)))
        self.hosts[report.id] = (now, report)
        for name in before.functions.keys() - report.functions.keys():
            if name in self.functions:
                self.functions[name].usage.drop(report.id)
        for name, function in report.functions.items():
            if name in self.functions:
                self.functions[name].usage.receive(report.id, function, now)
        return self._orders_for(report, now, wall)

    def _orders_for(self, report: HostReport, now: float, wall: float) -> HostOrders:
        states = self.functions.values()
        return HostOrders(
            peers={
                source: other.address for source, (_, other) in self.hosts.items() if other.address
            },
            load=tuple(
                state.name
                for state in states
                if state.transition == "loading_in_host" and not self._is_loaded_in_host(state)
            ),
            release=tuple(
                name
                for name, function in report.functions.items()
                if function.state == "ready"
                and (self._is_steady_own(name) or name in self.kept.sleeping)
            ),
            keep=tuple(
                name
                for name in sorted(self.kept.names(wall))
                if self._is_answered_by_host(name) and owner_host(name, self.hosts) == report.id
            ),
            quarantined={
                state.name: QuarantineOrder(
                    state.crashes.explain_quarantine(FIX), state.declaration.hash
                )
                for state in states
                if state.crashes.records and state.crashes.is_quarantined
            },
            declare=self._hosted if self._is_stale(report, now) else None,
        )

    def _is_answered_by_host(self, name: str) -> bool:
        state = self.functions.get(name)
        return state is not None and state.tier == "host" and not state.is_always_own

    def _is_steady_own(self, name: str) -> bool:
        state = self.functions.get(name)
        return state is not None and state.tier == "own" and state.transition == "steady"

    def _is_stale(self, report: HostReport, now: float) -> bool:
        """Whether a host has known other functions for long."""
        if report.declared in ("", self._hosted_hash):
            self._stale_since.pop(report.id, None)
            return False
        if now - self._stale_since.setdefault(report.id, now) <= STALE_HOST_S:
            return False
        self._stale_since[report.id] = now
        return True

    def next_orders(
        self,
        now: float,
        wall: float,
        apps: Mapping[str, AppState],
        asked_at: float,
        free: Mapping[str, float],
    ) -> list[RayOrder]:
        """The orders of this tick; none before the first declaration: every application of ours
        would count as one that nothing declares, and be deleted.

        Args:
            apps: Ray's applications by name.
            asked_at: when Ray was asked for them. They say nothing of a function for which an order
                was done since.
            free: free resources of the cluster, by Ray's names.
        """
        if not self._is_declared:
            return []
        self.hosts = {
            source: entry for source, entry in self.hosts.items() if entry[0] > now - SILENT_S
        }
        our_apps = self._ledger.select_ours(apps)
        orders: list[RayOrder] = []
        kept = self.kept.names(wall)
        self._stale_since = {
            source: since for source, since in self._stale_since.items() if source in self.hosts
        }
        for name, state in self.functions.items():
            state.missing_resources = ""  # found below, where it holds still
            if state.usage.by_process:
                state.usage.drop_silent(now - SILENT_S)
            if state.is_asleep and name not in apps:  # as most are
                state.mismatch_since = None
                continue
            delay_s = state.spec.autoscaling.downscale_delay_s
            state.usage.take_sample(now, delay_s / SAMPLES_IN_DELAY)
            if name in self._held or self._ledger.is_older_than_order(name, asked_at):
                continue
            app = our_apps.get(name)
            seen = Observation(
                now,
                wall,
                app,
                free,
                self._is_loaded_in_host(state),
                is_name_taken=app is None and name in apps,
                is_kept=name in kept,
                is_to_sleep=name in self.kept.sleeping,
                thresholds=self._thresholds,
            )
            if order := self._next_order(state, seen):
                orders.append(order)
        if not orders:
            orders = self._make_room(now, wall, kept)
        self._has_adopted = True
        self._ledger.forget_gone(our_apps, self._is_to_exist, now, asked_at)
        undeclared = self._ledger.delete_undeclared(our_apps, self._is_declared_or_held, now)
        return self._track([*orders, *undeclared])

    def _next_order(self, state: FunctionState, seen: Observation) -> RayOrder | None:
        app = seen.app
        may_adopt = not (self._has_adopted or state.is_always_own or state.crashes.is_quarantined)
        if may_adopt and app is not None and app.state != "draining":
            return adopt_deployment(state, seen)
        if state.unanswered is not None and state.retry_at is not None:
            is_to_exist = state.transition not in ("removing_route", "deleting")
            if app is not None or is_to_exist:
                return state.unanswered if seen.now >= state.retry_at else None
            state.retry_at = None
        return advance(state, seen)

    def on_order_done(
        self, order: RayOrder, error: str, now: float, wall: float, *, is_lost: bool = False
    ) -> list[RayOrder]:
        """An order has been carried out, or failed; returns the orders that follow from that.

        Args:
            error: empty when it was carried out.
            is_lost: Ray did not answer. That says nothing of the function: the same is ordered
                again.
        """
        self._ledger.end(order.name, now)
        state = self.functions.get(order.name)
        if state is None:
            return []
        if error:
            state.confirm_at = [now + LANDED_S]
        if is_lost:
            state.record_decision(
                f"Ray did not answer the order to {order.kind} it, which is given again: {error}",
                wall,
                "not answered",
            )
            state.retry_at = now + AGAIN_S
            return []
        state.unanswered = None
        if not error:
            state.on_order_taken(now)
        following = record_failure(state, error, now, wall) if error else None
        return self._track([following] if following else [])

    def on_order_late(self, name: str, why: str, wall: float) -> None:
        """Ray has not taken an order yet. It stays under way, since Ray may still take it."""
        if name in self.functions:
            self.functions[name].record_decision(why, wall, "late")

    def _track(self, orders: list[RayOrder]) -> list[RayOrder]:
        """The same orders; they are under way now."""
        for order in orders:
            state = self.functions.get(order.name)
            is_promoted = state is not None and not state.is_always_own
            self._ledger.begin(order, is_promoted=is_promoted)
            if state is not None:
                state.unanswered, state.retry_at = order, None
                state.ordered = state.declaration if order.kind == "deploy" else state.ordered
        return orders

    def _is_declared_or_held(self, name: str) -> bool:
        return name in self.functions or name in self._held

    def _is_to_exist(self, name: str) -> bool:
        """Whether Ray is to have an application of it, or may have one for a while."""
        state = self.functions.get(name)
        return state is not None and (
            state.is_always_own or state.tier == "own" or state.transition != "steady"
        )

    def _receive_crashes(self, crashes: Iterable[CrashReport], wall: float) -> None:
        """Lays each crash to the functions that caused it, or may have; once, however many
        processes report it.
        """
        for report in crashes:
            # of processes on several machines, in containers above all, ids are the same
            noticed = report.key, report.at
            if noticed in self._crash_keys:
                continue
            self._crash_keys.append(noticed)
            for name in dict.fromkeys((*report.culprits, *report.suspects)):
                state = self.functions.get(name)
                if state is None:
                    continue
                crash = state.crashes.receive(report, name, state.declaration.version)
                if crash is None:
                    continue
                self._changes += 1
                is_last = state.crashes.is_quarantined
                end = "; again, so no process runs it any more" if is_last else ""
                state.record_decision(f"{crash.how}{end}", wall)

    def _make_room(self, now: float, wall: float, kept: Container[str]) -> list[RayOrder]:
        """Where a function lacks resources for a deployment, the promoted function that has been
        idle longest gives up its own; not one that is kept awake.
        """
        waiting = [state for state in self.functions.values() if state.missing_resources]
        if not waiting or self._ledger.is_under_way:
            return []
        idle = [
            state
            for state in self.functions.values()
            if self._may_yield(state) and state.name not in kept
        ]
        if not idle:
            return []
        longest = max(idle, key=lambda state: state.usage.samples[-1].idle_s)
        idle_s = longest.usage.samples[-1].idle_s
        why = f"own → asleep: idle for {idle_s:.0f} s, yields its place to {waiting[0].name}"
        longest.record_decision(why, wall)
        return [remove_route(longest, why, now)]

    def _may_yield(self, state: FunctionState) -> bool:
        is_movable = not (state.is_always_own or state.crashes or state.name in self._held)
        if not is_movable or not self._is_steady_own(state.name) or not state.usage.samples:
            return False
        return not state.usage.samples[-1].in_flight and state.usage.samples[-1].idle_s > YIELD_S

    def _is_loaded_in_host(self, state: FunctionState) -> bool:
        reports = (report.functions.get(state.name) for _, report in self.hosts.values())
        return any(report is not None and report.state == "ready" for report in reports)
