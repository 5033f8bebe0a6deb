"""The application at ``/``: it knows every function, owns their placement, and never sleeps; no user code runs in it."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Final

from ray import serve
from starlette.applications import Starlette

from deployments.decisions import Decisions
from deployments.index import entry, host_entry, shares
from deployments.owner import Owner
from deployments.packed import unpack
from deployments.seat import Words
from deployments.telemetry import Telemetry
from runtime.errors import NotFound
from runtime.http.catalogue_app import catalogue
from runtime.settings import Settings
from runtime.tiers import Thresholds
from runtime.wording import did_you_mean

STATUS_TTL_S: Final = 0.5
"""Ray's status costs a call to the controller; many who look at once share one."""


FORGOTTEN_S: Final = 30.0
"""A process that has sent no metrics for so long has ended."""


class Catalogue:
    """The class Ray Serve deploys.

    Mutable state: ``_told`` (metrics of each process, and when they came).
    """

    async def __init__(self) -> None:  # type: ignore[misc]  # Ray awaits it
        settings = Settings.read()
        self._owner = Owner(serve.get_replica_context().app_name, Thresholds.at(settings.promote_work), settings.spare_processes)
        self._telemetry = Telemetry(self)
        self._told: dict[str, tuple[float, str]] = {}

    def __serve_build_asgi_app__(self) -> Starlette:
        """The routes; Ray calls it once the constructor is done."""
        return catalogue(self.index, self.explain, metrics=self._telemetry.text)

    async def reconfigure(self, user_config: dict[str, str]) -> None:
        """Other functions are declared. A coroutine, since Ray runs a plain method in a thread."""
        self._owner.declare(unpack(user_config["functions"]))

    def check_health(self) -> None:
        """Asked by Ray every few seconds; raising replaces the catalogue.

        Raises:
            RuntimeError: nobody decides on placement any more.
        """
        if not self._owner.is_healthy:
            raise RuntimeError("the task that owns placement has died.")

    async def heard(self, report: Words) -> Words:
        """By a deployment handle: a host or a replica reports, and learns what to do."""
        self._keep_metrics(report)
        return self._owner.heard(report)

    def counts(self) -> dict[str, int]:
        """Functions by state, as far as is known without asking Ray."""
        apps = self._owner.known_apps
        return Counter(entry(seat, apps.get(name))["state"] for name, seat in self._owner.placement.seats.items())

    def _keep_metrics(self, report: Words) -> None:
        now = time.monotonic()
        if "metrics" in report:
            self._told[report["id"]] = now, report.pop("metrics")
        self._told = {process: told for process, told in self._told.items() if told[0] > now - FORGOTTEN_S}
        self._telemetry.texts = {process: text for process, (_, text) in self._told.items()}

    async def index(self) -> list[Words]:
        """Every declared function, as ``index.entry`` shows it."""
        apps = await self._owner.apps(STATUS_TTL_S)
        seats = self._owner.placement.seats
        held = shares(seats.values(), apps)
        return [entry(seat, apps.get(name), held) for name, seat in seats.items()]

    async def explain(self, name: str) -> Words:
        """One function, and why it is where it is and as often as it is: the last ``decisions`` with their times, seconds since the
        epoch; and the ``hosts`` that there are, as ``index.host_entry`` shows them.

        Raises:
            NotFound: no such function is declared.
        """
        seats = self._owner.placement.seats
        seat = seats.get(name)
        if seat is None:
            raise NotFound(f"no function is named so{did_you_mean(name[:128], seats)}")
        apps = await self._owner.apps(STATUS_TTL_S)
        scaling = await asyncio.to_thread(Decisions.of_this_cluster().about, name)
        decisions = sorted([decision.words() for decision in seat.decisions] + scaling, key=lambda words: words["at"])
        hosts = [host_entry(said) for _, said in self._owner.placement.hosts.values()]
        return {**entry(seat, apps.get(name), shares(seats.values(), apps)), "decisions": decisions, "hosts": hosts}
