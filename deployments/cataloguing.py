"""The application at ``/``: it knows every function, owns their placement, and never sleeps; no user code runs in it."""

from __future__ import annotations

from typing import Any, Final

from ray import serve
from starlette.applications import Starlette

from deployments.index import entry, host_entry
from deployments.owner import Owner
from deployments.seat import Words
from runtime.errors import NotFound
from runtime.http.catalogue_app import catalogue
from runtime.settings import Settings
from runtime.tiers import Thresholds
from runtime.wording import did_you_mean

STATUS_TTL_S: Final = 0.5
"""Ray's status costs a call to the controller; many who look at once share one."""


class Catalogue:
    """The class Ray Serve deploys."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Ray awaits it
        settings = Settings.read()
        self._owner = Owner(serve.get_replica_context().app_name, Thresholds(promote_work=settings.promote_work))

    def __serve_build_asgi_app__(self) -> Starlette:
        """The routes; Ray calls it once the constructor is done."""
        return catalogue(self.index, self.explain)

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Other functions are declared."""
        self._owner.declare(user_config["functions"])

    def check_health(self) -> None:
        """Asked by Ray every few seconds; raising replaces the catalogue.

        Raises:
            RuntimeError: nobody decides on placement any more.
        """
        if not self._owner.is_healthy:
            raise RuntimeError("the task that owns placement has died.")

    async def heard(self, report: Words) -> Words:
        """By a deployment handle: a host or a replica reports, and learns what to do."""
        return self._owner.heard(report)

    async def index(self) -> list[Words]:
        """Every declared function, as ``index.entry`` shows it."""
        apps = await self._owner.apps(STATUS_TTL_S)
        return [entry(seat, apps.get(name)) for name, seat in self._owner.placement.seats.items()]

    async def explain(self, name: str) -> Words:
        """One function, and why it is where it is: the last ``decisions`` with their times, seconds since the epoch; and the
        ``hosts`` that there are, as ``index.host_entry`` shows them.

        Raises:
            NotFound: no such function is declared.
        """
        seats = self._owner.placement.seats
        seat = seats.get(name)
        if seat is None:
            raise NotFound(f"no function is named so{did_you_mean(name[:128], seats)}")
        apps = await self._owner.apps(STATUS_TTL_S)
        decisions = [decision.words() for decision in seat.decisions]
        hosts = [host_entry(said) for _, said in self._owner.placement.hosts.values()]
        return {**entry(seat, apps.get(name)), "decisions": decisions, "hosts": hosts}
